"""The edges of a graph that are worth drawing."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

Edge = tuple[str, str]


def direct(edges: Iterable[Edge]) -> list[Edge]:
    """The edges without those that a longer way says too; in the order they came."""
    given = list(dict.fromkeys(edges))
    after: dict[str, list[str]] = {}
    for one, other in given:
        after.setdefault(one, []).append(other)
    try:
        order = list(TopologicalSorter(after).static_order())  # what lies behind a node comes before it
    except CycleError:
        return given
    # Sets of nodes as bits of a number: thousands of steps need little memory.
    bit = {node: 1 << at for at, node in enumerate(order)}
    reached: dict[str, int] = {}
    by_detour: dict[str, int] = {}
    for node in order:
        near = far = 0
        for child in after.get(node, ()):
            near |= bit[child]
            far |= reached[child]
        by_detour[node], reached[node] = far, near | far
    return [(one, other) for one, other in given if not by_detour[one] & bit[other]]
