"""A PDS that runs: a process of its own, which ends with ours however that ends, and its folder with it.

In: an installation, and settings beside those of a server that only this machine can reach. Out: its address, that of its PLC directory,
and accounts on it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from reconciler.embedded.pds.installation import GIVEN, Installation, UnavailableError
from reconciler.embedded.server import free_port
from reconciler.embedded.tether import tether
from reconciler.plan.errors import ReconcilerError

_SECONDS = 60.0
_ATTEMPTS = 5


@dataclass(frozen=True)
class Account:
    """An account on the PDS: `password` is an app password, `access` a token of the main one."""

    did: str
    handle: str
    password: str = field(repr=False)
    access: str = field(repr=False)


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
        """A plain call of a procedure."""
        return self._called("POST", method, json=body, headers={"authorization": f"Bearer {token}"} if token else {})

    def send(self, method: str, text: str, account: Account) -> dict[str, Any]:
        """The same as the account, with the exact text of the body."""
        headers = {"authorization": f"Bearer {account.access}", "content-type": "application/json"}
        return self._called("POST", method, content=text.encode(), headers=headers)

    def get(self, method: str, **params: str | int) -> dict[str, Any]:
        """A plain query."""
        return self._called("GET", method, params=params)

    def _called(self, verb: str, method: str, **sent: Any) -> dict[str, Any]:
        try:
            response = self.client.request(verb, f"{self.url}/xrpc/{method}", **sent)
        except httpx.HTTPError as error:
            raise ReconcilerError(f"the local PDS does not answer {method}", why=str(error)) from None
        if response.status_code != 200:
            raise ReconcilerError(f"the local PDS refuses {method}", why=response.text)
        return response.json() if response.content else {}


@contextmanager
def running(installed: Installation, environment: Mapping[str, str] | None = None) -> Generator[Pds]:
    """A server with an empty world, which may be given more of its settings."""
    for _ in range(_ATTEMPTS):
        with _started(installed, environment or {}) as pds:
            if pds is not None:  # else somebody took the port before the server did
                yield pds
                return
    raise UnavailableError("the PDS does not start", why=f"its port was taken {_ATTEMPTS} times")


@contextmanager
def _started(installed: Installation, environment: Mapping[str, str]) -> Generator[Pds | None]:
    folder = Path(tempfile.mkdtemp(prefix="reconciler-pds-"))
    try:
        port = free_port()
        for name in ("data", "blobs"):
            (folder / name).mkdir()
        settings = {**_settings(folder, port), **environment}
        given = {"packages": str(installed.packages), "folder": str(folder), "port": port, "environment": settings}
        (folder / "given.json").write_text(json.dumps(given))
        reader, writer = os.pipe()
        try:
            with (folder / "log").open("wb") as log:
                command = [installed.node, GIVEN / "server.mjs", folder / "given.json"]
                process = tether(command, until=reader, signals="KILL", log=log, account=None, remove=folder)
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        try:
            deadline = time.monotonic() + _SECONDS
            while process.poll() is None and not (folder / "ready").exists():
                if time.monotonic() > deadline:
                    raise _mute(folder, f"it is not ready after {_SECONDS:.0f} s")
                time.sleep(0.02)
            if process.poll() is None:
                plc = json.loads((folder / "ready").read_text())["plc"]
                # It is on this machine: no proxy of the user's, and no certificate to check.
                with httpx.Client(timeout=60, verify=False, trust_env=False) as client:
                    yield Pds(f"http://localhost:{port}", plc, folder, process.pid, client)
            elif "EADDRINUSE" in (folder / "log").read_text():
                yield None
            else:
                raise _mute(folder, f"it ended with {process.returncode}")
        finally:
            os.close(writer)
            process.wait(_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, port: int) -> dict[str, str]:
    return {
        "PDS_PORT": str(port),
        "PDS_HOSTNAME": "localhost",
        "PDS_DATA_DIRECTORY": str(folder / "data"),
        "PDS_BLOBSTORE_DISK_LOCATION": str(folder / "blobs"),
        "PDS_JWT_SECRET": secrets.token_hex(16),
        "PDS_ADMIN_PASSWORD": secrets.token_hex(16),
        "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": secrets.token_hex(32),
        "PDS_INVITE_REQUIRED": "false",
        "PDS_DEV_MODE": "true",
        "PDS_SERVICE_HANDLE_DOMAINS": ".test",
        "LOG_ENABLED": "false",
    }


def _mute(folder: Path, why: str) -> UnavailableError:
    """The error of a server that did not start, with its last words."""
    said = (folder / "log").read_text("utf-8", "replace").splitlines()
    return UnavailableError("the PDS does not start", why=why, details=tuple(said[-15:]))
