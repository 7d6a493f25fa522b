"""The double in a process of its own, so that its work is not counted as the client's: `python -m tests.storage.serve DSN`.

Writes its address and a key, one a line, and ends with its input.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.storage.double import serving


@dataclass(frozen=True)
class Apart:
    url: str
    key: str


@contextmanager
def serving_apart(dsn: str) -> Generator[Apart]:
    """A double over an empty database."""
    command = [sys.executable, "-m", "tests.storage.serve", dsn]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield Apart(process.stdout.readline().strip(), process.stdout.readline().strip())
        finally:
            process.stdin.close()


if __name__ == "__main__":
    with serving(sys.argv[1]) as double:
        print(double.url, double.key, sep="\n", flush=True)
        sys.stdin.read()
