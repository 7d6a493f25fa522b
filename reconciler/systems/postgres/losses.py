"""What mass operations took: the columns of the rows that went, what updates emptied, what stands there again, jobs that had succeeded.

In: the masses. Out: plain data by mass. Only records of masses are read, and of those only counts leave the database.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

from reconciler.plan.names import TableName
from reconciler.systems.postgres.audit_log import Log
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Composable, Row, Session, ident, join, lit, q, raw

_EMPTY: LiteralString = "('', '[]', '{}')"
_MOST_COLUMNS = 100
_SAMPLE = 2000
_LOOPS = 50
"""A mass of more than this part of the table is joined with it in one go, not row by row."""
_SUCCESS = ("SUCCESS", "SUCCEEDED", "SUCCESSFUL", "COMPLETE", "COMPLETED", "DONE", "FINISHED", "OK")
_STATUS = ("status", "state", "result")
_TYPE = ("job_type", "task_type", "type", "kind", "job_name", "task", "name", "queue")


@dataclass(frozen=True)
class Lost:
    """A column of deleted rows; `filled` of them had a value. `value`: the one that all had, if it is short."""

    column: str
    filled: int
    value: str | None = None


@dataclass(frozen=True)
class Emptied:
    """A column that a mass update changed; `emptied` rows lost a value by it."""

    column: str
    changed: int
    emptied: int


@dataclass(frozen=True)
class Again:
    """How many of the deleted rows stand in the table again under another key, told by columns with values of their own."""

    rows: int
    by: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """Records of jobs that were deleted although, or because, they had succeeded."""

    table: str
    type: str | None
    status: str
    rows: int
    first: str
    last: str


@dataclass(frozen=True)
class Picked:
    """A mass: what its records have in common."""

    m: int
    table: TableName
    operation: str
    transaction: str | None
    rows: int
    first: str
    last: str


def _records(log: Log, picked: Sequence[Picked], *more: tuple[str, Composable]) -> Composable:
    """The records of masses of one table as `r`: the number of the mass, images, and `more`.

    A condition on the record alone, so that one scan is enough, can be shared among workers, and ends early where a sample is wanted.
    """
    cases = [
        q("WHEN {at} BETWEEN {first} AND {last} AND {op}{mark} THEN {m}", at=log.at, first=lit(it.first), last=lit(it.last),
          op=log.tells(it.operation), m=lit(it.m), mark=_of_transaction(log, it.transaction))
        for it in picked
    ]  # fmt: skip
    images = [("old", log.image("old")), ("new", log.image("new")), *more]
    return q(
        "(SELECT CASE {cases} END AS m, {images} FROM {log} l WHERE {concerns} AND {at} >= {first}::timestamptz AND {at} <= {last}::timestamptz"
        " {fence}) r", cases=join(cases, " "), images=join([q("{} AS {}", value, ident(name)) for name, value in images]),
        log=relation(log.name), concerns=log.concerns(picked[0].table), at=log.at, first=lit(min(it.first for it in picked)),
        last=lit(max(it.last for it in picked)), fence=raw("" if log.plain else "OFFSET 0"),
    )  # fmt: skip


def _of_transaction(log: Log, transaction: str | None) -> Composable:
    """Where the log knows none, records of one moment are one."""
    if not log.has("tx"):
        return raw("")
    tx = log.value("tx")
    return q(" AND {} IS NULL", tx) if transaction is None else q(" AND {} = {}", tx, lit(transaction))


def describe(
    session: Session, log: Log, catalog: Catalog, picked: Sequence[Picked], hidden: frozenset[str]
) -> tuple[dict[int, tuple[Lost, ...]], dict[int, tuple[Emptied, ...]]]:
    """The columns of rows that were deleted, and of those that were updated, by mass."""
    lost: dict[int, tuple[Lost, ...]] = {}
    emptied: dict[int, tuple[Emptied, ...]] = {}
    if not log.has("old"):
        return lost, emptied
    for name in sorted({it.table for it in picked}, key=full_name):
        deleted = [it for it in picked if it.table == name and it.operation in ("DELETE", "TRUNCATE")]
        updated = [it for it in picked if it.table == name and it.operation == "UPDATE"]
        if deleted:
            names, alike = _columns(session, log, catalog, name, deleted)
            lost |= _lost(session, log, deleted, names, alike, hidden)
        if updated and log.has("new"):
            names, _ = _columns(session, log, catalog, name, updated)
            emptied |= _changed(session, log, updated, names)
    return lost, emptied


def _columns(
    session: Session, log: Log, catalog: Catalog, name: TableName, picked: Sequence[Picked]
) -> tuple[list[str], set[str]]:
    """The columns of the table, and those that the log's rows had, the first of both; and which of them may have one value throughout a
    mass: those that have, in all rows of it that are among the first. Where a mass has none among them, that may be any column.
    """
    sample = session.rows(
        q("SELECT m, key, min(text) = max(text) AND min(text) <> 'null'"
          " FROM (SELECT m, (jsonb_each(old)).* FROM (SELECT m, old FROM {} WHERE m IS NOT NULL AND old IS NOT NULL LIMIT 100) s"
          " WHERE jsonb_typeof(old) = 'object') e, left(value::text, 41) AS text GROUP BY m, key", _records(log, picked))
    )  # fmt: skip
    table = catalog.find(name)
    names = list(table.columns) if table else []
    names = [*names, *sorted({key for _, key, _ in sample if key not in names})][:_MOST_COLUMNS]
    if {m for m, _, _ in sample} != {it.m for it in picked}:
        return names, set(names)
    return names, {key for _, key, alike in sample if alike}


def _filled(value: Composable) -> Composable:
    return q("{} NOT IN {}", value, raw(_EMPTY))


def _lost(
    session: Session, log: Log, picked: Sequence[Picked], names: Sequence[str], alike: set[str], hidden: frozenset[str]
) -> dict[int, tuple[Lost, ...]]:  # fmt: skip
    parts: list[Composable] = []
    for name in names:
        value, shown = q("old ->> {}", lit(name)), q('left(old ->> {}, 41) COLLATE "C"', lit(name))
        one = q("min({s}), max({s})", s=shown) if name in alike else raw("NULL, NULL")
        parts.append(q("count(*) FILTER (WHERE {}), {}", _filled(value), one))
    rows = session.rows(
        q("SELECT m, count(*), {} FROM {} WHERE m IS NOT NULL AND old IS NOT NULL GROUP BY m ORDER BY m",
          join(parts), _records(log, picked))
    )  # fmt: skip
    found: dict[int, tuple[Lost, ...]] = {}
    for row in rows:
        m, count = row[:2]
        values = [row[2 + 3 * n : 5 + 3 * n] for n in range(len(names))]
        found[m] = tuple(
            Lost(
                name,
                filled,
                least if filled == count and least == most and _tells(name, least, count, hidden) else None,
            )
            for name, (filled, least, most) in zip(names, values, strict=True)
        )
    return found


def _tells(name: str, value: str | None, count: int, hidden: frozenset[str]) -> bool:
    """Whether the value that all rows shared is shown."""
    return value is not None and 0 < len(value) <= 40 and count > 1 and name not in hidden


def _changed(
    session: Session, log: Log, picked: Sequence[Picked], names: Sequence[str]
) -> dict[int, tuple[Emptied, ...]]:
    """First which columns differ at all, which few do; then what became of those."""
    differ = [q("count(*) FILTER (WHERE {old} IS DISTINCT FROM {new})", **_both(name)) for name in names]
    changed = {m: dict(zip(names, counts, strict=True)) for m, *counts in _by_mass(session, log, picked, differ)}
    few = [name for name in names if any(counts[name] for counts in changed.values())]
    emptied = [
        q("count(*) FILTER (WHERE {} AND ({}) IS NOT TRUE)", _filled(q("old ->> {}", lit(name))), _filled(q("new ->> {}", lit(name))))
        for name in few
    ]  # fmt: skip
    found = (
        {m: dict(zip(few, counts, strict=True)) for m, *counts in _by_mass(session, log, picked, emptied)}
        if few
        else {}
    )
    return {
        m: tuple(Emptied(name, counts[name], found[m][name]) for name in few if counts[name])
        for m, counts in changed.items()
    }


def _both(name: str) -> dict[str, Composable]:
    return {"old": q("old -> {}", lit(name)), "new": q("new -> {}", lit(name))}


def _by_mass(session: Session, log: Log, picked: Sequence[Picked], parts: Sequence[Composable]) -> list[Row]:
    return session.rows(
        q("SELECT m, {} FROM {} WHERE m IS NOT NULL GROUP BY m ORDER BY m", join(parts), _records(log, picked))
    )


def reinserted(session: Session, log: Log, table: Table, live: int, mass: Picked) -> Again | None:
    """Whether deleted rows are there again under another primary key: by a unique key, or by a text that no two of them shared."""
    if not log.has("old") or not table.primary_key:
        return None
    by = next(
        (u.columns for u in table.uniques if not u.primary and u.columns and not u.predicate and set(u.columns) != set(table.primary_key)),
        None,
    ) or _telling_column(session, log, table, mass)  # fmt: skip
    if not by:
        return None
    same = join([q("{}::text = r.old ->> {}", ident("t", name), lit(name)) for name in by], " AND ")
    key_values = [(f"k{n}", log.key(name, n)) for n, name in enumerate(table.primary_key)]
    keys = join(
        [q("{}::text IS DISTINCT FROM {}", ident("t", name), ident("r", k)) for (k, _), name in zip(key_values, table.primary_key, strict=True)],
        " OR ",
    )  # fmt: skip
    with _joined(session, whole=mass.rows * _LOOPS > live):
        count = session.value(
            q("SELECT count(*) FROM {records} JOIN {t} t ON {same} WHERE r.m = {m} AND ({keys})", records=_records(log, [mass], *key_values),
              t=relation(table.name), same=same, m=lit(mass.m), keys=keys)
        )  # fmt: skip
    return Again(count, tuple(by))


@contextmanager
def _joined(session: Session, *, whole: bool) -> Generator[None]:
    """Statistics tell nothing of how many records a mass has: `whole` keeps the planner from an index look-up for each of them."""
    if whole:
        session.run("SET LOCAL enable_nestloop = off")
    yield
    if whole:
        session.run("SET LOCAL enable_nestloop TO DEFAULT")


def _telling_column(session: Session, log: Log, table: Table, mass: Picked) -> tuple[str, ...]:
    """A text column in which no two rows of a sample are alike; the longest values tell most."""
    names = [
        c.name for c in table.columns.values() if c.name not in table.primary_key and c.type.startswith(("text", "character varying"))
    ]  # fmt: skip
    if not names:
        return ()
    counts = join([q("count(DISTINCT old ->> {c}), avg(length(old ->> {c}))", c=lit(name)) for name in names])
    row = session.one(
        q("SELECT count(*), {counts} FROM (SELECT old FROM {records} WHERE m = {m} LIMIT {most}) s", counts=counts,
          records=_records(log, [mass]), m=lit(mass.m), most=lit(_SAMPLE))
    )  # fmt: skip
    found = [
        (row[2 + 2 * n], name)
        for n, name in enumerate(names)
        if row[1 + 2 * n] == row[0] and (row[2 + 2 * n] or 0) >= 4
    ]
    return (max(found)[1],) if found else ()


def finished_jobs(session: Session, log: Log, after: Composable) -> tuple[Finished, ...]:
    """Deleted records of jobs that had ended with success, by type."""
    if not log.has("old"):
        return ()
    old = log.image("old")
    status = q("coalesce({})", join([q("{} ->> {}", old, lit(name)) for name in _STATUS]))
    type_ = q("coalesce({}, NULL)", join([q("{} ->> {}", old, lit(name)) for name in _TYPE]))
    rows = session.rows(
        q("SELECT tab, kind, status, count(*), min(at)::text, max(at)::text FROM (SELECT {tab}::text AS tab, left({type}, 60) AS kind,"
          " {status} AS status, {at} AS at FROM {log} l WHERE {after} AND {op} = 'DELETE' AND {old} ?| {names}"
          " AND ({tab}::text ~* '(job|task|run|queue|work|batch)' OR {old} ?| '{{job_type,task_type}}')) d"
          " WHERE upper(status) = ANY ({success}) GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2 LIMIT 20",
          tab=log.value("table"), type=type_, status=status, at=log.at, log=relation(log.name), after=after, op=log.operation, old=old,
          names=lit(list(_STATUS)), success=lit(list(_SUCCESS)))
    )  # fmt: skip
    return tuple(Finished(*row) for row in rows)
