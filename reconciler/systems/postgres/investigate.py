"""What an audit log tells of mass operations, and what it cannot tell.

In: a log in any known layout. Out: an `Investigation`: plain data, bounded in size whatever the log holds.
Invariant: records are never loaded. One scan groups them by transaction into a temporary table, from which come periods, masses and
bursts; a second one reads the rows of the masses alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

from reconciler.plan.names import TableName
from reconciler.systems.postgres.audit_log import EVENTS, Log, recording
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.losses import (
    Again,
    Emptied,
    Finished,
    Lost,
    Picked,
    describe,
    finished_jobs,
    reinserted,
)
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

MOST = 30
"""Masses, bursts and tables that are told of each."""


@dataclass(frozen=True)
class Limits:
    """What counts as a mass: so many rows, or such a share of the table."""

    rows: int = 1000
    percent: int = 10
    least: int = 20
    """Fewer rows than that are no mass, whatever their share."""


@dataclass(frozen=True)
class Recorded:
    """A table in the log."""

    table: str
    exists: bool
    rows: int | None
    counts: Mapping[str, int]
    """Operation -> records."""
    first: str
    last: str
    never: tuple[str, ...]
    """Operations without any record."""
    without_trigger: tuple[str, ...]
    """Operations that nothing records now."""
    without_insert: int | None
    """Rows that are there and have no record of how they came."""


@dataclass(frozen=True)
class Mass:
    """One statement or transaction that touched many rows of a table."""

    table: str
    operation: str
    rows: int
    of: int | None
    """How many rows the table had, as far as log and table tell."""
    first: str
    last: str
    transaction: str | None
    role: str | None
    application: str | None
    client: str | None
    plan: str | None
    lost: tuple[Lost, ...] = ()
    """Of a deletion: how many of the rows had a value, by column."""
    emptied: tuple[Emptied, ...] = ()
    """Of an update: the columns it changed."""
    again: Again | None = None


@dataclass(frozen=True)
class Burst:
    """Many transactions on a table in a short time."""

    table: str
    operation: str
    rows: int
    transactions: int
    first: str
    last: str
    role: str | None
    application: str | None


@dataclass(frozen=True)
class Silence:
    """A long time without any record."""

    first: str
    last: str
    length: str


@dataclass(frozen=True)
class Investigation:
    log: str
    layout: str
    since: str | None
    records: int
    first: str | None
    last: str | None
    without_application: int
    recorded: tuple[Recorded, ...] = ()
    unaudited: tuple[tuple[str, int], ...] = ()
    """Tables that neither the log nor a trigger knows, with the planner's count of rows; -1: unknown."""
    masses: tuple[Mass, ...] = ()
    bursts: tuple[Burst, ...] = ()
    silences: tuple[Silence, ...] = ()
    finished: tuple[Finished, ...] = ()
    notes: tuple[str, ...] = field(default=())


def investigate(
    session: Session,
    catalog: Catalog,
    log: Log,
    since: str | None,
    limits: Limits,
    hidden: frozenset[str] = frozenset(),
) -> Investigation:
    """Read the log; nothing but temporary tables is written."""
    session.run(_GROUPS)
    session.run(_MASSES)
    session.forbid_writes()
    after = q("{} >= {}::timestamptz", log.at, lit(since)) if since else raw("true")
    unplaced = _group(session, log, after)
    records, first, last, nameless = session.one(
        "SELECT coalesce(sum(n), 0)::int8, min(first)::text, max(last)::text, coalesce(sum(n) FILTER (WHERE application IS NULL), 0)::int8"
        " FROM rc_groups"
    )
    found = {name: catalog.find(name) for name in _tables(session)}
    live = {
        name: session.value(q("SELECT count(*) FROM {}", relation(name))) for name, t in found.items() if _is_table(t)
    }
    _choose(session, live, limits)
    return Investigation(
        log=full_name(log.name),
        layout=log.layout,
        since=since,
        records=records,
        first=first,
        last=last,
        without_application=nameless if log.has("application") else records,
        recorded=_recorded(session, log, found, live, after),
        unaudited=_unaudited(catalog, log, found),
        masses=_masses(session, catalog, log, found, live, hidden),
        bursts=_bursts(session, limits),
        silences=_silences(session),
        finished=finished_jobs(session, log, after),
        notes=_notes(session, log, unplaced),
    )


