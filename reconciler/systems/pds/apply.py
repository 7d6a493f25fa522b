"""One run of steps on a PDS: judge everything, then upload blobs, then write records.

In: consecutive steps of a plan on one connection. Out: `Outcome`; or an error, and what was written before it stays and is recognised
when the same plan is applied again. Nothing is written unless every record of the run was seen as planned, or already as it is to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan, dumps
from reconciler.plan.outcome import Outcome
from reconciler.plan.step import Change, Step, Verb
from reconciler.systems.pds import blobs, records
from reconciler.systems.pds import write as writer
from reconciler.systems.pds.batches import Validate, Write, judged
from reconciler.systems.pds.blobs import Reference
from reconciler.systems.pds.inventory import Inventory, inventory
from reconciler.systems.pds.records import Record
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.store import Store

_NAMED = 20


@dataclass(frozen=True)
class How:
    """What the plan's spec says of a resource besides its records."""

    validate: Validate
    store: Callable[[], Store | None]


@dataclass
class _Drifted:
    count: int = 0
    lines: list[str] = field(default_factory=list[str])
    points: int = 0
    """What was spent on the changes that are done already, by whoever did them."""


def execute(
    session: Session,
    plan: Plan,
    steps: Sequence[Step],
    how: Callable[[str], How],
    advance: Callable[[int], object],
    *,
    rehearse: bool = False,
) -> Outcome:
    """Carry out a run; with `rehearse` only tell what would be done."""
    outcome = Outcome()
    known = {
        name: inventory(session, name) for name in sorted({it.target for it in steps if it.verb is not Verb.UPLOAD})
    }
    held = set(blobs.held(session)) if any(it.verb is Verb.UPLOAD for it in steps) else set[str]()
    drifted = _Drifted()
    for step in steps:
        _judge(plan, step, known, held, drifted, outcome if rehearse else Outcome())
    if drifted.count:
        more = [f"… and {drifted.count - _NAMED} more"] if drifted.count > _NAMED else []
        raise Drift(
            f"{drifted.count} record{'s are' if drifted.count > 1 else ' is'} not what the plan saw",
            details=(*drifted.lines, *more),
        )
    if rehearse:
        return outcome
    quota = session.quota
    first: Inventory | None = next(iter(known.values())) if len(known) == 1 else None
    for address, group in groupby(steps, key=lambda step: step.address):
        members, options = list(group), how(address)
        uploads = [step for step in members if step.verb is Verb.UPLOAD]
        for step in uploads:
            _upload(session, plan, step, options.store(), held, outcome)
            advance(step.count)
        of_key: dict[tuple[str, str], Step] = {}
        pieces = _pieces(plan, [step for step in members if step.verb is not Verb.UPLOAD], of_key)
        try:
            for result in writer.write(session, pieces, known=first, validate=options.validate, quota=quota):
                step = of_key.pop(result.write.key)
                outcome.count(step, **{result.outcome.value: 1})
                advance(1)
                if result.error and len(outcome.unsettled) < _NAMED:
                    outcome.unsettled.append(f"{result.error.what}: {result.error.why}")
        except ReconcilerError as error:
            if error.code is Exit.ERROR and any(outcome.applied.values()):
                error.code = Exit.PARTIAL
            raise
        first = None
    if drifted.points and any(outcome.applied.values()) and session.limited and not quota.told:
        outcome.notes.append(
            f"{session.pds} counts what is written, and does not tell what is left: the {drifted.points} points of an earlier run "
            "are not counted ahead, and where it says no it is waited for"
        )
    return outcome


def _judge(
    plan: Plan, step: Step, known: Mapping[str, Inventory], held: set[str], drifted: _Drifted, outcome: Outcome
) -> None:
    """Count what is to do and what is done; what is neither is drift."""
    if step.verb is Verb.UPLOAD:
        there = sum(change.key[0] in held for change in plan.changes(step))
        outcome.count(step, applied=step.count - there, already=there)
        return
    cids = known[step.target].cids
    writes = (_light(step, change) for change in plan.changes(step))
    while chunk := list(islice(writes, 1000)):
        to_do, done, lines = judged(chunk, {it.key: cids.get(it.rkey) for it in chunk})
        outcome.count(step, applied=len(to_do), already=len(done))
        drifted.count += len(lines)
        drifted.points += sum(it.points for it in done)
        drifted.lines += lines[: max(0, _NAMED - len(drifted.lines))]


def _pieces(plan: Plan, steps: Sequence[Step], of_key: dict[tuple[str, str], Step]) -> Iterator[Write]:
    for step in steps:
        for change in plan.changes(step):
            write = _write(step, change)
            of_key[write.key] = step
            yield write


def _write(step: Step, change: Change) -> Write:
    rkey = change.key[0]
    after = None if change.after is None else records.read(step.target, rkey, dumps(change.after))
    return Write(step.target, rkey, _cid(step, change), after)


def _light(step: Step, change: Change) -> Write:
    """The same without the record's text."""
    write = _write(step, change)
    after = Record(step.target, write.rkey, "", write.after.cid) if write.after else None
    return Write(step.target, write.rkey, write.before, after)


def _cid(step: Step, change: Change) -> str | None:
    if change.before is None:
        return None
    cid = records.cid_of(dumps(change.before))
    if cid is None:
        raise ReconcilerError(
            f"the plan's record {step.target}/{change.key[0]} is none", where=step.id, todo="plan again"
        )
    return cid


def _upload(session: Session, plan: Plan, step: Step, store: Store | None, held: set[str], outcome: Outcome) -> None:
    for change in plan.changes(step):
        after = change.after or {}
        size = after.get("size")
        reference = Reference(
            change.key[0], str(after.get("mimeType")), size if isinstance(size, int) else None, legacy=False
        )
        if reference.cid in held:
            outcome.count(step, already=1)
            continue
        data = store.find(reference) if store else None
        if data is None:
            raise Drift(
                f"the blob {reference.cid} is no longer where the plan saw it",
                why="its bytes come from `blobs` in the plan's spec",
                todo="put its file back, and run the same plan again",
            )
        blobs.upload(session, reference, data)
        outcome.count(step, applied=1)
