"""`follow: dependents`: every row whose foreign keys lead to the roots, as one condition for each table.

In: the target's catalog and a condition for each root. Out: a `Scope` for each table of the closure, for one side of the comparison.
Tables in a foreign-key cycle (a self-reference is one) are reached together by one recursive query over row positions; all others by
`(foreign key) IN (SELECT referenced columns of what was reached before)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from reconciler.plan.names import TableName
from reconciler.systems.postgres.catalog import Catalog, ForeignKey
from reconciler.systems.postgres.rows import Scope, alias, on_keys
from reconciler.systems.postgres.session import Composable, ident, join, lit, q, raw

RelationOf = Callable[[TableName], Composable | None]
"""Where a table's rows stand on this side; None where this side has no such table."""


def dependents(catalog: Catalog, roots: Sequence[TableName]) -> list[TableName]:
    """The roots and every table whose foreign keys lead to them, whatever the action of the key."""
    seen = dict.fromkeys(roots)
    queue = list(roots)
    while queue:
        for key in catalog.tables[queue.pop(0)].referenced_by:
            if key.child not in seen:
                seen[key.child] = None
                queue.append(key.child)
    return sorted(seen)


@dataclass(frozen=True)
class _Side:
    catalog: Catalog
    roots: Mapping[TableName, Composable]
    tables: Sequence[TableName]
    relation_of: RelationOf
    component: Mapping[TableName, tuple[TableName, ...]]

    def keys_into(self, table: TableName) -> list[ForeignKey]:
        """Foreign keys of a table that lead into the closure."""
        return [
            k
            for k in self.catalog.tables[table].references
            if k.parent in self.component and self.relation_of(k.parent)
        ]

    def number(self, table: TableName) -> int:
        return list(self.tables).index(table)

    def cyclic(self, table: TableName) -> bool:
        members = self.component[table]
        return len(members) > 1 or any(key.parent == table for key in self.keys_into(table))

    def from_outside(self, table: TableName) -> Composable:
        """Rows that are roots, or whose keys lead to what other components reach."""
        inside = self.component[table]
        parts = [self.roots[table]] if table in self.roots else []
        for key in self.keys_into(table):
            if key.parent not in inside or not self.cyclic(table):
                columns = join([q("{}.{}", alias(table), ident(c)) for c in key.columns])
                referenced = join([ident(c) for c in key.parent_columns])
                parts.append(
                    q("({}) IN (SELECT {} FROM {})", columns, referenced, ident(f"rc_reach_{self.number(key.parent)}"))
                )
        return q("({})", join(parts, " OR ")) if parts else raw("false")

    def condition(self, table: TableName) -> Composable:
        if not self.cyclic(table):
            return self.from_outside(table)
        return q(
            "({0}.tableoid, {0}.ctid) IN (SELECT tab, id FROM {1} WHERE n = {2})",
            alias(table),
            ident(f"rc_cycle_{self.number(self.component[table][0])}"),
            lit(self.number(table)),
        )

    def reach(self, table: TableName) -> Composable:
        """The CTE of a table's reached rows, with the columns that others refer to."""
        wanted = {c for key in self.catalog.tables[table].referenced_by for c in key.parent_columns}
        columns = join([q("{}.{}", alias(table), ident(c)) for c in sorted(wanted)]) if wanted else raw("1")
        return q("{} AS MATERIALIZED (SELECT {} FROM {} AS {} WHERE {})", ident(f"rc_reach_{self.number(table)}"), columns,
                 self.relation_of(table) or raw(""), alias(table), self.condition(table))  # fmt: skip

    def cycle(self, members: Sequence[TableName]) -> Composable:
        """The CTE of the row positions that a cycle of tables reaches."""
        starts: list[Composable] = []
        hops: list[Composable] = []
        for table in members:
            relation = self.relation_of(table)
            if relation is None:
                continue
            starts.append(q("SELECT {n} AS n, {a}.tableoid AS tab, {a}.ctid AS id FROM {r} AS {a} WHERE {w}", n=lit(self.number(table)),
                            a=alias(table), r=relation, w=self.from_outside(table)))  # fmt: skip
            for key in self.keys_into(table):
                if key.parent in members:
                    hops.append(
                        q("SELECT {n} AS n, c.tableoid AS tab, c.ctid AS id FROM {p} p JOIN {c} c ON {on} WHERE r.n = {pn}"
                          " AND p.tableoid = r.tab AND p.ctid = r.id", n=lit(self.number(table)), p=self.relation_of(key.parent) or raw(""),
                          c=relation, on=on_keys("c", key.columns, "p", key.parent_columns), pn=lit(self.number(key.parent)))
                    )  # fmt: skip
        name = ident(f"rc_cycle_{self.number(members[0])}")
        return q("{n}(n, tab, id) AS (({s}) UNION SELECT x.n, x.tab, x.id FROM {n} r, LATERAL ({h}) x)", n=name,
                 s=join(starts, " UNION "), h=join(hops, " UNION ALL "))  # fmt: skip


def scopes(
    catalog: Catalog, roots: Mapping[TableName, Composable], tables: Sequence[TableName], relation_of: RelationOf
) -> dict[TableName, Scope]:
    """A condition for each table of the closure that this side has, with the WITH clause it stands on."""
    graph: nx.DiGraph[TableName] = nx.DiGraph()
    graph.add_nodes_from(tables)
    graph.add_edges_from(
        (key.parent, name) for name in tables for key in catalog.tables[name].references if key.parent in tables
    )
    components = [tuple(sorted(members)) for members in nx.strongly_connected_components(graph)]
    side = _Side(catalog, roots, tables, relation_of, {name: members for members in components for name in members})
    result: dict[TableName, Scope] = {}
    for name in tables:
        if relation_of(name) is None:
            continue
        above = {one for one in _ancestors(graph, name) if relation_of(one) is not None}
        if side.cyclic(name):
            above.add(name)
        result[name] = Scope(where=side.condition(name), with_=_with(side, graph, above, name))
    return result


def _ancestors(graph: nx.DiGraph[TableName], name: TableName) -> set[TableName]:
    seen: set[TableName] = set()
    queue = [name]
    while queue:
        parents = set(graph.predecessors(queue.pop())) - seen
        seen |= parents
        queue += parents
    return seen - {name}


def _with(side: _Side, graph: nx.DiGraph[TableName], above: set[TableName], name: TableName) -> Composable | None:
    parts: list[Composable] = []
    heads = {name: members[0] for name, members in side.component.items()}
    condensed: nx.DiGraph[TableName] = nx.DiGraph()
    condensed.add_nodes_from(heads.values())
    condensed.add_edges_from((heads[a], heads[b]) for a, b in graph.edges if heads[a] != heads[b])
    for head in nx.lexicographical_topological_sort(condensed):
        members = [member for member in side.component[head] if member in above]
        if members and side.cyclic(members[0]):
            parts.append(side.cycle(side.component[members[0]]))
        parts += [side.reach(table) for table in members if table != name or not side.cyclic(name)]
    return q("WITH RECURSIVE {} ", join(parts)) if parts else None
