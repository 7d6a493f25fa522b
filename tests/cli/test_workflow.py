"""What a pull request shows of a run: errors and risks at their lines, and nothing that somebody's data made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from reconciler.cli import workflow
from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.views.sarif import Finding
from tests.cli.conftest import FakeApp, Spec

Run = Callable[..., Result]
WRONG = ReconcilerError("wrong: 100%,\n::error::x", where=Location("specs/a,b.yaml", 3, 5, "x"), todo="mend it")
LINE = "::error file=specs/a%2Cb.yaml,line=3,col=5,title=reconciler S001::wrong: 100%25,\\n::error::x: mend it"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may themselves run there."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_errors_stand_at_their_line(app: FakeApp, run: Run, command: str) -> None:
    app.error = SpecErrors((WRONG, ReconcilerError("other")))
    assert "::error" not in run(command).stderr.splitlines()[0]
    for done in (run(command, "--annotations"), run(command, GITHUB_ACTIONS="true")):
        assert done.exit_code == 1
        lines = [line for line in done.stderr.splitlines() if line.startswith("::")]
        assert lines == [LINE, "::error title=reconciler S001::other"]
        assert done.stdout == ""
    quiet = run(command, "--no-annotations", GITHUB_ACTIONS="true")
    assert not any(line.startswith("::") for line in quiet.stderr.splitlines())


def test_files_are_named_from_the_working_directory(app: FakeApp, run: Run) -> None:
    app.error = ReconcilerError("wrong", where=Location(str(Path.cwd() / "specs" / "a.yaml"), 1))
    assert "file=specs/a.yaml," in run("validate", "--annotations").stderr


def test_warnings_too(app: FakeApp, run: Run) -> None:
    app.spec = Spec(warnings=(ReconcilerError("odd", where=Location("a.yaml", 1)),), addresses=("collections.t",))
    done = run("validate", "--annotations")
    assert done.exit_code == 0
    assert "::warning file=a.yaml,line=1,col=1,title=reconciler S002::odd\n" in done.stderr


def test_the_summary_of_the_step(app: FakeApp, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    run("plan", "--annotations", GITHUB_STEP_SUMMARY=str(path))
    run("plan", GITHUB_STEP_SUMMARY=str(path))
    assert path.read_text().count("<!-- reconciler:plan -->") == 1
    app.error = WRONG
    run("validate", "--annotations", GITHUB_STEP_SUMMARY=str(path))
    assert path.read_text().count("## reconciler: errors") == 1


def test_few_are_shown_and_the_grave_ones_first(capsys: pytest.CaptureFixture[str]) -> None:
    notes = [Finding("R020", "note", f"{n}") for n in range(30)]
    workflow.annotate([*notes, Finding("R010", "error", "grave"), Finding("R004", "warning", "meant", allowed=True)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "::error title=reconciler R010::grave"
    assert len(lines) == 11
    assert "meant" not in "".join(lines)


def test_validate_as_sarif(app: FakeApp, run: Run) -> None:
    app.error = WRONG
    done = run("validate", "--format", "sarif")
    assert done.exit_code == 1
    (result,) = json.loads(done.stdout)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "specs/a%2Cb.yaml"
    app.error = None
    done = run("validate", "--format", "sarif")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["runs"][0]["results"] == []
