"""What mass operations took: the columns of the rows that went, what updates emptied, what stands there again, jobs that had succeeded.

In: `rc_masses`, filled. Out: plain data by mass. Only records of masses are read, and of those only counts leave the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from reconciler.plan.names import TableName
from reconciler.systems.postgres.audit_log import Log
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.rows import relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

_EMPTY: LiteralString = "('', '[]', '{}')"
_MOST_COLUMNS = 100
_SAMPLE = 2000
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


def _of_masses(log: Log, op: Composable) -> Composable:
    """The records of masses, each with the number of its mass."""
    schema = q("{}::text", log.value("schema")) if log.has("schema") else raw("'public'")
    mark = q("{}::text", log.value("tx")) if log.has("tx") else q("({})::text", log.at)
    return q("{log} l JOIN rc_masses m ON m.tab = {tab}::text AND m.schema = {schema} AND m.op = {op} AND m.op IN {ops} AND m.tx = {mark}"
             " AND {at} BETWEEN m.first AND m.last", log=relation(log.name), tab=log.value("table"), schema=schema, op=log.operation, ops=op,
             mark=mark, at=log.at)  # fmt: skip


def describe(
    session: Session, log: Log, catalog: Catalog, hidden: frozenset[str]
) -> tuple[dict[int, tuple[Lost, ...]], dict[int, tuple[Emptied, ...]]]:
    """The columns of rows that were deleted, and of those that were updated, by mass."""
    lost: dict[int, tuple[Lost, ...]] = {}
    emptied: dict[int, tuple[Emptied, ...]] = {}
    tables = session.rows(
        "SELECT DISTINCT schema, tab, op IN ('DELETE', 'TRUNCATE') FROM rc_masses WHERE op <> 'INSERT' ORDER BY 1, 2, 3"
    )
    for schema, tab, deleted in tables if log.has("old") else ():
        name = TableName(schema, tab)
        if deleted:
            records = _of_table(log, name, raw("('DELETE', 'TRUNCATE')"))
            lost |= _lost(session, log, records, _names(session, log, catalog, name, records), hidden)
        elif log.has("new"):
            records = _of_table(log, name, raw("('UPDATE')"))
            emptied |= _changed(session, log, records, _names(session, log, catalog, name, records))
    return lost, emptied


def _of_table(log: Log, name: TableName, operations: Composable) -> Composable:
    """The records of a table's masses; the condition on the table is what an index may have."""
    return q("{} WHERE {}", _of_masses(log, operations), log.concerns(name))


def _names(session: Session, log: Log, catalog: Catalog, name: TableName, records: Composable) -> list[str]:
    """The columns of the table, and those that the log's rows had; the first of both."""
    table = catalog.find(name)
    sample = session.rows(
        q("SELECT DISTINCT jsonb_object_keys(old) FROM (SELECT {old} AS old FROM {records} LIMIT 100) s"
          " WHERE jsonb_typeof(old) = 'object'", old=log.image("old"), records=records)
    )  # fmt: skip
    names = list(table.columns) if table else []
    return [*names, *sorted(row[0] for row in sample if row[0] not in names)][:_MOST_COLUMNS]


def _varying(session: Session, log: Log, records: Composable) -> set[str]:
    """Columns that differ within a mass among the first rows already: nobody need look for the one value they have."""
    rows = session.rows(
        q("SELECT DISTINCT key FROM (SELECT m, (jsonb_each(old)).* FROM (SELECT m.m, {old} AS old FROM {records} LIMIT 100) s"
          " WHERE jsonb_typeof(old) = 'object') e GROUP BY m, key HAVING min(left(value::text, 41)) <> max(left(value::text, 41))",
          old=log.image("old"), records=records)
    )  # fmt: skip
    return {row[0] for row in rows}


def _filled(value: Composable) -> Composable:
    return q("coalesce({} NOT IN {}, false)", value, raw(_EMPTY))


