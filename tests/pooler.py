"""A transaction pooler in front of a server: what many real databases are reached through."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.embedded import Server
from reconciler.embedded.account import give, server_account
from reconciler.embedded.server import free_port
from reconciler.embedded.tether import tether
from tests.postgres import Database

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_round_robin = 1
min_pool_size = 3
"""
_ATTEMPTS = 10
_SECONDS = 20.0


class Pooler:
    def __init__(self, port: int) -> None:
        self.port = port

    def dsn(self, database: Database) -> str:
        """How to reach the database through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database.name}"


@pytest.fixture
def pooler(server: Server) -> Generator[Pooler]:
    """pgbouncer in transaction mode; two transactions of one client need not meet the same session."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    folder = Path(tempfile.mkdtemp(prefix="reconciler-pooler-"))
    try:
        for _ in range(_ATTEMPTS):
            with _pooling(program, folder, server) as started:
                if started:
                    yield started
                    return
        pytest.fail(f"pgbouncer did not start:\n{(folder / 'log').read_text()}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _pooling(program: str, folder: Path, server: Server) -> Generator[Pooler | None]:
    account = server_account()
    port = free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(_CONFIGURATION.format(server=server.port, port=port))
    give(folder, account)
    reader, writer = os.pipe()
    try:
        with (folder / "log").open("wb") as log:
            # It has no signal that ends it at once in every version.
            process = tether(
                [program, configuration], until=reader, signals="KILL", log=log, account=account, remove=folder
            )
    finally:
        os.close(reader)
    try:
        yield Pooler(port) if _up(process, folder / "log") else None
    finally:
        os.close(writer)
        process.wait(_SECONDS)


def _up(process: subprocess.Popen[bytes], log: Path) -> bool:
    deadline = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if b"process up" in log.read_bytes():
            return True
        time.sleep(0.01)
    return False
