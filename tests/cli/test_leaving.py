"""Whatever goes wrong ends in a few lines and the right exit code, and no line holds a value."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from reconciler import cli
from reconciler.cli import terminal
from reconciler.plan.errors import Drift, Exit, Location, ReconcilerError
from tests.cli.conftest import FakeApp

Run = Callable[..., Result]
ROOT = Path(__file__).parent.parent.parent
CANARY = "postgresql://user:canary-secret@db.example/x"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ReconcilerError("x"), 1),
        (Drift("x"), 3),
        (ReconcilerError("x", code=Exit.LIMIT), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(app: FakeApp, run: Run, error: BaseException, code: int) -> None:
    app.error = error
    done = run("plan")
    assert done.exit_code == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_an_error_is_rendered(app: FakeApp, run: Run) -> None:
    where = Location("specs/a.yaml", 3, 5, "    tabel: x")
    app.error = ReconcilerError(
        "unknown key", where=where, why="strict", todo="did you mean table?", details=("a\x1b[2J",)
    )
    done = run("plan")
    assert done.stderr == (
        "error: unknown key\n  --> specs/a.yaml:3:5\n   |      tabel: x\n   |      ^\n  a\\u001b[2J\n"
        "  why: strict\n  do:  did you mean table?\n"
    )


def test_an_interrupt_says_what_it_left(app: FakeApp, run: Run) -> None:
    app.error = KeyboardInterrupt()
    assert "running the same again is safe" in run("plan").stderr


@pytest.mark.parametrize("error", [ValueError(CANARY), KeyError(CANARY), RuntimeError(CANARY), OSError(CANARY)])
def test_an_internal_error_shows_no_values(app: FakeApp, run: Run, error: Exception) -> None:
    app.error = error
    done = run("plan")
    assert done.exit_code == 1
    assert "canary" not in done.output
    assert f"internal error: {type(error).__name__} at reconciler/cli/plan.py:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("plan", RECONCILER_DEBUG="1").stderr


def test_a_variables_value_is_not_repeated(app: FakeApp, run: Run) -> None:
    assert "canary" not in run("plan", "--var", "canary-secret").output


def test_a_file_that_cannot_be_written_is_named(app: FakeApp, run: Run) -> None:
    app.error = PermissionError(13, "Permission denied", "plans/x.plan.jsonl")
    done = run("plan", "-o", "plans/x.plan.jsonl")
    assert done.exit_code == 1
    assert done.stderr == "error: Permission denied\n  --> plans/x.plan.jsonl\n"


def test_a_full_disk_is_not_called_a_mistake_of_ours(app: FakeApp, run: Run) -> None:
    app.error = OSError(28, "No space left on device")  # as a write says it: without the file's name
    done = run("plan", "-o", "plans/x.plan.jsonl")
    assert done.exit_code == 1
    assert done.stderr == "error: No space left on device\n"


def environ(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **more}


def test_help_lists_every_command(run: Run) -> None:
    done = run("--help")
    assert done.exit_code == 0
    folder = Path(cli.__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if "@click.command(" in path.read_text()}
    assert modules - {"__init__"} == set(cli.COMMANDS)
    for name, summary in cli.COMMANDS.items():
        assert f"{name} " in done.stdout
        assert summary in done.stdout
        helped = run(name, "--help")
        assert helped.exit_code == 0
        assert helped.stdout.startswith(f"Usage: main {name} ")
        assert len(helped.stdout.splitlines()) > 4


def test_a_command_that_is_not_there_is_guessed(run: Run) -> None:
    done = run("aply")
    assert done.exit_code == 1
    assert "Did you mean 'apply'?" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "colored"), [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)]
)
def test_colour_can_be_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, colored: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    assert terminal.colors(no_color=False) is colored
    assert terminal.colors(no_color=True) is False


def test_version(run: Run) -> None:
    done = run("--version")
    assert done.exit_code == 0
    assert done.stdout.startswith("reconciler ")


@pytest.mark.parametrize("args", [["--help"], ["plan", "--help"], ["apply", "--help"]])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from reconciler.cli import main\n"
        "try: main(prog_name='reconciler')\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'networkx', 'psycopg', 'rich', 'yaml', 'httpx', 'asyncio', 'reconciler.app'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env=environ(), check=True
    )
    assert done.stderr.strip() == "[]"


def test_help_is_fast() -> None:
    def seconds(*args: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *args], env=environ(), check=True, capture_output=True)
        return time.perf_counter() - start

    rounds = range(7)
    nothing = min(seconds("-c", "pass") for _ in rounds)
    helped = min(seconds("-m", "reconciler", "--help") for _ in rounds)
    assert helped / nothing < 12, f"{helped:.3f} s beside {nothing:.3f} s"


SHOW = """
import sys
import reconciler.app as app
from reconciler.cli import main
from reconciler.plan.file import read
app.open_plan = read
main(["show", *sys.argv[1:]])
"""


def test_a_reader_that_has_enough_is_no_error(app: FakeApp) -> None:
    app.keys = tuple(f"k{n:06}" for n in range(20_000))
    app.make(Path("x.plan.jsonl"))
    command = f'"{sys.executable}" -c "$SHOW" x.plan.jsonl --format json | head -c 100'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environ(SHOW=SHOW), check=True)
    assert len(done.stdout) == 100
    assert done.stderr == ""


def test_an_old_terminal_is_no_error(app: FakeApp) -> None:
    app.keys = ("k1", "k2", "k3", "k4")
    app.make(Path("x.plan.jsonl"))
    env = environ(PYTHONIOENCODING="latin-1")
    done = subprocess.run([sys.executable, "-c", SHOW, "x.plan.jsonl"], capture_output=True, env=env, check=True)
    assert rb"k1, k2, k3, \u2026 1 more" in done.stdout


INTERRUPTED = """
import reconciler.app as app
from reconciler.cli import main

def open_plan(path):
    exec("raise KeyboardInterrupt")  # as one that comes while a dataclass is made

app.open_plan = open_plan
main(["show", "x.plan.jsonl"])
"""


def test_an_interrupt_within_code_made_of_text_leaves_with_its_code_too(app: FakeApp) -> None:
    app.make(Path("x.plan.jsonl"))
    Path("interrupted.py").write_text(INTERRUPTED)
    command = [sys.executable, "-m", "interrupted"]  # only Python's own -m looks at what it holds for unhandled
    done = subprocess.run(command, capture_output=True, text=True, env=environ(), check=False)
    assert done.returncode == 130, done.stderr
    assert "running the same again is safe" in done.stderr


def test_in_somebodys_process_the_collector_of_garbage_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text("version: 1\nconnections: {}\n")
    code = (
        "import gc\ngc.set_threshold(200_000)\nfrom reconciler.cli import main\n"
        "main(['validate'], standalone_mode=False)\nprint(gc.get_threshold()[0], gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "200000 0", done.stderr
