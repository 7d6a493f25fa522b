"""A file of statements is cut where PostgreSQL cuts it, and only CREATE statements that are known get through."""

from __future__ import annotations

from collections.abc import Generator

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.embedded import Server
from reconciler.plan.declared import columns_of, signature
from reconciler.plan.lexis import Malformed
from reconciler.plan.statements import KINDS, Statement, one_statement, statements

WHOLE = [
    "CREATE TABLE a (id int, \"b;c\" text DEFAULT ';''', CHECK (id > 0))",
    "create or replace function app.f(a int[] = ARRAY[1, 2]) returns int language sql as $x$ select ';' || $$;$$ $x$",
    "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS E'SELECT 1; \\'; --'",
    "CREATE FUNCTION h() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END;"
    " SELECT 2 AS end; SELECT (CASE 1 WHEN 1 THEN 2 END); END",
    "CREATE FUNCTION i() RETURNS int LANGUAGE sql RETURN CASE WHEN true THEN 1 ELSE 2 END",
    "CREATE PROCEDURE begin(atomic int) LANGUAGE plpgsql AS $_$BEGIN NULL; END$_$",
    'CREATE TRIGGER "T" AFTER UPDATE OF "on" ON app.things FOR EACH ROW EXECUTE FUNCTION f(\';\')',
    "CREATE UNIQUE INDEX IF NOT EXISTS i ON ONLY things USING btree ((lower(a)), b) WHERE a <> ';'",
    "CREATE VIEW v AS SELECT 'a' -- ;\n ';' AS b, U&'\\0061' AS c",
    "CREATE MATERIALIZED VIEW m AS SELECT 1 WITH NO DATA",
    "CREATE TYPE mood AS ENUM (';', '''')",
    "CREATE DOMAIN d AS text CHECK (VALUE <> ';')",
    "CREATE SEQUENCE s START 3",
    "CREATE SCHEMA IF NOT EXISTS app AUTHORIZATION current_user",
    'CREATE EXTENSION "uuid-ossp" WITH SCHEMA public',
]
BETWEEN = ["", " ", "\n\n", "-- a comment; it's\n", "/* one ; /* two ' */ ; */", "\t;\n", ";;"]


@given(st.lists(st.tuples(st.sampled_from(BETWEEN), st.sampled_from(WHOLE)), max_size=6), st.sampled_from(BETWEEN))
def test_statements_come_out_as_they_went_in(parts: list[tuple[str, str]], end: str) -> None:
    text = ""
    places: list[int] = []
    for between, whole in parts:
        text += between
        places.append(len(text))
        text += whole + ";"
    found = list(statements(text + end))
    assert [(it.text, it.offset) for it in found if isinstance(it, Statement)] == [
        (whole, place) for (_, whole), place in zip(parts, places, strict=True)
    ]
    assert len(found) == len(parts)


PIECES = [
    "CREATE ", "TABLE ", "FUNCTION ", "f()", "a", "(", ")", ";", "'", '"', "$$", "$a$", "--", "\n", "/*", "*/", "E'", "\\", " BEGIN ATOMIC ",
    " END", " CASE ", " SELECT 1", " AS ", "u&\"", ".", "é", "[", "]", "int", ",", "or replace ", "schema ", "on ",
]  # fmt: skip


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_whatever_stands_there_is_read_or_refused(text: str) -> None:
    try:
        found = list(statements(text))
    except Malformed as error:
        assert 0 <= error.offset <= len(text)
        return
    for item in found:
        assert 0 <= item.offset <= len(text)
        if isinstance(item, Statement):
            assert text[item.offset :].startswith(item.text)
            assert item.kind in KINDS
            again = one_statement(item.text)
            assert (again.kind, again.identity) == (item.kind, item.identity)
            columns_of(item)
            if item.kind in ("function", "procedure"):
                assert signature(item).startswith(f"{item.name}(")


@pytest.fixture(scope="module")
def connection(postgres_server: Server) -> Generator[psycopg.Connection]:
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        yield connection


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from([*PIECES, "CREATE TABLE a (", "CREATE FUNCTION f() "]), max_size=9).map("".join))
def test_the_server_never_sees_more_than_one_statement(connection: psycopg.Connection, text: str) -> None:
    """What we call one statement the server's grammar takes for one, or for none; never for two."""
    try:
        found = [item for item in statements(text) if isinstance(item, Statement)]
    except Malformed:
        return
    for item in found:
        result = connection.pgconn.prepare(b"", item.text.encode())
        assert b"multiple commands" not in result.error_message


