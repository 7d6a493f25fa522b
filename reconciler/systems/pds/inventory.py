"""What a collection holds now: rkey → CID, complete or an error.

In: a session and a collection. Out: `Inventory`; with `commit` when all of it was true at one commit, which a writer can build on. A
small collection is listed, 100 records a page; past `PAGES` pages the whole repo is fetched once and its tree read, which gives no
record but every key and CID.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn, cast

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.progress import Progress, Silent
from reconciler.systems.pds import records, syntax
from reconciler.systems.pds.car import Car
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.tree import Tree
from reconciler.systems.pds.xrpc import CutError, RefusedError

# Measured (tests/bench/test_pds.py): a page of 100 takes 12 ms, a whole repo 10 ms and 0.045 ms a record, so a page costs as much as
# some 260 records of the repo. Most repos hold other collections too, how much nobody tells: so the change comes at 2,000 records listed.
PAGES = 20
_PAGE = 100
MANY = PAGES * _PAGE
_TOGETHER = 8  # single reads under way at once
_SINGLY = 200  # records read one by one rather than with the whole repo
_TRIES = 3


class Way(StrEnum):
    """How to read a collection."""

    LIST = "list"
    REPO = "repo"
    CHEAPER = "cheaper"


@dataclass(frozen=True)
class Inventory:
    """`commit` is None when the repo changed while it was listed; `tree` is there when the whole repo was read."""

    did: str
    collection: str
    cids: Mapping[str, str]
    commit: str | None
    tree: Tree | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Found:
    """A record as it is now; `text` is its JSON."""

    rkey: str
    cid: str
    text: str


def inventory(
    session: Session,
    collection: str,
    *,
    way: Way = Way.CHEAPER,
    progress: Progress | None = None,
    many: Callable[[], bool] = lambda: False,
) -> Inventory:
    """The collection's keys and CIDs; `many` tells, at any time, that there are likely more than one would list, if it is not empty."""
    syntax.nsid(collection)
    with (progress or Silent()).task(f"reading {collection}", None) as task:
        if way is not Way.REPO:
            before = head(session)
            cids: dict[str, str] = {}
            for number, page in enumerate(_pages(session, collection)):
                if way is Way.CHEAPER and session.whole and (number == PAGES or (len(page) == _PAGE and many())):
                    break
                cids.update((found.rkey, found.cid) for found in page)
                task.advance(len(page))
            else:
                return Inventory(session.did, collection, cids, before if head(session) == before else None)
        with fetched(session) as car:
            return Inventory(session.did, collection, car.cids(collection), car.commit, car.tree)


def listed(session: Session, collection: str) -> Iterator[Found]:
    """Every record of the collection with its text, in the server's order, a page in memory at a time."""
    for page in _pages(session, syntax.nsid(collection)):
        yield from page


def bodies(session: Session, collection: str, rkeys: Iterable[str]) -> Iterator[Found]:
    """Those of the records that are there, in order of rkey."""
    chosen = sorted(set(rkeys))
    if len(chosen) > _SINGLY and session.whole:
        with fetched(session) as car:
            yield from (Found(*found) for found in car.records(syntax.nsid(collection), chosen))
        return
    for found in together(session, [(collection, rkey) for rkey in chosen]).values():
        if found is not None:
            yield found


def together(session: Session, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Found | None]:
    """(collection, rkey) → the record, None where there is none; read one by one, some at once."""
    chosen = list(keys)
    with ThreadPoolExecutor(min(_TOGETHER, max(len(chosen), 1))) as pool:
        found = pool.map(one, [session] * len(chosen), [it[0] for it in chosen], [it[1] for it in chosen])
        return dict(zip(chosen, found, strict=True))


def one(session: Session, collection: str, rkey: str) -> Found | None:
    """One record, None where there is none."""
    try:
        answer = session.read("com.atproto.repo.getRecord", repo=session.did, collection=collection, rkey=rkey)
    except RefusedError as refused:
        if refused.name == "RecordNotFound":
            return None
        raise _refused(session, "com.atproto.repo.getRecord", refused) from None
    return _found(session, collection, answer)


