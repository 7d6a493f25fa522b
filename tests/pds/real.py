"""The real PDS for tests: that of `reconciler.embedded.pds`, with what only tests do to one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reconciler.embedded import pds
from reconciler.embedded.pds import Account as Account
from reconciler.embedded.pds import Installation

_JWT_SECRET = "a secret of the test server, known to the tests"


class Pds(pds.Pds):
    """A running server whose secret is known."""

    def cpu(self) -> float:
        """Seconds of the processor that the server has used so far, with those it started."""
        seconds = 0.0
        for pid in (self.pid, *_children(self.pid)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return seconds

    def expired_token(self, account: Account) -> str:
        """An access token as the server gave one three hours ago."""
        now = int(time.time())
        claims = {
            "scope": "com.atproto.appPassPrivileged",
            "sub": account.did,
            "aud": "did:web:localhost",
            "iat": now - 10800,
            "exp": now - 3600,
        }
        signed = ".".join(_part(json.dumps(it).encode()) for it in ({"typ": "at+jwt", "alg": "HS256"}, claims))
        return f"{signed}.{_part(hmac.digest(_JWT_SECRET.encode(), signed.encode(), hashlib.sha256))}"


@contextmanager
def running(installed: Installation, environment: Mapping[str, str] | None = None) -> Generator[Pds]:
    """A server with an empty world, which may be given more of its settings."""
    with pds.running(installed, {"PDS_JWT_SECRET": _JWT_SECRET, **(environment or {})}) as it:
        yield Pds(it.url, it.plc, it.folder, it.pid, it.client)


def _children(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _children(int(child))


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
