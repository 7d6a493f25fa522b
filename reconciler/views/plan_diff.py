"""What differs between two plans, as text, Markdown or JSON. Grows with the steps that differ, never with the rows.

In: a `PlanDiff`. Out: one text; the Markdown fits one comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from reconciler.plan.compare import ChangeDiff, How, PlanDiff, StepDiff
from reconciler.views.escape import code, cut, cut_middle, escape_all_unseen, plain, prose, split_values
from reconciler.views.fit import fit, size
from reconciler.views.overview import amount, image_value

MARKER = "<!-- reconciler:diff -->"
_GLYPHS = {How.ADDED: "+", How.GONE: "-", How.DIFFERENT: "~"}
_MOST_PARTS = 4
_LONGEST = 400
_ROOM = 60_000


def text(diff: PlanDiff) -> str:
    """For a terminal."""
    return "\n".join(_text(diff)) + "\n"


def markdown(diff: PlanDiff) -> str:
    """For a pull request."""
    head = [MARKER, f"## {prose(_totals(diff))}"]
    remarks = [f"- {prose(cut(it, _LONGEST))}" for it in diff.remarks]
    steps = [line for it in _differing(diff) for line in _markdown_step(it)]
    lines = fit([*remarks, *steps], _ROOM, lambda count: f"- … {amount(count, 'more line')}")
    body = ["\n".join(lines)] if lines else []
    whole = "\n\n".join([*head, *body]) + "\n"
    assert size(whole) < 65_536
    return whole


def as_json(diff: PlanDiff) -> str:
    """For machines; examples are as few as for people."""
    tree = {
        "same": diff.same,
        "first": diff.first.id,
        "second": diff.second.id,
        **{how.value: diff.count(how) for how in How},
        "remarks": list(diff.remarks),
        "steps": [
            {
                "step": it.step.id,
                "how": it.how.value,
                **{how.value: it.counts[how] for how in How},
                "fields": list(it.fields),
                "examples": [
                    {
                        "how": one.how.value,
                        "key": list(one.key),
                        "parts": [{"what": what, "first": old, "second": new} for what, old, new in one.parts],
                    }
                    for one in it.examples
                ],
            }
            for it in _differing(diff)
        ],
    }
    return escape_all_unseen(json.dumps(tree, ensure_ascii=False)) + "\n"


def _differing(diff: PlanDiff) -> list[StepDiff]:
    return [it for it in diff.steps if it.how is not How.SAME]


def _totals(diff: PlanDiff) -> str:
    ids = f"{diff.first.id} → {diff.second.id}"
    if diff.same:
        return f"Same: both plans do the same {amount(diff.count(How.SAME), 'change')} · {ids}"
    counts = ", ".join(f"{diff.count(how):,} {how.value}" for how in How)
    return f"Different: {counts} · {len(_differing(diff))} of {amount(len(diff.steps), 'step')} · {ids}"


def _text(diff: PlanDiff) -> Iterator[str]:
    for remark in diff.remarks:
        yield f"  ! {cut(remark, _LONGEST)}"
    if diff.remarks:
        yield ""
    for it in _differing(diff):
        yield f"  {_GLYPHS[it.how]} {cut_middle(it.step.id, 200)}  {_counts(it)}"
        yield from (f"      {_GLYPHS[one.how]} {_key(one)}{_parts(one)}" for one in it.examples)
    if _differing(diff):
        yield ""
    yield plain(_totals(diff))


def _markdown_step(it: StepDiff) -> Iterator[str]:
    yield f"- `{_GLYPHS[it.how]}` {code(cut_middle(it.step.id, 200))}: {prose(_counts(it))}"
    yield from (f"  - `{_GLYPHS[one.how]}` {code(_key(one))}{prose(_parts(one))}" for one in it.examples)


def _counts(it: StepDiff) -> str:
    counts = [f"{it.counts[how]:,} {how.value}" for how in How if it.counts[how]]
    if it.how in (How.ADDED, How.GONE):
        return f"the step {'is new' if it.how is How.ADDED else 'went'}, {amount(it.step.count, 'change')}"
    return ", ".join([*counts, *([f"the step's {', '.join(it.fields)}"] if it.fields else [])])


def _key(it: ChangeDiff) -> str:
    key = it.key[0] if len(it.key) == 1 else f"({', '.join(it.key)})"
    return cut_middle(key, 120)


def _parts(it: ChangeDiff) -> str:
    if not it.parts:
        return ""
    shown = [f"{cut(what, 80)} {' → '.join(_values(old, new))}" for what, old, new in it.parts[:_MOST_PARTS]]
    more = len(it.parts) - _MOST_PARTS
    return ": " + ", ".join([*shown, *([f"… {more} more"] if more > 0 else [])])


def _values(old: object, new: object) -> tuple[str, str]:
    return split_values(image_value({"": old}, ""), image_value({"": new}, ""))
