"""httpx is loaded without its extras, and they are there for whoever asks."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
from reconciler.systems.web import httpx
httpx.Client().close()
print([name for name in ("h2", "httpx._main", "rich") if name in sys.modules])
httpx.Client(http2=True).close()
from httpcore._sync.connection import HTTPConnection
from httpcore._sync.http2 import HTTP2Connection
print("h2" in sys.modules)
import httpx._main
"""


def test_httpx_is_loaded_without_its_extras_and_gives_them_to_who_asks() -> None:
    done = subprocess.run([sys.executable, "-c", _CODE], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "True"]
