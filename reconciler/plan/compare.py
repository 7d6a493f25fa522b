"""Two plans in, what the second would do otherwise than the first out: steps and changes added, gone, different.

Both files are read once, side by side: the changes of a step stand in the order of their keys. Only a few examples a step are kept.
Invariant: what steers apply is compared and nothing else; notes and the sentences of risks may differ between plans that do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, cast

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Plan, parse_change
from reconciler.plan.step import Change, Image, Step

EXAMPLES = 3
_STEERS = (
    "needs",
    "together",
    "connection",
    "target",
    "key",
    "columns",
    "triggers",
    "unique",
    "where",
    "archive",
    "archived_by",
    "apart",
)


class How(StrEnum):
    """What became of a step or a change between two plans."""

    ADDED = "added"
    GONE = "gone"
    DIFFERENT = "different"
    SAME = "same"


class ChangeDiff(NamedTuple):
    """One change that is not as it was; `parts` are what differs in it with the value of the first and of the second plan."""

    how: How
    key: tuple[str, ...]
    parts: tuple[tuple[str, object, object], ...] = ()


@dataclass
class StepDiff:
    """One step of either plan, with how many of its changes were added, went, differ or are the same."""

    step: Step
    how: How
    counts: dict[How, int] = field(default_factory=lambda: dict.fromkeys(How, 0))
    fields: tuple[str, ...] = ()
    """What of the step itself differs."""
    examples: list[ChangeDiff] = field(default_factory=list[ChangeDiff])

    def note(self, how: How, example: Callable[[], ChangeDiff]) -> None:
        """Count a change, and keep it if it is one of the first of its sort."""
        if how is not How.SAME and self.counts[how] < EXAMPLES:
            self.examples.append(example())
        self.counts[how] += 1


class PlanDiff(NamedTuple):
    """All that differs; `remarks` are sentences about what stands around the steps."""

    first: Plan
    second: Plan
    remarks: tuple[str, ...]
    steps: tuple[StepDiff, ...]

    @property
    def same(self) -> bool:
        return not self.remarks and all(it.how is How.SAME for it in self.steps)

    def count(self, how: How) -> int:
        """Changes over all steps."""
        return sum(it.counts[how] for it in self.steps)


def compare(first: Plan, second: Plan) -> PlanDiff:
    """What changed from the first plan to the second."""
    if first.id == second.id:  # the id is a digest of everything
        steps = [StepDiff(step, How.SAME, {**dict.fromkeys(How, 0), How.SAME: step.count}) for step in first.steps]
        return PlanDiff(first, second, (), tuple(steps))
    old, new = ({step.id: step for step in plan.steps} for plan in (first, second))
    diffs = [_step(first, second, old.get(name), new.get(name)) for name in _in_order(list(old), list(new))]
    return PlanDiff(first, second, tuple(_remarks(first, second)), tuple(diffs))


def _in_order(old: list[str], new: list[str]) -> list[str]:
    """Every step once: those of the second plan in its order, each that went after what had come before it."""
    known, result = set(new), list(new)
    for at, name in enumerate(old):
        if name not in known:
            before = old[at - 1] if at else None
            result.insert(result.index(before) + 1 if before is not None else 0, name)
            known.add(name)
    return result


def _step(first: Plan, second: Plan, old: Step | None, new: Step | None) -> StepDiff:
    if old is None or new is None:
        plan, step, how = (second, new, How.ADDED) if old is None else (first, old, How.GONE)
        assert step is not None
        diff = StepDiff(step, how)
        for change in plan.examples(step, EXAMPLES):
            diff.note(how, lambda change=change: ChangeDiff(how, change.key))
        diff.counts[how] = step.count
        return diff
    fields = tuple(name for name in _STEERS if getattr(old, name) != getattr(new, name))
    diff = StepDiff(new, How.SAME, fields=fields)
    _changes(diff, _Lines(first, old), _Lines(second, new), {*old.sensitive, *new.sensitive})
    if fields or diff.counts[How.SAME] < max(old.count, new.count):
        diff.how = How.DIFFERENT
    return diff


class _Lines:
    """The changes of a step; `line` is the one to be looked at now, empty at the end. It is parsed only if need be."""

    def __init__(self, plan: Plan, step: Step) -> None:
        self._lines = plan.lines(step)
        self._where = f"{plan.path}: {step.id}"
        self._last: tuple[bytes, ...] = ()
        self.line = next(self._lines, b"")

    def read(self) -> tuple[tuple[bytes, ...], Change]:
        """The change with the key it is ordered by."""
        change = parse_change(self.line)
        key = tuple(part.encode() for part in change.key)
        if key < self._last:
            raise ReconcilerError("changes are not in the order of their keys", where=self._where, todo="plan again")
        self._last = key
        return key, change

    def move(self) -> None:
        self.line = next(self._lines, b"")


def _changes(diff: StepDiff, old: _Lines, new: _Lines, sensitive: set[str]) -> None:
    """One pass over both, in step with each other."""
    while old.line or new.line:
        if old.line == new.line:
            diff.counts[How.SAME] += 1
            old.move()
            new.move()
            continue
        one, other = old.read() if old.line else None, new.read() if new.line else None
        if one and (other is None or one[0] < other[0]):
            diff.note(How.GONE, lambda change=one[1]: ChangeDiff(How.GONE, change.key))
            old.move()
        elif other and (one is None or other[0] < one[0]):
            diff.note(How.ADDED, lambda change=other[1]: ChangeDiff(How.ADDED, change.key))
            new.move()
        elif one and other:
            parts = tuple(_parts(one[1], other[1], sensitive))
            diff.note(How.DIFFERENT, lambda key=other[1].key, parts=parts: ChangeDiff(How.DIFFERENT, key, parts))
            old.move()
            new.move()


def _parts(old: Change, new: Change, sensitive: set[str]) -> Iterator[tuple[str, object, object]]:
    """What differs in a change: an image that is there on one side only, else its columns; why; who stays."""
    for name, one, other in (("before", old.before, new.before), ("after", old.after, new.after)):
        if one is None or other is None:
            if one is not other:
                yield name, _presence(one), _presence(other)
            continue
        for column in sorted(one.keys() | other.keys()):
            if one.get(column) != other.get(column) or (column in one) != (column in other):
                hidden = column in sensitive
                was, is_ = ("(sensitive)" if hidden else image.get(column) for image in (one, other))
                yield f"{name}.{column}", was, is_
    if old.reason != new.reason:
        yield "reason", old.reason, new.reason
    if old.kept != new.kept:
        yield "kept", _kept(old), _kept(new)


def _presence(image: Image | None) -> str:
    return "absent" if image is None else "there"


def _kept(change: Change) -> str | None:
    return ", ".join(change.kept.key) if change.kept else None


def _remarks(first: Plan, second: Plan) -> Iterator[str]:
    """What stands around the steps: the spec, variables, databases, what waits, risks, the order."""
    old, new = first.header, second.header
    yield from _named("the spec differs", _flat(old.spec), _flat(new.spec))
    yield from _named("variables differ", old.variables, new.variables)
    yield from _named("other systems", old.connections, new.connections)
    yield from _sets("deferred", {it.address for it in old.deferred}, {it.address for it in new.deferred})
    yield from _sets("risk", *({f"{it.kind} ({it.address})" for it in header.hazards} for header in (old, new)))
    common = {step.id for step in first.steps} & {step.id for step in second.steps}
    orders = [[step.id for step in plan.steps if step.id in common] for plan in (first, second)]
    if orders[0] != orders[1]:
        yield "the order of the steps differs"


def _flat(spec: Mapping[str, object]) -> dict[str, object]:
    """A spec by `section.name`."""
    flat: dict[str, object] = {}
    for section, value in spec.items():
        if isinstance(value, Mapping):
            names = cast("Mapping[str, object]", value)
            flat.update({f"{section}.{name}": names[name] for name in names})
        else:
            flat[section] = value
    return flat


def _named(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if names:
        yield f"{what}: {_some(names)}"


def _sets(what: str, old: set[str], new: set[str]) -> Iterator[str]:
    if new - old:
        yield f"{what} added: {_some(sorted(new - old))}"
    if old - new:
        yield f"{what} gone: {_some(sorted(old - new))}"


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f", … {len(names) - most:,} more" if len(names) > most else "")
