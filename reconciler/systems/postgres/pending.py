"""Rows that a process is for: counted, found and looked at again; and those that a plan's own changes make pending.

Invariant: nothing is written, and no row passes through Python but those that are called for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import psycopg

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.catalog import Column, Table
from reconciler.systems.postgres.described import SignedNames, signed_rows, url_column
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import alias, full_name, key_names, on_keys, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

_LOCK = 0x63616C6C


class Watched(NamedTuple):
    """A table's rows by their keys, and what makes them pending or done; the conditions are proven."""

    table: Table
    key: tuple[str, ...]
    pending: Composable
    done: Composable

    @property
    def source(self) -> Composable:
        return q("{} AS {}", relation(self.table.name), alias(self.table.name))

    def column(self, name: str) -> Composable:
        return ident(self.table.name.name, name)

    def types(self) -> list[Composable]:
        return [raw(self.table.columns[name].type) for name in self.key]


Key = tuple[str, ...]
Word = str
"""pending, done, gone or neither."""


def count_pending(session: Session, it: Watched, most: int | None = None) -> int:
    """How many rows are pending, counted no further than `most`."""
    rows = q("SELECT FROM {} WHERE {}", it.source, it.pending)
    if most is not None:
        rows = q("{} LIMIT {}", rows, lit(most))
    return session.value(q("SELECT count(*) FROM ({}) rc_rows", rows))


def count_both(session: Session, it: Watched) -> tuple[int, int]:
    """How many rows are pending, and how many are done."""
    row = session.one(
        q("SELECT count(*) FILTER (WHERE {p}), count(*) FILTER (WHERE {d} AND ({p}) IS NOT TRUE) FROM {t}",
          p=it.pending, d=it.done, t=it.source)
    )  # fmt: skip
    return row[0], row[1]


def next_pending(session: Session, it: Watched, after: Key | None, most: int) -> list[tuple[Key, str]]:
    """The next rows by their keys: the texts of its columns, and the key as JSON (of several columns an object)."""
    columns = [it.column(name) for name in it.key]
    where = it.pending
    if after is not None:
        values = [q("{}::{}", lit(text), type_) for text, type_ in zip(after, it.types(), strict=True)]
        where = q("{} AND ({}) > ({})", where, join(columns), join(values))
    found = session.rows(
        q("SELECT {}, ARRAY[{}] FROM {} WHERE {} ORDER BY {} LIMIT {}", _json(it), join([q("{}::text", c) for c in columns]),
          it.source, where, join(columns), lit(most))
    )  # fmt: skip
    return [(tuple(key), json) for json, key in found]


def _json(it: Watched) -> Composable:
    if len(it.key) == 1:
        return q("to_json({})::text", it.column(it.key[0]))
    members = join([q("{}, {}", lit(name), it.column(name)) for name in it.key])
    return q("json_build_object({})::text", members)


def states(session: Session, it: Watched, keys: Sequence[Key]) -> list[Word]:
    """What each row is now."""
    names = key_names(len(it.key))
    columns = [[key[n] for key in keys] for n in range(len(it.key))]
    given = join([q("%s::text[]")] * len(it.key))
    same = join(
        [q("{} = rc_k.{}::{}", it.column(name), ident(k), type_) for name, k, type_ in zip(it.key, names, it.types(), strict=True)],
        " AND ",
    )  # fmt: skip
    query = q(
        "SELECT coalesce((SELECT CASE WHEN {p} THEN 'pending' WHEN {d} THEN 'done' ELSE 'neither' END FROM {t} WHERE {same}), 'gone')"
        " FROM unnest({given}) WITH ORDINALITY AS rc_k ({names}, n) ORDER BY rc_k.n",
        p=it.pending, d=it.done, t=it.source, same=same, given=given, names=join([ident(k) for k in names])
    )  # fmt: skip
    return [row[0] for row in session.rows(query, columns)]


def pending_csv(session: Session, it: Watched, address: str) -> Iterator[bytes]:
    """The keys of pending rows, as lines of CSV."""
    key = join([q("{}::text", it.column(name)) for name in it.key])
    return session.copy_out(
        q("COPY (SELECT {}, {}, concat_ws(', ', {}) FROM {} WHERE {} ORDER BY 3) TO STDOUT (FORMAT csv)",
          lit(address), lit(full_name(it.table.name)), key, it.source, it.pending)
    )  # fmt: skip


