"""Lines of a file, or rows of the spec, become rows of a temporary table of the target's types, parsed by PostgreSQL.

In: an intent whose source is lines. Out: `rc_f_N` filled, and the columns that the lines speak for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.rows import Intent, LinesSource, ValuesAre
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw, scrub


def load_lines(session: Session, intent: Intent, source: LinesSource) -> tuple[str, ...]:
    """Fill the source's temporary table; the names of its columns, known to the target or not."""
    if source.values is ValuesAre.CSV:
        return _load_csv(session, intent, source)
    table = intent.temp("l")
    try:
        with session.savepoint():
            session.copy_in(q("COPY {} (line) FROM STDIN", table), _escaped(source.lines()))
    except psycopg.Error as error:
        where = re.search(r"COPY \w+, line (\d+)", error.diag.context or "")
        raise ReconcilerError(
            f"{intent.address}: {source.place}{f', row {where[1]}' if where else ''} is not JSON", where=intent.place,
            why=scrub(error.diag.message_primary or ""),
        ) from None  # fmt: skip
    row = session.rows(q("SELECT n FROM {} WHERE json_typeof(line) <> 'object' ORDER BY n LIMIT 1", table))
    if row:
        raise ReconcilerError(f"{intent.address}: {source.place}, row {row[0][0]} is not an object", where=intent.place)
    if not session.value(q("SELECT EXISTS (SELECT FROM {})", table)):
        return tuple(intent.target.columns)  # no rows speak for any column, nor against one
    keys = q('SELECT DISTINCT json_object_keys(line) COLLATE "C" FROM {} l', table)
    _each_fits(session, intent, source, keys)
    names = tuple(r[0] for r in session.rows(q("{} ORDER BY 1", keys)))
    columns = [c for c in intent.target.columns.values() if c.name in names and not c.generated]
    if columns:
        typed = source.values is ValuesAre.NATURAL
        record = join([q("{} {}", ident(c.name), raw(c.type if typed else "text")) for c in columns])
        values = join([q("r.{}::{}", ident(c.name), raw(c.type)) for c in columns])
        query = q("INSERT INTO {f} ({names}) SELECT {values} FROM {l} l, json_to_record(l.line) AS r({record})", f=intent.temp("f"),
                  names=join([ident(c.name) for c in columns]), values=values, l=table, record=record)  # fmt: skip
        _each_fits(session, intent, source, query)
    session.run(q("ANALYZE {}", intent.temp("f")))
    return names


def _escaped(lines: Iterator[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.strip():
            yield line.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")


def _each_fits(session: Session, intent: Intent, source: LinesSource, query: Composable) -> None:
    """Run what reads every row; a row that PostgreSQL refuses is found and named."""
    first, last = 1, session.value(q("SELECT coalesce(max(n), 0) FROM {}", intent.temp("l")))
    error = _try(session, query)
    if error is None:
        return
    while first < last:  # halve until one row is left
        middle = (first + last) // 2
        half = _try(session, q("{} WHERE l.n BETWEEN {} AND {}", query, lit(first), lit(middle)))
        if half is None:
            first = middle + 1
        else:
            last, error = middle, half
    raise ReconcilerError(
        f"{intent.address}: {source.place}, row {first} does not fit {intent.target.name}",
        where=intent.place,
        why=error,
    )


def _try(session: Session, query: Composable) -> str | None:
    try:
        with session.savepoint():
            session.run(query)
    except psycopg.Error as error:
        return scrub(error.diag.message_primary or "the value is not one of the column's type")
    return None


def _load_csv(session: Session, intent: Intent, source: LinesSource) -> tuple[str, ...]:
    if not set(source.header) & intent.target.columns.keys():
        raise ReconcilerError(
            f"{intent.address}: the first line of {source.place} names no column of {intent.target.name}", where=intent.place,
            todo="write the names of the columns into the first line",
        )  # fmt: skip
    names = join([ident(name) for name in source.header])
    try:
        with session.savepoint():
            session.copy_in(
                q("COPY {} ({}) FROM STDIN (FORMAT csv, HEADER true)", intent.temp("f"), names), source.lines()
            )
    except psycopg.Error as error:
        where = re.search(r"COPY \w+, line (\d+)(?:, column (\w+))?", error.diag.context or "")
        place = f", line {where[1]}" + (f", column {where[2]}" if where[2] else "") if where else ""
        raise ReconcilerError(
            f"{intent.address}: {source.place}{place} does not fit {intent.target.name}", where=intent.place,
            why=scrub(error.diag.message_primary or ""),
        ) from None  # fmt: skip
    session.run(q("ANALYZE {}", intent.temp("f")))
    return source.header
