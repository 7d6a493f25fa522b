"""Every object under a prefix by list v2: complete, or an error.

The server caps a page without a word, its cursor is opaque, and nobody can ask it for a count. So nothing is taken on
trust: names rise strictly, a page that is followed by another is full, and the last name is the last one from behind;
if it is not, the last page is read again, for objects come while one lists.
Names are compared as Python compares texts, which is the order of their UTF-8 bytes.
The client's `list_v2` makes times of texts and hides what else the page says: these requests are plain.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from operator import ge
from typing import TYPE_CHECKING
from urllib.parse import quote

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import copytext
from reconciler.systems.storage.entries import Entry, read
from reconciler.systems.storage.http import Garbled, Http, Json, Refused
from reconciler.systems.storage.interface import Object

if TYPE_CHECKING:
    from httpx import Response

PAGE = 1000
LINGER = 1.0  # seconds that the end of a listing waits for a page that nobody wants any more
_ENDS = 4
_CAPS = 3
_MILLISECONDS = len("2026-01-31T12:00:00.000Z")
_CURSOR = re.compile(rb'"nextCursor":\s?"([A-Za-z0-9+/=_.:-]+)"')
_EDGE = 2000
"""An answer's first and last bytes, in which its cursor is looked for."""


class NoSuchRouteError(Exception):
    """The server has no list v2."""


def objects(http: Http, bucket: str, prefix: str) -> Iterator[Object]:
    """By the bytes of their names."""
    for entries in _entries(http, bucket, prefix):
        for entry in entries:
            yield entry.described()


def copy(http: Http, bucket: str, prefix: str) -> Iterator[bytes]:
    """The same as blocks of COPY text, a page each."""
    for entries in _entries(http, bucket, prefix):
        block = _block(entries)
        entries.clear()  # a page in memory is as large as its text: one at a time
        yield block


def _block(entries: list[Entry]) -> bytes:
    """Short for the line of each entry as an object, which is what counts where anything is out of the ordinary."""
    names, sizes, etags, mimes, times, _ = zip(*entries, strict=True)
    if {type(size) for size in sizes} != {int} or any({*map(type, it)} != {str} for it in (etags, mimes, times)):
        return _lines(entries)
    if {*map(len, times)} != {_MILLISECONDS} or {time[-1] for time in times} != {"Z"}:
        return _lines(entries)
    text = "\n".join(map("\t".join, zip(names, map(str, sizes), etags, mimes, times, strict=True))) + "\n"
    return text.encode() if copytext.is_plain(text, len(entries)) else _lines(entries)


def _lines(entries: list[Entry]) -> bytes:
    return b"".join([copytext.line(entry.described()) for entry in entries])


def _entries(http: Http, bucket: str, prefix: str) -> Iterator[list[Entry]]:
    """Page by page; while one is read and worked on, the next is on its way."""
    listing = _Pages(http, bucket, prefix)
    last: str | None = None
    cursor: str | None = None
    following: str | None = None
    ends = 0
    try:
        while True:
            page = listing.full_page(following)
            if page.next is not None:
                if page.next == cursor:
                    raise listing.broken("a page leads to itself")
                listing.ask_ahead(page.next)
            entries = page.entries
            if last is not None and page.names and page.names[0] <= last:
                if not ends:
                    raise listing.broken("names do not rise from page to page")
                entries = entries[bisect_right(page.names, last) :]  # a page that is read again
            if entries:
                last = page.names[-1]
                yield entries
            if page.next is not None:
                cursor = following = page.next
                ends = 0
                continue
            if listing.ends_with(last):
                return
            ends += 1
            if ends == _ENDS:
                raise listing.broken("it ended before the last object")
            following = cursor
    finally:
        listing.close()


class _Page:
    """One answer, in the words of this module: names rise within it."""

    def __init__(self, answer: str) -> None:
        members, self.entries = read(answer)
        if not isinstance(more := members.get("hasNext"), bool):
            raise Garbled("not a page")
        self.names = [entry.name for entry in self.entries]
        cursor = members.get("nextCursor")
        self.more = more
        self.next = cursor if isinstance(cursor, str) and cursor else None
        self.last_key = members.get("nextCursorKey")


