"""Kinds of database objects: how one is found, told apart from what a statement says, kept still and dropped.

In: an object's name as a change's key spells it. Out: what is there now. A further kind is an entry of `KINDS`.
Invariant: what is read here is the server's own words; what is dropped is dropped with RESTRICT, so nothing goes along.
Callers keep the session within `public_first`, so that a name without a schema means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString, NamedTuple, Protocol

import psycopg

from reconciler.plan.declared import columns_of
from reconciler.plan.names import split_dotted
from reconciler.plan.statements import Statement, one_statement
from reconciler.systems.postgres import routines
from reconciler.systems.postgres.routines import NOT_YET
from reconciler.systems.postgres.session import Composable, Session, ident, q, raw


class Kind(Protocol):
    """One kind of object."""

    def now(self, session: Session, name: str) -> str | None:
        """Its definition as the server gives it, '' where it gives none; None where there is no such object."""
        ...

    def unlike(self, session: Session, name: str, now: str, sql: str) -> str | None:
        """In what the object that is there is not what the statement says; None where it is."""
        ...

    def spelled(self, session: Session, sql: str) -> str:
        """A statement as `now` would give the object it makes, as far as that can be told."""
        ...

    def hold(self, session: Session, name: str) -> None:
        """Keep others from changing it until this transaction ends, as far as that can be done."""
        ...

    def in_use(self, session: Session, name: str) -> str | None:
        """Why it must not be dropped although the server would do it."""
        ...

    def drop(self, session: Session, name: str) -> None:
        """Drop it; the server refuses while something depends on it."""
        ...


@dataclass(frozen=True)
class Named:
    """An object that is created when absent and otherwise left as it is: that it is there is all that counts."""

    word: str
    """As DROP calls it."""
    query: LiteralString
    """Its definition, by the parts of its name."""

    def now(self, session: Session, name: str) -> str | None:
        rows = session.rows(self.query, split_dotted(name))
        return (rows[0][0] or "") if rows else None

    def unlike(self, session: Session, name: str, now: str, sql: str) -> str | None:
        del session, name, now, sql
        return None

    def spelled(self, session: Session, sql: str) -> str:
        del session
        return sql

    def hold(self, session: Session, name: str) -> None:
        del session, name

    def in_use(self, session: Session, name: str) -> str | None:
        del session, name
        return None

    def drop(self, session: Session, name: str) -> None:
        session.run(q("DROP {} {}", raw(self.word), self.written(name)))

    def written(self, name: str) -> Composable:
        return ident(*split_dotted(name))


class TableKind(Named):
    """A table: never altered, dropped only while it has no rows; its columns are compared."""

    def unlike(self, session: Session, name: str, now: str, sql: str) -> str | None:
        del now
        return "; ".join(unlike_columns(session, name, one_statement(sql))) or None

    def hold(self, session: Session, name: str) -> None:
        session.run(q("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self.written(name)))

    def in_use(self, session: Session, name: str) -> str | None:
        return "it has rows" if session.value(q("SELECT EXISTS (SELECT FROM {})", self.written(name))) else None


class TriggerKind(Named):
    """A trigger, whose name stands behind that of its table."""

    def drop(self, session: Session, name: str) -> None:
        schema, table, trigger = split_dotted(name)
        session.run(q("DROP TRIGGER {} ON {}", ident(trigger), ident(schema, table)))


class RoutineKind(NamedTuple):
    """A function or procedure: compared by the definition the server makes of its statement."""

    word: str

    def now(self, session: Session, name: str) -> str | None:
        found = routines.find(session, name)
        return found.definition if found and found.word == self.word else None

    def unlike(self, session: Session, name: str, now: str, sql: str) -> str | None:
        del name
        return None if routines.same(session, now, sql) else "its definition is another"

    def spelled(self, session: Session, sql: str) -> str:
        try:
            return routines.normalised(session, one_statement(sql)).definition
        except NOT_YET:
            return sql

    def hold(self, session: Session, name: str) -> None:
        routines.hold(session, name)

    def in_use(self, session: Session, name: str) -> str | None:
        del session, name
        return None

    def drop(self, session: Session, name: str) -> None:
        routines.drop(session, name)


_RELATION: LiteralString = " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN "
_TYPE: LiteralString = (
    "SELECT '' FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid"
    " WHERE n.nspname = %s AND t.typname = %s AND coalesce(c.relkind, 'c') = 'c' AND t.typtype "
)
KINDS: Mapping[str, Kind] = {
    "function": RoutineKind("function"),
    "procedure": RoutineKind("procedure"),
    "table": TableKind("TABLE", "SELECT ''" + _RELATION + "('r', 'p')"),
    "view": Named("VIEW", "SELECT pg_get_viewdef(c.oid)" + _RELATION + "('v')"),
    "materialized view": Named("MATERIALIZED VIEW", "SELECT pg_get_viewdef(c.oid)" + _RELATION + "('m')"),
    "sequence": Named("SEQUENCE", "SELECT ''" + _RELATION + "('S')"),
    "index": Named("INDEX", "SELECT pg_get_indexdef(c.oid)" + _RELATION + "('i', 'I')"),
    "type": Named("TYPE", _TYPE + "<> 'd'"),
    "domain": Named("DOMAIN", _TYPE + "= 'd'"),
    "schema": Named("SCHEMA", "SELECT '' FROM pg_namespace WHERE nspname = %s"),
    "extension": Named("EXTENSION", "SELECT '' FROM pg_extension WHERE extname = %s"),
    "trigger": TriggerKind(
        "TRIGGER",
        "SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND t.tgname = %s AND NOT t.tgisinternal",
    ),
}
_IN_CLASS = ("table", "view", "materialized view", "sequence", "index")
_TYPES = ("type", "domain", "table", "view", "materialized view")


def instead(session: Session, kind: str, name: str) -> str | None:
    """The other kind of object that has the name already: relations share their names, and those with rows are types too."""
    shared = _IN_CLASS if kind in _IN_CLASS else ()
    typed = _TYPES if kind in _TYPES else ()
    others = (*shared, *(name for name in typed if name not in shared))
    return next((it for it in others if it != kind and KINDS[it].now(session, name) is not None), None)


def unlike_columns(session: Session, name: str, statement: Statement) -> list[str]:
    """What differs between the columns a table has and those its statement declares, by name and type."""
    declared = columns_of(statement)
    if declared is None:
        return []
    wanted = {column: _type(session, text) for column, text in declared.columns}
    there = dict(
        session.rows(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0"
            " AND NOT a.attisdropped ORDER BY a.attnum",
            split_dotted(name),
        )
    )
    found = [f"{column} is missing" for column in wanted if column not in there]
    found += [f"{c} is {there[c]}, not {t}" for c, t in wanted.items() if t and c in there and there[c] != t]
    if not declared.more:
        found += [f"{column} is not declared" for column in there if column not in wanted]
    return found


def _type(session: Session, text: str) -> str | None:
    """A type as the server spells it; None where it does not know it."""
    try:
        with session.undone():
            session.single(f"CREATE TABLE pg_temp.rc_type (c {text})")
            return session.value(
                "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'pg_temp.rc_type'::regclass AND attnum = 1"
            )
    except (psycopg.errors.InsufficientPrivilege, psycopg.OperationalError):
        raise
    except psycopg.Error:
        return None
