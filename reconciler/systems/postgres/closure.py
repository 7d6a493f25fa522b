"""`follow: dependents`: every row whose foreign keys lead to the roots, as one condition for each table.

In: the target's catalog and a condition for each root. Out: a `Scope` for each table of the closure, for one side of the comparison,
and the `Reach` it stands on: temporary tables of what is reached, filled parents first. Where a side has no right to temporary tables
(a read replica) every scope carries the same as CTEs of its own.
Tables in a foreign-key cycle (a self-reference is one) are reached together by one recursive query over row positions; all others by
`(foreign key) IN (SELECT referenced columns of what was reached before)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from reconciler.plan.names import TableName
from reconciler.systems.postgres.catalog import Catalog, ForeignKey
from reconciler.systems.postgres.rows import Scope, alias, on_keys
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

if TYPE_CHECKING:
    import networkx as nx

STATEMENTS_A_BATCH = 200

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


def cyclic(catalog: Catalog, tables: Sequence[TableName]) -> set[TableName]:
    """Tables whose foreign keys lead back to themselves."""
    import networkx as nx

    graph = _graph(catalog, tables)
    found = {name for members in nx.strongly_connected_components(graph) if len(members) > 1 for name in members}
    return found | {name for name in graph if graph.has_edge(name, name)}


def _graph(catalog: Catalog, tables: Sequence[TableName]) -> nx.DiGraph[TableName]:
    """The tables' foreign keys among themselves, parents first."""
    import networkx as nx

    graph: nx.DiGraph[TableName] = nx.DiGraph()
    graph.add_nodes_from(tables)
    graph.add_edges_from(
        (key.parent, name) for name in tables for key in catalog.tables[name].references if key.parent in graph
    )
    return graph


@dataclass
class Reach:
    """Temporary tables of what is reached on one side: how they are made, and how each is filled.

    Of a table that others of the closure refer to, `reached` holds the referenced columns of the rows reached; `given` those that
    the other side reaches, so that a row reached there leads to its dependents here too (`exchange.py`).
    """

    session: Session
    gives: bool
    """Whether it may make them."""
    levels: list[list[tuple[TableName, ...]]] = field(default_factory=list[list[tuple[TableName, ...]]])
    """Components of tables, parents before children; those of a level do not refer to each other."""
    made: list[Composable] = field(default_factory=list[Composable])
    """The statements that make them, before the transaction is read only."""
    filled: dict[tuple[TableName, ...], list[Composable]] = field(
        default_factory=dict[tuple[TableName, ...], list[Composable]]
    )
    """For each component the statements that fill its tables anew."""
    cyclic: set[tuple[TableName, ...]] = field(default_factory=set[tuple[TableName, ...]])
    reached: dict[TableName, Composable] = field(default_factory=dict[TableName, Composable])
    given: dict[TableName, Composable] = field(default_factory=dict[TableName, Composable])

    def run(self, statements: Sequence[Composable]) -> None:
        for start in range(0, len(statements), STATEMENTS_A_BATCH):
            self.session.run(join(statements[start : start + STATEMENTS_A_BATCH], "; "))

    def fill(self, components: Sequence[tuple[TableName, ...]]) -> None:
        self.run([statement for it in components for statement in self.filled.get(it, ())])


