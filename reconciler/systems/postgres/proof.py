"""A user's SQL becomes part of ours only after the server's own grammar has said what it is.

A fragment is parsed and analysed by the server, one statement at a time over the extended protocol, in three frames that close
with different brackets. Text that leaves one frame breaks in another; what passes all three is exactly one expression.
Invariant: nothing with a user's text in it reaches COPY or the simple protocol unproven.
"""

from __future__ import annotations

import psycopg

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.rows import alias, relation
from reconciler.systems.postgres.session import Composable, Session, explain, join, lit, q, raw, scrub

Part = str | tuple[str]
"""A piece of SQL as it stands, or the value of a bound parameter in a 1-tuple."""


def prove_condition(session: Session, parts: tuple[Part, ...], table: Table, place: Location | None) -> Composable:
    """The condition, ready to stand in parentheses."""
    body = join([lit(part[0]) if isinstance(part, tuple) else raw(part) for part in parts], "")
    source = q("{} AS {}", relation(table.name), alias(table.name))
    frames = (
        q("SELECT FROM {} WHERE ({}\n)", source, body),
        q("SELECT ARRAY[{}\n] FROM {}", body, source),
        q("SELECT CASE WHEN {}\nTHEN 1 END FROM {}", body, source),
    )
    for frame in frames:
        try:
            session.describe(frame)
        except psycopg.errors.InsufficientPrivilege as error:
            raise explain(error, f"reading {table.name}", session.name) from None
        except psycopg.Error as error:
            raise ReconcilerError(
                "this condition cannot stand in SQL",
                where=place,
                why=scrub(str(error)),
                todo="write one boolean expression over the columns of " + str(table.name),
            ) from None
    return q("({}\n)", body)
