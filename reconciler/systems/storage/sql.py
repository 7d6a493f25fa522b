"""Every object under a prefix out of `storage.objects`, in one COPY. Only read: rows are never written past the API.

The session's own transaction counts: within a snapshot, the inventory is of that snapshot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta

import psycopg
from psycopg.pq import TransactionStatus

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.session import Composable, Session, explained, ident, join, lit, q
from reconciler.systems.storage import copytext
from reconciler.systems.storage.entries import whole
from reconciler.systems.storage.interface import Object

_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def query(session: Session, bucket: str, prefix: str, *, updated: bool = False) -> Composable:
    """One SELECT of name, size, etag, mime, created_at (and updated_at), in no order.

    Where the bucket's database is the rows' own, a kind can join it without moving anything.
    """
    columns = [
        q("name"),
        q("metadata ->> 'size' AS size"),
        q("metadata ->> 'eTag' AS etag"),
        q("metadata ->> 'mimetype' AS mime"),
        _milliseconds("created_at"),
    ]
    if updated:
        columns.append(_milliseconds("updated_at"))
    conditions = [q("bucket_id = {}", lit(bucket)), *_within(prefix), *_current(session)]
    return q("SELECT {} FROM storage.objects WHERE {}", join(columns), join(conditions, " AND "))


def copy(session: Session, bucket: str, prefix: str) -> Iterator[bytes]:
    """Blocks of whole lines, in no order: whoever needs one has a database for it."""
    with _reading(session, bucket):
        yield from session.copy_out(q("COPY ({}) TO STDOUT", query(session, bucket, prefix)))


def objects(session: Session, bucket: str, prefix: str) -> Iterator[Object]:
    with _reading(session, bucket):
        wanted = q('COPY ({} ORDER BY name COLLATE "C") TO STDOUT', query(session, bucket, prefix, updated=True))
        for block in session.copy_out(wanted):
            for text in block.split(b"\n")[:-1]:
                name, size, etag, mime, created_at, updated_at = copytext.fields(text)
                yield Object(name or "", whole(size), etag, mime, created_at, updated_at)


def check_same_bucket(session: Session, bucket: str, created_at: str) -> None:
    """The bucket of this database is the one the API speaks of: a staging database must not describe production."""
    with _reading(session, bucket):
        rows = session.rows(
            q(
                "SELECT to_char(created_at AT TIME ZONE 'UTC', {}) FROM storage.buckets WHERE id = {}",
                lit(_TIME),
                lit(bucket),
            )
        )
    here = datetime.fromisoformat(str(rows[0][0])) if rows else None
    if here is None or abs(here - datetime.fromisoformat(created_at)) > timedelta(milliseconds=1):
        raise ReconcilerError(
            f"the database behind {session.name} is not the one of its storage",
            why=f"bucket {bucket} is another there" if rows else f"it has no bucket {bucket}, the storage has",
            todo=f"check that `supabase` and `postgres` of connections.{session.name} are of the same project",
        )


@contextlib.contextmanager
def _reading(session: Session, bucket: str) -> Generator[None]:
    """Within the session's transaction, or one of its own."""
    idle = session.connection.info.transaction_status == TransactionStatus.IDLE
    with explained(f"listing bucket {bucket}", session.name), session.snapshot() if idle else contextlib.nullcontext():
        try:
            yield
        except psycopg.errors.UndefinedTable:
            raise ReconcilerError(
                f"the database behind {session.name} has no storage.objects",
                todo=f"check that `postgres` of connections.{session.name} is the project's own database",
            ) from None


def _milliseconds(column: str) -> Composable:
    """What to_char would give, for half its time; the microsecond is there so that no zeros are left out, and cut off with the quote."""
    return q(
        "substr(to_json(date_trunc('milliseconds', {0} AT TIME ZONE 'UTC') + interval '1 us')::text, 2, 23) || 'Z' AS {0}",
        ident(column),
    )


def _within(prefix: str) -> list[Composable]:
    """A range of the index on (bucket_id, name COLLATE "C"), and the exact condition."""
    if not prefix:
        return []
    found: list[Composable] = [q('name COLLATE "C" >= {}', lit(prefix)), q("starts_with(name, {})", lit(prefix))]
    if (end := _after(prefix)) is not None:
        found.append(q('name COLLATE "C" < {}', lit(end)))
    return found


def _after(prefix: str) -> str | None:
    """The first text that is beyond everything with the prefix."""
    code = ord(prefix[-1]) + 1
    if code > _LAST_CHARACTER:
        return None
    return prefix[:-1] + chr(_SURROGATES.stop if code in _SURROGATES else code)


def _current(session: Session) -> list[Composable]:
    """Servers that keep old versions have rows for them too."""
    known = {
        name
        for (name,) in session.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'storage.objects'::regclass AND NOT attisdropped"
        )
    }
    conditions: list[Composable] = []
    if "archived_at" in known:
        conditions.append(q("archived_at IS NULL"))
    if "is_delete_marker" in known:
        conditions.append(q("NOT is_delete_marker"))
    return conditions
