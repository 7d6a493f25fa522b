"""Audits and guards together: found one after another, and put in order among everything else of a plan.

In: the addresses of a plan. Out: what is found for each, which of them stand on tables that do not exist, and their steps and edges.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.kinds.tables import NoTableError
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.spec import Audit, Guard
from reconciler.spec.credentials import find as find_credential
from reconciler.systems.postgres.emit import Emitted
from reconciler.systems.postgres.kept_diff import KeptFound


def find_kept(world: World, addresses: Sequence[str]) -> tuple[list[KeptFound], list[tuple[str, NoTableError]]]:
    """Every audit and guard, to be called before writes are forbidden."""
    resources = world.spec.resources()
    found: list[KeptFound] = []
    absent: list[tuple[str, NoTableError]] = []
    logs: set[tuple[str, TableName]] = set()
    for address in addresses:
        try:
            match resources[address]:
                case Audit() as audit:
                    from reconciler.kinds.audits import find_audit

                    found.append(find_audit(world, address, audit, logs, addresses))
                case Guard() as guard:
                    from reconciler.kinds.guards import find_guard

                    found.append(find_guard(world, address, guard))
                case _:
                    pass
        except NoTableError as error:
            absent.append((address, error))
    for it in found:
        _refuse_credentials(it)
    return found, absent


def _refuse_credentials(found: KeptFound) -> None:
    """What somebody made of a function by hand goes into the plan as it is."""
    for change in found.changes:
        if change.before and (credential := find_credential(str(change.before["sql"]))):
            raise ReconcilerError(
                f"{found.address}: {change.wanted.kind} {change.wanted.name} as {found.connection} has it holds {credential}",
                why="a plan holds what was there before, and is reviewed",
                todo="replace it by hand, and the credential too: it may have been read",
            )


def add_kept(everything: Emitted, kept: Sequence[KeptFound]) -> None:
    """Rows are changed under audit already, and before a guard begins to refuse. Who shares a log: the first makes it, the last takes it away."""
    rows = [item.step for item in everything.steps]
    ends: dict[tuple[str, str], str] = {}
    for found in kept:
        everything.hazards += found.hazards
        steps, edges = found.steps()
        if not steps:
            continue
        everything.steps += steps
        everything.must += edges
        start, end = steps[0].step.id, steps[-1].step.id
        if found.first:
            log = (found.connection, found.label)
            everything.rather += [(ends[log], start)] if log in ends else []
            ends[log] = end
        for step in rows:
            if step.connection == found.connection:
                everything.rather.append((end, step.id) if found.first else (step.id, start))
