"""What every view shows of a plan: counts by verb and reason, a few examples, risks.

It grows with the steps, never with the rows.
In: a plan. Out: an `Overview` whose strings are cut to a bounded length but not yet escaped for any place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple, cast

from reconciler.plan import rules
from reconciler.plan.file import Plan
from reconciler.plan.step import Change, Hazard, Image, Step, Verb
from reconciler.views.definitions import OBJECT_VERBS, Definition, definition
from reconciler.views.escape import cut, cut_middle, plain, split_values

EXAMPLES = 3
_COLUMNS_NOTE = "columns: "
_UNDONE = "undo of "
_MOST_COLUMNS = 6
_MOST_NOTES = 6
_MOST_REASONS = 3
_LONGEST_NOTE = 400
_LONGEST_KEY = 200

_NOUNS = {
    Verb.INSERT: "row", Verb.UPDATE: "row", Verb.DELETE: "row", Verb.SETVAL: "sequence",
    Verb.CREATE: "object", Verb.ALTER: "object", Verb.DROP: "object",
    Verb.UPLOAD: "object", Verb.COPY: "object", Verb.MOVE: "object", Verb.REMOVE: "object", Verb.SIGN: "URL",
    Verb.PUT: "record", Verb.CALL: "process",
}  # fmt: skip
_IN_DATABASES = {Verb.INSERT, Verb.UPDATE, Verb.DELETE, Verb.SETVAL, Verb.CREATE, Verb.ALTER, Verb.DROP}
_NOT_RESOURCES = {"version", "variables", "connections", "checks"}


class Examples(StrEnum):
    """How much of the rows is shown: keys with values before and after, keys alone, or nothing."""

    ALL = "all"
    KEYS = "keys"
    NONE = "none"


class Example(NamedTuple):
    """One change; `values` are column, before, after: of updates only, cut so that the difference is seen."""

    key: str
    values: tuple[tuple[str, str, str], ...] = ()
    more_columns: int = 0


class StepView(NamedTuple):
    """One step; `columns` says what an update changes, with counts."""

    step: Step
    noun: str
    reasons: str
    columns: str
    notes: tuple[str, ...]
    examples: tuple[Example, ...]
    definitions: tuple[Definition, ...] = ()
    """Of a step of objects: what becomes of each."""
    risks: tuple[str, ...] = ()
    """The numbers of the rules it concerns."""
    creates: bool = False
    """Whether what it puts was not there."""

    @property
    def glyph(self) -> str:
        return Verb.INSERT.glyph if self.creates else self.step.verb.glyph

    @property
    def amount(self) -> str:
        return amount(self.step.count, self.noun)


class Group(NamedTuple):
    """The steps of one resource on one target; objects stand together, their target is ''."""

    address: str
    connection: str
    target: str
    steps: tuple[StepView, ...]


class Overview(NamedTuple):
    """All that views say of a plan; `totals` and `transactions` are phrases."""

    plan: Plan
    groups: tuple[Group, ...]
    totals: str
    transactions: str

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        return self.plan.header.hazards

    @property
    def steps(self) -> list[StepView]:
        return [step for group in self.groups for step in group.steps]

    @property
    def nothing(self) -> str | None:
        """What to say of a plan without steps."""
        if self.plan.steps:
            return None
        if any(hazard.kind == "not-undone" for hazard in self.hazards):  # an undo
            return "No changes: nothing of the plan can be taken back."
        if self.plan.header.deferred:
            return "No changes can be planned yet: what is left is deferred."
        same = resources(self.plan.header.spec)
        failing = sum(it.failed for it in self.plan.header.checks)
        said = [f"{in_sync(same)}."] if same or not self.plan.header.checks else []
        said += [f"{amount(failing, 'check')} {'fails' if failing == 1 else 'fail'}."] if failing else []
        return " ".join(["No changes.", *said])


def overview(plan: Plan, examples: Examples = Examples.ALL) -> Overview:
    """Read from the plan file what the views need of it."""
    members: dict[tuple[str, str, str], list[StepView]] = {}
    for step in plan.steps:
        target = "" if step.verb in OBJECT_VERBS else step.target
        members.setdefault((step.address, step.connection, target), []).append(_step_view(plan, step, examples))
    groups = tuple(Group(*place, tuple(steps)) for place, steps in members.items())
    return Overview(plan, groups, totals(plan.header.summary), _transactions(plan))


def check_lines(view: Overview, most: int = 20) -> list[tuple[str, str]]:
    """How the checks stood when the plan was made: a glyph and a sentence, those that do not hold first."""
    checks = sorted(view.plan.header.checks, key=lambda it: (it.holds is True, it.severity != "error", it.address))
    marks = {True: "=", False: "!", None: "?"}
    more = [("?", f"{amount(len(checks) - most, 'more check')}")] if len(checks) > most else []
    return [(marks[it.holds], f"{cut(it.text, _LONGEST_NOTE)}") for it in checks[:most]] + more


def amount(count: int, noun: str) -> str:
    """A count and its noun: 1 row, 2,345 rows."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def in_sync(count: int) -> str:
    return f"{amount(count, 'resource')} {'is' if count == 1 else 'are'} in sync"


