"""The same graphs for Graphviz, whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.plan.file import Plan
from reconciler.views.edges import Edge, direct
from reconciler.views.escape import dot


def render(plan: Plan) -> str:
    """The plan's steps; those of one statement share a cluster."""
    names = {step.id: f"s{at}" for at, step in enumerate(plan.steps)}
    clusters: dict[str, list[str]] = {}
    lines: list[str] = []
    for step in plan.steps:
        box = f'  {names[step.id]} [label="{step.verb.glyph} {step.count:,} {dot(step.address)}\\n{dot(step.target)}"];'
        if step.together:
            clusters.setdefault(step.together, []).append(f"  {box}")
        else:
            lines.append(box)
    for at, boxes in enumerate(clusters.values()):
        lines += [f"  subgraph cluster_{at} {{", '    label="one statement";', *boxes, "  }"]
    edges = direct((before, step.id) for step in plan.steps for before in step.needs if before in names)
    return _graph([*lines, *(f"  {names[one]} -> {names[other]};" for one, other in edges)])


def resources(nodes: Sequence[str], edges: Iterable[Edge]) -> str:
    """A spec's resources; an edge leads from what comes before to what comes after."""
    names = {node: f"r{at}" for at, node in enumerate(nodes)}
    lines = [f'  {name} [label="{dot(node)}"];' for node, name in names.items()]
    inside = direct(edge for edge in edges if edge[0] in names and edge[1] in names)
    return _graph([*lines, *(f"  {names[one]} -> {names[other]};" for one, other in inside)])


def _graph(lines: list[str]) -> str:
    return "\n".join(["digraph reconciler {", "  node [shape=box];", *lines, "}"]) + "\n"