def _lost(
    session: Session, log: Log, records: Composable, names: Sequence[str], hidden: frozenset[str]
) -> dict[int, tuple[Lost, ...]]:  # fmt: skip
    parts: list[Composable] = []
    varying = _varying(session, log, records)
    for n, name in enumerate(names):
        value, shown = q("old ->> {}", lit(name)), q('left(old ->> {}, 41) COLLATE "C"', lit(name))
        one = q("CASE WHEN count({s}) = count(*) AND min({s}) = max({s}) THEN min({s}) END", s=shown)
        parts.append(
            q(
                "count(*) FILTER (WHERE {}), {} AS {}",
                _filled(value),
                raw("NULL") if name in varying else one,
                ident(f"v{n}"),
            )
        )
    rows = session.rows(
        q("SELECT m, count(*), {} FROM (SELECT m.m, {} AS old FROM {} OFFSET 0) r WHERE old IS NOT NULL GROUP BY m ORDER BY m",
          join(parts), log.image("old"), records)
    )  # fmt: skip
    found: dict[int, tuple[Lost, ...]] = {}
    for row in rows:
        m, count = row[:2]
        values = [row[2 + 2 * n : 4 + 2 * n] for n in range(len(names))]
        found[m] = tuple(
            Lost(name, filled, value if _tells(name, value, count, hidden) else None)
            for name, (filled, value) in zip(names, values, strict=True)
        )
    return found


def _tells(name: str, value: str | None, count: int, hidden: frozenset[str]) -> bool:
    """Whether the value that all rows shared is shown."""
    return value is not None and 0 < len(value) <= 40 and count > 1 and name not in hidden


def _changed(session: Session, log: Log, records: Composable, names: Sequence[str]) -> dict[int, tuple[Emptied, ...]]:
    parts = join(
        [
            q("count(*) FILTER (WHERE {old} IS DISTINCT FROM {new}), count(*) FILTER (WHERE {was} AND NOT {is_})",
              old=q("old -> {}", lit(name)), new=q("new -> {}", lit(name)), was=_filled(q("old ->> {}", lit(name))),
              is_=_filled(q("new ->> {}", lit(name))))
            for name in names
        ]
    )  # fmt: skip
    rows = session.rows(
        q("SELECT m, {} FROM (SELECT m.m, {} AS old, {} AS new FROM {} OFFSET 0) r GROUP BY m ORDER BY m", parts, log.image("old"),
          log.image("new"), records)
    )  # fmt: skip
    return {
        row[0]: tuple(Emptied(name, row[1 + 2 * n], row[2 + 2 * n]) for n, name in enumerate(names) if row[1 + 2 * n])
        for row in rows
    }


def reinserted(session: Session, log: Log, table: Table, m: int) -> Again | None:
    """Whether deleted rows are there again under another primary key: by a unique key, or by a text that no two of them shared."""
    if not log.has("old") or not table.primary_key:
        return None
    by = next(
        (u.columns for u in table.uniques if not u.primary and u.columns and not u.predicate and set(u.columns) != set(table.primary_key)),
        None,
    ) or _telling_column(session, log, table, m)  # fmt: skip
    if not by:
        return None
    old = log.image("old")
    values = join([q("{} ->> {} AS {}", old, lit(name), ident(f"v{n}")) for n, name in enumerate(by)])
    same = join([q("{}::text = {}", ident("t", name), ident("r", f"v{n}")) for n, name in enumerate(by)], " AND ")
    keys = join(
        [
            q("{}::text IS DISTINCT FROM {}", ident("t", name), ident("r", f"k{n}"))
            for n, name in enumerate(table.primary_key)
        ],
        " OR ",
    )
    key_values = join([q("{} AS {}", log.key(name, n), ident(f"k{n}")) for n, name in enumerate(table.primary_key)])
    records = _of_masses(log, raw("('DELETE')"))
    count = session.value(
        q("SELECT count(*) FROM (SELECT {values}, {keys} FROM {records} WHERE m.m = {m}) r JOIN {t} t ON {same} WHERE {other}",
          values=values, keys=key_values, records=records, m=lit(m), t=relation(table.name), same=same, other=keys)
    )  # fmt: skip
    return Again(count, tuple(by))


def _telling_column(session: Session, log: Log, table: Table, m: int) -> tuple[str, ...]:
    """A text column in which no two rows of a sample are alike; the longest values tell most."""
    names = [
        c.name for c in table.columns.values() if c.name not in table.primary_key and c.type.startswith(("text", "character varying"))
    ]  # fmt: skip
    if not names:
        return ()
    old = log.image("old")
    counts = join([q("count(DISTINCT {c}), avg(length({c}))", c=ident(f"v{n}")) for n in range(len(names))])
    values = join([q("{} ->> {} AS {}", old, lit(name), ident(f"v{n}")) for n, name in enumerate(names)])
    row = session.one(
        q("SELECT count(*), {counts} FROM (SELECT {values} FROM {records} WHERE m.m = {m} LIMIT {most}) s", counts=counts, values=values,
          records=_of_masses(log, raw("('DELETE')")), m=lit(m), most=lit(_SAMPLE))
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
