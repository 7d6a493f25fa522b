"""One account's repo: reading it where its DID's document says it is, and writing to it as its owner.

In: `Login`, out of the spec's connection. Out: `Session`. Nothing is sent until it is needed: reading needs no password, and a run logs
in at most once; a token that ran out is renewed, not asked for again. With `via:` the owner's calls go to the app's proxy under its
token, and reading still goes to the PDS. No secret is in a repr or an error.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import identity
from reconciler.systems.pds.quota import Quota, Told
from reconciler.systems.pds.xrpc import Clock, CutError, RefusedError, Waiting, Xrpc, ignore

_EXPIRED = "ExpiredToken"
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Login:
    """How to find an account and be let in: with an app password, or by way of an app's proxy."""

    identifier: str
    password: str | None = field(default=None, repr=False)
    pds: str | None = None  # checked against the document, never trusted
    plc: str | None = None
    via: str | None = None
    token: str | None = field(default=None, repr=False)


class Session:
    """`did`, `handle` and `pds` are those of the document, `quota` counts what is written; close it when done."""

    whole = True
    """Whether the whole repo can be had at once, as a CAR."""

    def __init__(self, login: Login, *, waiting: Waiting = ignore, clock: Clock | None = None) -> None:
        found = identity.resolve(login.identifier, pds=login.pds, plc=login.plc)
        self.did, self.handle, self.pds = found.did, found.handle, found.pds
        self.clock = clock or Clock()
        self.quota = Quota()
        self._login = login
        self._reading = Xrpc(found.pds, waiting=waiting, clock=self.clock)
        self._owning = Xrpc(login.via, waiting=waiting, clock=self.clock) if login.via else self._reading
        for secret in (login.password, login.token):
            if secret:
                self._owning.hide(secret)
        self._access = login.token if login.via else None
        self._refresh: str | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reading.close()
        self._owning.close()

    @property
    def public(self) -> Xrpc:
        """The PDS itself, for what anyone may read."""
        return self._reading

    @property
    def limited(self) -> bool:
        """Whether the server is known to count what the owner does."""
        return self._owning.limited

    @property
    def told(self) -> Told | None:
        """What the answer to the owner's last call said of a limit."""
        return self._owning.told

    def read(self, method: str, **params: str | int) -> Mapping[str, object]:
        """A query anyone may make."""
        return _object(self._reading.read(method, params))

    def read_own(self, method: str, **params: str | int) -> Mapping[str, object]:
        """A query of the owner's."""
        return _object(self._let_in(lambda token: self._owning.read(method, params, token)))

    def write(self, method: str, body: bytes, type_: str = "application/json") -> Mapping[str, object]:
        """A procedure of the owner's, done at most once; RefusedError or CutError when it was not, or may not have been."""
        return _object(self._let_in(lambda token: self._owning.write(method, body, token, type_)))

    def wait(self, seconds: float, reason: str) -> None:
        self._owning.wait(seconds, reason)

    def _let_in(self, call: Callable[[str], _Answer]) -> _Answer:
        token = self._token()
        try:
            return call(token)
        except RefusedError as refused:
            if refused.name != _EXPIRED:
                raise self._unwelcome(refused) or refused from None
        try:
            return call(self._renewed(token))
        except RefusedError as refused:
            raise self._unwelcome(refused) or refused from None

    def _token(self) -> str:
        with self._lock:
            if self._access is None:
                self._log_in()
            assert self._access is not None
            return self._access

    def _log_in(self) -> None:
        if self._login.via:
            raise ReconcilerError(
                f"the proxy {self._owning.place} needs a token", todo='give it with token: "${env:NAME}"'
            )
        if not self._login.password:
            raise ReconcilerError(
                f"writing to the repo of {self.did} needs an app password",
                todo='make one in the account\'s settings and give it with password: "${env:NAME}"',
            )
        if self._refresh is not None:
            raise ReconcilerError("a run logs in once", why="the session was lost", todo="run the same again")
        body = json.dumps({"identifier": self.did, "password": self._login.password}).encode()
        self._owning.private()
        try:
            self._keep(self._sent("com.atproto.server.createSession", body, None))
        except RefusedError as refused:
            raise self._not_let_in(refused) from None

    def _renewed(self, used: str) -> str:
        """A fresh token in place of the one that ran out; another thread may have fetched it."""
        with self._lock:
            if self._access != used:
                assert self._access is not None
                return self._access
            if self._refresh is None:
                raise ReconcilerError(
                    f"the token for {self._owning.place} has expired",
                    todo="get a fresh one from the app and run the same again; what is done stays done",
                )
            try:
                self._keep(self._sent("com.atproto.server.refreshSession", b"", self._refresh))
            except RefusedError as refused:
                raise ReconcilerError(
                    f"the session at {self._owning.place} could not be renewed",
                    why=refused.said(),
                    todo="run the same again; what is done stays done",
                ) from None
            assert self._access is not None
            return self._access

    def _sent(self, method: str, body: bytes, token: str | None) -> Mapping[str, object]:
        tries = 0
        while True:
            tries += 1
            try:
                return _object(self._owning.write(method, body, token, "application/json" if body else ""))
            except CutError as cut:
                if tries == 3:
                    raise self._owning.lost(method, cut) from None
                self.wait(1, f"{self._owning.place} does not answer")

    def _keep(self, answer: Mapping[str, object]) -> None:
        access, refresh = answer.get("accessJwt"), answer.get("refreshJwt")
        if not isinstance(access, str) or not isinstance(refresh, str) or answer.get("did") != self.did:
            raise ReconcilerError(f"{self._owning.place} answered a login as no PDS does", todo="check the address")
        for secret in (access, refresh):
            self._owning.hide(secret)
        self._access, self._refresh = access, refresh

    def _not_let_in(self, refused: RefusedError) -> ReconcilerError:
        todo = "check the app password; the account's settings can make a new one"
        if refused.name == "AuthFactorTokenRequired":
            todo = "use an app password: the main one asks for a second factor"
        return ReconcilerError(
            f"{self._owning.place} does not let {self.handle or self.did} in", why=refused.said(), todo=todo
        )

    def _unwelcome(self, refused: RefusedError) -> ReconcilerError | None:
        if refused.status not in (401, 403) and refused.name not in (_EXPIRED, "InvalidToken"):
            return None
        what = f"the proxy {self._owning.place} refuses" if self._login.via else f"{self._owning.place} refuses"
        return ReconcilerError(
            f"{what} the owner's call for {self.did}",
            why=refused.said(),
            todo="check that the token or app password is this account's and may write records",
        )


def _object(value: object) -> Mapping[str, object]:
    return cast(Mapping[str, object], value) if isinstance(value, dict) else {}