class _Pages:
    """The server works on a page while the one before is read: its cursor stands at an edge of the answer.

    What is found there is a guess: an answer is only taken for the cursor that it was asked for.
    """

    def __init__(self, http: Http, bucket: str, prefix: str) -> None:
        self.http, self.bucket, self.prefix = http, bucket, prefix
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._ahead: tuple[Json, Future[Response]] | None = None

    def close(self) -> None:
        self._forget()
        self._pool.shutdown(wait=False)

    def ask_ahead(self, cursor: str, limit: int = PAGE) -> None:
        """Send for the page behind this cursor, once."""
        body = self._body(limit, cursor, down=False)
        if self._ahead is None or self._ahead[0] != body:
            self._forget()
            self._ahead = body, self._pool.submit(self._send, body)

    def _forget(self) -> None:
        if self._ahead:
            self._ahead[1].cancel()
            wait([self._ahead[1]], LINGER)
            self._ahead = None

    def full_page(self, cursor: str | None) -> _Page:
        """A page that lacks nothing: if more follow it has as many objects as were asked for."""
        limit = PAGE
        for _ in range(_CAPS):
            page = self._page(limit, cursor, down=False)
            names = page.names
            if any(map(ge, names, names[1:])):
                raise self.broken("names do not rise")
            if names and not (names[0].startswith(self.prefix) and names[-1].startswith(self.prefix)):
                raise self.broken("it holds names that do not begin with the prefix")
            if len(names) > limit:
                raise self.broken("a page holds more than was asked for")
            if not page.more:
                if page.next is not None:
                    raise self.broken("a last page leads on")
                return page
            if page.next is None:
                raise self.broken("more objects follow, but not how to get at them")
            if len(names) == limit:
                if page.last_key not in (None, names[-1]):
                    raise self.broken("a page leads on from another object than its last")
                return page
            # The server's cap is lower than ours, or the page was cut: so many it must give in full.
            limit = len(names)
            if limit == 0:
                break
        raise self.broken("pages are not full though more objects follow")

    def ends_with(self, last: str | None) -> bool:
        """Whether nothing stands behind the last name listed."""
        ends = self._page(1, None, down=True).names
        return not ends if last is None else bool(ends) and ends[0] <= last

    def _page(self, limit: int, cursor: str | None, *, down: bool) -> _Page:
        body = self._body(limit, cursor, down=down)

        def ask(_again: bool) -> _Page:
            try:
                response = self._taken(body) or self._send(body)
            except Refused as refused:
                if cursor is None and _no_route(refused):
                    raise NoSuchRouteError from None
                raise
            if not down and (guess := _guess(response.content)):
                self.ask_ahead(guess, limit)
            text = response.content.decode()
            del response  # beside what is made of it one copy is enough
            return _Page(text)

        return self.http.patiently(f"listing bucket {self.bucket}", ask)

    def _body(self, limit: int, cursor: str | None, *, down: bool) -> Json:
        body: Json = {
            "prefix": self.prefix,
            "limit": limit,
            "sortBy": {"column": "name", "order": "desc" if down else "asc"},
        }
        return body if cursor is None else {**body, "cursor": cursor}

    def _send(self, body: Json) -> Response:
        return self.http.send("POST", f"object/list-v2/{quote(self.bucket, safe='')}", json=body)

    def _taken(self, body: Json) -> Response | None:
        """The answer that was asked for in advance, once."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead[0] != body:
            return None
        return ahead[1].result()

    def broken(self, why: str) -> ReconcilerError:
        return incomplete(self.http.connection, self.bucket, why)


def _guess(answer: bytes) -> str | None:
    """The cursor that the answer seems to lead on with."""
    found = _CURSOR.search(answer, 0, _EDGE) or _CURSOR.search(answer, max(0, len(answer) - _EDGE))
    return found[1].decode() if found else None


def incomplete(connection: str, bucket: str, why: str) -> ReconcilerError:
    return ReconcilerError(
        f"the listing of bucket {bucket} on {connection} is not complete",
        why=why,
        todo="run the same command again; nothing was decided on part of a listing",
    )


def _no_route(refused: Refused) -> bool:
    """Servers before it have no such route; hosted ones say so in words."""
    return (refused.status == 404 and "Route" in refused.message) or (
        refused.status == 400 and "not available for your tenant" in refused.message
    )
