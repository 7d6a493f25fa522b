"""What a delete takes with it, as the catalog tells it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.systems.postgres.catalog import Catalog, ForeignKey, Table
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Session, ident, join, q


@dataclass(frozen=True)
class CascadeNode:
    """A table reached by a foreign key; `rows` of it point at a parent now. `repeated`: shown in full elsewhere."""

    table: str
    constraint: str | None
    action: str
    columns: tuple[str, ...]
    rows: int | None
    indexed: bool
    repeated: bool
    children: tuple[CascadeNode, ...]


def cascade_tree(session: Session, catalog: Catalog, table: Table) -> CascadeNode:
    """The tree from one table down; only ON DELETE CASCADE goes further."""
    seen: set[str] = set()

    def node(there: Table, key: ForeignKey | None) -> CascadeNode:
        name = full_name(there.name)
        repeated = name in seen
        goes_on = not repeated and (key is None or key.on_delete == "c")
        if goes_on:
            seen.add(name)
        children = tuple(node(catalog.tables[k.child], k) for k in there.referenced_by) if goes_on else ()
        return CascadeNode(
            table=name,
            constraint=key.name if key else None,
            action=key.action if key else "DELETE",
            columns=key.columns if key else (),
            rows=_rows(session, there, key),
            indexed=key.indexed if key else True,
            repeated=repeated,
            children=children,
        )

    return node(table, None)


def _rows(session: Session, table: Table, key: ForeignKey | None) -> int:
    query = q("SELECT count(*) FROM {}", relation(table.name))
    if key:
        query = q("{} WHERE {}", query, join([q("{} IS NOT NULL", ident(c)) for c in key.columns], " AND "))
    return session.value(query)
