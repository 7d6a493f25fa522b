"""A table and the tables that hold rows of it: partitions of any depth, and tables that inherit from it."""

from __future__ import annotations

from reconciler.plan.names import TableName
from reconciler.systems.postgres.session import Session


def family(session: Session, oid: int) -> list[TableName]:
    """The table itself first; statements that name one of the others do not fire its triggers, so each needs its own."""
    rows = session.rows(
        "WITH RECURSIVE family (oid) AS (SELECT %s::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN family f ON f.oid = i.inhparent)"
        " SELECT n.nspname, c.relname FROM family f JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') ORDER BY c.oid <> %s, 1, 2",
        (oid, oid),
    )
    return [TableName(*row) for row in rows]
