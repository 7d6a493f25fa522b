"""Other processes: those of a server, and our own in another interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Starts the server of a folder, says where it is, and keeps it until told to stop.
USER = """
import sys
from pathlib import Path
from reconciler.embedded import start
with start(Path(sys.argv[1]), durable=False) as server:
    print(server.pid, server.port, flush=True)
    sys.stdin.readline()
"""
# The same for a server whose folder goes with it.
CLUSTER = """
import sys
from reconciler.embedded import cluster
with cluster() as server:
    print(server.pid, server.port, flush=True)
    sys.stdin.readline()
"""


class User:
    """Another process of ours that uses a server."""

    def __init__(self, script: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment},
        )

    def server(self) -> tuple[int, int]:
        """The process id and the port of the server, once it is there."""
        assert self.process.stdout is not None
        pid, port = self.process.stdout.readline().split()
        return int(pid), int(port)

    def leave(self) -> None:
        self.process.communicate("\n", timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def processes_of(path: Path) -> dict[int, str]:
    """Processes with the path in their command line; where there is no /proc, none."""
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            command = entry.read_bytes().decode("utf-8", "replace").replace("\0", " ")
            if str(path) in command:
                found[int(entry.parent.name)] = command
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(holds: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether it comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
