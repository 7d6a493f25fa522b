"""Records as a source has them beside those of the repo, by CID.

In: rows with a key and a record's text; the session. Out: `Compared`: keys that are missing, changed or extra, the texts of what a plan
writes or takes away, and the blobs these name. Of what is the same nothing stays in memory but its key and CID. Texts lie in a temporary file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import IO, cast

from reconciler.plan.errors import Exit, Location, ReconcilerError
from reconciler.plan.limit import most
from reconciler.systems.pds import blobs, records, syntax
from reconciler.systems.pds.blobs import Reference
from reconciler.systems.pds.inventory import MANY, bodies, everything, inventory
from reconciler.systems.pds.records import Record
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.store import Store

_NAMED = 20
_COLUMNS_NAMED = 6


@dataclass(frozen=True)
class Row:
    """A record of the source: `place` is what errors call it, `key` its rkey or at-uri."""

    place: str
    key: str | None
    text: str | None


@dataclass(frozen=True)
class Wanted:
    """What a resource says: which records, where they come from, and what to do where they differ."""

    address: str
    connection: str
    did: str
    collection: str
    rows: Callable[[], Iterator[Row]]
    source_name: str
    update: bool = True
    delete: bool = False
    rkeys: tuple[str, ...] | None = None
    pattern: bool = False
    max_delete: str = "0"
    unlimited: bool = False
    protect: bool = False
    store: Store | None = None
    store_name: str = ""
    notes: tuple[str, ...] = ()
    place: Location | None = None
    likely: Callable[[], int] = lambda: 0
    """How many rows the source has, as far as anyone knows before one is read."""

    def means(self, rkey: str) -> bool:
        """Whether this record of the collection is one that the resource is about."""
        if self.rkeys is None:
            return True
        return fnmatchcase(rkey, self.rkeys[0]) if self.pattern else rkey in self.rkeys


class Spool:
    """Texts in a temporary file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = 0
        self._moved = True

    def put(self, text: str) -> tuple[int, int]:
        data = text.encode()
        if self._moved:  # a seek costs more than the writing
            self._file.seek(self._end)
            self._moved = False
        self._file.write(data)
        at, self._end = self._end, self._end + len(data)
        return at, len(data)

    def get(self, place: tuple[int, int]) -> str:
        self._moved = True
        self._file.seek(place[0])
        return self._file.read(place[1]).decode()


Texts = dict[str, tuple[int, int]]


@dataclass
class Compared:
    """What differs. `creates` and `updates` hold what is to be, `before` what goes or is replaced, all as places in the spool."""

    wanted: Wanted
    spool: Spool
    in_sync: int = 0
    creates: Texts = field(default_factory=dict[str, tuple[int, int]])
    updates: Texts = field(default_factory=dict[str, tuple[int, int]])
    before: Texts = field(default_factory=dict[str, tuple[int, int]])
    extra: list[str] = field(default_factory=list[str])
    outside: int = 0
    scope: int = 0
    over: int | None = None
    """The limit that its deletes exceed."""
    uploads: list[Reference] = field(default_factory=list[Reference])
    """Blobs that the PDS lacks and the store has."""
    lacking: list[Reference] = field(default_factory=list[Reference])
    """Blobs that neither has."""
    lacking_of: dict[str, str] = field(default_factory=dict[str, str])
    """CID of a blob → the first record that is planned and names it."""
    legacy: list[str] = field(default_factory=list[str])
    """Planned records that name a blob in the old form."""
    dropped: list[str] = field(default_factory=list[str])
    """Blobs that no record names any more afterwards."""
    columns: Counter[str] = field(default_factory=Counter[str])

    @property
    def writes_updates(self) -> bool:
        return self.wanted.update and not self.wanted.protect

    @property
    def deletes(self) -> list[str]:
        """The records that go."""
        return self.extra if self.wanted.delete and not self.wanted.protect else []

    def told_columns(self) -> str:
        """Which members of changed records differ, the most frequent first."""
        ranked = sorted(self.columns.items(), key=lambda item: (-item[1], item[0]))
        more = [f"{len(ranked) - _COLUMNS_NAMED} more"] if len(ranked) > _COLUMNS_NAMED else []
        return ", ".join([*(f"{name} ({count})" for name, count in ranked[:_COLUMNS_NAMED]), *more])


def keyed(session: Session, wanted: Wanted, row: Row) -> tuple[str, str]:
    """The key and text of a source's row, or an error saying what is wrong with either."""
    if row.key is None or row.text is None:
        raise ReconcilerError("a row lacks its record", why=f"its {'key' if row.key is None else 'record'} is NULL")
    if not row.key.startswith("at://"):
        return syntax.rkey(row.key), row.text
    uri = syntax.record_uri(row.key)
    if uri.collection != wanted.collection:
        raise ReconcilerError("a row of another collection", why=f"its at-uri is one of {uri.collection}")
    if uri.authority not in (session.did, session.handle):
        raise ReconcilerError("a row of another repo", why=f"its at-uri is one of {uri.authority}")
    return uri.rkey, row.text


