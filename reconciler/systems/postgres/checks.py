"""A question to a database: a query or a column's coverage, with what is expected; and the answer.

In: a `Question`, within any transaction. Out: whether it holds, and a sentence with what was found.
Invariant: nothing is written, whatever functions the query calls: it runs in a savepoint that is READ ONLY and always rolled
back. Values stay PostgreSQL's text, and PostgreSQL alone compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString, NamedTuple

import psycopg

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.proof import MISSING, Part, prove_query, sql_of
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Composable, Session, explain, ident, join, lit, q, raw, scrub

_LONGEST = 100  # characters of a value that are shown


@dataclass(frozen=True)
class Empty:
    """No row is expected."""


@dataclass(frozen=True)
class Equal:
    value: str | None


@dataclass(frozen=True)
class Between:
    """Bounds of a value; None where there is none."""

    least: str | None
    most: str | None


@dataclass(frozen=True)
class Query:
    parts: tuple[Part, ...]
    expect: Empty | Equal | Between
    hidden: bool = False
    """Whether the value may be one that must not be shown."""


@dataclass(frozen=True)
class Filled:
    """The share of a table's rows that have a value in a column; `share` is a number of percents."""

    table: TableName
    column: str
    share: str
    where: tuple[Part, ...] | None = None


class Question(NamedTuple):
    address: str
    connection: str
    asks: Query | Filled
    place: Location | None = None


class NotThereError(ReconcilerError):
    """A question about something that the database does not have."""


def ask(session: Session, question: Question) -> tuple[bool, str]:
    """Whether it holds, and what was found."""
    hidden = isinstance(question.asks, Query) and question.asks.hidden
    try:
        with session.undone():
            session.run("SET TRANSACTION READ ONLY")
            with session.public_first():
                match question.asks:
                    case Query() as query:
                        return _ask_query(session, question, query)
                    case Filled() as filled:
                        return _ask_filled(session, question, filled)
    except MISSING as error:
        why = scrub(error.diag.message_primary or str(error))
        raise NotThereError(f"{question.address} cannot be asked", where=question.place, why=why) from None
    except psycopg.errors.ReadOnlySqlTransaction as error:
        todo = "write one SELECT that writes nothing"
        raise ReconcilerError(
            f"{question.address} would write", where=question.place, why=str(error.diag.message_primary), todo=todo
        ) from None
    except psycopg.Error as error:
        if error.diag.sqlstate is None:
            raise
        raise explain(error, f"asking {question.address}", session.name, secret=hidden) from None


def _ask_query(session: Session, question: Question, query: Query) -> tuple[bool, str]:
    body, types = prove_query(session, sql_of(query.parts), question.place)
    if isinstance(query.expect, Empty):
        count = session.value(q("SELECT count(*) FROM {} AS c", body))
        return count == 0, f"{count:,} {'row' if count == 1 else 'rows'}" + ("" if count == 0 else ", none expected")
    if len(types) != 1:
        raise ReconcilerError(
            f"{question.address} returns {len(types)} columns", where=question.place,
            why="what is expected is one value", todo="select one value, or expect: empty",
        )  # fmt: skip
    holds = _condition(session, query.expect, types[0])
    try:
        rows = session.rows(q("SELECT c.v::text, coalesce({}, false) FROM {} AS c(v) LIMIT 2", holds, body))
    except _NO_VALUE as error:
        raise ReconcilerError(
            f"{question.address}: what is expected is no value of the query's type", where=question.place,
            why=scrub(error.diag.message_primary or ""), todo="write it as PostgreSQL would, or cast the query's value",
        ) from None  # fmt: skip
    wanted = _wanted(query.expect)
    if len(rows) != 1:
        return False, f"{'no row' if not rows else 'more than one row'}, {wanted} expected"
    value, right = rows[0]
    shown = "a value that is not shown" if query.hidden else _shown(value)
    return right, shown if right else f"{shown}, {wanted} expected"


_NO_VALUE = (
    psycopg.errors.InvalidTextRepresentation,
    psycopg.errors.InvalidDatetimeFormat,
    psycopg.errors.DatetimeFieldOverflow,
)


def _condition(session: Session, expect: Equal | Between, oid: int) -> Composable:
    """The comparison, in the type of the value; of exact numbers as numeric, so that any number can be expected of them."""
    type_, category = session.one("SELECT format_type(%s, -1), typcategory FROM pg_type WHERE oid = %s", (oid, oid))
    number = category == "N" and type_ not in _NOT_EXACT and not type_.startswith("reg")
    left, to = (raw("c.v::numeric"), raw("numeric")) if number else (raw("c.v"), raw(type_))

    def compared(by: LiteralString, value: str) -> Composable:
        return q("{} {} {}::{}", left, raw(by), lit(value), to)

    if isinstance(expect, Between):
        bounds = [compared(">=", expect.least)] if expect.least is not None else []
        bounds += [compared("<=", expect.most)] if expect.most is not None else []
        return join(bounds, " AND ")
    if expect.value is None:
        return raw("c.v IS NULL")
    return q("c.v::text = {}", lit(expect.value)) if type_ in _NO_EQUALITY else compared("=", expect.value)


_NOT_EXACT = ("real", "double precision", "oid")
_NO_EQUALITY = ("json", "xml", "point", "polygon")


def _wanted(expect: Equal | Between) -> str:
    if isinstance(expect, Equal):
        return _shown(expect.value)
    bounds = [f"at least {expect.least}"] if expect.least is not None else []
    return " and ".join([*bounds, *([f"at most {expect.most}"] if expect.most is not None else [])])


def _shown(value: str | None) -> str:
    if value is None:
        return "NULL"
    return value if len(value) <= _LONGEST else value[:_LONGEST] + "…"


def _ask_filled(session: Session, question: Question, filled: Filled) -> tuple[bool, str]:
    """The share is rounded down where it is shown, so that 100% means every row."""
    table, column = relation(filled.table), ident(filled.column)
    query = q("SELECT {} AS filled FROM {} AS {}", column, table, ident(filled.table.name))
    if filled.where is not None:
        body, _ = prove_query(session, q("{} WHERE ({}\n)", query, sql_of(filled.where)), question.place)
    else:
        body = q("({})", query)
    count, total, holds, percent = session.one(
        q("SELECT n, total, n * 100::numeric >= {s}::numeric * total, CASE WHEN total = 0 THEN '100'"
          " ELSE trim_scale(trunc(n * 100::numeric / total, 2))::text END"
          " FROM (SELECT count(c.filled) AS n, count(*) AS total FROM {b} AS c) AS counted", s=lit(filled.share), b=body)
    )  # fmt: skip
    found = f"{count:,} of {total:,} rows of {full_name(filled.table)} have {filled.column} ({percent}%)"
    return holds, found if holds else f"{found}, at least {filled.share}% expected"
