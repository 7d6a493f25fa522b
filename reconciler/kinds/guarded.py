"""Steps of rows beside the guards that stand in the database: which of them a guard would refuse.

In: what was found, and its steps. Out: the same steps, marked with the guards that they pass, and a line for the reviewer of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.plan.file import Planned
from reconciler.plan.step import Hazard, Step, Verb, passing
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.guard_limits import Limits, standing
from reconciler.systems.postgres.proof import prove_condition
from reconciler.systems.postgres.rows import full_name, on_keys
from reconciler.systems.postgres.session import Session, ident, join, lit, q


def pass_guards(session: Session, founds: Sequence[Found], steps: list[Planned]) -> list[Hazard]:
    """Mark the steps that guards of the database would refuse; a line for the reviewer of each."""
    tables = {full_name(found.intent.target.name): found for found in founds}
    guards = standing(session, [found.intent.target.oid for found in tables.values()]) if tables else {}
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
