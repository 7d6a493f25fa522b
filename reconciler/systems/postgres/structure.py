"""Tables, constraints and indexes that rows of a plan need: what is lacking becomes steps, and a step is carried out under guard.

A change's key is (kind, name…): `table schema.name`, `constraint schema.table name`, `index schema.table name`. Its images hold `sql`, the
statement, and `definition`, which is compared with what the catalog says: equal is `already`, as before is to do, all else is drift.
Invariant: nothing that exists is replaced, and a table that holds rows is never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from reconciler.plan.errors import Drift, Exit, Location, ReconcilerError
from reconciler.plan.file import Planned, planned
from reconciler.plan.names import TableName
from reconciler.plan.step import Change, Image, Step, Verb
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.rows import Duplicates, Intent, full_name, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, q, raw

ARCHIVED = {
    "archived_at": "timestamp with time zone",
    "plan_id": "text",
    "survivor_key": "text",
    "rule": "text",
}
"""What an archive holds besides the columns of its table."""


@dataclass(frozen=True)
class Lacking:
    """What the database lacks for a unique key: steps before the losers go, steps after, sentences."""

    before: tuple[Planned, ...] = ()
    after: tuple[Planned, ...] = ()
    notes: tuple[str, ...] = ()


def lacking(session: Session, catalog: Catalog, intent: Intent, source: Duplicates, losers: int) -> Lacking:
    """Compare the archive and the unique index with what there is."""
    before = _archive(session, catalog, intent, source.archive) if source.archive and losers else ()
    after, notes = _unique(session, intent, source)
    return Lacking(before, after, notes)


def _planned(session: Session, intent: Intent, verb: Verb, target: str, key: tuple[str, ...], before: Image | None, after: Image,
             *, apart: bool = False, reason: str = "absent") -> Planned:  # fmt: skip
    step = Step(
        f"{intent.address}[{target}]/{verb.value}", intent.connection, target, verb, key=("kind", "name"), apart=apart
    )
    return planned(step, [Change(step.id, key, before, after, reason)])


def _text(session: Session, statement: Composable) -> str:
    return statement.as_string(session.connection)


def _archive(session: Session, catalog: Catalog, intent: Intent, name: TableName) -> tuple[Planned, ...]:
    wanted = {column.name: column.type for column in intent.target.columns.values()}
    if clash := sorted(wanted.keys() & ARCHIVED.keys()):
        raise ReconcilerError(
            f"{intent.address}: {full_name(intent.target.name)} cannot be archived: it has a column {clash[0]!r} of its own",
            where=intent.place, why=f"an archive adds {', '.join(ARCHIVED)}",
        )  # fmt: skip
    wanted |= ARCHIVED
    table, key, target = catalog.find(name), ("table", full_name(name)), full_name(name)
    if table is None:
        columns = join([q("{} {}", ident(column), raw(type_)) for column, type_ in wanted.items()])
        create = _text(session, q("CREATE TABLE {} ({})", relation(name), columns))
        after = {"sql": create, "definition": _listed(session, wanted)}
        return (_planned(session, intent, Verb.CREATE, target, key, None, after),)
    there = {column.name: column.type for column in table.columns.values()}
    wrong = [f"{c}: {there[c]} there, {type_} needed" for c, type_ in wanted.items() if there.get(c, type_) != type_]
    unfilled = [c.name for c in table.columns.values() if c.name not in wanted and c.not_null and not c.default]
    if wrong or unfilled or table.kind not in "rp":
        raise ReconcilerError(
            f"{intent.address}: {target} cannot be the archive of {full_name(intent.target.name)}",
            where=intent.place,
            details=tuple(wrong) + tuple(f"{column}: may not be NULL and would stay empty" for column in unfilled),
            todo="name another archive, or mend this table",
        )
    more = {column: type_ for column, type_ in wanted.items() if column not in there}
    if not more:
        return ()
    add = join([q("ADD COLUMN {} {}", ident(column), raw(type_)) for column, type_ in more.items()])
    drop = join([q("DROP COLUMN {}", ident(column)) for column in more])
    before = {
        "sql": _text(session, q("ALTER TABLE {} {}", relation(name), drop)),
        "definition": _listed(session, there),
    }
    after = {
        "sql": _text(session, q("ALTER TABLE {} {}", relation(name), add)),
        "definition": _listed(session, there | more),
    }
    return (_planned(session, intent, Verb.ALTER, target, key, before, after, reason="columns are lacking"),)


def _listed(session: Session, columns: dict[str, str]) -> str:
    return _text(session, join([q("{} {}", ident(name), raw(type_)) for name, type_ in columns.items()]))


def _unique(session: Session, intent: Intent, source: Duplicates) -> tuple[tuple[Planned, ...], tuple[str, ...]]:
    table, name = intent.target, source.constraint
    columns = join([ident(column) for column in source.key])
    nulls = raw(" NULLS NOT DISTINCT") if source.nulls_equal else raw("")
    where = q(" WHERE {}", raw(source.where_text)) if source.where_text else raw("")
    definition = _text(session, q("UNIQUE{} ({}){}", nulls, columns, where))
    there = {row[0]: row for row in session.rows(_UNIQUE_INDEXES, (table.oid,))}
    wanted = _same(definition, source.key)
    enforcing = [row for row in there.values() if row[2] and _same(row[1], row[3]) == wanted]
    if enforcing:
        row = min(enforcing, key=lambda row: (row[0] != name, row[0]))
        kind = "the constraint" if row[4] else "a unique index only:"
        other = "" if row[0] == name else f", not {name}"
        return (), (f"kept unique already by {kind} {row[0]}{other}",) if other or (not row[
            4
        ] and not source.where_text) else ()
    notes: tuple[str, ...] = ()
    if name in there and there[name][2]:
        raise ReconcilerError(
            f"{intent.address}: the name {name} is taken", where=intent.place,
            why=f"an index of {full_name(table.name)} has it: {there[name][1]}", todo="name another `constraint`",
        )  # fmt: skip
    if name in there:
        notes = (f"an invalid index {name} is left from an earlier attempt: it is built again",)
    elif session.value(_TAKEN, (name, table.oid)):
        raise ReconcilerError(
            f"{intent.address}: the name {name} is taken by another relation", where=intent.place,
            todo="name another `constraint`",
        )  # fmt: skip
    if source.online and table.kind == "p":
        raise ReconcilerError(
            f"{intent.address}: an index of a partitioned table cannot be built concurrently", where=intent.place,
            todo="say lock: brief",
        )  # fmt: skip
    place = full_name(table.name)
    index_key, constraint_key = ("index", place, name), ("constraint", place, name)
    how = raw("CREATE UNIQUE INDEX CONCURRENTLY" if source.online else "CREATE UNIQUE INDEX")
    index = {"sql": _text(session, q("{} {} ON {} ({}){}{}", how, ident(name), relation(table.name), columns, nulls, where)),
             "definition": definition}  # fmt: skip
    steps: list[Planned] = []
    if source.online or source.where_text:
        steps.append(
            _planned(session, intent, Verb.CREATE, f"index {name}", index_key, None, index, apart=source.online)
        )
    if not source.where_text:
        ending = q("USING INDEX {}", ident(name)) if source.online else q("({})", columns)
        add = q("ALTER TABLE {} ADD CONSTRAINT {} UNIQUE{} {}", relation(table.name), ident(name),
                raw("") if source.online else nulls, ending)  # fmt: skip
        constraint = {"sql": _text(session, add), "definition": definition}
        steps.append(_planned(session, intent, Verb.CREATE, f"constraint {name}", constraint_key, None, constraint))
    return tuple(steps), notes


def _same(definition: str, columns: Sequence[str]) -> tuple[str, frozenset[str], str]:
    """A unique index apart from the order of its columns."""
    head, _, rest = definition.partition("(")
    return head, frozenset(columns), rest.partition(" WHERE ")[2]


_DEFINITION: LiteralString = """
'UNIQUE' || CASE WHEN coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) THEN ' NULLS NOT DISTINCT' ELSE '' END
 || ' (' || (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true), ', ' ORDER BY n) FROM generate_series(1, i.indnkeyatts) n) || ')'
 || coalesce(' WHERE ' || pg_get_expr(i.indpred, i.indrelid), '')"""

_UNIQUE_INDEXES: LiteralString = f"""
SELECT c.relname, {_DEFINITION}, i.indisvalid,
       ARRAY(SELECT coalesce(a.attname, '') FROM generate_series(0, i.indnkeyatts - 1) k
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND i.indkey[k] <> 0 ORDER BY k)::text[],
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('u', 'p'))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisunique AND i.indrelid = %s"""

_TAKEN: LiteralString = """
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_class t ON t.relnamespace = c.relnamespace WHERE c.relname = %s AND t.oid = %s)"""


def predicate_as_written(
    session: Session, table: Table, key: Sequence[str], where: Composable, place: Location | None
) -> str:
    """The condition of a partial key as the server will write it: asked of an index over a temporary copy of the table."""
    session.run("SAVEPOINT rc_predicate")
    try:
        columns = join([ident(column) for column in key])
        session.run(q("CREATE TEMP TABLE {} (LIKE {})", ident(table.name.name), relation(table.name)))
        session.run(
            q("CREATE UNIQUE INDEX rc_predicate ON pg_temp.{} ({}) WHERE {}", ident(table.name.name), columns, where)
        )
        return session.value(
            "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'pg_temp.rc_predicate'::regclass"
        )
    except psycopg.Error as error:
        raise ReconcilerError(
            "this condition cannot be that of a partial key", where=place, why=error.diag.message_primary or "the server refuses it",
            todo="write a condition over the row's own columns, with immutable functions only",
        ) from None  # fmt: skip
    finally:
        session.run("ROLLBACK TO SAVEPOINT rc_predicate")


def locked_by(steps: Sequence[Step], changes: Sequence[Change]) -> list[TableName]:
    """Tables that nobody else may write to from the look at their rows to the constraint."""
    return sorted({TableName.parse(change.key[1]) for change in changes if change.key[0] in ("constraint", "index")})


def carry_out(session: Session, step: Step, change: Change) -> bool:
    """Do one change of a table, constraint or index; False where it is so already."""
    now = _now(session, change.key)
    wanted = _definition(change.after)
    if now == wanted:
        return False
    if now != _definition(change.before):
        raise Drift(
            f"{' '.join(change.key)} is not what it was when the plan was made",
            details=(f"planned {_definition(change.before) or 'absent'}", f"found {now or 'absent'}"),
        )
    if change.after is not None:
        statement = str(change.after["sql"])
    else:
        statement = _drop(session, change.key)
    try:
        session.run(raw(statement))
    except psycopg.errors.UniqueViolation as error:
        raise duplicates_came(change, error) from None
    return True


def duplicates_came(change: Change, error: psycopg.Error) -> Drift:
    return Drift(
        f"rows with the same key have come since the plan was made ({change.key[-1]})",
        details=(error.diag.message_detail,) if error.diag.message_detail else (),
        todo="plan again: the new duplicates are ranked like the others",
    )


def _definition(image: Image | None) -> str | None:
    return None if image is None else str(image["definition"])


def _drop(session: Session, key: tuple[str, ...]) -> str:
    name = relation(TableName.parse(key[1]))
    match key[0]:
        case "table":
            if session.value(q("SELECT EXISTS (SELECT FROM {})", name)):
                raise Drift(
                    f"{key[1]} holds rows and is not dropped", why="the plan made it, others have filled it since"
                )
            return _text(session, q("DROP TABLE {}", name))
        case "constraint":
            return _text(session, q("ALTER TABLE {} DROP CONSTRAINT {}", name, ident(key[2])))
        case _:
            schema = TableName.parse(key[1]).schema or "public"
            return _text(session, q("DROP INDEX {}", ident(schema, key[2])))


def _now(session: Session, key: tuple[str, ...]) -> str | None:
    """The definition as it is; None where there is none. A constraint's index is not the index that a plan makes."""
    oid = session.value("SELECT to_regclass(%s)::oid", (_text(session, relation(TableName.parse(key[1]))),))
    if oid is None:
        if key[0] == "table":
            return None
        raise Drift(f"{key[1]} is not there", why=f"{key[0]} {key[2]} belongs to it")
    if key[0] == "table":
        return session.value(
            "SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)"
            " FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped", (oid,)
        )  # fmt: skip
    found = {row[0]: row for row in session.rows(_UNIQUE_INDEXES, (oid,))}.get(key[2])
    if found is None or not found[2] or (key[0] == "constraint" and not found[4]):
        return None
    return found[1]