_GROUPS: LiteralString = (
    "CREATE TEMP TABLE rc_groups (schema text, tab text, op text, tx text, role text, application text, client text, plan text,"
    " n int8, first timestamptz, last timestamptz) ON COMMIT DROP"
)
_MASSES: LiteralString = (
    "CREATE TEMP TABLE rc_masses (m int, schema text, tab text, op text, tx text, role text, application text, client text, plan text,"
    " n int8, first timestamptz, last timestamptz) ON COMMIT DROP"
)


def _group(session: Session, log: Log, after: Composable) -> int:
    """The one scan of everything. Its rows are grouped by what they hold; what that means is worked out for groups only.

    How many records came back that name no time or no table.
    """
    words = ("schema", "table", "operation", "role", "application", "client", "plan")
    held: dict[str, Composable] = {word: q("{}::text", log.value(word)) for word in words if log.has(word)}
    held["tx"] = log.value("tx") if log.has("tx") else log.at  # records of one moment, where the log knows no more
    meant: dict[str, Composable] = {
        word: q("nullif({}, '')", ident(word)) if word in held else raw("NULL") for word in words[3:]
    }
    # Logs that people write may leave the schema out, or write it before the table.
    meant |= {
        "schema": raw(
            "coalesce(nullif(schema, ''), 'public')"
            if "schema" in held
            else "coalesce(substring(\"table\" FROM '^(.*)\\.'), 'public')"
        ),
        "table": raw('"table"' if "schema" in held else "regexp_replace(\"table\", '^.*\\.', '')"),
        "tx": raw("tx::text"),
    }
    meant["operation"] = log.meaning(ident("operation"))
    session.run(
        q("INSERT INTO rc_groups SELECT {meant}, n, first, last FROM (SELECT {held}, count(*) AS n, min({at}) AS first, max({at}) AS last"
          " FROM {log} l WHERE {after} GROUP BY {by}) g",
          meant=join([meant[word] for word in ("schema", "table", "operation", "tx", "role", "application", "client", "plan")]),
          held=join([q("{} AS {}", value, ident(word)) for word, value in held.items()]), by=join(list(held.values())), at=log.at,
          log=relation(log.name), after=after)
    )  # fmt: skip
    lost = session.rows("DELETE FROM rc_groups WHERE first IS NULL OR coalesce(tab, '') = '' RETURNING n")
    session.run("ANALYZE rc_groups (tab, op, tx)")
    return sum(row[0] for row in lost)


def _tables(session: Session) -> list[TableName]:
    rows = session.rows("SELECT schema, tab FROM rc_groups GROUP BY 1, 2 ORDER BY sum(n) DESC, 1, 2 LIMIT 200")
    return [TableName(*row) for row in rows]


def _is_table(table: Table | None) -> bool:
    return table is not None and table.kind in "rp"


def _choose(session: Session, live: Mapping[TableName, int], limits: Limits) -> None:
    """The masses: groups over the limit of their table. Of a truncation one record is enough."""
    names, counts = list(live), list(live.values())
    session.run(
        "INSERT INTO rc_masses SELECT row_number() OVER (ORDER BY g.first, g.schema, g.tab, g.op, g.tx), g.* FROM rc_groups g"
        " LEFT JOIN unnest(%s::text[], %s::text[], %s::int8[]) t(schema, tab, live) USING (schema, tab)"
        " JOIN (SELECT schema, tab, sum(n) FILTER (WHERE op = 'DELETE') AS lost FROM rc_groups GROUP BY 1, 2) d USING (schema, tab)"
        " WHERE g.op = 'TRUNCATE' OR g.n >= least(%s, greatest(%s, %s * (coalesce(live, 0) + coalesce(lost, 0)) / 100))"
        " ORDER BY (g.op IN ('DELETE', 'TRUNCATE')) DESC, g.n DESC LIMIT %s",
        ([n.schema for n in names], [n.name for n in names], counts, limits.rows, limits.least, limits.percent, MOST),
    )


