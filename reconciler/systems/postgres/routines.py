"""Functions and procedures: what the server makes of a statement, beside what it has.

In: a CREATE FUNCTION or PROCEDURE statement. Out: its identity and its definition in the server's own words, which compare as text.
Invariant: to learn them the statement is run for a temporary routine and taken back; the real schema is never touched.
"""

from __future__ import annotations

from typing import LiteralString, NamedTuple

import psycopg

from reconciler.plan.names import quote
from reconciler.plan.statements import Statement, one_statement
from reconciler.systems.postgres.session import Session, raw

NOT_YET = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)
"""What a statement fails with that needs something which is still to be created."""

_IDENTITY: LiteralString = (
    "quote_ident(%s) || '.' || quote_ident(p.proname) || '(' || coalesce((SELECT string_agg(format_type(a.type, NULL), ','"
    " ORDER BY a.place) FROM unnest(p.proargtypes) WITH ORDINALITY a (type, place)), '') || ')'"
)
_WORD: LiteralString = "CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END"
_ROUTINES: LiteralString = (
    "SELECT " + _WORD + ", " + _IDENTITY + ", pg_get_functiondef(p.oid), e.extname"
    " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    " LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'"
    " LEFT JOIN pg_extension e ON e.oid = d.refobjid"
)
_NO_SUCH_TYPE = (*NOT_YET, psycopg.errors.InvalidTextRepresentation, psycopg.errors.SyntaxError)
# Of a setting that a routine does not have, RESET writes it anew as it is: nobody else can change it until we end.
_SETTINGS = ("gin_fuzzy_search_limit", "geqo_seed")
_OTHER_SIGNATURE = (psycopg.errors.InvalidFunctionDefinition, psycopg.errors.WrongObjectType)


class Routine(NamedTuple):
    word: str
    """function or procedure."""
    identity: str
    """Its name with its schema and the types of its input arguments."""
    definition: str
    extension: str | None = None


def existing(session: Session, schema: str, name: str) -> list[Routine]:
    """Every routine of that name, whatever its arguments."""
    rows = session.rows(
        _ROUTINES + " WHERE n.nspname = %s AND p.proname = %s AND p.prokind <> 'a' ORDER BY 2",
        (schema, schema, name),
    )
    return [Routine(*row) for row in rows]


def find(session: Session, identity: str) -> Routine | None:
    """The routine of that identity; types in it that do not exist are no error, for then it does not exist either."""
    try:
        with session.undone():
            rows = session.rows(_ROUTINES + " WHERE p.oid = to_regprocedure(%s) AND p.prokind <> 'a'", ("", identity))
    except _NO_SUCH_TYPE:
        return None
    return Routine(rows[0][0], identity, *rows[0][2:]) if rows else None


def normalised(session: Session, statement: Statement) -> Routine:
    """What the routine would be as the server gives it; raises what the server says against it."""
    with session.undone():
        session.run("SET LOCAL check_function_bodies = off")
        session.single(statement.renamed(f"pg_temp.{quote(statement.name.name)}"))
        schema = statement.name.schema
        word, identity, definition, _ = session.one(
            _ROUTINES + " WHERE p.pronamespace = pg_my_temp_schema() AND p.proname = %s",
            (schema, statement.name.name),
        )
        own = session.value("SELECT quote_ident(%s)", (schema,))
    return Routine(word, identity, definition.replace(" pg_temp.", f" {own}.", 1))


def replaceable(session: Session, now: str, statement: Statement) -> str | None:
    """Whether OR REPLACE leads from the definition there is to the statement's; if not, why."""
    there = one_statement(now)
    name = f"pg_temp.{quote(statement.name.name)}"
    with session.undone():
        session.run("SET LOCAL check_function_bodies = off")
        session.single(there.renamed(name))
        try:
            session.single(statement.renamed(name))
        except _OTHER_SIGNATURE as error:
            return error.diag.message_primary
    return None


def same(session: Session, now: str, sql: str) -> bool:
    """Whether the definition there is is what the statement makes."""
    if now == sql:
        return True
    try:
        made = normalised(session, one_statement(sql))
    except NOT_YET:
        return False
    return made.definition == now


def users(session: Session, identity: str) -> list[str]:
    """What depends on the routine and keeps it from being dropped."""
    rows = session.rows(
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend WHERE refclassid = 'pg_proc'::regclass"
        " AND refobjid = to_regprocedure(%s) AND deptype IN ('n', 'a') ORDER BY 1",
        (identity,),
    )
    return [text for (text,) in rows]


def hold(session: Session, identity: str) -> None:
    """Keep others from changing the routine until this transaction ends."""
    routine = session.rows(
        "SELECT p.oid::regprocedure::text, coalesce(p.proconfig, '{}') FROM pg_proc p WHERE p.oid = to_regprocedure(%s)",
        (identity,),
    )
    for text, settings in routine:
        used = {setting.partition("=")[0] for setting in settings}
        if unused := next((name for name in _SETTINGS if name not in used), None):
            session.run(raw(f"ALTER ROUTINE {text} RESET {unused}"))


def drop(session: Session, identity: str) -> None:
    """Drop it; the server refuses while something uses it."""
    text = session.value("SELECT to_regprocedure(%s)::text", (identity,))
    session.run(raw(f"DROP ROUTINE {text}"))
