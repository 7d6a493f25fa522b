"""Calls to one host over HTTP, with its bodies as they are.

In: a method, its parameters or the exact bytes of its body. Out: the exact bytes of the answer, or one of three ends: `RefusedError` (the
server said no, and did nothing), `CutError` (nobody knows what the server did), or a `ReconcilerError`. Reading is tried again by
itself; a write is not, except after 429, which says that nothing was done. No secret is ever in a message.
"""

from __future__ import annotations

import email.utils
import json
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, cast
from urllib.parse import urlsplit

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import records
from reconciler.systems.pds.quota import Limit, Told
from reconciler.systems.web import httpx

_READS = 5  # times a read is tried
_GATEWAY = (502, 503, 504)
_LONGEST_WORDS = 300
_TIMEOUT = httpx.Timeout(60, connect=10)
_POLICY = re.compile(r"(\d{1,9});w=(\d{1,9})")
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Clock:
    """Time, as tests may have it otherwise."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Wait:
    """We are about to do nothing for so many seconds, because of this."""

    seconds: float
    reason: str


Waiting = Callable[[Wait], None]


class RefusedError(Exception):
    """The server's no: `name` is the protocol's word for it, empty if it gave none."""

    def __init__(self, status: int, name: str, words: str) -> None:
        super().__init__(f"{status} {name}: {words}")
        self.status = status
        self.name = name
        self.words = words

    def said(self) -> str:
        """What it said, for an error's `why`."""
        return f"the server answered {self.status}" + "".join(f", {it}" for it in (self.name, self.words) if it)


class CutError(Exception):
    """The connection ended, or a gateway answered, before the server did."""


def ignore(wait: Wait) -> None:
    del wait


def client(timeout: httpx.Timeout | float) -> httpx.Client:
    """A client of HTTP; the certificates it trusts, which take longer to read than many a call, are read once."""
    return httpx.Client(timeout=timeout, headers={"user-agent": "reconciler"}, verify=_certificates())


