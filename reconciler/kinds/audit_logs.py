"""`investigate`: the audit log of a connection, found and read.

In: a connection and perhaps the log's name and columns. Out: what was found. Values of columns that the spec calls sensitive are not.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.audit_log import find_log
from reconciler.systems.postgres.investigate import Investigation, Limits, investigate
from reconciler.systems.postgres.session import explained, lit, q


def look_into(
    world: World, connection: str, log: str | None, since: str | None, columns: Mapping[str, str], limits: Limits
) -> Investigation:
    """Find the log, and read it."""
    try:
        name = TableName.parse(log) if log else None
    except ValueError as error:
        raise ReconcilerError(
            f"--log {log} names no table", why=str(error), todo="write table or schema.table"
        ) from None
    session = world.session(connection)
    found = find_log(world.catalog(connection), connection, name, columns)
    if since:
        session.check(q("SELECT {}::timestamptz", lit(since)), "--since", None, 'write it like "2025-12-10T04:24:00Z"')
    with explained(f"reading {found.name}", connection):
        return investigate(session, world.catalog(connection), found, since, limits, world.spec.sensitive())
