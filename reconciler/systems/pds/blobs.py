"""Blobs: which ones records name, which ones a PDS has, and giving it those it lacks.

A PDS drops a blob with the last record that names it, and then refuses to take that record back: upload first, write after. Its type is
fixed by the first upload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import records
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.xrpc import CutError, RefusedError

_PAGE = 500
_TRIES = 3


@dataclass(frozen=True)
class Reference:
    """A blob as a record names it. The old form has no size, and a PDS takes no new record with it."""

    cid: str
    mime: str
    size: int | None
    legacy: bool


def references(text: str) -> list[Reference]:
    """The blobs a record's JSON names, each once, in the order they stand there."""
    found: dict[str, Reference] = {}
    stack = [records.parse(text)]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(reversed(cast(list[object], value)))
        elif isinstance(value, dict):
            members = cast(Mapping[str, object], value)
            reference = _reference(members)
            if reference is None:
                stack.extend(reversed(list(members.values())))
            else:
                found.setdefault(reference.cid, reference)
    return list(found.values())


def held(session: Session) -> Iterator[str]:
    """CIDs of the blobs the repo's PDS has for its records."""
    for answer in _pages(session, "com.atproto.sync.listBlobs", own=False):
        yield from (cid for cid in cast(list[object], answer.get("cids") or []) if isinstance(cid, str))


def missing(session: Session) -> Iterator[tuple[str, str]]:
    """(CID, at-uri of a record that names it) of blobs the PDS should have and has not."""
    for answer in _pages(session, "com.atproto.repo.listMissingBlobs", own=True):
        for it in cast(list[Mapping[str, object]], answer.get("blobs") or []):
            yield str(it.get("cid")), str(it.get("recordUri"))


def upload(session: Session, reference: Reference, data: Path | bytes) -> None:
    """Give the PDS these bytes, which are those the record names; repeating it does no harm."""
    place = data.name if isinstance(data, Path) else f"{len(data):,} bytes"
    try:
        content = data.read_bytes() if isinstance(data, Path) else data
    except OSError as error:
        raise ReconcilerError(f"cannot read the blob {place}: {error.strerror}") from None
    actual = records.cid_of_blob(hashlib.sha256(content).digest())
    if actual != reference.cid:
        raise ReconcilerError(
            f"{place} is not the blob {reference.cid}",
            why=f"its content has the CID {actual}",
            todo="find the original file; a record names its blobs by content",
        )
    answer = _uploaded(session, reference, content)
    blob = answer.get("blob")
    given = _reference(cast(Mapping[str, object], blob)) if isinstance(blob, dict) else None
    if given is None or given.cid != reference.cid:
        raise ReconcilerError(
            f"{session.pds} stored something else than the blob {reference.cid}", todo="upload it again"
        )
    if given.mime != reference.mime:
        raise ReconcilerError(
            f"the blob {reference.cid} is there as {given.mime}",
            why=f"the record says {reference.mime}, and the type of a blob is fixed by its first upload",
            todo=f"write {given.mime} in the record, or wait until the PDS has dropped the unused blob",
        )


def _uploaded(session: Session, reference: Reference, content: bytes) -> Mapping[str, object]:
    method = "com.atproto.repo.uploadBlob"
    tries = 0
    while True:
        tries += 1
        try:
            return session.write(method, content, reference.mime)
        except RefusedError as refused:
            todo = "ask who runs the PDS for its limit on blobs" if refused.status == 413 else None
            raise ReconcilerError(
                f"the blob {reference.cid} was not taken",
                where=f"{session.pds}, {method}",
                why=refused.said(),
                todo=todo,
            ) from None
        except CutError as cut:
            if tries == _TRIES:
                raise session.public.lost(method, cut) from None
            session.wait(1, f"{session.pds} broke off")


def _reference(members: Mapping[str, object]) -> Reference | None:
    if members.get("$type") == "blob":
        ref, mime, size = members.get("ref"), members.get("mimeType"), members.get("size")
        cid = cast(Mapping[str, object], ref).get("$link") if isinstance(ref, dict) else None
        if isinstance(cid, str) and isinstance(mime, str):
            return Reference(cid, mime, size if isinstance(size, int) else None, legacy=False)
    elif set(members) == {"cid", "mimeType"}:
        cid, mime = members["cid"], members["mimeType"]
        if isinstance(cid, str) and isinstance(mime, str) and cid.startswith(("bafkrei", "bafybei", "Qm")):
            return Reference(cid, mime, None, legacy=True)
    return None


def _pages(session: Session, method: str, *, own: bool) -> Iterator[Mapping[str, object]]:
    cursors: set[str] = set()
    more: dict[str, str | int] = {} if own else {"did": session.did}
    while True:
        try:
            answer = (session.read_own if own else session.read)(method, limit=_PAGE, **more)
        except RefusedError as refused:
            raise ReconcilerError(
                f"the blobs of {session.did} cannot be listed", where=f"{session.pds}, {method}", why=refused.said()
            ) from None
        yield answer
        cursor = answer.get("cursor")
        if not isinstance(cursor, str) or not cursor or not (answer.get("cids") or answer.get("blobs")):
            return
        if cursor in cursors:
            raise ReconcilerError(
                f"{session.pds} gave an answer that cannot be relied on",
                where=method,
                why="the listing goes in a circle: a cursor comes twice",
            )
        cursors.add(cursor)
        more = {**more, "cursor": cursor}