@lru_cache(1)
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class Xrpc:
    """A host's methods. `place` is what errors call it."""

    def __init__(self, base: str, *, waiting: Waiting = ignore, clock: Clock | None = None) -> None:
        self.base = base.rstrip("/").removesuffix("/xrpc")
        self.place = self.base
        parts = urlsplit(self.base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ReconcilerError(
                "the address of a PDS or proxy is not one",
                why="it looks like https://host, with nothing before the host or after the path (it is not shown)",
            )
        self.limited = False  # whether the server is known to count
        self.told: Told | None = None  # what its last answer said of a limit
        self._client = client(_TIMEOUT)
        self._waiting = waiting
        self._clock = clock or Clock()
        self._secrets: set[str] = set()

    def close(self) -> None:
        self._client.close()

    def hide(self, secret: str) -> None:
        """From now on never repeat this text, even if the server does."""
        self._secrets.add(secret)

    def wait(self, seconds: float, reason: str) -> None:
        self._waiting(Wait(seconds, reason))
        self._clock.sleep(seconds)

    def read(self, method: str, params: Mapping[str, str | int], token: str | None = None) -> object:
        """JSON of a query."""
        tries = 0
        while True:
            tries += 1
            try:
                return self._json(self._call("GET", method, params=params, token=token), method)
            except CutError as cut:
                if tries == _READS:
                    raise self.lost(method, cut) from None
                self.wait(min(2.0**tries / 4, 10), f"{self.place} does not answer")

    def write(self, method: str, body: bytes, token: str | None, type_: str = "application/json") -> object:
        """JSON of a procedure, tried once."""
        return self._json(self._call("POST", method, body=body, type_=type_, token=token), method)

    @contextmanager
    def stream(self, method: str, params: Mapping[str, str | int]) -> Generator[Iterator[bytes]]:
        """The bytes of a query as they come; CutError if they end too early."""
        blocked = 0
        while True:
            request = self._client.build_request("GET", f"{self.base}/xrpc/{method}", params=dict(params))
            try:
                response = self._client.send(request, stream=True)
                try:
                    if response.status_code == 200:
                        yield response.iter_bytes(1 << 16)
                        return
                    response.read()
                finally:
                    response.close()
            except httpx.RequestError as error:
                raise CutError(type(error).__name__) from None
            if response.status_code != 429:
                self._refuse(response)
            blocked += 1
            self._blocked(response, blocked)

    def lost(self, method: str, cut: CutError) -> ReconcilerError:
        return ReconcilerError(
            f"cannot reach {self.place}",
            where=method,
            why=f"the connection failed every time: {cut}",
            todo="check the address and the network, and run the same again",
        )

    def _call(
        self,
        verb: str,
        method: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: bytes | None = None,
        type_: str | None = None,
        token: str | None = None,
    ) -> httpx.Response:
        headers = {"content-type": type_} if type_ else {}
        if token is not None:
            self.private()
            self.hide(token)
            headers["authorization"] = f"Bearer {token}"
        blocked = 0
        while True:
            try:
                response = self._client.request(
                    verb, f"{self.base}/xrpc/{method}", params=dict(params or {}), content=body, headers=headers
                )
            except httpx.RequestError as error:
                raise CutError(type(error).__name__) from None
            self.limited = self.limited or "ratelimit-limit" in response.headers or response.status_code == 429
            self.told = _told(response, self._clock.now())
            if response.status_code == 429:
                blocked += 1
                self._blocked(response, blocked)
                continue
            if response.status_code != 200:
                self._refuse(response)
            return response

    def _blocked(self, response: httpx.Response, times: int) -> None:
        seconds = _until(response, self._clock.now(), times)
        self.wait(seconds, f"{self.place} limits how often it is called")

    def private(self) -> None:
        """Never send a secret in the clear to another machine."""
        parts = urlsplit(self.base)
        if parts.scheme != "https" and parts.hostname not in _LOCAL:
            raise ReconcilerError(
                f"no password or token is sent to {self.place}",
                why="it is not an https address, so others could read it on the way",
                todo="use an https address",
            )

    def _refuse(self, response: httpx.Response) -> NoReturn:
        if response.status_code in _GATEWAY:
            raise CutError(f"a gateway answered {response.status_code}")
        name = words = ""
        try:
            said = cast(object, json.loads(response.content))
        except ValueError:
            said = None
        if isinstance(said, dict):
            fields = cast(dict[str, object], said)
            name, words = (str(fields.get(it) or "") for it in ("error", "message"))
        for secret in self._secrets:
            name, words = name.replace(secret, "***"), words.replace(secret, "***")
        raise RefusedError(response.status_code, name[:_LONGEST_WORDS], " ".join(words[:_LONGEST_WORDS].split()))

    def _json(self, response: httpx.Response, method: str) -> object:
        if not response.content:
            return {}
        try:
            return records.parse(response.content)
        except (ValueError, RecursionError):
            raise ReconcilerError(
                f"{self.place} did not answer in the protocol",
                where=method,
                why="the answer is not JSON of the AT Protocol",
                todo="check that the address is a PDS",
            ) from None


def _until(response: httpx.Response, now: float, blocked: int) -> float:
    """Seconds to wait after the n-th 429 in a row: as told, and where nothing is told longer each time."""
    after = response.headers.get("retry-after", "")
    if after.isdecimal():
        return min(float(after), 86_400) + 0.5
    date = _seconds(response.headers.get("date"))
    if (reset := response.headers.get("ratelimit-reset", "")).isdecimal():
        return min(max(float(reset) - (date or now), 0.0), 86_400) + 1
    if (then := _seconds(after)) is not None:
        return min(max(then - (date or now), 0.0), 86_400) + 1
    return min(5.0 * 2 ** (blocked - 1), 600.0)


def _told(response: httpx.Response, now: float) -> Told | None:
    """What the answer says of a limit: how many of how many seconds are left, and until when by our clock."""
    policy = _POLICY.fullmatch(response.headers.get("ratelimit-policy", ""))
    left, reset = (response.headers.get(f"ratelimit-{it}", "") for it in ("remaining", "reset"))
    date = _seconds(response.headers.get("date"))
    if not policy or not left.isdecimal() or not reset.isdecimal() or date is None:
        return None
    return Told(Limit(int(policy[1]), float(policy[2])), int(left), now + float(reset) - date)


def _seconds(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