def _recorded(
    session: Session, log: Log, found: Mapping[TableName, Table | None], live: Mapping[TableName, int], after: Composable
) -> tuple[Recorded, ...]:  # fmt: skip
    result: list[Recorded] = []
    for name, table in list(found.items())[:MOST]:
        rows = session.rows(
            "SELECT op, sum(n)::int8, min(first)::text, max(last)::text FROM rc_groups WHERE (schema, tab) = (%s, %s) GROUP BY 1 ORDER BY 1",
            (name.schema, name.name),
        )
        counts = {op: count for op, count, _, _ in rows}
        there = recording(log, table) if table else {}
        result.append(
            Recorded(
                table=full_name(name),
                exists=table is not None,
                rows=live.get(name),
                counts={event: counts[event] for event in EVENTS if event in counts},
                first=min(row[2] for row in rows),
                last=max(row[3] for row in rows),
                never=tuple(event for event in EVENTS[:3] if event not in counts),
                without_trigger=tuple(event for event in EVENTS if event not in there) if _is_table(table) else (),
                without_insert=_without_insert(session, log, table, live[name], counts, after)
                if table is not None and name in live
                else None,
            )
        )
    return tuple(result)


def _without_insert(
    session: Session, log: Log, table: Table, live: int, counts: Mapping[str, int], after: Composable
) -> int | None:
    """Rows whose key no INSERT record has."""
    if not counts.get("INSERT"):
        return live
    if not table.primary_key:
        return None
    keys = [
        (q("{}::text", ident("t", name)), log.key(name, position), f"k{position}")
        for position, name in enumerate(table.primary_key)
    ]
    return session.value(
        q("SELECT count(*) FROM {t} t WHERE NOT EXISTS (SELECT FROM (SELECT {keys} FROM {log} l WHERE {concerns} AND {after}"
          " AND {op} = 'INSERT') r WHERE {on})", t=relation(table.name), keys=join([q("{} AS {}", key, ident(k)) for _, key, k in keys]),
          log=relation(log.name), concerns=log.concerns(table.name), after=after, op=log.operation,
          on=join([q("{} = {}", ident("r", k), own) for own, _, k in keys], " AND "))
    )  # fmt: skip


def _unaudited(catalog: Catalog, log: Log, found: Mapping[TableName, Table | None]) -> tuple[tuple[str, int], ...]:
    """Tables of the same database that leave no trace."""
    partitions = {name for name in catalog.tables if name != log.name and name.name.startswith(log.name.name)}
    return tuple(
        (full_name(name), table.rows)
        for name, table in sorted(catalog.tables.items())
        if table.kind in "rp" and name not in found and name not in partitions and name != log.name
        if name.schema == "public" or any(other.schema == name.schema for other in found)
        if not recording(log, table)
    )


def _masses(
    session: Session,
    catalog: Catalog,
    log: Log,
    found: Mapping[TableName, Table | None],
    live: Mapping[TableName, int],
    hidden: frozenset[str],
) -> tuple[Mass, ...]:
    rows = session.rows(
        "SELECT m, schema, tab, op, tx, role, application, client, plan, n, first::text, last::text FROM rc_masses ORDER BY first, m"
    )
    picked = {row[0]: Picked(row[0], TableName(row[1], row[2]), row[3], row[4], *row[9:]) for row in rows}
    lost, emptied = describe(session, log, catalog, list(picked.values()), hidden)
    result: list[Mass] = []
    for m, schema, tab, op, tx, role, application, client, plan, n, first, last in rows:
        name = TableName(schema, tab)
        table = found.get(name)
        result.append(
            Mass(
                table=full_name(name), operation=op, rows=n, of=_rows_then(session, name, op, first, last, live), first=first, last=last,
                transaction=tx if log.has("tx") else None, role=role, application=application, client=client, plan=plan,
                lost=lost.get(m, ()), emptied=emptied.get(m, ()),
                again=reinserted(session, log, table, live[name], picked[m])
                if op == "DELETE" and table is not None and name in live
                else None,
            )
        )  # fmt: skip
    return tuple(result)


