"""What a constraint refused while a plan was carried out, by name: the database is asked again with the rows still staged."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from reconciler.plan.errors import Drift, ReconcilerError
from reconciler.plan.step import Verb
from reconciler.systems.postgres.catalog import ForeignKey
from reconciler.systems.postgres.guard import NAMED
from reconciler.systems.postgres.rows import full_name, on_keys, relation
from reconciler.systems.postgres.session import Session, ident, join, lit, q, raw, scrub
from reconciler.systems.postgres.staging import Staged


def violated(session: Session, error: psycopg.IntegrityError, staged: Sequence[Staged]) -> ReconcilerError:
    """Name what a constraint refused, by asking the database again with the rows still staged."""
    name = error.diag.constraint_name or "a constraint"
    table = f"{error.diag.schema_name}.{error.diag.table_name}"
    session.run("ROLLBACK TO SAVEPOINT rc_before_writes")
    hidden = any(item.step.sensitive for item in staged)
    match error:
        case psycopg.errors.ForeignKeyViolation():
            return Drift(
                f"a parent that the plan counts on is gone, or a child that it does not know has come ({name} on {table})",
                details=tuple(_missing_parents(session, name, staged))
                or (() if hidden else (error.diag.message_detail or "",)),
            )
        case psycopg.errors.UniqueViolation():
            detail = () if hidden else (error.diag.message_detail or "",)
            return Drift(f"a unique value is taken ({name} on {table})", details=detail)
        case _:
            return ReconcilerError(
                f"the database refuses a row ({name} on {table}); nothing was kept",
                why=scrub(error.diag.message_primary or ""),
                todo="correct the source's rows, or leave them out with `where`",
            )


def _missing_parents(session: Session, constraint: str, staged: Sequence[Staged]) -> list[str]:
    details: list[str] = []
    for item in staged:
        for key in item.table.references:
            places = _places(item, key)
            if key.name != constraint or places is None or item.step.verb is Verb.DELETE:
                continue
            coming = [
                q(" AND NOT EXISTS (SELECT FROM {} n WHERE {})", other.temp, on_keys("n", other_places, "p", places))
                for other in staged
                if other.table.name == key.parent and other.step.verb is Verb.INSERT
                for other_places in [[f"c{[c.name for c in other.columns].index(c) + 1}" for c in key.parent_columns]]
            ]
            rows = session.rows(
                q("SELECT DISTINCT concat_ws(', ', {v}) FROM {p} p WHERE {nn} AND NOT EXISTS (SELECT FROM {t} t WHERE {on}){coming} LIMIT {n}",
                  v=join([ident("p", c) for c in places]), p=item.temp, nn=join([q("p.{} IS NOT NULL", ident(c)) for c in places], " AND "),
                  t=relation(key.parent), on=on_keys("t", key.parent_columns, "p", places),
                  coming=join(coming, "") if coming else raw(""), n=lit(NAMED))
            )  # fmt: skip
            details += [
                f"{full_name(key.parent)} ({', '.join(key.parent_columns)}) = ({row[0]}): planned as there, found no such row"
                for row in rows
            ]
    return sorted(details)


def _places(item: Staged, key: ForeignKey) -> list[str] | None:
    names = [column.name for column in item.columns]
    if not set(key.columns) <= set(names):
        return None
    letter = "a" if item.step.verb is Verb.UPDATE else "c"
    return [f"{letter}{names.index(column) + 1}" for column in key.columns]
