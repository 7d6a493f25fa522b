"""`--log-format json` and colours: what stands on stderr for machines, and on stdout for eyes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from reconciler.cli import log
from reconciler.plan.errors import EXIT_CODES, Exit, Location, ReconcilerError, SpecErrors, gravest
from tests.cli.conftest import Applied, FakeApp, Spec

Run = Callable[..., Result]


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines() if line]  # click ends an interrupted line
    assert all(it.pop("time").endswith("Z") for it in found)
    return found


def test_errors_with_all_they_say(app: FakeApp, run: Run) -> None:
    where = Location("a.yaml", 2, 5, "x: y")
    app.error = SpecErrors(
        (
            ReconcilerError("one", where=where, why="w", todo="t", details=("d",), rule="R001"),
            ReconcilerError("two\n::error::"),
        )
    )
    done = run("--log-format", "json", "plan")
    assert done.exit_code == 1
    assert lines(done.stderr) == [
        {"level": "error", "message": "one", "code": 1, "rule": "R001", "details": ["d"], "why": "w", "todo": "t",
         "where": {"file": "a.yaml", "line": 2, "column": 5, "text": "x: y"}},
        {"level": "error", "message": "two\n::error::", "code": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("words", [("plam",), ("plan", "--nope"), ("plan", "--var", "x")])
def test_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    (line,) = lines(run("--log-format", "json", *words).stderr)
    assert (line["level"], line["code"]) == ("error", 1)


def test_messages_and_internal_errors(app: FakeApp, run: Run) -> None:
    app.make(Path("x.plan.jsonl"))
    app.applied = Applied(notes=("trigger t wrote public.u",))
    assert lines(run("apply", "x.plan.jsonl", RECONCILER_LOG_FORMAT="json").stderr) == [
        {"level": "info", "message": "trigger t wrote public.u"}
    ]
    app.spec = Spec(warnings=(ReconcilerError("odd"),), addresses=("collections.t",))
    assert lines(run("--log-format", "json", "validate").stderr)[0]["level"] == "warning"
    app.error = ValueError("canary")
    (line,) = lines(run("--log-format", "json", "plan").stderr)
    assert "internal error" in line["message"]
    assert "canary" not in json.dumps(line)
    app.error = KeyboardInterrupt()
    assert lines(run("--log-format", "json", "plan").stderr)[0]["code"] == 130


def test_a_run_begins_with_text_again(app: FakeApp, run: Run) -> None:
    app.error = ReconcilerError("x")
    run("--log-format", "json", "plan")
    assert run("plan").stderr == "error: x\n"


def test_a_plan_that_is_applied_at_once_is_one_line(app: FakeApp, run: Run) -> None:
    found = lines(run("--log-format", "json", "apply", "--yes").stderr)
    assert "Plan: 2 to insert" in found[0]["text"]


def test_tasks_are_told_when_they_end(capsys: pytest.CaptureFixture[str]) -> None:
    with log.Tasks().task("comparing", 3) as task:
        task.advance(2)
    (line,) = lines(capsys.readouterr().err)
    assert (line["message"], line["done"], line["total"]) == ("comparing", 2, 3)


@pytest.mark.parametrize(
    ("environ", "words", "coloured"),
    [
        ({}, (), False),
        ({"CLICOLOR_FORCE": "1"}, (), True),
        ({"CLICOLOR_FORCE": "0"}, (), False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, (), False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": ""}, (), True),
        ({"CLICOLOR_FORCE": "1"}, ("--no-color",), False),
    ],
)
def test_colours(app: FakeApp, run: Run, environ: dict[str, str], words: tuple[str, ...], coloured: bool) -> None:
    done = run(*words, "plan", **{"NO_COLOR": "", "TERM": "xterm", **environ})
    assert ("\x1b[32m" in done.stdout) is coloured


def test_help_tells_the_exit_codes(run: Run) -> None:
    text = " ".join(run("--help").stdout.split())
    assert all(f"{int(code)} {words}" in text for code, words in EXIT_CODES.items())
    assert set(EXIT_CODES) == set(Exit)
    assert gravest(*Exit) is Exit.INTERRUPTED


def test_the_command_line_and_the_library_are_quick_to_load() -> None:
    code = (
        "import sys, reconciler, reconciler.cli; from reconciler import plan; assert callable(plan);"
        "slow = {'psycopg', 'pydantic', 'yaml', 'networkx', 'rich', 'httpx', 'atproto', 'reconciler.app', 'reconciler.library'};"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_library_has_what_it_names() -> None:
    import reconciler

    assert all(getattr(reconciler, name) is not None for name in reconciler.__all__)
    with pytest.raises(AttributeError):
        _ = reconciler.nothing
    import reconciler.plan.errors as errors

    assert errors.ReconcilerError is reconciler.ReconcilerError
