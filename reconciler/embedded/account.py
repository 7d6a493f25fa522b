"""Who runs the server: PostgreSQL refuses root, so as root it runs as `nobody`, who must be able to reach its files."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from reconciler.plan.errors import ReconcilerError

# Only root ever writes here, and only where the place a server belongs to is closed to `nobody`, such as /root.
ELSEWHERE = Path("/var/lib/reconciler")


@dataclass(frozen=True)
class Account:
    """Another user, under whose id processes are started and to whom their files belong."""

    uid: int
    gid: int


def server_account() -> Account | None:
    """The user to run the server as; None: as we are."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ReconcilerError(
            "PostgreSQL does not run as root, and this machine has no user nobody to run it as",
            todo="run reconciler as another user, or add the user nobody",
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def reachable(path: Path, account: Account | None) -> bool:
    """Whether the account may enter every folder on the way to `path`, itself included if it is one."""
    if account is None:
        return True
    real = path.resolve()
    return all(_enters(folder, account) for folder in (real, *real.parents) if folder.is_dir())


def give(path: Path, account: Account | None) -> None:
    """Make the account the owner of `path` alone, not of what is inside."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def elsewhere() -> Path:
    """The folder for what must be reachable when its own place is not."""
    try:
        ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
        ELSEWHERE.chmod(0o755)
    except OSError as error:
        raise ReconcilerError(
            "PostgreSQL does not run as root, and the user nobody cannot reach this folder",
            why=f"{ELSEWHERE}, the place used instead, cannot be made: {error.strerror}",
            todo="run reconciler as another user, or from a folder that everyone may enter",
        ) from None
    return ELSEWHERE


def environment() -> dict[str, str]:
    """What the server's processes see of ours: nothing that steers PostgreSQL, and no secret."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


def _enters(folder: Path, account: Account) -> bool:
    state = folder.stat()
    if state.st_uid == account.uid:
        return bool(state.st_mode & stat.S_IXUSR)
    if state.st_gid == account.gid:
        return bool(state.st_mode & stat.S_IXGRP)
    return bool(state.st_mode & stat.S_IXOTH)
