"""`guards`: the database itself refuses what must not happen.

In: a guard of the spec. Out: its function and triggers beside those there are.
"""

from __future__ import annotations

from reconciler.kinds.tables import find_table, place_of, proven
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.spec import Guard
from reconciler.systems.postgres import guard_sql
from reconciler.systems.postgres.audit_sql import spelled
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.guard_limits import Limits
from reconciler.systems.postgres.kept_diff import KeptFound, Wanted, compare, function_wanted
from reconciler.systems.postgres.relations import family
from reconciler.systems.postgres.rows import full_name
from reconciler.systems.postgres.session import Session


def find_guard(world: World, address: str, guard: Guard) -> KeptFound:
    """One guard."""
    connection, name = guard.target()
    session, own = world.session(connection), address.partition(".")[2]
    table = (
        world.catalog(connection).find(name)
        if guard.remove
        else find_table(world, connection, name, place_of(world, address, "table"))
    )
    name = TableName(name.schema or "public", name.name)
    found = KeptFound(address, connection, full_name(name), frozenset({name}), first=False)
    if table is None:
        return found
    function = guard_sql.function_name(table.name, own)
    if guard.remove:
        limits, wanted = Limits(own), []
    else:
        limits = _limits(world, address, guard, table)
        sql = guard_sql.create_function(session, table.name, limits)
        wanted = [function_wanted(session, "guard function", function, sql)]
    for one in family(session, table.oid):
        made = dict(guard_sql.triggers(session, one, table.name, limits))
        for event in guard_sql.EVENTS:
            trigger = guard_sql.trigger_name(own, event)
            image = {"sql": made[trigger]} if trigger in made else None
            wanted.append(
                Wanted(
                    "guard trigger",
                    f"{spelled(session, one)}.{ident_text(session, trigger)}",
                    image,
                    "remove" if guard.remove else "not declared",
                )
            )
    if guard.remove:
        wanted.append(Wanted("guard function", f"{spelled(session, function)}()", None, "remove"))
    compare(session, found, wanted, protect=False)
    return found


def _limits(world: World, address: str, guard: Guard, table: Table) -> Limits:
    connection, _ = guard.target()
    session, place = world.session(connection), place_of(world, address, "protect")
    if table.kind not in "rp":
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} is not a table", where=place_of(world, address, "table")
        )
    protect = None
    if guard.protect:
        condition = proven(world, session, guard.protect, table, place)
        protect = guard_sql.condition_as_written(session, table.name, condition, place)
    return Limits(
        address.partition(".")[2], guard.max_rows_per_delete, guard.max_rows_per_update, guard.no_truncate, protect
    )


def ident_text(session: Session, name: str) -> str:
    return session.value("SELECT quote_ident(%s)", (name,))
