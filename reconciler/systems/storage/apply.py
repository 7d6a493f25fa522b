"""One run of steps on a storage: every object judged first, then copied, moved or removed.

In: steps of the verbs copy, move, remove. Out: `Outcome`; or Drift, with nothing done. An object is what the plan saw if its size and
etag are; killed anywhere and applied again, what is done is recognised by where objects are.
Invariant: nothing is overwritten, and nothing is removed that a row names now or that is another object than the plan saw.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice

from reconciler.plan.errors import Drift
from reconciler.plan.file import Plan
from reconciler.plan.invert import is_undo
from reconciler.plan.outcome import Outcome
from reconciler.plan.step import Change, Step, Verb
from reconciler.systems.storage.content import transfer
from reconciler.systems.storage.interface import Object, Storage, Verdict

OBJECT_VERBS = frozenset({Verb.COPY, Verb.MOVE, Verb.REMOVE})
_NAMED = 20
_SINGLY = 50
"""Objects looked at one by one rather than by listing."""
_BATCH = 1000
BYTES_GONE = "bytes gone"
"""The reason for which an object that is listed is put there anew."""
NO_ROW = "no row"
"""The reason for which an object goes because nobody names it."""


Source = Callable[[str], tuple[Storage, str]]
"""Of `connection.bucket` the storage and the bucket."""
Named = Callable[[str, Sequence[str]], Sequence[str]]
"""Of a resource's address and names of objects those that a row names now."""


def execute_objects(
    storage: Storage,
    plan: Plan,
    steps: Sequence[Step],
    source: Source,
    named: Named,
    advance: Callable[[int], object],
    *,
    rehearse: bool = False,
) -> Outcome:
    """Carry out a run; with `rehearse` only tell what would be done."""
    outcome, undo = Outcome(), is_undo(plan)
    for step in steps:
        there = _there(storage, plan, step)
        empty = _without_bytes(storage, plan, step)
        drifted: list[str] = []
        to_do: list[Change] = []
        for change in plan.changes(step):
            match True if change.key[0] in empty else _judge(step, change, there, exact=not undo):
                case True:
                    to_do.append(change)
                case False:
                    outcome.count(step, already=1)
                    advance(1)
                case str() as how:
                    drifted.append(f"{step.target} {change.key[0]}: {how}")
        if step.verb is Verb.COPY:
            drifted += _sources_changed(step, to_do, source)
        else:
            drifted += [f"{step.target} {name}: a row names it now" for name in _claimed(step, to_do, named)]
        if drifted:
            more = [f"… and {len(drifted) - _NAMED} more"] if len(drifted) > _NAMED else []
            raise Drift(
                f"{len(drifted)} object{'s are' if len(drifted) > 1 else ' is'} not as the plan saw {'them' if len(drifted) > 1 else 'it'}",
                details=(*drifted[:_NAMED], *more), why=f"somebody changed them after the plan was made; nothing of {step.id} was done",
            )  # fmt: skip
        if rehearse:
            outcome.count(step, applied=len(to_do))
            continue
        for done in _carry_out(storage, step, to_do, source):
            outcome.count(step, applied=done)
            advance(done)
    return outcome


def _there(storage: Storage, plan: Plan, step: Step) -> Mapping[str, Object | None]:
    """The objects that the step speaks of, as they are now."""
    names: set[str] = set()
    for change in plan.changes(step):
        names.add(change.key[0])
        if change.after and "name" in change.after:
            names.add(str(change.after["name"]))
    return _looked_up(storage, step.target, names)


def _without_bytes(storage: Storage, plan: Plan, step: Step) -> set[str]:
    """Of the objects whose bytes the plan found gone those whose bytes still are."""
    if step.verb is not Verb.COPY:
        return set()
    asked = [change.key[0] for change in plan.changes(step) if change.reason == BYTES_GONE]
    return (
        {name for name, verdict in storage.verify(step.target, asked) if verdict is Verdict.BYTES_GONE}
        if asked
        else set()
    )


