"""Root and everyone else can have a server, wherever they stand."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from reconciler.embedded import account, find, start
from reconciler.embedded.account import reachable, server_account
from reconciler.embedded.binaries import within_reach
from tests.embedded.processes import ROOT

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a server as someone else")

SCRIPT = """
import os, sys
from pathlib import Path
from reconciler.embedded import cluster, start
assert os.geteuid() != 0
with start(Path(sys.argv[1]), durable=True) as server, cluster() as other:
    assert os.stat(f"/proc/{server.pid}").st_uid == os.geteuid()
    print(server.port != other.port)
"""


def _interpreter() -> str | None:
    """A Python of this version that everyone may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if Path(candidate).exists() and reachable(Path(candidate).resolve().parent, server_account()):
            return candidate
    return None


@as_root
def test_another_user_has_servers_too(place: Path) -> None:
    interpreter = _interpreter()
    packages = sysconfig.get_path("purelib")
    if interpreter is None or not all(reachable(Path(path), server_account()) for path in (packages, ROOT)):
        pytest.skip("another user cannot run this Python or read this package")
    nobody = pwd.getpwnam("nobody")
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    done = subprocess.run(
        [interpreter, "-c", SCRIPT, place / "server"],
        capture_output=True,
        text=True,
        check=False,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        cwd=place,
        env={"PATH": os.defpath, "HOME": str(place), "TMPDIR": str(place), "PYTHONPATH": f"{ROOT}:{packages}"},
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert (place / "server" / "data").stat().st_uid == nobody.pw_uid


@as_root
def test_root_starts_it_as_nobody(place: Path) -> None:
    with start(place, durable=False) as server:
        nobody = pwd.getpwnam("nobody").pw_uid
        assert Path(f"/proc/{server.pid}").stat().st_uid == nobody
        assert "\nGroups:\t \n" in Path(f"/proc/{server.pid}/status").read_text()
        assert (place / "data").stat().st_uid == nobody
        assert (place / "data").stat().st_mode & 0o777 == 0o700


@as_root
def test_a_closed_folder_holds_a_link(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "ELSEWHERE", place / "elsewhere")
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for number in range(2):
        with start(closed / "server", durable=False) as server, psycopg.connect(server.dsn()) as session:
            session.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS x")
            assert session.execute("SELECT count(*) FROM kept").fetchall() == [(1,)], number
    [data] = (place / "elsewhere").iterdir()
    assert (closed / "server" / "data").readlink() == data
    shutil.rmtree(data)
    with start(closed / "server", durable=False) as server, psycopg.connect(server.dsn()) as session:
        assert session.execute("SELECT to_regclass('kept')").fetchall() == [(None,)]


@as_root
def test_the_wheels_programs_are_copied_out_of_a_closed_folder_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, closed_wheel: Callable[[Path], Path]
) -> None:
    monkeypatch.setattr(account, "ELSEWHERE", place / "elsewhere")
    monkeypatch.syspath_prepend(closed_wheel(place))  # pyright: ignore[reportUnknownMemberType]
    binaries = find()
    assert not reachable(binaries.folder, server_account())
    with start(place / "server", durable=False) as server, psycopg.connect(server.dsn()) as session:
        session.execute("SELECT 1")
    [copy] = (place / "elsewhere").iterdir()
    assert within_reach(binaries, server_account()).folder.is_relative_to(copy)
