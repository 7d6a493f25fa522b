"""`audits`: every insert, update, delete and truncate on some tables leaves a record.

In: an audit of the spec. Out: the objects it wants, beside those there are: the log with its partitions and indexes, a function for each
table, triggers for it and for each of its partitions. To be called before writes are forbidden.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.kinds.tables import find_table, place_of, sensitive_columns
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName, split_dotted
from reconciler.spec import Audit
from reconciler.systems.postgres import audit_sql
from reconciler.systems.postgres.audit_sql import Audited, spelled
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.kept import PARTED, create_log, image_now, log_columns, writers
from reconciler.systems.postgres.kept_diff import KeptFound, Wanted, compare, function_wanted
from reconciler.systems.postgres.relations import family
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Session, ident, q


def find_audit(
    world: World, address: str, audit: Audit, shared: set[tuple[str, TableName]], chosen: Sequence[str]
) -> KeptFound:
    """One audit; `shared` are the logs that another audit of the same plan sees to."""
    session, log = world.session(audit.connection), audit.log_table()
    names = {TableName(name.schema or "public", name.name) for _, name in audit.names()}
    found = KeptFound(address, audit.connection, full_name(log), frozenset(names), first=True)
    here = (audit.connection, log)
    wanted = (
        _to_go(world, address, audit, found, chosen)
        if audit.remove
        else _wanted(world, address, audit, alone=here not in shared)
    )
    shared.add(here)
    compare(session, found, wanted, protect=audit.protect)
    return found


def _wanted(world: World, address: str, audit: Audit, *, alone: bool) -> list[Wanted]:
    session, log = world.session(audit.connection), audit.log_table()
    tables = [
        find_table(world, audit.connection, name, world.spec.locate(*address.split("."), "tables", n))
        for n, (_, name) in enumerate(audit.names())
    ]
    made = _log(world, address, audit, session) if alone else []
    listed = _listed(world, address, audit, tables)
    for table in tables:
        sensitive = listed | sensitive_columns(world, audit.connection, table.name)
        it = Audited(
            table=table.name,
            key=identity(table),
            columns=tuple(audit.columns) if not isinstance(audit.columns, str) else None,
            changed=audit.columns == "changed",
            sensitive=tuple(sorted(sensitive & table.columns.keys())),
            query=audit.query == "keep",
            log=log,
        )
        _check(world, address, audit, table, it)
        function = audit_sql.function_name(table.name)
        made.append(function_wanted(session, "audit function", function, audit_sql.create_function(session, it)))
        for name in family(session, table.oid):
            made += [
                Wanted("audit trigger", f"{spelled(session, name)}.{trigger}", {"sql": sql})
                for trigger, sql in audit_sql.triggers(session, name, function)
            ]
    return made


def _log(world: World, address: str, audit: Audit, session: Session) -> list[Wanted]:
    log, place = audit.log_table(), place_of(world, address, "log")
    name = spelled(session, log)
    image = {"sql": create_log(name, log_columns(), PARTED)}
    there = image_now(session, "audit log", name)
    if there is None:
        if not session.value("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %s)", (log.schema,)):
            raise ReconcilerError(
                f"{address}: there is no schema {log.schema} for the log",
                where=place,
                todo="create it, or name another log",
            )
    elif there["sql"] != image["sql"]:
        raise ReconcilerError(
            f"{address}: {full_name(log)} is there, and is no log that this program made", where=place,
            details=tuple(_unlike(str(there["sql"]), image["sql"])), todo="name another log",
        )  # fmt: skip
    made = [Wanted("audit log", name, image)]
    parts = audit_sql.partitions(session, log, world.now, audit.days) if there else []
    for part in parts:
        now = image_now(session, "audit partition", part.name) or {}
        if part.old:
            count = session.value(q("SELECT count(*) FROM {}", ident(*split_dotted(part.name))))
            made.append(Wanted("audit partition", part.name, None, f"older than {audit.keep}", f"{count:,} records"))
        else:
            made.append(Wanted("audit partition", part.name, {"sql": now["sql"]}))
    made += [
        Wanted("audit partition", part, {"sql": sql})
        for part, sql in audit_sql.lacking(session, log, world.now, audit.days)
    ]
    made += [Wanted("audit index", index, {"sql": sql}) for index, sql in audit_sql.indexes(session, log)]
    return made


def _unlike(there: str, wanted: str) -> list[str]:
    lines = {line.strip().rstrip(",") for line in there.splitlines()}
    return [
        f"lacks: {line.strip().rstrip(',')}" for line in wanted.splitlines() if line.strip().rstrip(",") not in lines
    ][:20]


def _listed(world: World, address: str, audit: Audit, tables: list[Table]) -> set[str]:
    """The audit's own sensitive columns; each must be one of some table."""
    for n, column in enumerate(audit.sensitive or ()):
        if not any(column in table.columns for table in tables):
            raise ReconcilerError(
                f"{address}: no table of it has a column {column!r}",
                where=world.spec.locate(*address.split("."), "sensitive", n),
            )
    return set(audit.sensitive or ())


