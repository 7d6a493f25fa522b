"""The real PDS for tests: a process of its own, which ends with ours however that ends, and its folder with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from reconciler.embedded.server import free_port
from reconciler.embedded.tether import tether
from tests.pds.installation import GIVEN, Installation

_SECONDS = 60.0
_ATTEMPTS = 5
_JWT_SECRET = "a secret of the test server, known to the tests"


@dataclass(frozen=True)
class Account:
    """An account on the PDS: `password` is an app password, `access` a token of the main one."""

    did: str
    handle: str
    password: str
    access: str


@dataclass
class Pds:
    """A running server; `url` is what DID documents name."""

    url: str
    plc: str
    folder: Path
    pid: int
    client: httpx.Client
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def account(self) -> Account:
        """A fresh account with an empty repo."""
        handle = f"user{next(self._numbers)}x{secrets.token_hex(3)}.test"
        body = {"handle": handle, "email": f"{handle}@example.org", "password": secrets.token_urlsafe(12)}
        made = self.post("com.atproto.server.createAccount", body)
        app = self.post("com.atproto.server.createAppPassword", {"name": "reconciler"}, made["accessJwt"])
        return Account(made["did"], handle, app["password"], made["accessJwt"])

    def post(self, method: str, body: object, token: str | None = None) -> dict[str, Any]:
        """A plain call, past everything that is tested."""
        response = self.client.post(f"{self.url}/xrpc/{method}", json=body, headers=_bearer(token))
        assert response.status_code == 200, response.text
        return response.json() if response.content else {}

    def send(self, method: str, text: str, account: Account) -> dict[str, Any]:
        """The same with the exact text of the body."""
        headers = {**_bearer(account.access), "content-type": "application/json"}
        response = self.client.post(f"{self.url}/xrpc/{method}", content=text.encode(), headers=headers)
        assert response.status_code == 200, response.text
        return response.json()

    def get(self, method: str, **params: str | int) -> dict[str, Any]:
        response = self.client.get(f"{self.url}/xrpc/{method}", params=params)
        assert response.status_code == 200, response.text
        return response.json()

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


def _children(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _children(int(child))


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bearer(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


@contextmanager
def running(installed: Installation, environment: Mapping[str, str] | None = None) -> Generator[Pds]:
    """A server with an empty world, which may be given more of its settings."""
    for _ in range(_ATTEMPTS):
        with _started(installed, environment or {}) as pds:
            if pds is not None:  # else somebody took the port before the server did
                yield pds
                return
    raise AssertionError(f"the PDS did not start in {_ATTEMPTS} attempts")


@contextmanager
def _started(installed: Installation, environment: Mapping[str, str]) -> Generator[Pds | None]:
    folder = Path(tempfile.mkdtemp(prefix="reconciler-pds-"))
    port = free_port()
    for name in ("data", "blobs"):
        (folder / name).mkdir()
    settings = {
        "PDS_PORT": str(port),
        "PDS_HOSTNAME": "localhost",
        "PDS_DATA_DIRECTORY": str(folder / "data"),
        "PDS_BLOBSTORE_DISK_LOCATION": str(folder / "blobs"),
        "PDS_JWT_SECRET": _JWT_SECRET,
        "PDS_ADMIN_PASSWORD": secrets.token_hex(16),
        "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": secrets.token_hex(32),
        "PDS_INVITE_REQUIRED": "false",
        "PDS_DEV_MODE": "true",
        "PDS_SERVICE_HANDLE_DOMAINS": ".test",
        "LOG_ENABLED": "false",
        **environment,
    }
    given = {"packages": str(installed.packages), "folder": str(folder), "port": port, "environment": settings}
    (folder / "given.json").write_text(json.dumps(given))
    reader, writer = os.pipe()
    try:
        with (folder / "log").open("wb") as log:
            command = [installed.node, GIVEN / "server.mjs", folder / "given.json"]
            process = tether(command, until=reader, signals="KILL", log=log, account=None, remove=folder)
    finally:
        os.close(reader)
    try:
        deadline = time.monotonic() + _SECONDS
        while process.poll() is None and not (folder / "ready").exists():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        if process.poll() is None:
            plc = json.loads((folder / "ready").read_text())["plc"]
            with httpx.Client(timeout=60, verify=False) as client:
                yield Pds(f"http://localhost:{port}", plc, folder, process.pid, client)
        else:
            said = (folder / "log").read_text()
            assert "EADDRINUSE" in said, said
            yield None
    finally:
        os.close(writer)
        process.wait(_SECONDS)
