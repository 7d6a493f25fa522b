"""What keeps a transaction from being done now and may let it be done later: locks of others, collisions, a lost connection."""

from __future__ import annotations

from collections.abc import Collection
from typing import LiteralString

import psycopg

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.rows import relation
from reconciler.systems.postgres.session import Session


class LockedOutError(ReconcilerError):
    """Somebody held a lock for longer than this run may wait."""


_HOLDERS: LiteralString = """
SELECT DISTINCT coalesce(nullif(a.application_name, ''), 'unnamed'), a.pid, a.state, to_char(a.xact_start, 'HH24:MI:SS TZ'),
       l.relation::regclass::text
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.mode <> 'AccessShareLock'
   AND l.relation = ANY (SELECT to_regclass(n) FROM unnest(%s::text[]) n) AND l.pid <> pg_backend_pid() ORDER BY 4, 2 LIMIT 5"""


def locked_out(session: Session, tables: Collection[TableName], waited: str) -> LockedOutError:
    """Who holds locks on the tables of this run, as far as can be seen once it has given up."""
    holders = session.rows(_HOLDERS, (list({str(relation(name).as_string()) for name in tables}),))
    return LockedOutError(
        f"a lock on {session.name} was not to be had within {waited}; nothing was changed",
        details=tuple(
            f"{table}: {name} (pid {pid}, {state}) since {since}" for name, pid, state, since, table in holders
        ),
        why="another transaction holds it" if holders else "the transaction that held it has ended meanwhile",
        todo="run the same plan again when it has ended, or raise --lock-timeout",
    )


def retriable(error: BaseException) -> bool:
    """Whether trying the whole run again may help: nothing of it was kept, and it starts by looking."""
    if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected | LockedOutError):
        return True
    return isinstance(error, psycopg.OperationalError) and error.diag.sqlstate in (
        None,
        "57P01",
        "57P02",
        "57P03",
        "08006",
        "08003",
    )