def hold(session: Session, name: str) -> None:
    """One run of a process at a time; the lock ends with the transaction, which waits without a snapshot."""
    session.run("SET LOCAL idle_in_transaction_session_timeout = 0")
    session.run(
        "SELECT set_config('transaction_timeout', '0', true) WHERE current_setting('transaction_timeout', true) IS NOT NULL"
    )
    if not session.value("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, name)):
        raise ReconcilerError(f"{name} is being run by another apply", todo="wait for it to end, then run this again")


def added(session: Session, it: Watched, founds: Iterable[Found]) -> tuple[int, list[str]]:
    """How many rows a plan's own changes make pending, at most; and what could not be told apart."""
    count, notes = 0, list[str]()
    for found in founds:
        if found.intent.target.name != it.table.name:
            continue
        changes = [(found.missing, _inserted(it, found)), (found.changed, _updated(it, found))]
        if signed := signed_rows(found.intent):
            changes.append((session.value(signed.count), _signed(it, found, signed)))
        for many, query in changes:
            if not many:
                continue
            exact = _counted(session, query)
            count += many if exact is None else exact
            if exact is None:
                notes.append(
                    f"{many} changes of {full_name(it.table.name)} by {found.intent.address} are counted whole: what `pending` "
                    "says of them only the database knows once they are made"
                )
    return count, notes


def _counted(session: Session, query: Composable) -> int | None:
    try:
        with session.savepoint():
            return session.value(query)
    except psycopg.Error:
        return None


def _inserted(it: Watched, found: Found) -> Composable:
    """New rows as they will be. A column that only the insert itself gives a value is left out, so asking for it fails."""
    written = {c.name for c in found.written}
    signed = url_column(found.intent)
    constant = {c.name for c in found.defaults}

    def value(column: Column) -> Composable | None:
        if column.name == signed:
            return raw("'signed'")
        if column.name in written:
            return ident("rc_s", column.name)
        if column.name in constant:
            return raw(column.default or "NULL")
        return None if column.default or column.identity or column.generated else raw("NULL")

    return q(
        "SELECT count(*) FROM (SELECT {} FROM {} AS rc_d JOIN {} AS rc_s ON {} WHERE rc_d.kind = 'm') AS {} WHERE {}",
        _columns(it, value), found.intent.temp("d"), found.intent.temp("s"),
        on_keys("rc_d", found.keys, "rc_s", found.intent.key), alias(it.table.name), it.pending
    )  # fmt: skip


def _updated(it: Watched, found: Found) -> Composable:
    """Rows as they will be, of those that are not pending yet."""
    position = {c.name: n for n, c in enumerate(found.compared, 1)}

    def value(column: Column) -> Composable | None:
        if column.generated:
            return None
        own = ident("rc_t", column.name)
        if column.name not in position:
            return own
        return q(
            "CASE WHEN rc_d.m[{}] THEN {} ELSE {} END", lit(position[column.name]), ident("rc_s", column.name), own
        )

    there = join([q("{} = {}", it.column(name), ident("rc_t", name)) for name in found.intent.key], " AND ")
    return q(
        "SELECT count(*) FROM (SELECT {columns} FROM {d} AS rc_d JOIN {s} AS rc_s ON {on} JOIN {t} AS rc_t ON {same}"
        " WHERE rc_d.kind = 'c' AND NOT EXISTS (SELECT FROM {source} WHERE {there} AND {pending})) AS {alias} WHERE {pending}",
        columns=_columns(it, value), d=found.intent.temp("d"), s=found.intent.temp("s"), t=relation(it.table.name),
        on=on_keys("rc_d", found.keys, "rc_s", found.intent.key), same=on_keys("rc_d", found.keys, "rc_t", found.intent.key),
        source=it.source, there=there, pending=it.pending, alias=alias(it.table.name)
    )  # fmt: skip


def _signed(it: Watched, found: Found, signed: SignedNames) -> Composable:
    """Rows that are given a signed URL, as they will be, of those that are not pending yet."""

    def value(column: Column) -> Composable | None:
        if column.generated:
            return None
        return raw("'signed'") if column.name == signed.column else ident("rc_t", column.name)

    there = join([q("{} = {}", it.column(name), ident("rc_t", name)) for name in found.intent.key], " AND ")
    return q(
        "SELECT count(*) FROM (SELECT {columns} FROM ({keys}) AS rc_n JOIN {t} AS rc_t ON {same}"
        " WHERE NOT EXISTS (SELECT FROM {source} WHERE {there} AND {pending})) AS {alias} WHERE {pending}",
        columns=_columns(it, value), keys=signed.keys, t=relation(it.table.name),
        same=on_keys("rc_n", found.keys, "rc_t", found.intent.key), source=it.source, there=there, pending=it.pending,
        alias=alias(it.table.name)
    )  # fmt: skip


def _columns(it: Watched, value: Callable[[Column], Composable | None]) -> Composable:
    pairs = [(column, value(column)) for column in it.table.columns.values()]
    return join([q("({})::{} AS {}", v, raw(c.type), ident(c.name)) for c, v in pairs if v is not None])
