"""Tables, constraints and indexes that rows of a plan need: what is lacking becomes steps, and a step is carried out under guard.

A change's key is (kind, schema.table.name). Its images hold `sql`, the statement, and `definition`, which is compared with what the
catalog says: equal is `already`, as before is to do, all else is drift. Concurrent index builds stand apart of every transaction.
Invariant: nothing that exists is replaced, and what holds values is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import LiteralString, NamedTuple

import psycopg

from reconciler.plan.errors import Drift, Exit, Location, ReconcilerError
from reconciler.plan.file import Planned, planned
from reconciler.plan.names import TableName, quote, split_dotted
from reconciler.plan.step import Change, Image, Step, Verb
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.rows import ARCHIVED, Duplicates, Intent, full_name, relation
from reconciler.systems.postgres.session import Composable, Row, Session, ident, join, q, raw


class Lacking(NamedTuple):
    """What the database lacks for a unique key: steps before the losers go, steps after, sentences."""

    before: tuple[Planned, ...] = ()
    after: tuple[Planned, ...] = ()
    notes: tuple[str, ...] = ()


def lacking(session: Session, catalog: Catalog, intent: Intent, source: Duplicates, losers: int) -> Lacking:
    """Compare the archive and the unique index with what there is."""
    before = _archive(session, catalog, intent, source.archive) if source.archive and losers else ()
    after, notes = _unique(session, intent, source)
    return Lacking(before, after, notes)


def _planned(session: Session, intent: Intent, target: str, key: tuple[str, ...], after: Image, *, apart: bool = False,
             reason: str = "absent") -> Planned:  # fmt: skip
    step_id = f"{intent.address}[{target}]/create"
    step = Step(step_id, intent.connection, target, Verb.CREATE, key=("kind", "name"), apart=apart)
    return planned(step, [Change(step.id, key, None, after, reason)])


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
    table, target = catalog.find(name), full_name(name)
    if name == intent.target.name:
        raise ReconcilerError(f"{intent.address}: {target} cannot be the archive of itself", where=intent.place)
    if table is None:
        _check_new(session, intent, name)
        columns = join([q("{} {}", ident(column), raw(type_)) for column, type_ in wanted.items()], ",\n  ")
        sql = _text(session, q("CREATE TABLE {} (\n  {}\n)", relation(name), columns))
        return (_planned(session, intent, target, ("table", target), {"sql": sql}),)
    there = {column.name: column.type for column in table.columns.values()}
    wrong = [f"{c}: {there[c]} there, {type_} needed" for c, type_ in wanted.items() if there.get(c, type_) != type_]
    wrong += [
        f"{c.name}: gives itself its values"
        for c in table.columns.values()
        if c.name in wanted and (c.generated or c.identity == "a")
    ]
    unfilled = [c.name for c in table.columns.values() if c.name not in wanted and c.not_null and not c.default]
    if wrong or unfilled or table.kind not in "rp":
        raise ReconcilerError(
            f"{intent.address}: {target} cannot be the archive of {full_name(intent.target.name)}",
            where=intent.place,
            details=tuple(wrong) + tuple(f"{column}: may not be NULL and would stay empty" for column in unfilled),
            todo="name another archive, or mend this table",
        )
    more = {column: type_ for column, type_ in wanted.items() if column not in there}
    return tuple(
        _planned(session, intent, f"column {column} of {target}", ("column", _dotted(name, column)),
                 {"sql": _text(session, q("ALTER TABLE {} ADD COLUMN {} {}", relation(name), ident(column), raw(type_))),
                  "definition": type_}, reason="a column is lacking")
        for column, type_ in more.items()
    )  # fmt: skip


def _check_new(session: Session, intent: Intent, name: TableName) -> None:
    schema, there = session.one(_ROOM, (here := name.schema or "public", here, name.name, here, name.name))
    if not schema:
        raise ReconcilerError(
            f"{intent.address}: there is no schema {quote(name.schema or 'public')} for the archive {full_name(name)}",
            where=intent.place, todo="create it, or name another archive",
        )  # fmt: skip
    if there:
        raise ReconcilerError(
            f"{intent.address}: the name {full_name(name)} of the archive is taken by something else", where=intent.place,
            todo="name another archive",
        )  # fmt: skip


def _dotted(table: TableName, name: str) -> str:
    return ".".join(quote(part) for part in (table.schema or "public", table.name, name))


def _definition(source: Duplicates) -> str:
    nulls = " NULLS NOT DISTINCT" if source.nulls_equal else ""
    where = f" WHERE {source.where_text}" if source.where_text else ""
    return f"UNIQUE{nulls} ({', '.join(quote(column) for column in source.key)}){where}"


def _enforcing(source: Duplicates, there: Iterable[Row]) -> list[Row]:
    """The valid unique indexes that keep exactly this key."""
    head, columns, where = _same(_definition(source), source.key)
    wanted = [(head, columns, form) for form in (where, *source.where_forms)]
    return [row for row in there if row[2] and _same(row[1], row[3]) in wanted]


def kept_unique(session: Session, intent: Intent, source: Duplicates) -> bool:
    """Whether the database keeps the key already, so that no two rows share it."""
    return bool(_enforcing(source, session.rows(_UNIQUE_INDEXES, (intent.target.oid,))))


def _unique(session: Session, intent: Intent, source: Duplicates) -> tuple[tuple[Planned, ...], tuple[str, ...]]:
    table, name = intent.target, source.constraint
    columns = join([ident(column) for column in source.key])
    nulls = raw(" NULLS NOT DISTINCT") if source.nulls_equal else raw("")
    where = q(" WHERE {}", raw(source.where_text)) if source.where_text else raw("")
    definition = _definition(source)
    there = {row[0]: row for row in session.rows(_UNIQUE_INDEXES, (table.oid,))}
    if enforcing := _enforcing(source, there.values()):
        row = min(enforcing, key=lambda row: (row[0] != name, row[0]))
        kind = "the constraint" if row[4] else "a unique index only:"
        other = "" if row[0] == name else f", not {name}"
        return (), (f"kept unique already by {kind} {row[0]}{other}",) if other or (
            not row[4] and not source.where_text
        ) else ()
    notes: tuple[str, ...] = ()
    if name in there and there[name][2]:
        raise ReconcilerError(
            f"{intent.address}: the name {name} is taken", where=intent.place,
            why=f"an index of {full_name(table.name)} has it: {there[name][1]}", todo="name another `constraint`",
        )  # fmt: skip
    if name in there:
        notes = (f"an invalid index {name} is left from an earlier attempt: it is built again",)
    elif session.value(_TAKEN, (name, table.oid, name, table.oid)):
        raise ReconcilerError(
            f"{intent.address}: the name {name} is taken by another relation or constraint", where=intent.place,
            todo="name another `constraint`",
        )  # fmt: skip
    if source.online and table.kind == "p":
        raise ReconcilerError(
            f"{intent.address}: an index of a partitioned table cannot be built concurrently", where=intent.place,
            todo="say lock: brief",
        )  # fmt: skip
    if beside := [column for (column,) in session.rows(_PARTED_BY, (table.oid,)) if column not in source.key]:
        raise ReconcilerError(
            f"{intent.address}: a key of the partitioned {full_name(table.name)} must hold what it is partitioned by", where=intent.place,
            why=f"{beside[0] or 'an expression'} is not in the key, and each partition keeps its own rows unique only",
            todo=f"add {beside[0]} to the key" if beside[0] else None,
        )  # fmt: skip
    dotted = _dotted(table.name, name)
    how = raw("CREATE UNIQUE INDEX CONCURRENTLY" if source.online else "CREATE UNIQUE INDEX")
    index = {"sql": _text(session, q("{} {} ON {} ({}){}{}", how, ident(name), relation(table.name), columns, nulls, where)),
             "definition": definition}  # fmt: skip
    steps: list[Planned] = []
    if source.online or source.where_text:
        steps.append(_planned(session, intent, f"index {name}", ("unique index", dotted), index, apart=source.online))
    if not source.where_text:
        ending = q("USING INDEX {}", ident(name)) if source.online else q("({})", columns)
        add = q("ALTER TABLE {} ADD CONSTRAINT {} UNIQUE{} {}", relation(table.name), ident(name),
                raw("") if source.online else nulls, ending)  # fmt: skip
        constraint = {"sql": _text(session, add), "definition": definition}
        steps.append(_planned(session, intent, f"constraint {name}", ("constraint", dotted), constraint))
    return tuple(steps), notes


def _same(definition: str, columns: Sequence[str]) -> tuple[str, frozenset[str], str]:
    """A unique index apart from the order of its columns."""
    head, _, rest = definition.partition("(")
    return head, frozenset(columns), rest.partition(" WHERE ")[2]


_DEFINITION: LiteralString = """
'UNIQUE' || CASE WHEN coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) THEN ' NULLS NOT DISTINCT' ELSE '' END
 || ' (' || (SELECT string_agg(pg_get_indexdef(i.indexrelid, n, true), ', ' ORDER BY n) FROM generate_series(1, i.indnkeyatts) n) || ')'
 || coalesce(' WHERE ' || pg_get_expr(i.indpred, i.indrelid), '')"""

_OTHERWISE: LiteralString = """
(l.oid <> w.oid AND NOT (l.collisdeterministic AND w.collisdeterministic))
 OR e.amopopr IS DISTINCT FROM coalesce(f.amopopr, CASE WHEN p.opcdefault THEN e.amopopr END)"""
"""Whether an index takes other values for equal than its column does: by its collation (w), or by its operators (p, e)."""

_UNIQUE_INDEXES: LiteralString = f"""
SELECT c.relname, {_DEFINITION}, i.indisvalid,
       ARRAY(SELECT CASE WHEN {_OTHERWISE} THEN '' ELSE coalesce(a.attname, '') END FROM generate_series(0, i.indnkeyatts - 1) k
             JOIN pg_opclass p ON p.oid = i.indclass[k]
             JOIN pg_amop e ON e.amopfamily = p.opcfamily AND e.amopstrategy = 3 AND e.amoplefttype = p.opcintype AND e.amoprighttype = p.opcintype
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND i.indkey[k] <> 0
             LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_collation w ON w.oid = i.indcollation[k]
             LEFT JOIN pg_type t ON t.oid = a.atttypid
             LEFT JOIN pg_opclass d ON d.opcdefault AND d.opcmethod = p.opcmethod AND d.opcintype = coalesce(nullif(t.typbasetype, 0), t.oid)
             LEFT JOIN pg_amop f ON f.amopfamily = d.opcfamily AND f.amopstrategy = 3 AND f.amoplefttype = d.opcintype
              AND f.amoprighttype = d.opcintype
             ORDER BY k)::text[],
       EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('u', 'p'))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisunique AND i.indrelid = %s"""
"""Its columns: '' is an expression, or a column that is compared otherwise."""

_TAKEN: LiteralString = """
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_class t ON t.relnamespace = c.relnamespace WHERE c.relname = %s AND t.oid = %s)
 OR EXISTS (SELECT FROM pg_constraint k WHERE k.conname = %s AND k.conrelid = %s)"""

_ROOM: LiteralString = """
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s),
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)
    OR EXISTS (SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = %s AND t.typname = %s)"""

_PARTED_BY: LiteralString = """
SELECT a.attname FROM pg_partitioned_table p CROSS JOIN unnest(string_to_array(p.partattrs::text, ' ')::int2[]) n
 LEFT JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = n AND n <> 0 WHERE p.partrelid = %s"""


def predicate_as_written(
    session: Session, table: Table, key: Sequence[str], where: Composable, place: Location | None
) -> tuple[str, ...]:
    """The condition of a partial key as the server writes it, asked of an index over a temporary copy of the table.

    What it writes it may write otherwise when it reads it back: the last form is the one that stays as it is.
    """
    session.run("SAVEPOINT rc_predicate")
    forms: list[str] = []
    try:
        columns = join([ident(column) for column in key])
        session.run(q("CREATE TEMP TABLE {} (LIKE {})", ident(table.name.name), relation(table.name)))
        while len(forms) < 2 or forms[-1] != forms[-2]:
            session.run(q("CREATE UNIQUE INDEX rc_predicate ON pg_temp.{} ({}) WHERE {}", ident(table.name.name), columns,
                          raw(forms[-1]) if forms else where))  # fmt: skip
            forms.append(
                session.value(
                    "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'pg_temp.rc_predicate'::regclass"
                )
            )
            session.run("DROP INDEX pg_temp.rc_predicate")
        return tuple(dict.fromkeys(forms))
    except psycopg.Error as error:
        raise ReconcilerError(
            "this condition cannot be that of a partial key", where=place, why=error.diag.message_primary or "the server refuses it",
            todo="write a condition over the row's own columns, with immutable functions only",
        ) from None  # fmt: skip
    finally:
        session.run("ROLLBACK TO SAVEPOINT rc_predicate")


class _Part:
    """A part of a table, whose name stands behind that of its table; its definition is all that counts."""

    def unlike(self, session: Session, name: str, now: str, sql: str) -> str | None:
        del session, name
        return None if now == sql else f"it is {now}"

    def spelled(self, session: Session, sql: str) -> str:
        del session
        return sql

    def hold(self, session: Session, name: str) -> None:
        session.run(q("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", relation(_table(name))))

    def in_use(self, session: Session, name: str) -> str | None:
        del session, name
        return None


class ConstraintKind(_Part):
    """A unique constraint."""

    def now(self, session: Session, name: str) -> str | None:
        found = _index(session, name)
        return found[1] if found and found[2] and found[4] else None

    def drop(self, session: Session, name: str) -> None:
        session.run(q("ALTER TABLE {} DROP CONSTRAINT {}", relation(_table(name)), ident(split_dotted(name)[2])))


class UniqueIndexKind(_Part):
    """A unique index, of its own or since taken over by a constraint: both keep the key."""

    def now(self, session: Session, name: str) -> str | None:
        found = _index(session, name)
        return found[1] if found and found[2] else None

    def drop(self, session: Session, name: str) -> None:
        session.run(q("DROP INDEX {}", ident(_table(name).schema or "public", split_dotted(name)[2])))


class ColumnKind(_Part):
    """A column of a table that is extended."""

    def now(self, session: Session, name: str) -> str | None:
        rows = session.rows(
            "SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s"
            " AND a.attnum > 0 AND NOT a.attisdropped",
            split_dotted(name),
        )
        return rows[0][0] if rows else None

    def in_use(self, session: Session, name: str) -> str | None:
        column = ident(split_dotted(name)[2])
        there = session.value(q("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)", relation(_table(name)), column))
        return "it holds values" if there else None

    def drop(self, session: Session, name: str) -> None:
        session.run(q("ALTER TABLE {} DROP COLUMN {}", relation(_table(name)), ident(split_dotted(name)[2])))


STRUCTURE = {"constraint": ConstraintKind(), "unique index": UniqueIndexKind(), "column": ColumnKind()}
"""Parts of tables, as the kinds of objects of `objects.py`; their changes say beside the statement what it leads to."""


def _table(name: str) -> TableName:
    schema, table, _ = split_dotted(name)
    return TableName(schema, table)


def locked_by(change: Change) -> TableName | None:
    """The table that nobody else may write to from the look at its rows to the constraint."""
    return _table(change.key[1]) if change.key[0] in ("constraint", "unique index") else None


def duplicates_came(name: str, error: psycopg.Error, *, secret: bool) -> Drift:
    return Drift(
        f"rows with the same key have come since the plan was made ({name})",
        details=(error.diag.message_detail,) if error.diag.message_detail and not secret else (),
        todo="plan again: the new duplicates are ranked like the others",
    )


def _index(session: Session, name: str) -> Row | None:
    oid = session.value("SELECT to_regclass(%s)::oid", (_text(session, relation(_table(name))),))
    if oid is None:
        raise Drift(f"{_table(name)} is not there", why=f"{split_dotted(name)[2]} belongs to it")
    return next((row for row in session.rows(_UNIQUE_INDEXES, (oid,)) if row[0] == split_dotted(name)[2]), None)


def clear(session: Session, name: str) -> None:
    """An invalid index that an earlier attempt left makes way for the one that takes its name."""
    found = _index(session, name)
    if found and not found[2]:
        session.run(q("DROP INDEX {}", ident(_table(name).schema or "public", split_dotted(name)[2])))


def build_apart(session: Session, change: Change, *, secret: bool) -> bool:
    """Build or drop an index concurrently, outside of a transaction and with no snapshot held; what an earlier attempt left is cleaned."""
    kind, name = STRUCTURE[change.key[0]], change.key[1]
    index = ident(_table(name).schema or "public", split_dotted(name)[2])
    if _left_invalid(session, index):
        session.run(q("DROP INDEX CONCURRENTLY IF EXISTS {}", index))
    now = kind.now(session, name)
    wanted, before = (None if image is None else str(image["definition"]) for image in (change.after, change.before))
    if now == wanted or (wanted is None and ConstraintKind().now(session, name) is not None):
        return False
    if now != before:
        raise Drift(
            f"{name} is not what it was when the plan was made",
            details=(f"planned {before or 'absent'}", f"found {now or 'absent'}"),
        )
    if change.after is None:
        session.run(q("DROP INDEX CONCURRENTLY IF EXISTS {}", index))
        return True
    try:
        session.run(raw(str(change.after["sql"])))
    except psycopg.errors.UniqueViolation as error:
        session.run(q("DROP INDEX CONCURRENTLY IF EXISTS {}", index))
        raise duplicates_came(name, error, secret=secret) from None
    return True


def _left_invalid(session: Session, index: Composable) -> bool:
    rows = session.rows(
        "SELECT i.indisvalid, (SELECT p.pid FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)"
        " FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
        (_text(session, index),),
    )
    if rows and rows[0][1] is not None:
        raise ReconcilerError(
            f"another session (pid {rows[0][1]}) is building {_text(session, index)} at this moment",
            why="an apply that was cut short may have left the server at work",
            todo="wait for it to end, then run this again",
            code=Exit.PARTIAL,
        )
    return bool(rows) and not rows[0][0]
