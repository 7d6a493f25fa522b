"""A plan as one web page that needs nothing else: summary, risks first, the graph, every step, every change.

In: a plan. Out: pieces of one file, as many as there are changes to write; little memory. Nothing is loaded from anywhere: the page's own
style and script are let through by their hashes, and nothing else.
Invariant: text of the plan stands escaped in the page, or as JSON in a block that no browser executes and that no text can close.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from reconciler.plan import rules
from reconciler.plan.file import Plan, change_prefix
from reconciler.plan.step import Hazard, Step, Verb
from reconciler.views import svg
from reconciler.views.definitions import OBJECT_VERBS, Definition
from reconciler.views.escape import cut, cut_middle, escape_all_unseen
from reconciler.views.escape import html as escaped
from reconciler.views.overview import Example, Overview, StepView, amount, check_lines, hazard_text, overview

_PAGE = Path(__file__).parent / "page"
_CHUNK = 1000
"""Changes in one block of data; the script counts on it."""
_HEADS = ("resource", "target", "verb", "count", "why", "columns and examples")
_MOST_RISKS = 500
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def render(plan: Plan) -> Iterator[str]:
    """The page, piece by piece."""
    view = overview(plan)
    by_id = {it.step.id: it for it in view.steps}
    steps = [by_id[step.id] for step in plan.steps]
    style, script = _asset("page.css"), _asset("page.js")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
        f"<title>reconciler plan {plan.id}</title><style>{style}</style></head><body>\n"
    )
    yield from _top(view)
    if steps:
        yield from _graph(steps)
        yield from _table(steps)
        yield _CHANGES
        yield _block("steps", _json([_step(it) for it in steps]))
        for it in steps:
            yield from _changes(plan, it.step)
        yield f"<script>{script}</script>"
    yield "</body></html>\n"


@cache
def _asset(name: str) -> str:
    return (_PAGE / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(tree: object) -> str:
    return _closed(escape_all_unseen(_COMPACT.encode(tree)))


def _closed(text: str) -> str:
    """JSON of the same meaning in which nothing can end the block it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _block(name: str, text: str) -> str:
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _top(view: Overview) -> Iterator[str]:
    plan = view.plan
    yield f"<header><h1>Plan <code>{plan.id}</code></h1>"
    said = view.nothing or f"{view.totals} · {amount(len(plan.steps), 'step')} · {view.transactions}"
    yield f"<p>{escaped(said)}</p></header>\n"
    yield from (f'<p class="check">{escaped(f"{glyph} {text}")}</p>' for glyph, text in check_lines(view))
    if view.hazards:
        yield '<section aria-labelledby="risks"><h2 id="risks">Risks</h2><ul class="risks">'
        numbers = {step.id: n for n, step in enumerate(plan.steps)}
        yield from (_risk(it, numbers.get(it.step)) for it in view.hazards[:_MOST_RISKS])
        more = len(view.hazards) - _MOST_RISKS
        yield (f"<li>… {amount(more, 'more risk')}</li>" if more > 0 else "") + "</ul></section>\n"
    if plan.header.deferred:
        yield "<section><h2>Deferred</h2><ul>"
        for it in plan.header.deferred:
            yield f"<li>{_code(cut(it.address, 120))}: {escaped(cut(it.reason, 400))}</li>"
        yield "</ul></section>\n"


def _risk(it: Hazard, step: int | None) -> str:
    tone = "stop" if rules.stops(it) else rules.rule(it.kind).level.value.replace("stop", "warning")
    link = f' <button type="button" data-step="{step}" class="screen-only">show</button>' if step is not None else ""
    return f'<li class="{tone}">{escaped(hazard_text(it))}{link}</li>'


def _graph(steps: Sequence[StepView]) -> Iterator[str]:
    yield '<section aria-labelledby="order"><h2 id="order">Order of the steps</h2>'
    if len(steps) > svg.MOST:
        yield f'<p class="soft">The first {svg.MOST} of {len(steps):,} steps.</p>'
    yield (
        '<div id="graph"><div class="tools"><button type="button" id="in" aria-label="Zoom in">+</button>'
        '<button type="button" id="out" aria-label="Zoom out">−</button>'
        '<button type="button" id="fit">Whole</button></div>'
    )
    yield svg.render([it.step for it in steps], [it.glyph for it in steps], [it.risks for it in steps])
    yield "</div></section>\n"