def totals(summary: Mapping[str, int]) -> str:
    """The counts by verb; insert, update and delete always, others where there are any."""
    rows = ("insert", "update", "delete")
    others = [verb.value for verb in Verb if verb.value not in rows and summary.get(verb.value)]
    return ", ".join(f"{summary.get(verb, 0):,} to {verb}" for verb in (*rows, *others))


def hazard_text(hazard: Hazard) -> str:
    """A risk's number and sentence, with the resource and the count where it does not hold them, and whether it stops the plan."""
    extra = [] if not hazard.address or hazard.address in hazard.text else [hazard.address]
    extra += [amount(hazard.count, "row")] if hazard.count and str(hazard.count) not in hazard.text else []
    where = f" ({', '.join(extra)})" if extra else ""
    state = " · allowed" if hazard.allowed else " · NOT ALLOWED YET" if rules.stops(hazard) else ""
    return f"{rules.rule(hazard.kind).id} {cut(hazard.text, _LONGEST_NOTE)}{where}{state}"


def resources(spec: Mapping[str, object]) -> int:
    """How many resources a spec declares."""
    sections = [section for name, section in spec.items() if name not in _NOT_RESOURCES]
    return sum(len(cast("Mapping[str, object]", section)) for section in sections if isinstance(section, Mapping))


def in_database(plan: Plan, step: Step) -> bool:
    """Whether the step runs in a database's transaction: records of a PDS are deleted too, but not in one."""
    return step.verb in _IN_DATABASES and _type_of(plan, step) in ("postgres", "")


def image_value(image: Image | None, column: str) -> str:
    """A value for the eye: NULL is null, and a text that could be taken for it stands in quotes."""
    value = (image or {}).get(column)
    match value:
        case None:
            return "null"
        case str():
            return json.dumps(value, ensure_ascii=False) if value in ("null", "") or value != value.strip() else value
        case _:
            return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _type_of(plan: Plan, step: Step) -> str:
    return plan.header.connections.get(step.connection, {}).get("type", "")


def _step_view(plan: Plan, step: Step, shown: Examples) -> StepView:
    examples = plan.examples(step, EXAMPLES)
    columns, notes = _columns_and_notes(step)
    return StepView(
        step=step,
        noun=_noun(plan, step),
        reasons=_phrase(plan.reasons(step)),
        columns=columns,
        notes=tuple(cut(note, _LONGEST_NOTE) for note in notes[:_MOST_NOTES])
        + ((f"… {amount(len(notes) - _MOST_NOTES, 'more note')}",) if len(notes) > _MOST_NOTES else ()),
        examples=_shown(tuple(_example(step, change) for change in examples), shown),
        definitions=tuple(map(definition, examples)) if step.verb in OBJECT_VERBS else (),
        risks=tuple(sorted({rules.rule(it.kind).id for it in rules.concerning(plan.header.hazards, step.id)})),
        creates=step.verb is Verb.PUT and all(change.before is None for change in examples),
    )


