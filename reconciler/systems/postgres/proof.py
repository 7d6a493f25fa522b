"""A user's SQL becomes part of ours only after the server's own grammar has said what it is.

A fragment is parsed and analysed by the server, one statement at a time over the extended protocol, in three frames that close
with different brackets. Text that leaves one frame breaks in another; what passes all three is exactly one expression.
Invariant: nothing with a user's text in it reaches COPY or the simple protocol unproven.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.rows import alias, relation
from reconciler.systems.postgres.session import Composable, Session, explain, join, lit, q, raw, scrub

Part = str | tuple[str]
"""A piece of SQL as it stands, or the value of a bound parameter in a 1-tuple."""


def prove_condition(session: Session, parts: tuple[Part, ...], table: Table, place: Location | None) -> Composable:
    """A boolean expression over a table's columns, ready to stand anywhere."""
    return _proven(session, parts, table, place, "SELECT FROM {} WHERE ({}\n)", "condition", "boolean expression")


def prove_expression(session: Session, parts: tuple[Part, ...], table: Table, place: Location | None) -> Composable:
    """An expression of any type that sorts, over a table's columns."""
    return _proven(
        session, parts, table, place, "SELECT FROM {} ORDER BY ({}\n)", "expression", "expression that sorts"
    )


def _proven(
    session: Session,
    parts: tuple[Part, ...],
    table: Table,
    place: Location | None,
    first: LiteralString,
    what: str,
    wanted: str,
) -> Composable:
    body = join([lit(part[0]) if isinstance(part, tuple) else raw(part) for part in parts], "")
    source = q("{} AS {}", relation(table.name), alias(table.name))
    frames = (
        q(first, source, body),
        q("SELECT ARRAY[{}\n] FROM {}", body, source),
        q("SELECT CASE WHEN true THEN {}\nEND FROM {}", body, source),
    )
    for frame in frames:
        try:
            session.describe(frame)
        except psycopg.errors.InsufficientPrivilege as error:
            raise explain(error, f"reading {table.name}", session.name) from None
        except psycopg.Error as error:
            raise ReconcilerError(
                f"this {what} cannot stand in SQL",
                where=place,
                why=scrub(str(error)),
                todo=f"write one {wanted} over the columns of {table.name}",
            ) from None
    return q("({}\n)", body)
