"""One duplicate brought back out of a plan that took many away.

In: a plan and the key of a row that it deletes for a unique key. Out: the reverse plan of this row alone: the row, what had pointed at
it, and the constraint, which cannot stand while two rows share the key again. Invariant: nothing of other rows is touched.
"""

from __future__ import annotations

import json

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Header, Plan, Planned, dumps
from reconciler.plan.invert import invert
from reconciler.plan.step import Change, Hazard, Step, Verb


def invert_one(plan: Plan, key: str) -> tuple[Header, list[Planned]]:
    """`key` is the row's key as text, or a JSON array of texts where several columns make it."""
    wanted = tuple(json.loads(key)) if key.startswith("[") else (key,)
    losing = [step for step in plan.steps if step.unique and step.verb is Verb.DELETE]
    found = [(step, change) for step in losing for change in plan.changes(step) if change.key == wanted]
    if not found:
        some = [change.key for step in losing for change in plan.examples(step, 3)]
        shown = ", ".join(key[0] if len(key) == 1 else dumps(list(key)) for key in some[:3])
        raise ReconcilerError(
            f"the plan deletes no duplicate with the key {key}", where=str(plan.path),
            todo=f"such keys are {shown}" if shown else "only plans of unique_keys have duplicates to bring back",
        )  # fmt: skip
    loser, lost = found[0]
    only: dict[str, list[Change]] = {loser.id: [lost]}
    for step in plan.steps:
        if step.address == loser.address and step.id != loser.id:
            only[step.id] = [change for change in plan.changes(step) if _goes_with(step, change, loser, lost)]
    _pair_up(plan, only, lost)
    header, back = invert(plan, only)
    header = Header(
        spec=header.spec,
        variables=header.variables,
        connections=header.connections,
        hazards=tuple(
            Hazard(
                "key-shared-again", step.address, f"{step.target} goes: rows share ({', '.join(loser.unique)}) again", 1
            )
            for step in plan.steps
            if step.verb is Verb.CREATE and only.get(step.id)
        ),
    )
    return header, back


def _goes_with(step: Step, change: Change, loser: Step, lost: Change) -> bool:
    """Whether a change was made for this loser's sake: it led a row away from it, or keeps the key unique."""
    if step.verb is Verb.CREATE:
        return change.key[0] in ("constraint", "unique index")
    if step.target == loser.target and step.verb is Verb.DELETE:
        return False
    values = set(lost.key)
    if step.verb is Verb.UPDATE and change.before and change.after:
        return any(change.before.get(name) in values for name in change.after)
    return step.verb is Verb.DELETE and any(value in values for value in (change.before or {}).values())


def _pair_up(plan: Plan, only: dict[str, list[Change]], lost: Change) -> None:
    """Rows whose key is the reference itself left and came back: what came goes again where its other half returns."""
    assert lost.kept is not None
    led = dict(zip(lost.key, lost.kept.key, strict=True))
    targets = {step.id: step.target for step in plan.steps}
    left = {
        (
            targets[name],
            dumps({column: led.get(str(value), value) for column, value in sorted((it.before or {}).items())}),
        )
        for name, changes in only.items()
        for it in changes
        if it.after is None and name.endswith("/delete")
    }
    for step in plan.steps:
        if step.verb is Verb.INSERT and step.id in only:
            only[step.id] = [
                it for it in plan.changes(step) if (step.target, dumps(dict(sorted((it.after or {}).items())))) in left
            ]
