"""A PostgreSQL server that is there while someone uses it: started by the first, stopped with the last."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from reconciler.embedded.account import Account, elsewhere, give, reachable, server_account
from reconciler.embedded.binaries import Binaries, find, within_reach
from reconciler.embedded.data import LAST_WORDS, initialise, of_version
from reconciler.embedded.folder import Folder, Postmaster, taken, taken_within
from reconciler.plan.errors import ReconcilerError

_HOST = "127.0.0.1"
_READY = "ready"
_START_SECONDS = 300.0  # recovery after a crash is counted in it
_STOP_SECONDS = 60.0
_PORTS = 20
_FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# TERM kills a server too young to handle INT, INT then makes an older one drop its clients instead of waiting for them.
_SHUTDOWN = "TERM INT"

# Servers that we started and others still use: their processes outlive our handles on them.
_left_running: list[subprocess.Popen[bytes]] = []


class Server:
    """A running PostgreSQL, and one use of it: `stop` ends this use, and the server if it was the last."""

    def __init__(
        self, folder: Folder, postmaster: Postmaster, use: int, process: subprocess.Popen[bytes] | None
    ) -> None:
        self.port = postmaster.port
        self.pid = postmaster.pid
        self._folder = folder
        self._use: int | None = use
        self._process = process
        atexit.register(self.stop)

    def dsn(self, database: str = "postgres") -> str:
        """How to connect to a database of it, as its superuser."""
        return f"postgresql://postgres@{_HOST}:{self.port}/{quote(database, safe='')}"

    def stop(self) -> None:
        """Let go of the server; when this returns it has ended, or another use keeps it running."""
        use, self._use = self._use, None
        if use is None:
            return
        atexit.unregister(self.stop)
        try:
            with self._folder.guarded():
                running = self._folder.open_running()
                try:
                    os.close(use)
                    use = None
                    if self._folder.in_use():
                        if self._process:
                            _left_running.append(self._process)
                        return
                    self._end(running)
                finally:
                    os.close(running)
        except FileNotFoundError:
            pass  # the folder went before its server, which ends all the same
        finally:
            if use is not None:
                os.close(use)
        if self._process:
            self._process.wait(_STOP_SECONDS)

    def _end(self, running: int) -> None:
        for harder in (signal.SIGQUIT, signal.SIGKILL):
            if taken_within(running, _STOP_SECONDS):
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, harder)
        if not taken_within(running, _STOP_SECONDS):
            raise ReconcilerError("the embedded PostgreSQL does not end", where=str(self._folder.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(data_dir: Path, *, durable: bool, binaries: Binaries | None = None) -> Server:
    """The server of this folder: joined if it runs, else started, and made if the folder is new.

    `durable=False` is for data that may be lost when the machine stops. `binaries` are those of `find()` by default.
    """
    return _start(data_dir, durable=durable, binaries=binaries, remove=None)


@contextmanager
def cluster(binaries: Binaries | None = None) -> Generator[Server]:
    """A new, empty, forgetful server whose folder goes with it, also when this process is killed."""
    account = server_account()
    temporary = Path(tempfile.gettempdir())
    base = temporary if reachable(temporary, account) else elsewhere()
    path = Path(tempfile.mkdtemp(prefix="reconciler-postgres-", dir=base))
    try:
        give(path, account)
        with _start(path, durable=False, binaries=binaries, remove=path) as server:
            yield server
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _start(path: Path, *, durable: bool, binaries: Binaries | None, remove: Path | None) -> Server:
    if sys.platform == "win32":
        raise ReconcilerError(
            "reconciler cannot start a PostgreSQL on Windows",
            todo='name a running one: { postgres: "${env:DATABASE_URL}" }',
        )
    folder = Folder(path.absolute())
    try:
        folder.prepare()
        with folder.guarded() as guard:
            running = folder.open_running()
            try:
                joined = _join(folder, running)
                return joined or _launch(folder, guard, running, durable=durable, binaries=binaries, remove=remove)
            finally:
                os.close(running)
    except OSError as error:
        raise ReconcilerError(
            "the folder of the embedded PostgreSQL cannot be used",
            where=error.filename or str(folder.path),
            why=error.strerror,
            todo="check who owns it: a server begun as one user cannot go on as another",
        ) from error


def _join(folder: Folder, running: int) -> Server | None:
    """A use of the server that runs; None when none does, and then `running` is ours."""
    deadline = time.monotonic() + _START_SECONDS
    while not taken(running):
        postmaster = folder.postmaster()
        # A server that was killed, or whose last user was, says it is ready for an instant more.
        if postmaster and postmaster.status == _READY and folder.in_use() and _answers(postmaster.port):
            reader, writer = folder.open_users()
            os.close(reader)
            return Server(folder, postmaster, writer, None)
        if time.monotonic() > deadline:
            raise ReconcilerError(
                "the embedded PostgreSQL neither answers nor ends",
                where=str(folder.path),
                todo=f"look into {folder.log}, and end its processes",
            )
        time.sleep(0.01)
    return None


def _launch(
    folder: Folder, guard: int, running: int, *, durable: bool, binaries: Binaries | None, remove: Path | None
) -> Server:
    account = server_account()
    if not folder.data.is_dir():
        initialise(folder, within_reach(binaries or find(), account), account, guard, durable=durable, remove=remove)
    programs = within_reach(of_version(folder, binaries), account)
    for _ in range(_PORTS):
        server = _launch_on(free_port(), folder, programs, account, running, durable=durable, remove=remove)
        if server:
            return server
        if not any("could not create any TCP/IP sockets" in line for line in folder.last_words()):
            break  # else the port was taken by someone after it was chosen
    raise ReconcilerError(
        "the embedded PostgreSQL did not start", where=str(folder.path), details=folder.last_words(), why=LAST_WORDS
    )


def _launch_on(
    port: int,
    folder: Folder,
    programs: Binaries,
    account: Account | None,
    running: int,
    *,
    durable: bool,
    remove: Path | None,
) -> Server | None:
    """The server, ready; None when it ended before it was."""
    # Left by a crash: `running` is ours, so no server is alive. Its process id may be someone else's by now, and
    # PostgreSQL would refuse to start for it.
    (folder.data / "postmaster.pid").unlink(missing_ok=True)
    command: list[str | Path] = [programs.postgres, "-D", folder.data.resolve(), "-h", _HOST, "-p", str(port), "-k", ""]
    for setting in () if durable else _FORGETFUL:
        command += ["-c", setting]
    process, writer = folder.launch(command, signals=_SHUTDOWN, account=account, inherit=running, remove=remove)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            postmaster = folder.postmaster()
            if postmaster and postmaster.status == _READY:
                return Server(folder, postmaster, writer, process)
            time.sleep(0.01)
    except BaseException:
        os.close(writer)
        process.wait(_STOP_SECONDS)
        raise
    os.close(writer)
    process.wait(_STOP_SECONDS)
    return None


def _answers(port: int) -> bool:
    """Whether a PostgreSQL accepts connections: asked for encryption, it says yes or no."""
    with suppress(OSError), socket.create_connection((_HOST, port), timeout=5) as client:
        client.sendall(struct.pack("!ii", 8, 80877103))
        return client.recv(1) in (b"S", b"N")
    return False


def free_port() -> int:
    """A port nobody listens on now; that can change before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