def _check(world: World, address: str, audit: Audit, table: Table, it: Audited) -> None:
    place = place_of(world, address, "tables")
    if table.kind not in "rp":
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} is not a table", where=place, todo="name the tables that it shows"
        )
    if hidden := sorted(set(it.key) & set(it.sensitive)):
        raise ReconcilerError(
            f"{address}: {hidden[0]} is sensitive and part of the key of {full_name(table.name)}", where=place,
            why="a record names the row it is about by its key", todo="take it out of `sensitive`, or the table out of the audit",
        )  # fmt: skip
    if lost := [column for column in it.columns or () if column not in table.columns]:
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} has no column {lost[0]!r}", where=place_of(world, address, "columns"),
            todo=f"its columns are {', '.join(table.columns)}; tables that share none need an audit each",
        )  # fmt: skip
    if clash := sorted(set(it.columns or ()) & set(it.sensitive)):
        raise ReconcilerError(
            f"{address}: {clash[0]} of {full_name(table.name)} is to be logged, and a collection calls it sensitive",
            where=place_of(world, address, "columns"), todo="take it out of `columns`",
        )  # fmt: skip
    if it.query and it.sensitive:
        raise ReconcilerError(
            f"{address}: the text of statements on {full_name(table.name)} holds values of {it.sensitive[0]}, which is sensitive",
            where=place_of(world, address, "query"), todo="write query: omit",
        )  # fmt: skip


def identity(table: Table) -> tuple[str, ...]:
    """What tells rows apart: the primary key, or a unique index over columns that are never NULL; else nothing does."""
    if table.primary_key:
        return table.primary_key
    for unique in table.uniques:
        if unique.columns and not unique.predicate and all(table.columns[c].not_null for c in unique.columns):
            return unique.columns
    return ()


def _to_go(world: World, address: str, audit: Audit, found: KeptFound, chosen: Sequence[str]) -> list[Wanted]:
    """Triggers first, then functions; then the log, if nothing else writes to it and no other audit of this plan takes it."""
    session, log = world.session(audit.connection), audit.log_table()
    gone: list[Wanted] = []
    functions: list[str] = []
    for _, name in audit.names():
        table = world.catalog(audit.connection).find(name)
        if table is None:
            continue
        function = audit_sql.function_name(table.name)
        functions.append(f"{spelled(session, function)}()")
        for one in family(session, table.oid):
            gone += [
                Wanted("audit trigger", f"{spelled(session, one)}.{audit_sql.PREFIX}_{event}", None, "remove")
                for event in audit_sql.EVENTS
            ]
    gone += [Wanted("audit function", function, None, "remove") for function in functions]
    name = spelled(session, log)
    there = image_now(session, "audit log", name)
    alike = _alike(world, audit, chosen)
    if there is None or there["sql"] != create_log(name, log_columns(), PARTED) or address != max(alike):
        return gone
    ours = {
        f"{spelled(session, audit_sql.function_name(table))}()"
        for other in alike.values()
        for _, table in other.names()
    }
    if users := [user for user in writers(session, name) if user not in ours]:
        found.notes.append(f"{full_name(log)} is left: {users[0]} writes to it")
        return gone
    count = session.value(q("SELECT count(*) FROM {}", relation(log))) if audit.remove == "with_log" else 0
    loses = f"{count:,} records" if count else ""
    gone += [Wanted("audit index", index, None, "remove", loses) for index, _ in audit_sql.indexes(session, log)]
    gone += [
        Wanted("audit partition", part.name, None, "remove", loses)
        for part in audit_sql.partitions(session, log, world.now, None)
    ]
    return [*gone, Wanted("audit log", name, None, "remove", loses)]


def _alike(world: World, audit: Audit, chosen: Sequence[str]) -> dict[str, Audit]:
    """The audits of this plan that go and share a log."""
    resources = world.spec.resources()
    return {
        address: other
        for address in chosen
        if isinstance(other := resources[address], Audit) and other.remove
        if (other.connection, other.log_table()) == (audit.connection, audit.log_table())
    }
