"""Which resources a command is about, and in what order they need each other."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import Spec


def graph_of(spec: Spec) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Addresses, and (before, after) for each `needs`."""
    resources = spec.resources()
    edges = sorted((needed, address) for address, resource in resources.items() for needed in resource.needs)
    return tuple(sorted(resources)), tuple(edges)


def choose(spec: Spec, only: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    """`only` brings along what it needs; `exclude` drops what depends on it."""
    nodes, edges = graph_of(spec)
    for address in (*only, *exclude):
        if address not in nodes:
            close = difflib.get_close_matches(address, nodes, 1)
            raise ReconcilerError(
                f"there is no resource {address}",
                todo=f"did you mean {close[0]}?" if close else f"the resources are {', '.join(nodes)}",
            )
    wanted = _reach(only, [(after, before) for before, after in edges]) if only else set(nodes)
    return tuple(sorted(wanted - _reach(exclude, edges)))


def _reach(start: Sequence[str], edges: Sequence[tuple[str, str]]) -> set[str]:
    seen = set(start)
    queue = list(start)
    while queue:
        here = queue.pop()
        for one, other in edges:
            if one == here and other not in seen:
                seen.add(other)
                queue.append(other)
    return seen
