"""Graphs in mermaid, which GitHub draws: the steps of a plan, the resources of a spec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.plan.file import Plan
from reconciler.plan.step import Step
from reconciler.views.edges import Edge, direct
from reconciler.views.escape import cut_middle, mermaid

MOST_NODES = 200
MOST_EDGES = 450  # mermaid itself draws no more than 500
_LONGEST_LABEL = 60


def render(plan: Plan, *, most: int = MOST_NODES) -> str:
    """The plan's steps, each with an arrow to those that wait for it."""
    steps = plan.steps[:most]
    names = {step.id: f"s{at}" for at, step in enumerate(steps)}
    lines = ["flowchart TD"]
    for name, members in _nodes(steps):
        if len(members) == 1:
            lines.append(f"  {names[members[0].id]}{_box(members[0])}")
        else:
            lines.append(f'  subgraph g{names[name]}["one statement"]')
            lines += [f"    {names[step.id]}{_box(step)}" for step in members]
            lines.append("  end")
    edges = [(before, step.id) for step in steps for before in step.needs if before in names]
    lines += _arrows(names, edges, hidden=len(plan.steps) - len(steps), noun="steps")
    return "\n".join(lines) + "\n"


def resources(nodes: Sequence[str], edges: Iterable[Edge], *, most: int = MOST_NODES) -> str:
    """A spec's resources; an edge leads from what comes before to what comes after."""
    names = {node: f"r{at}" for at, node in enumerate(nodes[:most])}
    lines = ["flowchart TD", *(f'  {name}["{_label(node)}"]' for node, name in names.items())]
    inside = [edge for edge in edges if edge[0] in names and edge[1] in names]
    lines += _arrows(names, inside, hidden=len(nodes) - len(names), noun="resources")
    return "\n".join(lines) + "\n"


def _nodes(steps: Sequence[Step]) -> list[tuple[str, list[Step]]]:
    nodes: dict[str, list[Step]] = {}
    for step in steps:
        nodes.setdefault(step.together or step.id, []).append(step)
    return [(members[0].id, members) for members in nodes.values()]


def _box(step: Step) -> str:
    return f'["{mermaid(step.verb.glyph)} {step.count:,} {_label(step.address)}<br/>{_label(step.target)}"]'


def _label(text: str) -> str:
    return mermaid(cut_middle(text, _LONGEST_LABEL))


def _arrows(names: dict[str, str], edges: Iterable[Edge], *, hidden: int, noun: str) -> list[str]:
    shortest = direct(edges)
    lines = [f"  {names[one]} --> {names[other]}" for one, other in shortest[:MOST_EDGES]]
    left = [f"{hidden:,} more {noun}"] if hidden > 0 else []
    left += [f"{len(shortest) - MOST_EDGES:,} more arrows"] if len(shortest) > MOST_EDGES else []
    return [*lines, *([f'  more["… {" and ".join(left)} not drawn"]'] if left else [])]
