"""A user's SQL becomes part of ours only after the server's own grammar has said what it is.

A fragment is parsed and analysed by the server, one statement at a time over the extended protocol, in three frames that close
with different brackets. Text that leaves one frame breaks in another; what passes all three is exactly one expression.
Invariant: nothing with a user's text in it reaches COPY or the simple protocol unproven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

import psycopg

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.rows import alias, relation
from reconciler.systems.postgres.session import Composable, Session, explain, join, lit, q, raw, scrub

Part = str | tuple[str]
"""A piece of SQL as it stands, or the value of a bound parameter in a 1-tuple."""


def sql_of(parts: Sequence[Part]) -> Composable:
    """A user's SQL with its values quoted by the driver; unproven as yet."""
    return join([lit(part[0]) if isinstance(part, tuple) else raw(part) for part in parts], "")


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
    body = sql_of(parts)
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


def prove_query(session: Session, body: Composable, place: Location | None) -> tuple[Composable, list[int]]:
    """One SELECT, ready to stand in a FROM, and the types of its columns.

    Alone it must be one statement, and between brackets a query: what leaves the brackets is no statement alone. The server
    allows no data-modifying WITH and no INTO there; what a function might write, READ ONLY refuses when it is run.
    """
    try:
        session.describe(body)
        return q("({}\n)", body), session.result_types(q("SELECT * FROM ({}\n) AS c", body))
    except psycopg.errors.InsufficientPrivilege as error:
        raise explain(error, "reading for a check", session.name) from None
    except MISSING:
        raise
    except psycopg.Error as error:
        todo = "write one SELECT that writes nothing"
        raise ReconcilerError("this query cannot be asked", where=place, why=scrub(str(error)), todo=todo) from None


MISSING = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidSchemaName,
)
"""What a query names and the database does not have, or not yet."""
