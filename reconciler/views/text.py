"""A plan for a terminal: risks first, then what changes by resource, then one line of totals."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.plan.file import Plan
from reconciler.plan.step import Verb
from reconciler.views.escape import cut, cut_middle, plain, shorten_keys
from reconciler.views.overview import (
    Example,
    Examples,
    Group,
    Overview,
    StepView,
    amount,
    check_lines,
    hazard_text,
    overview,
)

_CODES = {"+": "32", "~": "33", "-": "31", "!": "1;31", "?": "36", "=": "32"}
_WIDEST_ADDRESS = 44
_WIDEST_REASON = 40
_WIDEST_LINE = 160
_WIDEST_OBJECT = 80


def render(plan: Plan, *, color: bool = False, examples: Examples = Examples.ALL) -> str:
    """The whole text, with a newline at its end."""
    return "\n".join(_lines(overview(plan, examples), color)) + "\n"


def _lines(view: Overview, color: bool) -> Iterator[str]:
    for hazard in view.hazards:
        yield f"  {_glyph('!', color)} {plain(hazard_text(hazard))}"
    if view.hazards:
        yield ""
    width = min(_WIDEST_ADDRESS, max((len(plain(group.address)) for group in view.groups), default=0))
    steps = [step for step in view.steps if not step.definitions]
    objects = [step for step in view.steps if step.definitions]
    names = min(_WIDEST_OBJECT, max((len(plain(step.step.target)) for step in objects), default=0))
    counts = max((len(f"{step.step.count:,}") for step in steps), default=0)
    amounts = max((len(step.amount) - len(f"{step.step.count:,}") for step in steps), default=0)
    reasons = min(_WIDEST_REASON, max((len(step.reasons) for step in steps), default=0))
    for group in view.groups:
        yield _heading(group, width)
        for step in group.steps:
            if step.definitions:
                yield f"    {_glyph(step.glyph, color)} {_object(step, names)}".rstrip() + _risks(step, color)
                continue
            number, _, noun = step.amount.partition(" ")
            head = f"    {_glyph(step.glyph, color)} {number:>{counts}} {noun:<{amounts}} "
            line = f"{cut(step.reasons, _WIDEST_LINE):<{reasons}}  {_what(step)}"
            yield (head + line).rstrip() + _risks(step, color)
            yield from (f"        {plain(note)}" for note in step.notes)
    if view.groups:
        yield ""
    for deferred in view.plan.header.deferred:
        yield f"  {_glyph('?', color)} {plain(deferred.address)} deferred: {plain(deferred.reason)}"
    if view.plan.header.deferred:
        yield ""
    checks = check_lines(view)
    yield from (f"  {_glyph(glyph, color)} {plain(line)}" for glyph, line in checks)
    if checks:
        yield ""
    yield view.nothing or _totals(view)


def _totals(view: Overview) -> str:
    plan = view.plan
    return f"Plan: {view.totals} · {amount(len(plan.steps), 'step')} · {view.transactions} · id {plan.id}"


def _heading(group: Group, width: int) -> str:
    place = f"{cut(group.connection, 63)} {cut_middle(group.target, 130)}".rstrip()
    return f"  {cut_middle(group.address, 120):<{width}}  {place}"


def _what(step: StepView) -> str:
    """The columns an update changes; of anything else which things they are."""
    if step.step.verb is Verb.SETVAL:
        return ", ".join(sequence(example) for example in step.examples)
    if step.columns:
        return cut(step.columns, _WIDEST_LINE)
    keys = shorten_keys([example.key for example in step.examples])
    if not keys:
        return ""
    more = step.step.count - len(keys)
    return ", ".join(keys) + (f", … {more:,} more" if more > 0 else "")


def sequence(example: Example) -> str:
    """Where a sequence stands and where it goes."""
    values = [f"{before} → {after}" for _, before, after in example.values]
    return f"{cut_middle(example.key, 60)}: {', '.join(values)}" if values else example.key


def _risks(step: StepView, color: bool) -> str:
    """The numbers of the risks that stand at the top."""
    return f"  {_glyph('!', color)} {' '.join(step.risks)}" if step.risks else ""


def _object(step: StepView, width: int) -> str:
    """An object with its kind, why it changes, and how many lines of its definition come and go."""
    amounts = ", ".join(it.amount for it in step.definitions if it.amount)
    return f"{cut_middle(step.step.target, _WIDEST_OBJECT):<{width}}  {cut(step.reasons, _WIDEST_REASON)}  {amounts}"


def _glyph(glyph: str, color: bool) -> str:
    return f"\x1b[{_CODES[glyph]}m{glyph}\x1b[0m" if color else glyph
