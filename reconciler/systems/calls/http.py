"""A request to a server, its payload as JSON.

Any answer from 200 to 299 is taken for "understood"; whether the rows are done only the rows say. Redirects are not followed, for the
headers may hold a key.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import cast

from reconciler.systems.calls.caller import BusyError, Clean, DeniedError, FailedError, brief
from reconciler.systems.web import httpx

_LONGEST = 16_384  # bytes of an answer that are looked at
_CONNECT = 10.0


class HttpCaller:
    """One address."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        clean: Clean,
        *,
        method: str = "POST",
        name: str = "",
        todo: str = "",
    ) -> None:
        self._url = url
        self._method = method
        self._clean = clean
        self._name = name
        self._todo = todo
        self._understood = False
        self._client = httpx.Client(headers=dict(headers), follow_redirects=False)

    def __enter__(self) -> HttpCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, payload: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        timeout = httpx.Timeout(seconds, connect=min(_CONNECT, seconds))
        body = payload.encode()
        try:
            with self._client.stream(
                self._method, self._url, content=body, headers={"Content-Type": "application/json"}, timeout=timeout
            ) as answer:
                text = self._text(answer, until)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise BusyError("it cannot be reached") from None
        except httpx.TimeoutException:
            raise FailedError(f"there was no answer within {seconds:g} seconds") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise FailedError(f"the connection was lost ({type(error).__name__})") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise DeniedError(f"{self._name} cannot be called", why="its address is none", todo=self._todo) from None
        self._judge(answer, text)

    def _text(self, answer: httpx.Response, until: float) -> str:
        got = bytearray()
        for piece in answer.iter_bytes():
            got += piece
            if len(got) > _LONGEST:
                break
            if time.monotonic() > until:
                raise httpx.ReadTimeout("too slow", request=answer.request)
        return bytes(got[:_LONGEST]).decode("utf-8", "replace")

    def _judge(self, answer: httpx.Response, text: str) -> None:
        status = answer.status_code
        if answer.is_success:
            self._understood = True
            return
        message = brief(_message(text), self._clean)
        said = f"the server answered {status}{f': {message}' if message else ''}"
        if status in (429, 503):
            raise BusyError(said, _seconds(answer.headers.get("retry-after")))
        never = status in (401, 403) or (status in (404, 405) and not self._understood)
        if never or 300 <= status < 400:
            raise DeniedError(f"{self._name} cannot be called", why=said, todo=self._todo)
        raise FailedError(said)


def _message(text: str) -> str:
    """What an answer says of itself, where it is JSON; else its text."""
    try:
        body: object = json.loads(text)
    except ValueError:
        return re.sub(r"<[^>]*>", " ", text)
    if isinstance(body, dict):
        fields = cast("dict[str, object]", body)
        return next(
            (it for word in ("message", "error", "msg", "detail") if isinstance(it := fields.get(word), str)), ""
        )
    return body if isinstance(body, str) else ""


def _seconds(text: str | None) -> float | None:
    """Retry-After: seconds, or a date."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,6}", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
