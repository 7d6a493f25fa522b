"""Requests to one storage server: few at a time, patient with what passes, silent about secrets.

A request that the server or the network may yet answer is sent again, with growing pauses and as `Retry-After` says,
until it is answered, refused, or the patience is at its end. The server hides most statuses in the body of a 400.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar, cast

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.web import httpx

T = TypeVar("T")
Json = dict[str, object]

CONCURRENCY = 8
MAYBE_LATER = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 544})
_SECRET = re.compile(
    r"eyJ[\w-]*\.[\w-]*\.?[\w-]*|sb_(?:secret|publishable)_[\w-]+|(?<=token=)[^\s\"'&]+|(?:https?|wss?)://[^\s\"']+"
)


@dataclass(frozen=True)
class Patience:
    """How long to try: seconds of the first pause and of the longest, tries of one request, seconds of all together,
    and seconds that one answer may keep silent."""

    first: float = 0.25
    longest: float = 20.0
    tries: int = 10
    deadline: float = 300.0
    silence: float = 60.0


class Busy(httpx.TransportError):
    """The server answered, but not what was asked: later perhaps."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"the server answered {status}{f': {message}' if message else ''}")
        self.status = status
        self.retry_after = retry_after


class Garbled(ValueError):
    """An answer that is not what a storage server answers: most likely it was cut."""


class Refused(Exception):
    """The server said no; asking again would not help."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message

    @property
    def absent(self) -> bool:
        """No such object; a missing bucket is something else."""
        return self.status == 404 and self.code in ("not_found", "NoSuchKey")

    @property
    def exists(self) -> bool:
        return self.status == 409 and self.code in ("Duplicate", "KeyAlreadyExists", "ResourceAlreadyExists")


def _tell(response: httpx.Response) -> None:
    """Turns an answer that means "later" into an error, so that every caller, the client library too, meets one kind of fault."""
    if response.status_code < 300:
        return
    if response.status_code < 400:  # its body is no object, and following it would carry the key elsewhere
        raise Refused(response.status_code, "Redirect", "it sends elsewhere; is the address the project's own?")
    response.read()
    status, _, message = told(response)
    if status in MAYBE_LATER and not (status == 500 and "final500" in response.request.extensions):
        raise Busy(status, message, _seconds(response.headers.get("retry-after")))


def told(response: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message: those of the body, where it has any."""
    status, code, message = response.status_code, "", ""
    try:
        body: object = response.json()
    except ValueError:
        return status, code, message
    if isinstance(body, dict):
        fields = cast("Json", body)
        message = str(fields.get("message") or "")
        code = str(fields.get("error") or fields.get("code") or "")
        text = str(fields.get("statusCode") or "")
        status = int(text) if re.fullmatch(r"[1-5]\d\d", text) else status
    return status, code, message


def _seconds(header: str | None) -> float | None:
    if header is None:
        return None
    if re.fullmatch(r"\d+", header.strip()):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


class Http:
    """A server's base address, its key, and the manners towards it."""

    def __init__(self, connection: str, url: str, key: str, patience: Patience) -> None:
        for logger in ("httpx", "httpcore"):
            logging.getLogger(logger).setLevel(logging.WARNING)  # below that they write URLs with tokens, and headers
        self.connection = connection
        self.url = url
        self.key = key
        self.patience = patience
        self.headers = {"apikey": key, "Authorization": f"Bearer {key}"}
        # A request waits for one of the few connections as long as it takes.
        self.client = httpx.Client(
            limits=httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY),
            event_hooks={"response": [_tell]},
            timeout=httpx.Timeout(patience.silence, connect=min(10.0, patience.silence), pool=None),
            verify=not url.lower().startswith(
                "http://"
            ),  # where there is nothing to verify, certificates take a while to load
        )
        self._pause = threading.Event()
        self._not_before = 0.0

    def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: dict[str, str] | None = None,
        final500: bool = False,
    ) -> httpx.Response:
        """One request below the base address, quoted already; an error of the server is Busy or Refused."""
        response = self.client.request(
            method, self.url + path, json=json, headers={**self.headers, **(headers or {})},
            extensions={"final500": True} if final500 else {},
        )  # fmt: skip
        vars(response).pop(
            "stream", None
        )  # it is read, and points back: every answer would stay until garbage is collected
        if response.status_code >= 400 and not (final500 and response.status_code == 500):
            raise Refused(*told(response))
        return response

    def patiently(self, doing: str, attempt: Callable[[bool], T]) -> T:
        """The first answer of `attempt(again)`; `again`: an earlier one may have been carried out without our knowing."""
        patience = self.patience
        end = time.monotonic() + patience.deadline
        for number in range(patience.tries):
            if (
                rest := self._not_before - time.monotonic()
            ) > 0:  # what one request was told about coming back holds for all
                if time.monotonic() + rest > end:
                    raise self.given_up(doing, Busy(429, "", rest))
                self._pause.wait(rest)
            try:
                return attempt(number > 0)
            except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects) as error:
                raise self.given_up(doing, error) from None
            except (httpx.RequestError, ValueError) as error:
                # A ValueError: an answer that is no JSON, since it ended in the middle.
                pause = self._pause_after(error, number)
                if number + 1 == patience.tries or time.monotonic() + pause > end:
                    raise self.given_up(doing, error) from None
                self._pause.wait(pause)
            except Refused as refused:
                raise self._no(doing, refused) from None
        raise AssertionError("unreachable")

    def _pause_after(self, error: Exception, number: int) -> float:
        longest = min(self.patience.longest, self.patience.first * 2**number)
        pause = random.uniform(longest / 2, longest)
        if isinstance(error, Busy) and error.retry_after is not None:
            pause += error.retry_after
            self._not_before = max(self._not_before, time.monotonic() + error.retry_after)
        return pause

    def given_up(self, doing: str, error: Exception) -> ReconcilerError:
        match error:
            case Busy():
                why = str(error)
            case httpx.ConnectError():
                why = "the server cannot be reached"
            case httpx.TimeoutException():
                why = "the server did not answer in time"
            case httpx.RequestError():
                why = f"the connection failed: {error}"
            case _:
                why = "the server's answer ended in the middle, or is not what a storage server answers"
        wait = error.retry_after if isinstance(error, Busy) else None
        later = (
            f"try again in {wait:.0f} s" if wait else "run the same command again; what was done already is recognised"
        )
        return ReconcilerError(f"{doing} failed on {self.connection}", why=self.scrub(why), todo=later)

    def _no(self, doing: str, refused: Refused) -> ReconcilerError:
        todo = None
        if refused.status in (401, 403):
            todo = KEY_NEEDED.format(name=self.connection)
        elif "referenced" in refused.code.lower():
            todo = "a row of the database has a foreign key to it: remove or repoint that row first; nothing of the batch was removed"
        why = f"the server answered {refused.status} {refused.code}: {refused.message}"
        return ReconcilerError(f"{doing} failed on {self.connection}", why=self.scrub(why), todo=todo)

    def scrub(self, text: str) -> str:
        """Without keys, tokens and addresses."""
        return _SECRET.sub("***", text.replace(self.key, "***"))[:500]

    def close(self) -> None:
        self._pause.set()
        self.client.close()


KEY_NEEDED = (
    "put the project's service role key, or a secret key (sb_secret_…), behind connections.{name}.key: other keys see only "
    "what policies allow"
)
