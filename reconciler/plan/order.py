"""Steps in, the one total order out.

In: steps, `must` edges (before, after) that hold whatever happens, `rather` edges that hold where they close no cycle.
Out: the same steps in an order where every must edge holds; each knows what it needs and which steps run as one statement with it.
Invariant: the order depends on the set of steps and edges alone, never on the order they came in.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.step import Step, Verb

if TYPE_CHECKING:
    import networkx as nx

Edge = tuple[str, str]

_TOGETHER = {Verb.INSERT, Verb.DELETE}


def arrange(steps: Iterable[Step], must: Iterable[Edge], rather: Iterable[Edge] = ()) -> list[Step]:
    """Order the steps; ties go by address, and a connection is not left while it has something ready."""
    by_id = {step.id: step for step in sorted(steps, key=lambda step: step.id)}
    hard = {edge for edge in must if edge[0] in by_id and edge[1] in by_id and edge[0] != edge[1]}
    soft = {edge for edge in rather if edge[0] in by_id and edge[1] in by_id and edge[0] != edge[1]} - hard
    for group in _groups(by_id.values()):
        hard |= {(one, other) for one in group for other in group if one != other}
    edges = hard | _harmless(by_id, hard, soft)
    leader = _leaders(by_id, edges)
    return [
        replace(
            by_id[name],
            needs=tuple(sorted(before for before, _ in incoming if leader[before] != leader[name])),
            together=leader[name] if size[leader[name]] > 1 else None,
        )
        for size, incoming, name in _walk(by_id, edges, leader)
    ]


def _groups(steps: Iterable[Step]) -> list[list[str]]:
    """Steps that were one node already (an inverted plan keeps them so)."""
    groups: dict[str, list[str]] = {}
    for step in steps:
        if step.together:
            groups.setdefault(step.together, []).append(step.id)
    return list(groups.values())


def _graph(nodes: Iterable[str], edges: Iterable[Edge]) -> nx.DiGraph[str]:
    import networkx as nx  # 13 MB and a tenth of a second: only for plans that have an order

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    return graph


def _components(by_id: dict[str, Step], edges: set[Edge]) -> list[set[str]]:
    """Steps that wait for each other in a circle; without any edge each stands alone."""
    if not edges:
        return [{name} for name in by_id]
    import networkx as nx

    return list(nx.strongly_connected_components(_graph(by_id, edges)))


def _harmless(by_id: dict[str, Step], hard: set[Edge], soft: set[Edge]) -> set[Edge]:
    """The preferences that close no cycle; of those on one, all are dropped."""
    while soft:
        components = [c for c in _components(by_id, hard | soft) if len(c) > 1]
        inside = (
            {edge for edge in soft for c in components if edge[0] in c and edge[1] in c} if components else set[Edge]()
        )
        if not inside:
            break
        soft = soft - inside
    return soft


def _leaders(by_id: dict[str, Step], edges: set[Edge]) -> dict[str, str]:
    """Each step's node: itself, or the first of the steps that can only run as one statement."""
    leader: dict[str, str] = {}
    for component in _components(by_id, edges):
        members = sorted(component)
        if len(members) > 1:
            verbs = {by_id[name].verb for name in members}
            places = {by_id[name].connection for name in members}
            if len(verbs) > 1 or len(places) > 1 or not verbs <= _TOGETHER:
                raise ReconcilerError(
                    "these steps wait for each other and no order can satisfy all",
                    details=tuple(members),
                    why="each needs another of them to be done before",
                    todo="split them over two plans with --only, or make the constraint that binds them deferrable",
                )
        leader |= dict.fromkeys(members, members[0])
    return leader


def _walk(
    by_id: dict[str, Step], edges: set[Edge], leader: dict[str, str]
) -> Iterable[tuple[dict[str, int], list[Edge], str]]:
    members: dict[str, list[str]] = {}
    incoming: dict[str, list[Edge]] = {}
    for name in by_id:
        members.setdefault(leader[name], []).append(name)
        incoming[name] = []
    waits: dict[str, set[str]] = {head: set() for head in members}
    frees: dict[str, set[str]] = {head: set() for head in members}
    for before, after in edges:
        incoming[after].append((before, after))
        if leader[before] != leader[after]:
            waits[leader[after]].add(leader[before])
            frees[leader[before]].add(leader[after])
    size = {head: len(names) for head, names in members.items()}
    ready: dict[str, list[str]] = {}
    for head in members:
        if not waits[head]:
            heapq.heappush(ready.setdefault(by_id[head].connection, []), head)
    here: str | None = None
    while any(ready.values()):
        if here is None or not ready.get(here):
            here = min((heads[0], place) for place, heads in ready.items() if heads)[1]
        head = heapq.heappop(ready[here])
        for name in members[head]:
            yield size, incoming[name], name
        for freed in sorted(frees[head]):
            waits[freed].discard(head)
            if not waits[freed]:
                heapq.heappush(ready.setdefault(by_id[freed].connection, []), freed)


def runs(steps: Iterable[Step]) -> list[tuple[str, list[Step]]]:
    """Consecutive steps of one connection: each run is one transaction where the connection knows transactions.

    A step that stands apart of transactions is a run of its own.
    """
    result: list[tuple[str, list[Step]]] = []
    for step in steps:
        if not result or result[-1][0] != step.connection or step.apart or result[-1][1][-1].apart:
            result.append((step.connection, []))
        result[-1][1].append(step)
    return result