def head(session: Session) -> str:
    """The repo's latest commit."""
    method = "com.atproto.sync.getLatestCommit"
    try:
        cid = session.read(method, did=session.did).get("cid")
    except RefusedError as refused:
        raise _refused(session, method, refused) from None
    return cid if isinstance(cid, str) else _odd(session, method, "it names no commit")


def latest(session: Session, earlier: Tree | None) -> Tree:
    """The repo's tree now, by fetching only what changed since the earlier one if there is one."""
    with fetched(session, earlier) as car:
        return car.tree


@contextmanager
def fetched(session: Session, earlier: Tree | None = None) -> Generator[Car]:
    """The whole repo, in a temporary file for as long as it is needed; or what changed since an earlier tree."""
    method = "com.atproto.sync.getRepo"
    params = {"did": session.did, **({"since": earlier.rev} if earlier else {})}
    tries = 0
    while True:
        tries += 1
        with tempfile.TemporaryFile(buffering=1 << 20, prefix="reconciler-") as file:
            try:
                with session.public.stream(method, params) as parts:
                    car = Car(file, f"what {session.pds} sent", earlier, parts)
            except RefusedError as refused:
                raise _refused(session, method, refused) from None
            except CutError as cut:
                if tries == _TRIES:
                    raise session.public.lost(method, cut) from None
                session.wait(1, f"{session.pds} broke off")
                continue
            if car.did != session.did:
                _odd(session, method, f"it is the repo of {car.did}")
            yield car
            return


def everything(session: Session) -> Iterator[tuple[str, str, str]]:
    """(collection, rkey, text) of every record of the repo."""
    from reconciler.systems.pds.folder import FolderSession

    if isinstance(session, FolderSession):
        yield from session.texts()
        return
    with fetched(session) as car:
        for collection in car.collections():
            yield from ((collection, rkey, text) for rkey, _, text in car.records(collection))


def _pages(session: Session, collection: str) -> Iterator[list[Found]]:
    method = "com.atproto.repo.listRecords"
    seen: set[str] = set()
    cursors: set[str] = set()
    more: dict[str, str] = {}
    while True:
        try:
            answer = session.read(method, repo=session.did, collection=collection, limit=_PAGE, **more)
        except RefusedError as refused:
            raise _refused(session, method, refused) from None
        given = answer.get("records")
        if not isinstance(given, list):
            _odd(session, method, "it lists no records")
        page = [_found(session, collection, it) for it in cast(list[Mapping[str, object]], given)]
        keys = {found.rkey for found in page}
        if len(keys) < len(page) or keys & seen:
            _odd(session, method, "the listing goes in a circle: a record comes twice")
        seen |= keys
        if page:
            yield page
        # The last page may have a cursor or not; an empty one has none that leads anywhere.
        cursor = answer.get("cursor")
        if not page or not isinstance(cursor, str) or not cursor:
            return
        if cursor in cursors:
            _odd(session, method, "the listing goes in a circle: a cursor comes twice")
        cursors.add(cursor)
        more = {"cursor": cursor}


def _found(session: Session, collection: str, given: Mapping[str, object]) -> Found:
    uri, cid, value = given.get("uri"), given.get("cid"), given.get("value")
    named = syntax.record_uri(uri) if isinstance(uri, str) else None
    if named is None or not isinstance(cid, str) or not isinstance(value, dict):
        _odd(session, collection, "a record lacks its uri, CID or value")
    if named.collection != collection or named.authority != session.did:
        _odd(session, collection, f"{uri} was not asked for")
    return Found(named.rkey, cid, records.dump(cast(object, value)))


def _refused(session: Session, method: str, refused: RefusedError) -> ReconcilerError:
    todo = "check that the account is active" if refused.name.startswith("Repo") else "try again later"
    return ReconcilerError(
        f"the repo of {session.did} cannot be read", where=f"{session.pds}, {method}", why=refused.said(), todo=todo
    )


def _odd(session: Session, method: str, why: str) -> NoReturn:
    raise ReconcilerError(
        f"{session.pds} gave an answer that cannot be relied on", where=method, why=why, todo="try again later"
    )
