"""Steps in, the one total order out.

In: steps, `must` edges (before, after) that hold whatever happens, `rather` edges that hold where they close no cycle.
Out: the same steps in an order where every must edge holds; each knows what it needs and which steps run as one statement with it.
Invariant: the order depends on the set of steps and edges alone, never on the order they came in.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.step import Step, Verb

Edge = tuple[str, str]

_TOGETHER = {Verb.INSERT, Verb.DELETE}


def arrange(steps: Iterable[Step], must: Iterable[Edge], rather: Iterable[Edge] = ()) -> list[Step]:
    """Order the steps; ties go by address, and a connection is not left while it has something ready."""
    by_id = {step.id: step for step in sorted(steps, key=lambda step: step.id)}
    hard = {edge for edge in must if edge[0] in by_id and edge[1] in by_id and edge[0] != edge[1]}
    for group in _groups(by_id.values()):
        hard |= {(one, other) for one in group for other in group if one != other}
    soft = {edge for edge in rather if edge[0] in by_id and edge[1] in by_id and edge[0] != edge[1]} - hard
    before, circles = _woven(by_id, hard | soft)
    # Of the preferences on a circle all are dropped.
    while dropped := {edge for edge in soft if any(edge[0] in it and edge[1] in it for it in circles)}:
        soft -= dropped
        before, circles = _woven(by_id, hard | soft)
    return list(_walk(by_id, before, circles))


def _groups(steps: Iterable[Step]) -> list[list[str]]:
    """Steps that were one node already (an inverted plan keeps them so)."""
    groups: dict[str, list[str]] = {}
    for step in steps:
        if step.together:
            groups.setdefault(step.together, []).append(step.id)
    return list(groups.values())


def _woven(nodes: Iterable[str], edges: Iterable[Edge]) -> tuple[Mapping[str, set[str]], list[set[str]]]:
    """What stands before each step, and the steps that wait for each other."""
    before: dict[str, set[str]] = {name: set() for name in nodes}
    for one, other in edges:
        before[other].add(one)
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        import networkx as nx  # 13 MB and a tenth of a second: only for plans that go in circles

        circles = nx.strongly_connected_components(nx.DiGraph([(it, name) for name in before for it in before[name]]))
        return before, [members for members in circles if len(members) > 1]
    return before, []


def _leaders(by_id: Mapping[str, Step], circles: Iterable[set[str]]) -> dict[str, str]:
    """Each step's node: itself, or the first of the steps that can only run as one statement."""
    leader = {name: name for name in by_id}
    for circle in circles:
        members = sorted(circle)
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


def _walk(by_id: Mapping[str, Step], before: Mapping[str, set[str]], circles: Iterable[set[str]]) -> Iterator[Step]:
    leader = _leaders(by_id, circles)
    members: dict[str, list[str]] = {}
    needs: dict[str, tuple[str, ...]] = {}
    after: dict[str, list[str]] = {}
    """The nodes that each step holds back, once for each edge."""
    waits = dict.fromkeys(by_id, 0)
    """For each node the edges that still hold it back."""
    for name, head in leader.items():
        members.setdefault(head, []).append(name)
        needs[name] = tuple(sorted(other for other in before[name] if leader[other] != head))
        waits[head] += len(needs[name])
        for other in needs[name]:
            after.setdefault(other, []).append(head)
    ready: dict[str, list[str]] = {}
    for head in members:
        if not waits[head]:
            heapq.heappush(ready.setdefault(by_id[head].connection, []), head)
    here: str | None = None
    while any(ready.values()):
        if here is None or not ready.get(here):
            here = min((heads[0], place) for place, heads in ready.items() if heads)[1]
        head = heapq.heappop(ready[here])
        together = head if len(members[head]) > 1 else None
        for name in members[head]:
            yield by_id[name].having(needs=needs[name], together=together)
            for freed in after.get(name, ()):
                waits[freed] -= 1
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