def _shown(examples: tuple[Example, ...], shown: Examples) -> tuple[Example, ...]:
    """As much of the examples as may be seen."""
    match shown:
        case Examples.ALL:
            return examples
        case Examples.KEYS:
            return tuple(Example(it.key) for it in examples)
        case Examples.NONE:
            return ()


def _columns_and_notes(step: Step) -> tuple[str, tuple[str, ...]]:
    """By convention the first note of an update is its column summary; an undone one has words in front."""
    first = step.notes[0].removeprefix(_UNDONE) if step.notes else ""
    if first.startswith(_COLUMNS_NOTE):
        return cut(first.removeprefix(_COLUMNS_NOTE), _LONGEST_NOTE), step.notes[1:]
    return "", step.notes


def _noun(plan: Plan, step: Step) -> str:
    if _type_of(plan, step) == "atproto":
        return "blob" if step.verb is Verb.UPLOAD else "record"
    return _NOUNS[step.verb]


def _phrase(reasons: Mapping[str, int]) -> str:
    """Why, most frequent first; counts only where there is more than one reason."""
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) == 1:
        return cut(ranked[0][0], 100)
    shown = [f"{cut(reason, 60)} ({count:,})" for reason, count in ranked[:_MOST_REASONS]]
    return ", ".join([*shown, *_more(len(ranked) - _MOST_REASONS, "reason")])


def _more(count: int, noun: str) -> list[str]:
    return [f"{amount(count, f'more {noun}')}"] if count > 0 else []


def _example(step: Step, change: Change) -> Example:
    key = change.key[0] if len(change.key) == 1 else f"({', '.join(change.key)})"
    if step.by_whole:  # a digest says nothing to people: the values that make it a duplicate stand before it
        image = change.before or change.after or {}
        key = f"{', '.join(str(image.get(name)) for name in step.unique or sorted(image))} · {key}"
    shown = cut_middle(key, _LONGEST_KEY)
    if change.kept:
        stays = cut_middle(", ".join(change.kept.key), _LONGEST_KEY)
        decided = {"lost": change.kept.over, "stays": change.kept.has}
        values = split_values(image_value(decided, "lost"), image_value(decided, "stays"))
        return Example(shown, ((f"{stays} stays", *values),))
    if step.verb in OBJECT_VERBS or change.before is None or change.after is None:
        return Example(shown)
    columns = changed_members(change) if step.verb is Verb.PUT else sorted(change.after)
    values = [_values(step, change, column) for column in columns[:_MOST_COLUMNS]]
    return Example(shown, tuple(values), max(0, len(columns) - _MOST_COLUMNS))


def changed_members(change: Change) -> list[str]:
    """Of a record, which stands there whole on both sides, the members that differ."""
    before, after = change.before or {}, change.after or {}
    return sorted(
        name
        for name in before.keys() | after.keys()
        if name not in before or name not in after or before[name] != after[name]
    )


def _values(step: Step, change: Change, column: str) -> tuple[str, str, str]:
    if column in step.sensitive:
        return cut(column, 63), "(sensitive)", "(sensitive)"
    return cut(column, 63), *split_values(image_value(change.before, column), image_value(change.after, column))


def _transactions(plan: Plan) -> str:
    """Where the plan commits: consecutive steps of one database are one transaction."""
    steps = groupby(plan.steps, key=lambda step: (step.connection, in_database(plan, step)))
    places = [connection for (connection, database), _ in steps if database]
    return transactions_phrase(places)


def transactions_phrase(places: Iterable[str]) -> str:
    names = [plain(place) for place in places]
    match names:
        case []:
            return "no transaction"
        case [name]:
            return f"one transaction on {name}"
        case _:
            distinct = list(dict.fromkeys(names))
            return f"{len(names)} transactions on {', '.join(distinct[:4])}{' …' if len(distinct) > 4 else ''}"