def _table(steps: Sequence[StepView]) -> Iterator[str]:
    yield '<section aria-labelledby="steps-head"><h2 id="steps-head">Steps</h2><div class="scroll"><table>'
    yield f"<thead><tr>{''.join(f'<th scope=col>{head}</th>' for head in _HEADS)}</tr></thead><tbody>"
    yield from (_row(n, step) for n, step in enumerate(steps))
    yield "</tbody></table></div></section>\n"


_CHANGES = """<section id="changes" aria-labelledby="changes-head"><h2 id="changes-head">Changes</h2>
<noscript><p>Every change is in this file; to search them, let it run its own script. The table above shows the first of each step.</p></noscript>
<p class="print-only">On paper: the first changes of each step, above. The file itself holds all.</p>
<div class="tools-bar"><input type="search" id="search" placeholder="Search keys, values, reasons ( / )" aria-label="Search changes">
<select id="resource" aria-label="Resource"><option value="">every resource</option></select>
<select id="step" aria-label="Step"><option value="">every step</option></select>
<span id="verbs" role="group" aria-label="Verbs"></span>
<button type="button" id="clear">Clear</button> <span id="status" role="status" aria-live="polite" class="soft"></span></div>
<div id="grid" role="grid" tabindex="0" aria-label="Changes: arrows move, Enter shows one whole, Escape closes it">
<div id="head" role="row"></div><div id="body" role="rowgroup"></div></div>
<div id="detail" hidden role="region" aria-label="One change" aria-live="polite" tabindex="0"></div></section>
"""


def _row(number: int, view: StepView) -> str:
    step = view.step
    chips = " ".join(f'<span class="chip">{risk}</span>' for risk in view.risks)
    cells = (
        f'<td><button type="button" data-step="{number}" aria-pressed="false">{_code(cut_middle(step.address, 120))}</button></td>',
        f"<td>{escaped(cut(step.connection, 63))} {_code(cut_middle(step.target, 130))}</td>",
        f'<td class="{svg.TONES[view.glyph]}"><code>{escaped(view.glyph)}</code> {step.verb.value} {chips}</td>',
        f'<td class="n">{view.amount}</td>',
        f"<td>{escaped(view.reasons)}</td>",
        f"<td>{escaped(view.columns)}{_details(view)}</td>",
    )
    return f'<tr data-step="{number}">{"".join(cells)}</tr>\n'


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
    values = "".join(
        f"<br>{_code(column)}: <del>{escaped(old)}</del> → <ins>{escaped(new)}</ins>"
        for column, old, new in example.values
    )
    more = f"<br>… {amount(example.more_columns, 'more column')}" if example.more_columns else ""
    return f"{_code(example.key)}{values}{more}"


def _code(text: str) -> str:
    return f"<code>{escaped(text)}</code>"


def _step(view: StepView) -> dict[str, object]:
    """What the script needs to know of a step."""
    step = view.step
    columns = [name for name in step.columns if name not in step.key] if step.verb not in OBJECT_VERBS else []
    return {
        "address": cut_middle(step.address, 200),
        "target": cut_middle(step.target, 200),
        "verb": step.verb.value,
        "glyph": view.glyph,
        "tone": svg.TONES[view.glyph],
        "count": step.count,
        "columns": sorted(columns),
        "sensitive": list(step.sensitive),
        "whole": step.verb is Verb.PUT,
    }


def _changes(plan: Plan, step: Step) -> Iterator[str]:
    """The plan's own lines without the name of their step, in blocks."""
    head, sensitive = len(change_prefix(step.id).encode()) - len(b'"key":'), step.sensitive
    pieces: list[str] = []
    for line in plan.lines(step):
        text = _masked(line, sensitive) if sensitive else "{" + line[head:-1].decode()
        # Most lines hide nothing, and this is seen sooner than by looking at each character.
        pieces.append(text if text.isascii() and text.isprintable() else escape_all_unseen(text))
        if len(pieces) == _CHUNK:
            yield _lines(pieces)
            pieces = []
    if pieces:
        yield _lines(pieces)


def _masked(line: bytes, sensitive: Sequence[str]) -> str:
    """The line without digests of sensitive values: a page may go where the plan may not."""
    tree = json.loads(line)
    del tree["of"]
    for image in (tree["before"], tree["after"]):
        for name in sensitive:
            if image and image.get(name) is not None:
                image[name] = "(sensitive)"
    return _COMPACT.encode(tree)


def _lines(pieces: Sequence[str]) -> str:
    return '<script type="application/json" class="changes">\n' + _closed("\n".join(pieces)) + "\n</script>\n"
