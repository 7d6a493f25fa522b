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
from concurrent.futures import ThreadPoolExecutor, wait
from operator import ge
from typing import cast
from urllib.parse import quote

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import copytext
from reconciler.systems.storage.http import Garbled, Http, Json, Refused
from reconciler.systems.storage.interface import Object

PAGE = 1000
_ENDS = 4
_CAPS = 3
_MILLISECONDS = len("2026-01-31T12:00:00.000Z")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|[+-]00(?::?00)?)")


class NoSuchRouteError(Exception):
    """The server has no list v2."""


def objects(http: Http, bucket: str, prefix: str) -> Iterator[Object]:
    """By the bytes of their names."""
    for entries in _entries(http, bucket, prefix):
        for entry in entries:
            yield described(str(entry["name"]), entry)


def copy(http: Http, bucket: str, prefix: str) -> Iterator[bytes]:
    """The same as blocks of COPY text, a page each."""
    for entries in _entries(http, bucket, prefix):
        yield _block(entries)


def _block(entries: list[Json]) -> bytes:
    """Short for the line of each entry as an object, which is what counts where anything is out of the ordinary."""
    lines: list[str] = []
    for entry in entries:
        metadata, created_at = entry.get("metadata"), entry.get("created_at")
        match metadata, created_at:
            case {"size": int() as size, "eTag": str() as etag, "mimetype": str() as mime}, str() if (
                len(created_at) == _MILLISECONDS and created_at[-1] == "Z"
            ):
                lines.append(f"{entry['name']}\t{size}\t{etag}\t{mime}\t{created_at}\n")
            case _:
                break
    else:
        text = "".join(lines)
        if copytext.is_plain(text, len(lines)):
            return text.encode()
    return b"".join([copytext.line(described(str(entry["name"]), entry)) for entry in entries])


def _entries(http: Http, bucket: str, prefix: str) -> Iterator[list[Json]]:
    """Page by page; while one is worked on, the next is on its way."""
    listing = _Pages(http, bucket, prefix)
    last: str | None = None
    cursor: str | None = None
    ends = 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="list")
    coming = pool.submit(listing.full_page, None)
    try:
        while True:
            page = coming.result()
            if page.next is not None:
                if page.next == cursor:
                    raise listing.broken("a page leads to itself")
                coming = pool.submit(listing.full_page, page.next)
            entries = page.entries
            if last is not None and page.names and page.names[0] <= last:
                if not ends:
                    raise listing.broken("names do not rise from page to page")
                entries = entries[bisect_right(page.names, last) :]  # a page that is read again
            if entries:
                last = page.names[-1]
                yield entries
            if page.next is not None:
                cursor, ends = page.next, 0
                continue
            if listing.ends_with(last):
                return
            ends += 1
            if ends == _ENDS:
                raise listing.broken("it ended before the last object")
            coming = pool.submit(listing.full_page, cursor)
    finally:
        coming.cancel()
        wait([coming], 1.0)
        pool.shutdown(wait=False)


class _Page:
    """One answer, in the words of this module: names rise within it."""

    def __init__(self, answer: Json) -> None:
        more = answer["hasNext"]
        entries = answer["objects"]
        if not isinstance(more, bool) or not isinstance(entries, list):
            raise Garbled("not a page")
        self.entries = cast("list[Json]", entries)
        names: list[object] = [entry["name"] for entry in self.entries]
        if not all(isinstance(name, str) for name in names):
            raise Garbled("an object has no name")
        if any(entry.get("id") is None for entry in self.entries):
            raise Garbled("not an object")
        self.names = cast("list[str]", names)
        cursor = answer.get("nextCursor")
        self.more = more
        self.next = cursor if isinstance(cursor, str) and cursor else None
        self.last_key = answer.get("nextCursorKey")


class _Pages:
    def __init__(self, http: Http, bucket: str, prefix: str) -> None:
        self.http, self.bucket, self.prefix = http, bucket, prefix

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
        body: Json = {
            "prefix": self.prefix,
            "limit": limit,
            "sortBy": {"column": "name", "order": "desc" if down else "asc"},
        }
        if cursor is not None:
            body["cursor"] = cursor

        def ask(_again: bool) -> _Page:
            try:
                response = self.http.send("POST", f"object/list-v2/{quote(self.bucket, safe='')}", json=body)
            except Refused as refused:
                if cursor is None and _no_route(refused):
                    raise NoSuchRouteError from None
                raise
            try:
                return _Page(response.json())
            except (KeyError, TypeError, AttributeError):
                raise Garbled("not a page") from None

        return self.http.patiently(f"listing bucket {self.bucket}", ask)

    def broken(self, why: str) -> ReconcilerError:
        return incomplete(self.http.connection, self.bucket, why)


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


def described(name: str, entry: Json) -> Object:
    """An entry of either list."""
    given = entry.get("metadata")
    metadata = cast("Json", given) if isinstance(given, dict) else {}
    return Object(
        name,
        whole(metadata.get("size")),
        _text(metadata.get("eTag")),
        _text(metadata.get("mimetype")),
        to_milliseconds(_text(entry.get("created_at"))),
        to_milliseconds(_text(entry.get("updated_at"))),
    )


def whole(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    return value if isinstance(value, int) else int(text) if (text := str(value)).isdecimal() else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def to_milliseconds(time: str | None) -> str | None:
    """Servers write as many digits as they like; SQL and both lists are to say the same."""
    found = _TIME.fullmatch(time) if time else None
    return f"{found[1]}T{found[2]}.{(found[3] or '')[:3]:0<3}Z" if found else time