class _Side(NamedTuple):
    catalog: Catalog
    roots: Mapping[TableName, Composable]
    tables: Sequence[TableName]
    relation_of: RelationOf
    prefix: str
    component: Mapping[TableName, tuple[TableName, ...]]
    numbers: Mapping[TableName, int]
    gives: bool
    """Whether there are tables of what the other side reaches."""

    def keys_into(self, table: TableName) -> list[ForeignKey]:
        """Foreign keys of a table that lead into the closure."""
        return [
            k
            for k in self.catalog.tables[table].references
            if k.parent in self.component and self.relation_of(k.parent)
        ]

    def reach_name(self, table: TableName) -> Composable:
        return ident(f"rc_reach_{self.prefix}_{self.numbers[table]}")

    def given_name(self, table: TableName) -> Composable:
        return ident(f"rc_given_{self.prefix}_{self.numbers[table]}")

    def cycle_name(self, table: TableName) -> Composable:
        return ident(f"rc_cycle_{self.prefix}_{self.numbers[self.component[table][0]]}")

    def cyclic(self, table: TableName) -> bool:
        members = self.component[table]
        return len(members) > 1 or any(key.parent == table for key in self.catalog.tables[table].references)

    def from_outside(self, table: TableName) -> Composable:
        """Rows that are roots, or whose keys lead to what other components, or the other side, reach."""
        parts = [self.roots[table]] if table in self.roots else []
        for key in self.keys_into(table):
            inside = key.parent in self.component[table]
            if inside and not self.gives:
                continue
            columns = join([q("{}.{}", alias(table), ident(c)) for c in key.columns])
            referenced = join([ident(c) for c in key.parent_columns])
            where = self.given_name(key.parent) if inside else self.reach_name(key.parent)
            parts.append(q("({}) IN (SELECT {} FROM {})", columns, referenced, where))
        return q("({})", join(parts, " OR ")) if parts else raw("false")

    def condition(self, table: TableName) -> Composable:
        if not self.cyclic(table):
            return self.from_outside(table)
        return q(
            "({0}.tableoid, {0}.ctid) IN (SELECT tab, id FROM {1} WHERE n = {2})",
            alias(table), self.cycle_name(table), lit(self.numbers[table])
        )  # fmt: skip

    def referenced(self, table: TableName) -> list[str]:
        """The columns by which others of the closure refer to a table."""
        keys = self.catalog.tables[table].referenced_by
        return sorted({column for key in keys if key.child in self.component for column in key.parent_columns})

    def columns(self, table: TableName) -> Composable:
        return q("SELECT {} FROM {} AS {}", join([q("{}.{}", alias(table), ident(c)) for c in self.referenced(table)]),
                 self.relation_of(table) or raw(""), alias(table))  # fmt: skip

    def reach(self, table: TableName) -> Composable:
        """What is reached of a table, in the columns that others refer to."""
        return q("{} WHERE {}", self.columns(table), self.condition(table))

    def cycle(self, members: Sequence[TableName]) -> Composable:
        """The row positions that a cycle of tables reaches, as a recursive CTE."""
        starts: list[Composable] = []
        hops: list[Composable] = []
        for table in members:
            relation = self.relation_of(table)
            if relation is None:
                continue
            starts.append(q("SELECT {n} AS n, {a}.tableoid AS tab, {a}.ctid AS id FROM {r} AS {a} WHERE {w}", n=lit(self.numbers[table]),
                            a=alias(table), r=relation, w=self.from_outside(table)))  # fmt: skip
            for key in self.keys_into(table):
                if key.parent in members:
                    hops.append(
                        q("SELECT {n} AS n, c.tableoid AS tab, c.ctid AS id FROM {p} p JOIN {c} c ON {on} WHERE r.n = {pn}"
                          " AND p.tableoid = r.tab AND p.ctid = r.id", n=lit(self.numbers[table]), p=self.relation_of(key.parent) or raw(""),
                          c=relation, on=on_keys("c", key.columns, "p", key.parent_columns), pn=lit(self.numbers[key.parent]))
                    )  # fmt: skip
        return q("{n}(n, tab, id) AS (({s}) UNION SELECT x.n, x.tab, x.id FROM {n} r, LATERAL ({h}) x)",
                 n=self.cycle_name(members[0]), s=join(starts, " UNION "), h=join(hops, " UNION ALL "))  # fmt: skip