def compare(session: Session, wanted: Wanted, scratch: IO[bytes]) -> Compared:
    """Read both sides once and at the same time; only what differs is read from the repo."""
    found = Compared(wanted, Spool(scratch))
    texts: dict[str, tuple[str, tuple[int, int]]] = {}
    with ThreadPoolExecutor(1) as pool:
        # As many records as the source has most often are in the repo too: once these are many, no more pages are listed in vain.
        many = wanted.rkeys is None and session.whole and wanted.likely() > MANY
        known = pool.submit(inventory, session, wanted.collection, many=lambda: many or len(texts) > MANY)
        for it in _records(session, wanted, found):
            texts[it.rkey] = it.cid, found.spool.put(it.text)
        there = {rkey: cid for rkey, cid in known.result().cids.items() if wanted.means(rkey)}
    found.scope = len(there)
    for rkey, (cid, place) in texts.items():
        match there.get(rkey):
            case None:
                found.creates[rkey] = place
            case actual if actual == cid:
                found.in_sync += 1
            case _:
                found.updates[rkey] = place
    found.extra = sorted(there.keys() - texts.keys())
    if wanted.delete and not texts and there:
        raise ReconcilerError(
            f"{wanted.address}: {wanted.source_name} has no records, and {len(there)} of the repo would be deleted",
            where=wanted.place,
            why="an empty source is more often a mistake than meant",
            todo="check the source and its condition; if they are to go, delete them by hand",
        )
    _read_before(session, found, there)
    _look_for_blobs(session, found)
    return found


def _records(session: Session, wanted: Wanted, found: Compared) -> Iterator[Record]:
    bad: list[str] = []
    seen: set[str] = set()
    for row in wanted.rows():
        try:
            rkey, text = keyed(session, wanted, row)
            if not wanted.means(rkey):
                found.outside += 1
                continue
            if rkey in seen:
                raise ReconcilerError("a key stands there twice", why=f"an earlier row has the key {rkey} too")
            seen.add(rkey)
            record = records.read(wanted.collection, rkey, text)
        except ReconcilerError as error:
            bad.append(f"{row.place}: {error.why or error.what}")
            continue
        if not bad:
            yield record
    if bad:
        more = [f"… and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
        raise ReconcilerError(
            f"{wanted.address}: {len(bad)} record{'s' if len(bad) > 1 else ''} of {wanted.source_name} cannot be written",
            where=wanted.place,
            details=(*bad[:_NAMED], *more),
            todo="mend them in the source, or leave them out with `where` or `rkeys`",
        )


def check_limit(found: Compared) -> None:
    """Deletes stay within `max_delete`; who only counts need not ask."""
    limit = most(found.wanted.max_delete, lambda: found.scope)
    found.over = limit if len(found.deletes) > limit else None
    if found.over is not None and not found.wanted.unlimited:
        raise ReconcilerError(
            f"{found.wanted.address} would delete {len(found.deletes)} records; max_delete allows {limit}",
            where=found.wanted.place,
            why="the source lacks them",
            todo=f"if that is meant, say max_delete: {len(found.deletes)}",
            code=Exit.LIMIT,
            rule="R001",
        )


def _read_before(session: Session, found: Compared, there: dict[str, str]) -> None:
    """The texts of what is replaced or goes; each says all that its record holds, or nothing is planned."""
    collection = found.wanted.collection
    changed = found.updates if found.writes_updates else {}
    wanted = {*changed, *found.deletes}
    for it in bodies(session, collection, wanted):
        wanted.discard(it.rkey)
        if it.cid != there[it.rkey]:
            wanted.add(it.rkey)
            break
        if records.cid_of(it.text) != it.cid:
            raise ReconcilerError(
                f"{found.wanted.address}: the record {collection}/{it.rkey} of the repo cannot stand in a plan",
                where=found.wanted.place,
                why="it holds what JSON cannot say exactly, such as a fraction, so nothing could bring it back",
                todo="leave it out with `rkeys`, or say on_changed: keep",
            )
        found.before[it.rkey] = found.spool.put(it.text)
        if it.rkey in changed:
            one, other = _members(it.text), _members(found.spool.get(changed[it.rkey]))
            found.columns.update(name for name in one.keys() | other.keys() if _differs(one, other, name))
    if wanted:
        raise ReconcilerError(f"somebody wrote to {collection} of {session.did} while it was read", todo="plan again")


def _members(text: str) -> dict[str, object]:
    return cast(dict[str, object], records.parse(text))


def _differs(one: dict[str, object], other: dict[str, object], name: str) -> bool:
    return name not in one or name not in other or one[name] != other[name]


def _look_for_blobs(session: Session, found: Compared) -> None:
    """Which blobs a plan needs that are not there, and which it would let go."""
    wanted = found.wanted
    planned = {**found.creates, **(found.updates if found.writes_updates else {})}
    named: dict[str, Reference] = {}
    for rkey, place in sorted(planned.items()):
        references = list(_references(found.spool.get(place)))
        named.update((it.cid, it) for it in references)
        found.legacy += [rkey] if any(it.legacy for it in references) else []
        for it in references:
            found.lacking_of.setdefault(it.cid, rkey)
    if named:
        held = set(blobs.held(session))
        for reference in sorted((it for it in named.values() if it.cid not in held), key=lambda it: it.cid):
            there = wanted.store is not None and wanted.store.has(reference)
            (found.uploads if there else found.lacking).append(reference)
    found.lacking_of = {it.cid: found.lacking_of[it.cid] for it in found.lacking}
    gone = {it.cid for place in found.before.values() for it in _references(found.spool.get(place))} - named.keys()
    if gone:
        for collection, rkey, text in everything(session):
            if collection != wanted.collection or rkey not in found.before:
                gone -= {it.cid for it in _references(text)}
        found.dropped = sorted(gone)


def _references(text: str) -> Iterable[Reference]:
    return blobs.references(text) if '"mimeType"' in text else ()
