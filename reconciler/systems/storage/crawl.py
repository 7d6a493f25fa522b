"""Every object under a prefix by list v1, folder by folder: for servers that have no list v2. Complete, or an error.

v1 takes a folder's name as a pattern: letters' case does not count and `_` stands for any character. So what it lists
under `a_b/` may live in `axb/`. Where a folder has such a sibling, each object below is looked up under its full name.
Nothing says that a folder has more entries: pages overlap, and what is listed from behind must be known already.
Memory grows with the largest folder, not with the bucket.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

from reconciler.systems.storage.entries import Entry
from reconciler.systems.storage.http import Garbled, Http, Json
from reconciler.systems.storage.interface import Object
from reconciler.systems.storage.names import order
from reconciler.systems.storage.pages import incomplete

PAGE = 1000
_TRIES = 4
"""Of a folder that others write to meanwhile."""


@dataclass(frozen=True)
class _Entry:
    """Of one folder: an object, or (without one) a folder, whose name ends in a slash. Both have their full name."""

    name: str
    found: Object | None


def objects(http: Http, bucket: str, prefix: str, head: Callable[[str], Object | None]) -> Iterator[Object]:
    """By the bytes of their names."""
    levels = [_folder(http, bucket, "", doubtful=False)]
    while levels:
        if (found := next(levels[-1], None)) is None:
            levels.pop()
            continue
        entry, doubtful = found
        if entry.found is None:
            if entry.name.startswith(prefix) or prefix.startswith(entry.name):
                levels.append(_folder(http, bucket, entry.name, doubtful=doubtful))
        elif entry.name.startswith(prefix) and (there := head(entry.name) if doubtful else entry.found):
            yield there


def _folder(http: Http, bucket: str, folder: str, *, doubtful: bool) -> Iterator[tuple[_Entry, bool]]:
    """What one folder holds, each with whether it may be another folder's."""
    entries = _entries(http, bucket, folder)
    if doubtful:
        entries = list({entry.name: entry for entry in entries}.values())
    elif len({entry.name for entry in entries}) != len(entries):
        raise incomplete(http.connection, bucket, "a folder lists one name twice")
    if folder and not entries and not doubtful:
        raise incomplete(http.connection, bucket, "a folder that was listed has no entries")
    shared = _alike([entry.name[len(folder) : -1] for entry in entries if entry.found is None])
    for entry in entries:
        yield entry, doubtful or (entry.found is None and entry.name[len(folder) : -1] in shared)


def _entries(http: Http, bucket: str, folder: str) -> list[_Entry]:
    """All of one folder, as it stood while nobody wrote to it. What was seen once must be there: a server may lose its memory too."""
    seen: set[str] = set()
    for _ in range(_TRIES):
        entries, full, still = _forward(http, bucket, folder)
        seen.update(entry.name for entry in entries)
        if still and len(seen) == len({entry.name for entry in entries}):
            break
    else:
        raise incomplete(http.connection, bucket, "entries moved while the pages were read")
    known = {(entry.name, entry.found is None) for entry in entries}
    # Folders come first from behind too: what is behind them is looked at on its own.
    for skipped in sorted({0, sum(entry.found is None for entry in entries)}):
        from_behind = _page(http, bucket, folder, skipped, down=True)
        strange = any((entry.name, entry.found is None) not in known for entry in from_behind)
        if strange or len(from_behind) < min(full, len(entries) - skipped):
            raise incomplete(
                http.connection, bucket, "a folder ended before its last entry, or others wrote to it meanwhile"
            )
    return sorted(entries, key=lambda entry: order(entry.name))


def _forward(http: Http, bucket: str, folder: str) -> tuple[list[_Entry], int, bool]:
    """The entries, how many a full page has, and whether the pages, which overlap by one entry, met."""
    entries: list[_Entry] = []
    full = 0
    while True:
        page = _page(http, bucket, folder, max(0, len(entries) - 1))
        if entries and (not page or page[0] != entries[-1]):
            return entries, full, False
        # A page shorter than asked for may be the server's cap: the end is where nothing more comes.
        full = max(full, len(page))
        fresh = page[1:] if entries else page
        if not fresh:
            return entries, full, True
        entries += fresh


def _page(http: Http, bucket: str, folder: str, offset: int, *, down: bool = False) -> list[_Entry]:
    sort: Json = {"column": "name", "order": "desc" if down else "asc"}
    body: Json = {"prefix": folder, "limit": PAGE, "offset": offset, "sortBy": sort}

    def ask(_again: bool) -> list[_Entry]:
        answer: object = http.send("POST", f"object/list/{quote(bucket, safe='')}", json=body).json()
        if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in cast("list[object]", answer)):
            raise Garbled("not a list of entries")
        return [_entry(folder, entry) for entry in cast("list[Json]", answer)]

    return http.patiently(f"listing bucket {bucket}", ask)


def _entry(folder: str, entry: Json) -> _Entry:
    name = entry.get("name")
    if not isinstance(name, str):
        raise Garbled("an entry has no name")
    if entry.get("id") is None:
        return _Entry(f"{folder}{name}/", None)
    return _Entry(folder + name, Entry.of(folder + name, entry).described())


def _alike(folders: list[str]) -> set[str]:
    """Those whose name, as a pattern, fits another's: v1 lists the other's entries as theirs."""
    lower = {name.lower() for name in folders}
    alike = {name for name in folders if "_" in name and any(name.lower()[:i] in lower for i in _places(name))}
    masks = {(len(name), tuple(_places(name))) for name in folders}
    for length, places in masks:
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name in folders:
            if len(name) == length:
                letters = list(name.lower())
                for place in places:
                    letters[place] = "_"
                groups["".join(letters)].append(name)
        for group in groups.values():
            if len(group) > 1:
                alike.update(name for name in group if tuple(_places(name)) == places)
    return alike


def _places(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "_"]
