"""`guards`: the database itself refuses what must not happen.

In: a guard of the spec. Out: its function and triggers beside those there are. And, of what was found to do on rows, which guards that
stand in the database would refuse it: such steps pass them, and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.kinds.collections import find_table, place_of
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Planned
from reconciler.plan.invert import passing
from reconciler.plan.names import TableName
from reconciler.plan.step import Hazard, Step, Verb
from reconciler.spec import Guard
from reconciler.spec.sql import Parameter, parse_condition
from reconciler.systems.postgres import guard_sql
from reconciler.systems.postgres.audit_sql import spelled
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.guard_sql import Limits
from reconciler.systems.postgres.kept_diff import KeptFound, Wanted, compare, function_wanted
from reconciler.systems.postgres.proof import prove_condition
from reconciler.systems.postgres.relations import family
from reconciler.systems.postgres.rows import full_name, on_keys
from reconciler.systems.postgres.session import Session, ident, join, lit, q


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
        parts = tuple(
            (world.spec.variables[part.name],) if isinstance(part, Parameter) else part
            for part in parse_condition(guard.protect)
        )
        proven = prove_condition(session, parts, table, place)
        protect = guard_sql.condition_as_written(session, table.name, proven, place)
    return Limits(
        address.partition(".")[2], guard.max_rows_per_delete, guard.max_rows_per_update, guard.no_truncate, protect
    )


def ident_text(session: Session, name: str) -> str:
    return session.value("SELECT quote_ident(%s)", (name,))


def pass_guards(session: Session, founds: Sequence[Found], steps: list[Planned]) -> list[Hazard]:
    """Mark the steps that guards of the database would refuse; a line for the reviewer of each."""
    tables = {full_name(found.intent.target.name): found for found in founds}
    guards = guard_sql.standing(session, [found.intent.target.oid for found in tables.values()]) if tables else {}
    hazards: list[Hazard] = []
    verbs = (Verb.INSERT, Verb.UPDATE, Verb.DELETE)
    by_id = {found.intent.step_id(verb.value): found for found in founds for verb in verbs}
    for place, item in enumerate(steps):
        step, found = item.step, by_id.get(item.step.id)
        limits = guards.get(found.intent.target.oid, []) if found else []
        if not limits or found is None:
            continue
        passes = tuple(it.guard for it in limits if _refuses(session, it, found, step))
        back = tuple(it.guard for it in limits if _refuses_back(it, step))
        steps[place] = replace(item, step=replace(step, passes=passes, undo_passes=back))
        hazards += [Hazard("guard", step.address, passing(step.id, guard), step.count) for guard in passes]
    return hazards


def _refuses(session: Session, limits: Limits, found: Found, step: Step) -> bool:
    """Whether the guard would refuse the step; the rows it protects are counted as they are now."""
    most = {Verb.DELETE: limits.max_rows_per_delete, Verb.UPDATE: limits.max_rows_per_update}.get(step.verb)
    if most is not None and step.count > most:
        return True
    if limits.protect is None or step.verb not in (Verb.UPDATE, Verb.DELETE):
        return False
    target, kinds = found.intent.target, ("x",) if step.verb is Verb.DELETE else ("c", "n")
    condition = prove_condition(session, (limits.protect,), target, None)
    rows = q("SELECT t.* FROM {t} t JOIN {d} d ON {on} WHERE d.kind IN ({kinds})", t=found.intent.live, d=found.intent.temp("d"),
             on=on_keys("d", found.keys, "t", found.intent.key), kinds=join([lit(kind) for kind in kinds]))  # fmt: skip
    return session.value(q("SELECT EXISTS (SELECT FROM ({}) AS {} WHERE {})", rows, ident(target.name.name), condition))


def _refuses_back(limits: Limits, step: Step) -> bool:
    """Whether the guard might refuse to take the step back; what the rows are like by then is not known."""
    match step.verb:
        case Verb.INSERT:
            most = limits.max_rows_per_delete
        case Verb.UPDATE:
            most = limits.max_rows_per_update
        case _:
            return False
    return limits.protect is not None or (most is not None and step.count > most)