def scopes(
    catalog: Catalog,
    roots: Mapping[TableName, Composable],
    tables: Sequence[TableName],
    relation_of: RelationOf,
    session: Session,
    prefix: str,
) -> tuple[dict[TableName, Scope], Reach]:
    """A condition for each table of the closure that this side has, and what it stands on; `prefix` keeps names apart."""
    import networkx as nx

    graph = _graph(catalog, tables)
    components = [tuple(sorted(members)) for members in nx.strongly_connected_components(graph)]
    component = {name: members for members in components for name in members}
    numbers = {name: number for number, name in enumerate(tables)}
    reach = Reach(session, bool(session.value(_MAY_MAKE)), _in_order(graph, component))
    side = _Side(catalog, roots, tables, relation_of, prefix, component, numbers, reach.gives)
    present = [name for name in tables if relation_of(name) is not None]
    order = [name for level in reach.levels for members in level for name in members if name in present]
    if reach.gives:
        for name in order:
            _materialise(side, name, reach)
        return {name: Scope(where=side.condition(name)) for name in present}, reach
    return {name: Scope(side.condition(name), _with(side, order, graph, name)) for name in present}, reach


_MAY_MAKE: LiteralString = "SELECT has_database_privilege(current_database(), 'TEMP') AND NOT pg_is_in_recovery()"


def _in_order(
    graph: nx.DiGraph[TableName], component: Mapping[TableName, tuple[TableName, ...]]
) -> list[list[tuple[TableName, ...]]]:
    import networkx as nx

    condensed: nx.DiGraph[tuple[TableName, ...]] = nx.DiGraph()
    condensed.add_nodes_from(component.values())
    condensed.add_edges_from((component[a], component[b]) for a, b in graph.edges if component[a] != component[b])
    return [sorted(level) for level in nx.topological_generations(condensed)]


def _materialise(side: _Side, name: TableName, reach: Reach) -> None:
    members = side.component[name]
    fill = reach.filled.setdefault(members, [])
    if side.cyclic(name) and members not in reach.cyclic:
        cycle = side.cycle_name(name)
        reach.cyclic.add(members)
        reach.made.append(q("CREATE TEMP TABLE {} (n int, tab oid, id tid) ON COMMIT DROP", cycle))
        fill.append(q("DELETE FROM {}", cycle))
        fill.append(
            q("WITH RECURSIVE {} INSERT INTO pg_temp.{n} SELECT n, tab, id FROM {n}", side.cycle(members), n=cycle)
        )
        fill.append(q("ANALYZE {}", cycle))
    if side.referenced(name):
        table = reach.reached[name] = side.reach_name(name)
        given = reach.given[name] = side.given_name(name)
        for it in (table, given):
            reach.made.append(q("CREATE TEMP TABLE {} ON COMMIT DROP AS {} WITH NO DATA", it, side.columns(name)))
        fill.append(q("DELETE FROM {}", table))
        fill.append(q("INSERT INTO {} {}", table, side.reach(name)))
        fill.append(q("ANALYZE {}", table))


def _with(side: _Side, order: Sequence[TableName], graph: nx.DiGraph[TableName], name: TableName) -> Composable | None:
    """The same as CTEs, for one table: all that leads to it."""
    above = _ancestors(graph, name) | ({name} if side.cyclic(name) else set[TableName]())
    parts: list[Composable] = []
    heads: set[TableName] = set()
    for table in order:
        if table not in above:
            continue
        head = side.component[table][0]
        if side.cyclic(table) and head not in heads:
            heads.add(head)
            parts.append(side.cycle(side.component[table]))
        if side.referenced(table) and table != name:
            parts.append(q("{} AS MATERIALIZED ({})", side.reach_name(table), side.reach(table)))
    return q("WITH RECURSIVE {} ", join(parts)) if parts else None


def _ancestors(graph: nx.DiGraph[TableName], name: TableName) -> set[TableName]:
    seen: set[TableName] = set()
    queue = [name]
    while queue:
        parents = set(graph.predecessors(queue.pop())) - seen
        seen |= parents
        queue += parents
    return seen - {name}