def _looked_up(storage: Storage, bucket: str, names: Collection[str]) -> Mapping[str, Object | None]:
    if len(names) <= _SINGLY:
        return {name: storage.head(bucket, name) for name in sorted(names)}
    found: dict[str, Object | None] = dict.fromkeys(names)
    for it in storage.inventory(bucket):
        if it.name in found:
            found[it.name] = it
    return found


def _judge(step: Step, change: Change, there: Mapping[str, Object | None], *, exact: bool) -> bool | str:
    """True: to do. False: so already. Else how it has drifted. `exact`: what is removed was listed there, and is no copy of ours."""
    name = change.key[0]
    now = there[name]
    if step.verb is Verb.COPY:
        assert change.after is not None
        return True if now is None else False if _same(now, change.after) else _said(now)
    assert change.before is not None
    if step.verb is Verb.REMOVE:
        return False if now is None else True if _same(now, change.before, exact=exact) else _said(now)
    assert change.after is not None
    there_now = there[str(change.after["name"])]
    if now is None:
        return False if there_now is not None and _same(there_now, change.before) else "it is gone"
    if not _same(now, change.before, exact=True):
        return _said(now)
    return True if there_now is None else f"{change.after['name']} is taken"


def _same(now: Object, planned: Mapping[str, object], *, exact: bool = False) -> bool:
    """By size, and by etag where both have one; copies of some storages have an etag of their own, of the same size.

    A multipart etag may have become a plain one where the object went there and back; else etags that differ are of two objects.
    """
    if now.size != planned.get("size"):
        return False
    etags = (now.etag, planned.get("etag"))
    if None in etags or etags[0] == etags[1]:
        return True
    own = ["-" in str(etag) for etag in etags]
    return own[0] != own[1] if exact else any(own)


def _said(now: Object) -> str:
    return f"found another object, of {now.size} bytes"


def _sources_changed(step: Step, to_do: Sequence[Change], source: Source) -> Iterator[str]:
    """What is to be copied must be what was planned: by size and by etag, which are of the same storage."""
    by_place: dict[str, list[Change]] = {}
    for change in to_do:
        assert change.after is not None
        by_place.setdefault(str(change.after["from"]), []).append(change)
    for place, changes in by_place.items():
        other, bucket = source(place)
        now = _looked_up(other, bucket, {change.key[0] for change in changes})
        for change in changes:
            found, planned = now[change.key[0]], change.after or {}
            if found is None or (found.size, found.etag) != (planned.get("size"), planned.get("etag")):
                how = "it is gone" if found is None else _said(found)
                yield f"{place} {change.key[0]}, to be copied to {step.target}: {how}"


def _claimed(step: Step, to_do: Sequence[Change], named: Named) -> Iterator[str]:
    for batch in _batches([change for change in to_do if change.reason == NO_ROW]):
        yield from named(step.address, [change.key[0] for change in batch])


def _batches(changes: Sequence[Change]) -> Iterator[list[Change]]:
    rest = iter(changes)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _carry_out(storage: Storage, step: Step, to_do: Sequence[Change], source: Source) -> Iterator[int]:
    if step.verb is Verb.REMOVE:
        for batch in _batches(to_do):
            storage.remove(step.target, [change.key[0] for change in batch])
            yield len(batch)
        return
    for change in to_do:
        assert change.after is not None
        if step.verb is Verb.MOVE:
            storage.move(step.target, change.key[0], str(change.after["name"]))
        else:
            other, bucket = source(str(change.after["from"]))
            if change.reason == BYTES_GONE:
                transfer(other, bucket, change.key[0], storage, step.target, change.key[0], overwrite=True)
            elif other is storage:
                storage.copy(bucket, change.key[0], change.key[0], to_bucket=step.target)
            else:
                transfer(other, bucket, change.key[0], storage, step.target, change.key[0])
        yield 1