def _rows_then(
    session: Session, name: TableName, op: str, first: str, last: str, live: Mapping[TableName, int]
) -> int | None:
    """Rows before a mass deletion, or after a mass insertion: those of now, without what came since and with what went since."""
    if name not in live or op == "TRUNCATE":
        return None
    came, went, truncated = session.one(
        "SELECT coalesce(sum(n) FILTER (WHERE op = 'INSERT'), 0)::int8, coalesce(sum(n) FILTER (WHERE op = 'DELETE'), 0)::int8,"
        " count(*) FILTER (WHERE op = 'TRUNCATE') FROM rc_groups WHERE (schema, tab) = (%s, %s) AND CASE WHEN %s THEN first > %s::timestamptz"
        " ELSE first >= %s::timestamptz END",
        (name.schema, name.name, op == "INSERT", last, first),
    )
    then = live[name] - came + went
    return None if truncated or then <= 0 else then


def _bursts(session: Session, limits: Limits) -> tuple[Burst, ...]:
    """Minutes in which one role and program did as much as a mass, in several transactions; minutes in a row are one burst."""
    rows = session.rows(
        "WITH minutes AS (SELECT schema, tab, op, role, application, date_trunc('minute', first) AS minute, sum(n) AS n, count(*) AS txs,"
        " min(first) AS first, max(last) AS last FROM rc_groups g WHERE NOT EXISTS (SELECT FROM rc_masses m WHERE m.tx = g.tx"
        " AND m.tab = g.tab AND m.op = g.op) GROUP BY 1, 2, 3, 4, 5, 6 HAVING count(*) > 1 AND sum(n) >= %s),"
        " runs AS (SELECT *, minute - row_number() OVER (PARTITION BY schema, tab, op, role, application ORDER BY minute)"
        " * interval '1 minute' AS run FROM minutes)"
        " SELECT schema, tab, op, sum(n)::int8, sum(txs)::int8, min(first)::text, max(last)::text, role, application FROM runs"
        " GROUP BY schema, tab, op, role, application, run ORDER BY sum(n) DESC, min(first) LIMIT %s",
        (limits.rows, MOST),
    )
    made = [
        Burst(full_name(TableName(schema, tab)), op, n, txs, first, last, role, application)
        for schema, tab, op, n, txs, first, last, role, application in rows
    ]
    return tuple(sorted(made, key=lambda it: it.first))


def _silences(session: Session) -> tuple[Silence, ...]:
    rows = session.rows(
        "SELECT last::text, next::text, date_trunc('minute', next - last)::text FROM (SELECT max(last) AS last,"
        " lead(min(first)) OVER (ORDER BY date_trunc('hour', first)) AS next FROM rc_groups GROUP BY date_trunc('hour', first)) h"
        " WHERE next - last > interval '1 day' ORDER BY next - last DESC, last LIMIT 5"
    )
    return tuple(sorted((Silence(*row) for row in rows), key=lambda it: it.first))


_LACKING = {
    "tx": "the log knows no transactions: records of one moment are taken for one statement",
    "role": "the log does not say who",
    "application": "the log does not say with which program",
    "client": "the log does not say from where",
}


def _notes(session: Session, log: Log, unplaced: int) -> tuple[str, ...]:
    notes = [said for word, said in _LACKING.items() if not log.has(word)]
    if unplaced:
        notes.append(f"{unplaced:,} records name no time or no table, and are left out")
    unknown: Sequence[tuple[int]] = session.rows("SELECT coalesce(sum(n), 0)::int8 FROM rc_groups WHERE op IS NULL")
    if unknown[0][0]:
        notes.append(f"{unknown[0][0]:,} records name an operation that is not known")
    return tuple(notes)
