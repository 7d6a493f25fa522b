"""A plan in, the plan that takes it back out.

Every change swaps `before` and `after`, every edge its direction. Columns that only guarded a decision go on guarding.
Invariant: inverting twice gives the same changes; what cannot be taken back is left out and named as a hazard, never half done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from reconciler.plan.file import Header, Image, Plan, Planned, change_line
from reconciler.plan.order import arrange
from reconciler.plan.step import Change, Hazard, Step, Verb, passing

_OPPOSITE = {
    Verb.INSERT: Verb.DELETE,
    Verb.DELETE: Verb.INSERT,
    Verb.UPDATE: Verb.UPDATE,
    Verb.CREATE: Verb.DROP,
    Verb.ALTER: Verb.ALTER,
    Verb.DROP: Verb.CREATE,
    Verb.COPY: Verb.REMOVE,
    Verb.REMOVE: Verb.COPY,
    Verb.MOVE: Verb.MOVE,
}
_UNDO = "undo of "


def invert_change(change: Change, of: str, *, whole: bool = False) -> Change:
    """The change that takes this one back; `whole`: its images are all of the thing, and not some columns of it."""
    before, after = change.after, change.before
    if change.before is not None and change.after is not None and not whole and "sql" not in change.after:
        read_only: Image = {name: value for name, value in change.before.items() if name not in change.after}
        before = {**change.after, **read_only}
        after = {name: value for name, value in change.before.items() if name in change.after}
    return Change(of, change.key, before, after, _toggle(change.reason), change.kept)


def invert_move(change: Change, of: str) -> Change:
    """The object is at its new name then, and goes back to its old one."""
    there = str((change.after or {}).get("name"))
    return Change(of, (there,), change.before, {"name": change.key[0]}, _toggle(change.reason))


def invert(plan: Plan, only: Mapping[str, Sequence[Change]] | None = None) -> tuple[Header, list[Planned]]:
    """Header and steps of the reverse plan, in order; `only` names the changes to take back, by step."""
    hazards: list[Hazard] = []
    drafts: list[Step] = []
    original: dict[str, Step] = {}
    must: list[tuple[str, str]] = []
    steps = [step for step in plan.steps if only is None or only.get(step.id)]
    opposite = {step.id: _opposite(plan, step) for step in steps}
    renamed = {step.id: _rename(step, opposite[step.id]) for step in steps}
    for step in steps:
        lost = _irreversible(plan, step)
        if lost:
            hazards.append(
                Hazard("not-undone", step.address, f"{step.id}: {lost}", 0 if step.verb is Verb.CALL else step.count)
            )
            continue
        draft = replace(
            step,
            id=renamed[step.id],
            verb=opposite[step.id],
            needs=(),
            passes=step.undo_passes,
            undo_passes=step.passes,
            together=renamed.get(step.together) if step.together else None,
            archived_by=plan.id if step.archive and step.verb is Verb.DELETE else "",
            notes=tuple(_backwards(note) for note in step.notes if note.startswith("columns: ")),
        )
        hazards += [Hazard("guard", step.address, passing(draft.id, name), step.count) for name in draft.passes]
        drafts.append(draft)
        original[draft.id] = step
        must += [(draft.id, renamed[before]) for before in step.needs if before in renamed]
    header = replace(plan.header, hazards=tuple(hazards), deferred=(), checks=())
    return header, [
        _planned(plan, original[step.id], step, None if only is None else only[original[step.id].id])
        for step in arrange(drafts, must)
    ]


def is_undo(plan: Plan) -> bool:
    """Whether this plan takes another back."""
    return any(reason.startswith(_UNDO) for step in plan.steps[:1] for reason in plan.reasons(step))


def _planned(plan: Plan, source: Step, step: Step, only: Sequence[Change] | None) -> Planned:
    def lines(sink: Callable[[bytes], object]) -> None:
        for change in plan.changes(source) if only is None else only:
            whole = source.verb is Verb.PUT
            back = (
                invert_move(change, step.id)
                if source.verb is Verb.MOVE
                else invert_change(change, step.id, whole=whole)
            )
            sink(f"{change_line(back)}\n".encode())

    return Planned(step if only is None else replace(step, count=len(only)), lines)


def _opposite(plan: Plan, step: Step) -> Verb:
    """A record that was created goes, one that was replaced or deleted is put; a step holds only one of these."""
    if step.verb is Verb.PUT:
        return Verb.DELETE if any(change.before is None for change in plan.examples(step, 1)) else Verb.PUT
    if step.verb is Verb.DELETE and plan.header.connections.get(step.connection, {}).get("type") == "atproto":
        return Verb.PUT
    return _OPPOSITE.get(step.verb, step.verb)


def _rename(step: Step, verb: Verb) -> str:
    head, _, tail = step.id.rpartition("/")
    _, mark, number = tail.partition("#")
    return f"{head}/{verb.value}{mark}{number}"


def _toggle(text: str) -> str:
    return text.removeprefix(_UNDO) if text.startswith(_UNDO) else _UNDO + text


def _backwards(summary: str) -> str:
    """Which columns change is the same on the way back; the other notes tell of the way there alone."""
    to, back = "null → value", "value → null"
    return summary.replace(to, "\0").replace(back, to).replace("\0", back)


def _irreversible(plan: Plan, step: Step) -> str | None:
    if step.loses:
        return f"{step.loses} are gone"
    match step.verb:
        case Verb.SETVAL:
            return "a sequence is never lowered"
        case Verb.INSERT | Verb.CREATE | Verb.ALTER | Verb.DROP | Verb.PUT | Verb.COPY | Verb.MOVE:
            return None
        case Verb.REMOVE:  # what was a copy can be copied again
            kept = all("from" in (change.before or {}) for change in plan.examples(step, 1))
            return None if kept else "the bytes of removed objects are gone"
        case Verb.SIGN:
            return "signed URLs stay until they expire"
        case Verb.UPDATE | Verb.DELETE:
            return f"the values of {', '.join(step.sensitive)} are not in the plan" if step.sensitive else None
        case Verb.CALL:
            return "what was called for cannot be taken back, and is left as it is"
        case _:
            return f"{step.verb.value} cannot be taken back"
