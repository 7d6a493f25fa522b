"""The bytes of one object in blocks: what breaks off is taken up where it did, and the end is proven.

The client's `download` holds the whole object in memory and never tries again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from reconciler.systems.storage.http import Busy, Http, Refused, told
from reconciler.systems.web import httpx

_PARTIAL = 206
_RANGE = re.compile(r"bytes (\d+)-")
SERVER_ERRORS = 4
"""So many 500 in a row are no passing fault: a row without bytes answers like that for ever."""


def blocks(http: Http, bucket: str, name: str, path: str, size: Callable[[], int | None]) -> Iterator[bytes]:
    """`path` is the object's, quoted; `size` asks the storage, where the answer itself does not say how long it is."""
    doing = f"reading {bucket}/{name}"
    done, etag, breaks = 0, None, 0
    while True:
        response = http.patiently(doing, _begin(http, path, done, etag))
        etag = response.headers.get("etag") or etag
        start = _start(response, done)
        whole = _whole(response, start)
        error: Exception | None = None if start <= done else ValueError("the rest begins too late")
        skip, began = done - start, done
        with contextlib.closing(response):
            try:
                for block in response.iter_raw() if error is None else ():
                    fresh = block[skip:]
                    skip -= len(block) - len(fresh)
                    done += len(fresh)
                    if fresh:
                        yield fresh
            except httpx.TransportError as broken:
                error = broken
        if whole is None and error is None:
            whole = done if response.headers.get("transfer-encoding") == "chunked" else size()
        if error is None and whole in (None, done):
            return
        breaks = 0 if done > began else breaks + 1
        if breaks >= http.patience.tries or (whole is not None and done > whole):
            raise http.given_up(doing, error or ValueError())


def _begin(http: Http, path: str, start: int, expected: str | None) -> Callable[[bool], httpx.Response]:
    errors = 0

    def begin(_again: bool) -> httpx.Response:
        nonlocal errors
        headers = {**http.headers, "accept-encoding": "identity"}
        if start:
            headers["range"] = f"bytes={start}-"
        request = http.client.build_request("GET", http.url + path, headers=headers, extensions={"final500": True})
        response = http.client.send(request, stream=True)
        if response.status_code >= 400:
            status, code, message = told(response)
            errors += status == 500
            if status == 500 and errors < SERVER_ERRORS:
                raise Busy(status, message)
            raise Refused(status, code, message)
        if expected and response.headers.get("etag") not in (None, expected):
            response.close()
            raise Refused(409, "Changed", "the object was replaced while it was read")
        return response

    return begin


def _start(response: httpx.Response, asked: int) -> int:
    """Where the answer's bytes begin: a part may be larger than was asked for, and a server may know no parts."""
    if response.status_code != _PARTIAL:
        return 0
    found = _RANGE.match(response.headers.get("content-range", ""))
    return int(found[1]) if found else asked


def _whole(response: httpx.Response, before: int) -> int | None:
    length = response.headers.get("content-length")
    return before + int(length) if length is not None else None
