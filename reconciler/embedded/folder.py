"""A server's folder, and what the processes that share the server tell each other through it.

Three files hold the whole protocol, and the kernel keeps it true however a process ends:

- `lock` is held while a server is started, attached to or let go: these never overlap.
- `running` is locked by the server's own processes: it is free exactly when none of them is alive. No process id
  is ever trusted for that, since ids are used again.
- `users` is a named pipe that every user of the server holds open for writing: when the last is gone, killed ones
  included, the server's tether reads its end and stops the server.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.embedded.account import Account
from reconciler.embedded.tether import tether

# Above the single digits a shell script uses for its own redirections.
_INHERITED = 10


@dataclass(frozen=True)
class Postmaster:
    """What a server says about itself in `postmaster.pid`."""

    pid: int
    port: int
    status: str


@dataclass(frozen=True)
class Folder:
    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def last_words(self) -> tuple[str, ...]:
        """The end of what the server's programs said."""
        return tuple(self.log.read_text("utf-8", "replace").splitlines()[-10:])

    def prepare(self) -> None:
        """Make what is missing of the folder and its named pipe."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.mkfifo(self.path / "users", 0o600)

    @contextmanager
    def guarded(self) -> Generator[int]:
        """Alone among all processes and threads; yields the lock's descriptor."""
        lock = self._open("lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def open_running(self) -> int:
        """The file the server's processes inherit locked."""
        return self._open("running")

    def open_users(self) -> tuple[int, int]:
        """Both ends of the named pipe: the end a tether reads, and the end whose holder keeps the server running."""
        # A reader must be there first: a writer that does not wait for one is refused.
        reader = os.open(self.path / "users", os.O_RDONLY | os.O_NONBLOCK)
        try:
            writer = os.open(self.path / "users", os.O_WRONLY | os.O_NONBLOCK)
        except BaseException:
            os.close(reader)
            raise
        os.set_blocking(reader, True)
        return reader, writer

    def launch(
        self, command: Sequence[str | Path], *, signals: str, account: Account | None, inherit: int, remove: Path | None
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start a program that is stopped when the last user is gone; with it, a first use."""
        reader, writer = self.open_users()
        try:
            with self.log.open("wb") as log:
                process = tether(
                    command, until=reader, signals=signals, log=log, account=account, inherit=(inherit,), remove=remove
                )
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        return process, writer

    def in_use(self) -> bool:
        """Whether anyone holds the writing end; only true to the moment under `guarded`."""
        try:
            reader = os.open(self.path / "users", os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            return os.read(reader, 1) != b""
        except BlockingIOError:
            return True
        finally:
            os.close(reader)

    def postmaster(self) -> Postmaster | None:
        """The server's word on itself; of a server that crashed it is the last word, so look at `running` too."""
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if len(lines) < 8 or not (lines[0].isdecimal() and lines[3].isdecimal()):
            return None  # caught while it is being written
        return Postmaster(pid=int(lines[0]), port=int(lines[3]), status=lines[7].strip())

    def _open(self, name: str) -> int:
        opened = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _INHERITED)
        finally:
            os.close(opened)


def taken(running: int) -> bool:
    """Take the lock of `open_running`, if no process of a server holds it."""
    try:
        fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def taken_within(running: int, seconds: float) -> bool:
    """The same, once the processes that hold it have ended."""
    deadline = time.monotonic() + seconds
    while not taken(running):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