@pytest.mark.parametrize("text", WHOLE)
def test_the_server_takes_each_for_one_statement(connection: psycopg.Connection, text: str) -> None:
    result = connection.pgconn.prepare(b"", text.encode())
    assert b"syntax" not in result.error_message
    assert one_statement(text).text == text


@pytest.mark.parametrize(
    ("text", "said", "at"),
    [
        ("SELECT 1", "only CREATE statements can stand here, not SELECT", 0),
        ("DO $$ BEGIN END $$", "not DO", 0),
        ("BEGIN; CREATE TABLE a ()", "not BEGIN", 0),
        ("COMMENT ON TABLE a IS 'x'", "not COMMENT", 0),
        ("GRANT SELECT ON a TO b", "not GRANT", 0),
        ("ALTER TABLE a ADD b int", "not ALTER", 0),
        ("CREATE TEMP TABLE a ()", "what is temporary is gone with its session", 7),
        ("CREATE LOCAL TEMPORARY TABLE a ()", "what is temporary", 7),
        ("CREATE OR REPLACE TEMP VIEW a AS SELECT 1", "what is temporary", 18),
        ("CREATE TABLE pg_temp.a ()", "the schema pg_temp is the server's own", 13),
        ("CREATE TABLE \"pg_temp_3\".a ()", "is the server's own", 13),
        ("CREATE FUNCTION pg_catalog.f() RETURNS int RETURN 1", "is the server's own", 16),
        ("CREATE SCHEMA pg_x", "is the server's own", 14),
        ("CREATE TABLE a AS SELECT 1", "writes rows", 15),
        ("CREATE UNLOGGED TABLE a (b) WITH (fillfactor = 10) AS TABLE c", "writes rows", 51),
        ("CREATE TABLE a.b.c.d ()", "has 4 parts", 13),
        ("CREATE TABLE ()", "a name is missing", 13),
        ("CREATE TABLE U&\"a\" ()", "cannot hold `&` there", 13),
        ("CREATE INDEX ON a (b)", "the index has no name", 13),
        ("CREATE INDEX CONCURRENTLY i ON a (b)", "CONCURRENTLY", 13),
        ("CREATE TYPE a", "only CREATE TYPE … AS is known", 12),
        ("CREATE TYPE a (INPUT = b)", "only CREATE TYPE … AS is known", 14),
        ("CREATE SCHEMA AUTHORIZATION b", "the schema has no name", 14),
        ("CREATE SCHEMA a CREATE TABLE b ()", "a schema is created alone", 16),
        ("CREATE EXTENSION a CASCADE", "CASCADE creates what is not named", 19),
        ("CREATE FUNCTION f RETURNS int", "has no arguments", 18),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE C AS 'x'", "functions of the language c are not supported", 41),
        ("CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE 'internal'", "of the language internal", 48),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE E'\\x63' AS 'x'", "are not supported", 41),
        ("CREATE POLICY p ON a", "CREATE POLICY is not supported", 0),
        ("CREATE UNIQUE TABLE a ()", "CREATE UNIQUE TABLE is not supported", 0),
        ("CREATE EVENT TRIGGER a ON ddl_command_end", "CREATE EVENT is not supported", 0),
        ("CREATE FOREIGN TABLE a ()", "CREATE FOREIGN is not supported", 0),
        ("CREATE TABLE a (b", "never closed", 15),
        ("CREATE TABLE a )", "closes nothing", 15),
        ("CREATE TABLE a (b text DEFAULT 'x)", "this ' is never closed", 31),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;", "has no END", 0),
        ("\\i x.sql", "is psql's", 0),
    ],
)  # fmt: skip
def test_what_else_stands_there_is_named(text: str, said: str, at: int) -> None:
    try:
        errors = [item for item in statements("\n" + text) if isinstance(item, Malformed)]
    except Malformed as error:
        errors = [error]
    assert errors
    assert said in errors[0].what
    assert errors[0].offset == at + 1


@pytest.mark.parametrize(
    ("arguments", "types"),
    [
        ("", ""),
        ("int", "int"),
        ("a int, b text DEFAULT 'x, y'", "int,text"),
        ("double precision, d double precision = 1", "double precision,double precision"),
        ("OUT a int, b timestamp with time zone", "timestamp with time zone"),
        ('a OUT int, INOUT b "My T"[], VARIADIC c app.x[]', '"My T"[],app.x[]'),
        (
            "a numeric(3, 1), character varying(3), interval day to second",
            "numeric(3, 1),character varying(3),interval day to second",
        ),
    ],
)
def test_the_types_of_arguments(arguments: str, types: str) -> None:
    assert signature(one_statement(f"CREATE FUNCTION app.f({arguments}) RETURNS int RETURN 1")) == f"app.f({types})"
