"""A plan as one web page that needs nothing else: no script, no style from elsewhere, nothing loaded."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.plan.file import Plan
from reconciler.views.definitions import Definition
from reconciler.views.escape import cut, cut_middle
from reconciler.views.escape import html as escaped
from reconciler.views.overview import Example, Overview, StepView, amount, check_lines, hazard_text, overview

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #d1d9e0}"
    "td.n{text-align:right;white-space:nowrap}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}"
    ".c{color:#1a7f37}.u{color:#9a6700}.d{color:#cf222e}"
    ".risk{border-left:4px solid #cf222e;padding:.2rem .8rem;margin:.4rem 0}"
    "details{margin:.2rem 0}summary{cursor:pointer}"
)
_HEADS = ("resource", "target", "verb", "count", "why", "columns and examples")
_CLASSES = {"+": "c", "~": "u", "-": "d", "!": "d"}


def render(plan: Plan) -> str:
    """The whole page."""
    view = overview(plan)
    return "\n".join(_lines(view)) + "\n"


def _lines(view: Overview) -> Iterator[str]:
    plan = view.plan
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>reconciler plan {plan.id}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>Plan <code>{plan.id}</code></h1>"
    said = view.nothing or f"{view.totals} · {amount(len(plan.steps), 'step')} · {view.transactions}"
    yield f"<p>{escaped(said)}</p>"
    yield from (f'<p class="risk">{escaped(hazard_text(hazard))}</p>' for hazard in view.hazards)
    yield from (f'<p class="check">{escaped(f"{glyph} {text}")}</p>' for glyph, text in check_lines(view))
    for deferred in plan.header.deferred:
        yield f"<p>? {_code(cut(deferred.address, 120))} deferred: {escaped(cut(deferred.reason, 400))}</p>"
    if view.steps:
        yield f"<table><thead><tr>{''.join(f'<th>{head}</th>' for head in _HEADS)}</tr></thead><tbody>"
        yield from (_row(step) for step in view.steps)
        yield "</tbody></table>"
    yield "</body></html>"


def _row(view: StepView) -> str:
    step = view.step
    glyph = view.glyph
    cells = (
        f"<td>{_code(cut_middle(step.address, 120))}</td>",
        f"<td>{escaped(cut(step.connection, 63))} {_code(cut_middle(step.target, 130))}</td>",
        f'<td class="{_CLASSES[glyph]}"><code>{glyph}</code> {step.verb.value}</td>',
        f'<td class="n">{view.amount}</td>',
        f"<td>{escaped(view.reasons)}</td>",
        f"<td>{escaped(view.columns)}{_details(view)}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


def _details(view: StepView) -> str:
    notes = "".join(f"<li>{escaped(note)}</li>" for note in view.notes)
    examples = "".join(f"<li>{_example(example)}</li>" for example in view.examples)
    if view.definitions:
        return "".join(_definition(it) for it in view.definitions) + (f"<ul>{notes}</ul>" if notes else "")
    shown = f"{len(view.examples)} of {view.step.count:,}"
    return f"<details><summary>{shown}</summary><ul>{examples}{notes}</ul></details>"


def _definition(it: Definition) -> str:
    lines = "\n".join(escaped(line) for line in it.lines) + (f"\n… {amount(it.more, 'more line')}" if it.more else "")
    return f"<details><summary>{escaped(it.amount) or 'definition'}</summary><pre>{lines}</pre></details>"


def _example(example: Example) -> str:
    values = "".join(f"<br>{_code(column)}: {_code(old)} → {_code(new)}" for column, old, new in example.values)
    more = f"<br>… {amount(example.more_columns, 'more column')}" if example.more_columns else ""
    return f"{_code(example.key)}{values}{more}"


def _code(text: str) -> str:
    return f"<code>{escaped(text)}</code>"
