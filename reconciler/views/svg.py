"""The graph of a plan's steps as an SVG, laid out in layers: what comes first stands above.

In: steps. Out: one SVG whose nodes bear the number of their step; the same for the same steps.
Invariant: no style within, so that the page's own rules hold; every text escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.plan.step import Step, Verb
from reconciler.views.edges import Edge, direct
from reconciler.views.escape import cut_middle, html

MOST = 300
"""Steps that are drawn: more would be a picture of nothing."""
_WIDTH, _HEIGHT, _ACROSS, _DOWN = 210, 46, 26, 58
_SWEEPS = 6
TONES = {"+": "add", "-": "gone", "~": "change", "!": "gone"}


def render(steps: Sequence[Step], glyphs: Sequence[str], risks: Sequence[Sequence[str]]) -> str:
    """The picture of the first steps."""
    drawn = list(steps[:MOST])
    numbers = {step.id: n for n, step in enumerate(drawn)}
    edges = direct((before, step.id) for step in drawn for before in step.needs if before in numbers)
    layers = _layers(drawn, edges)
    places = _places(layers)
    width = max((x for x, _ in places.values()), default=0) + _WIDTH
    height = len(layers) * (_HEIGHT + _DOWN) - _DOWN
    nodes = [
        _node(numbers[step.id], step, glyphs[numbers[step.id]], risks[numbers[step.id]], places[step.id])
        for step in drawn
    ]
    return "\n".join(
        [
            f'<svg width="{width + 40}" height="{height + 40}" viewBox="-20 -20 {width + 40} {height + 40}" tabindex="0" '
            'role="group" aria-label="Order of the steps" '
            'preserveAspectRatio="xMidYMin meet">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z"/></marker></defs>',
            *(_edge(places[before], places[after]) for before, after in edges),
            *nodes,
            "</svg>",
        ]
    )


def _layers(steps: Sequence[Step], edges: Sequence[Edge]) -> list[list[str]]:
    """Each step one layer below the last it needs, near to what it is joined with."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for one, other in edges:
        before.setdefault(other, []).append(one)
        after.setdefault(one, []).append(other)
    depth: dict[str, int] = {}
    for step in steps:  # they stand in an order that keeps every edge
        depth[step.id] = max((depth[it] + 1 for it in before.get(step.id, ()) if it in depth), default=0)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, level in depth.items():
        layers[level].append(name)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        joined = before if down else after
        for layer in layers if down else reversed(layers):
            at = {name: n / max(1, len(other)) for other in layers for n, name in enumerate(other)}
            means = {name: _mean([at[it] for it in joined.get(name, ())], at[name]) for name in layer}
            layer.sort(key=lambda name, means=means: means[name])
    return layers


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _places(layers: Sequence[Sequence[str]]) -> Mapping[str, tuple[int, int]]:
    widest = max((len(layer) for layer in layers), default=0) * (_WIDTH + _ACROSS) - _ACROSS
    places: dict[str, tuple[int, int]] = {}
    for level, layer in enumerate(layers):
        left = (widest - (len(layer) * (_WIDTH + _ACROSS) - _ACROSS)) // 2
        for n, name in enumerate(layer):
            places[name] = (left + n * (_WIDTH + _ACROSS), level * (_HEIGHT + _DOWN))
    return places


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + _WIDTH // 2, start[1] + _HEIGHT
    x2, y2 = end[0] + _WIDTH // 2, end[1]
    half = (y2 - y1) // 2
    return f'<path class="edge" d="M{x1} {y1}C{x1} {y1 + half} {x2} {y2 - half} {x2} {y2}" marker-end="url(#arrow)"/>'


def _node(number: int, step: Step, glyph: str, risks: Sequence[str], place: tuple[int, int]) -> str:
    x, y = place
    what = f"{step.verb.value} {step.count:,}{f' ! {chr(32).join(risks)}' if risks else ''}"
    said = f"{step.verb.value} {step.count:,} {cut_middle(step.target, 100)}, {cut_middle(step.address, 100)}"
    return (
        f'<g class="node {TONES[glyph]}" data-step="{number}" tabindex="0" role="button" aria-pressed="false" aria-label="{html(said)}">'
        f'<title>{html(said)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
        f'<text x="{x + 9}" y="{y + 18}">{html(glyph)} {html(cut_middle(what, 34))}</text>'
        f'<text class="soft" x="{x + 9}" y="{y + 35}">{html(cut_middle(step.target if step.verb is not Verb.CALL else step.address, 34))}</text></g>'
    )
