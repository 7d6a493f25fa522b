"""`diff`: two plan files in, a text and an exit code out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from reconciler.plan.compare import compare
from reconciler.plan.file import Plan
from tests.cli.conftest import FakeApp

Run = Callable[..., Result]


@pytest.fixture
def plans(app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Plan]:
    monkeypatch.setattr(app, "compare", compare, raising=False)
    first = app.make(Path("a.plan.jsonl"))
    app.keys = ("k2", "k3")
    return first, app.make(Path("b.plan.jsonl"))


def test_same(plans: tuple[Plan, Plan], run: Run) -> None:
    done = run("diff", "a.plan.jsonl", "a.plan.jsonl")
    assert done.exit_code == 0
    assert done.stdout.startswith("Same: both plans do the same 2 changes")


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_different(plans: tuple[Plan, Plan], run: Run, form: str) -> None:
    done = run("diff", "a.plan.jsonl", "b.plan.jsonl", "--format", form)
    assert done.exit_code == 2
    if form == "json":
        assert json.loads(done.stdout)["added"] == 1
    else:
        assert "1 added, 1 gone" in done.stdout


def test_an_edited_plan_is_refused(plans: tuple[Plan, Plan], run: Run) -> None:
    path = plans[0].path
    path.write_text(path.read_text().replace("k1", "k9"))
    done = run("diff", str(path), "b.plan.jsonl")
    assert (done.exit_code, "this plan is refused" in done.stderr) == (1, True)
