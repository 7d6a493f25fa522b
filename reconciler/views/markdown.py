"""A plan for one pull-request comment: risks first, one table, the rest folded away. Never longer than GitHub takes.

Invariant: the text depends on the plan alone, and `size(render(plan)) <= LIMIT` whatever stands in the plan.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from reconciler.plan.file import Plan, summarize
from reconciler.plan.step import Verb
from reconciler.views import mermaid
from reconciler.views.definitions import Definition, fence
from reconciler.views.escape import code, cut, cut_middle, html, prose
from reconciler.views.fit import fit, size
from reconciler.views.overview import (
    Example,
    Examples,
    Overview,
    StepView,
    amount,
    check_lines,
    hazard_text,
    overview,
    totals,
)

MARKER = "<!-- reconciler:plan -->"
"""The first line, by which a bot finds its own comment and replaces it."""

LIMIT = 65_536
_ROOM_FOR_RISKS = 11_500
_ROOM_FOR_DEFERRED = 4_000
_ROOM_FOR_TABLE = 23_000
_ROOM_FOR_EXAMPLES = 12_000
_ROOM_FOR_GRAPH = 7_000
_ROOM_FOR_DEFINITIONS = 30_000  # what the rest leaves of it, which is 2,000 or more
_ROOM_FOR_ONE_DEFINITION = 8_000
_GRAPH_STEPS = 40
_DESTRUCTIVE = {Verb.DELETE, Verb.DROP, Verb.REMOVE}


def render(plan: Plan, *, file: str = "FILE", examples: Examples = Examples.ALL) -> str:
    """The comment; `file` is what the plan is called where it will be applied."""
    view = overview(plan, examples)
    steps = _ranked(view)
    shown = [_examples(step) for step in steps if not step.definitions and (step.examples or step.notes)]
    head = [
        MARKER,
        f"## Plan `{plan.id}`: {view.totals}",
        _summary(view),
        *_section("Risks", [f"- ❗ {prose(hazard_text(it))}" for it in view.hazards], _ROOM_FOR_RISKS),
        *_section("Deferred", _deferred(view), _ROOM_FOR_DEFERRED),
        *_table(steps),
        *_section("Checks, as they stand before", _checks(view), _ROOM_FOR_DEFERRED),
    ]
    tail = [
        *_details("Examples" if examples is not Examples.NONE else "Notes", shown, _ROOM_FOR_EXAMPLES),
        *_graph(plan),
        *([f"Apply it with {code(apply_command(plan, cut(file, 200)))}"] if plan.steps else []),
    ]
    room = min(_ROOM_FOR_DEFINITIONS, LIMIT - sum(size(part) + 2 for part in (*head, *tail)) - 2)
    return "\n\n".join([*head, *_definitions(view, room), *tail]) + "\n"


def apply_command(plan: Plan, file: str) -> str:
    """What carries out this plan and no other."""
    return f"reconciler apply {shlex.quote(file)} --id {plan.id}"


def _summary(view: Overview) -> str:
    if view.nothing:
        return prose(view.nothing)
    return f"{amount(len(view.plan.steps), 'step')} · {prose(cut(view.transactions, 300))}"


def _ranked(view: Overview) -> list[StepView]:
    """All steps by resource; where not all fit the table, what destroys first, then what is largest."""
    if sum(size(_row(step)) + 1 for step in view.steps) <= _ROOM_FOR_TABLE:
        return view.steps
    return sorted(view.steps, key=lambda it: (it.step.verb not in _DESTRUCTIVE, -it.step.count))


def _section(title: str, lines: list[str], room: int) -> list[str]:
    fitted = fit(lines, room, lambda count: f"- … {count:,} more: `reconciler show` lists them all")
    return [f"### {title}\n\n" + "\n".join(fitted)] if fitted else []


def _deferred(view: Overview) -> list[str]:
    return [f"- ❓ {code(cut(it.address, 120))}: {prose(cut(it.reason, 300))}" for it in view.plan.header.deferred]


def _checks(view: Overview) -> list[str]:
    marks = {"=": "✅", "!": "❌", "?": "❓"}
    return [f"- {marks[glyph]} {prose(text)}" for glyph, text in check_lines(view)]


def _table(steps: Sequence[StepView]) -> list[str]:
    def left_out(count: int) -> str:
        rest = totals(summarize(it.step for it in steps[len(steps) - count :]))
        return f"| … {amount(count, 'more step')} ({rest}): `reconciler show` lists them all | | | | | |"

    rows = fit([_row(step) for step in steps], _ROOM_FOR_TABLE, left_out)
    head = "| resource | target | verb | rows | why | columns |\n|---|---|---|--:|---|---|\n"
    return [head + "\n".join(rows)] if rows else []


def _row(view: StepView) -> str:
    step = view.step
    target = f"{prose(cut(step.connection, 63))} {code(cut_middle(step.target, 130))}"
    verb = f"`{view.glyph}` {step.verb.value}{f' ❗{chr(32).join(view.risks)}' if view.risks else ''}"
    count = f"{step.count:,}" if view.noun == "row" else view.amount
    cells = (code(cut_middle(step.address, 120)), target, verb, count, prose(view.reasons), prose(view.columns))
    return f"| {' | '.join(cells)} |"


def _examples(view: StepView) -> str:
    step = view.step
    listed = [_example(example) for example in view.examples]
    more = [f"- … {step.count - len(listed):,} more"] if step.count > len(listed) and listed else []
    notes = [f"- Note: {prose(note)}" for note in view.notes]
    names = f"{code(cut_middle(step.address, 120))}, {code(cut_middle(step.target, 130))}"
    head = f"{names}: {step.verb.value} {view.amount}"
    return "\n".join([head, "", *listed, *more, *notes, ""])


def _definitions(view: Overview, room: int) -> list[str]:
    """What becomes of each object, folded away by itself."""
    blocks = [_definition(it) for step in view.steps for it in step.definitions]
    if not blocks:
        return []
    fitted = fit(
        blocks, room, lambda count: f"… and {amount(count, 'more definition')}: `reconciler show` has them all"
    )
    return ["\n".join(fitted)]


def _definition(it: Definition) -> str:
    lines, more = list(it.lines), it.more
    while sum(size(line) + 1 for line in lines) > _ROOM_FOR_ONE_DEFINITION:
        lines.pop()
        more += 1
    text = "\n".join([*lines, *([f"… {amount(more, 'more line')}"] if more else [])])
    mark = fence(text)
    summary = f"<code>{html(cut_middle(it.name, 120))}</code>{f': {it.amount}' if it.amount else ''}"
    return f"<details><summary>{summary}</summary>\n\n{mark}diff\n{text}\n{mark}\n\n</details>\n"


def _example(example: Example) -> str:
    values = [f"  - {code(column)}: {code(before)} → {code(after)}" for column, before, after in example.values]
    more = [f"  - … {amount(example.more_columns, 'more column')}"] if example.more_columns else []
    return "\n".join([f"- {code(example.key)}", *values, *more])


def _details(title: str, lines: list[str], room: int) -> list[str]:
    fitted = fit(lines, room, lambda count: f"… and examples of {amount(count, 'more step')}\n")
    return [f"<details><summary>{title}</summary>\n\n" + "\n".join(fitted) + "\n</details>"] if fitted else []


def _graph(plan: Plan) -> list[str]:
    """The order of the steps: as many of the first ones as there is room to draw."""
    most = min(len(plan.steps), _GRAPH_STEPS)
    while most > 1:
        text = mermaid.render(plan, most=most)
        if size(text) <= _ROOM_FOR_GRAPH:
            hidden = len(plan.steps) - most
            title = f"Order of the steps{f' (the first {most}, {hidden:,} left out)' if hidden else ''}"
            return [f"<details><summary>{title}</summary>\n\n```mermaid\n{text}```\n\n</details>"]
        most //= 2
    return []
