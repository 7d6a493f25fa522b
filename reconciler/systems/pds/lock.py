"""One writer a repo on this machine, however the writer ends; others are met by comparing commits."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from reconciler.plan.errors import ReconcilerError


@contextmanager
def alone(did: str) -> Generator[None]:
    """Hold the repo, or fail at once. The kernel lets go when the process ends, so a lock never outlives its writer."""
    name = hashlib.sha256(did.encode()).hexdigest()[:24]
    path = Path(tempfile.gettempdir()) / f"reconciler-{os.getuid()}-{name}.lock"
    lock = _taken(path)
    if lock is None:
        raise ReconcilerError(
            f"another run is writing to the repo of {did}", todo="wait until it has ended, and run the same again"
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is let go: whoever opened it already sees that it is no longer there
        os.close(lock)


def _taken(path: Path) -> int | None:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(lock), path.lstat()):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:  # its holder removed it between two of our calls
            pass
        os.close(lock)