def build_apart(session: Session, change: Change) -> bool:
    """Build an index concurrently, outside of a transaction and with no snapshot held; what an earlier attempt left is cleaned first."""
    table, name = TableName.parse(change.key[1]), change.key[2]
    index = ident(table.schema or "public", name)
    if _left_invalid(session, table, name):
        session.run(q("DROP INDEX CONCURRENTLY IF EXISTS {}", index))
    if _now(session, change.key) == _definition(change.after):
        return False
    assert change.after is not None
    try:
        session.run(raw(str(change.after["sql"])))
    except psycopg.errors.UniqueViolation as error:
        session.run(q("DROP INDEX CONCURRENTLY IF EXISTS {}", index))
        raise duplicates_came(change, error) from None
    return True


def drop_apart(session: Session, change: Change) -> bool:
    """Drop what `build_apart` built; a constraint that has taken the index over keeps it."""
    table, name = TableName.parse(change.key[1]), change.key[2]
    if _now(session, change.key) is None or _now(session, ("constraint", *change.key[1:])) is not None:
        return False
    session.run(q("DROP INDEX CONCURRENTLY IF EXISTS {}", ident(table.schema or "public", name)))
    return True


def _left_invalid(session: Session, table: TableName, name: str) -> bool:
    rows = session.rows(
        "SELECT i.indisvalid, (SELECT p.pid FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)"
        " FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
        (_text(session, ident(table.schema or "public", name)),),
    )
    if rows and rows[0][1] is not None:
        raise ReconcilerError(
            f"another session (pid {rows[0][1]}) is building {name} at this moment",
            why="an apply that was cut short may have left the server at work",
            todo="wait for it to end, then run this again",
            code=Exit.PARTIAL,
        )
    return bool(rows) and not rows[0][0]
