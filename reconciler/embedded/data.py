"""PostgreSQL's own files: how they are made, and which programs can read them."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from pathlib import Path

from reconciler.embedded.account import Account, elsewhere, give, reachable
from reconciler.embedded.binaries import VARIABLE, Binaries, find, installed, wheel
from reconciler.embedded.folder import Folder
from reconciler.plan.errors import ReconcilerError

LAST_WORDS = "the last words of its programs are above"


def initialise(
    folder: Folder, programs: Binaries, account: Account | None, guard: int, *, durable: bool, remove: Path | None
) -> None:
    """Make the data folder, whole or not at all; it is a link to one elsewhere when the account cannot come here."""
    here = reachable(folder.path, account)
    draft = folder.path / "data.new" if here else elsewhere() / f"data-{secrets.token_hex(8)}"
    shutil.rmtree(draft, ignore_errors=True)
    folder.data.unlink(missing_ok=True)  # a link whose place is gone
    try:
        draft.mkdir(mode=0o700)
        give(draft, account)
        command: list[str | Path] = [programs.initdb, "-D", draft, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        # Elsewhere than on Linux the C locale is the only one sure to be there.
        command += [f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'C'}", "--no-instructions"]
        if not durable:
            command.append("--no-sync")
        # It keeps the guard when we are killed: the next start must not meet it at work.
        process, writer = folder.launch(command, signals="TERM", account=account, inherit=guard, remove=remove)
        try:
            process.wait()
        finally:
            os.close(writer)
            process.wait()
        if process.returncode != 0:
            raise ReconcilerError(
                "the embedded PostgreSQL could not be made",
                where=str(folder.path),
                details=folder.last_words(),
                why=LAST_WORDS,
            )
        if here:
            draft.rename(folder.data)
        else:
            folder.data.symlink_to(draft)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def of_version(folder: Folder, binaries: Binaries | None) -> Binaries:
    """Programs that can read the folder: PostgreSQL's files fit one major version only."""
    major = int((folder.data / "PG_VERSION").read_text("ascii"))
    preferred = binaries or find()
    for candidate in (preferred, wheel(), *installed()):
        if candidate and candidate.major == major:
            return candidate
    raise ReconcilerError(
        f"the embedded PostgreSQL is of version {major}, and the programs here are of version {preferred.major}",
        where=str(folder.path),
        todo=f"install PostgreSQL {major} and name its programs with {VARIABLE}, or remove the folder and its data",
    )
