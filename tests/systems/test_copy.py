"""Rows that a server sends: all of them or an error, never a part; and one statement, never two."""

from __future__ import annotations

from collections.abc import Generator

import psycopg
import pytest

from reconciler.systems.postgres.session import Session, connect, q
from tests.postgres import Database


@pytest.fixture
def session(production: Database) -> Generator[Session]:
    with connect("production", production.dsn) as session:
        yield session


def test_blocks_hold_whole_rows(session: Session) -> None:
    blocks = list(
        session.copy_out(q("COPY (SELECT n, repeat('x', n % 999) FROM generate_series(1, 20000) n) TO STDOUT"))
    )
    assert 1 < len(blocks) <= 20000
    assert all(block.endswith(b"\n") for block in blocks)
    assert [line.split(b"\t")[0] for line in b"".join(blocks).splitlines()] == [b"%d" % n for n in range(1, 20001)]


def test_no_rows(session: Session) -> None:
    assert list(session.copy_out(q("COPY (SELECT 1 WHERE false) TO STDOUT"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "COPY (SELECT 1 / (15000 - n) FROM generate_series(1, 20000) n) TO STDOUT",  # after thousands of good rows
        "COPY (SELECT 1 FROM nowhere) TO STDOUT",
        "SELECT 1",
        "SET TimeZone = 'UTC'",
        "",
    ],
)
def test_what_is_not_told_to_its_end_is_an_error(session: Session, text: str) -> None:
    with pytest.raises(psycopg.Error):
        list(session.copy_out(q(text)))  # pyright: ignore[reportArgumentType]
    assert session.value("SELECT 1") == 1


def test_a_connection_that_is_lost_in_the_middle_is_an_error(session: Session) -> None:
    end = "CASE WHEN n = 15000 THEN pg_terminate_backend(pg_backend_pid()) END"
    with pytest.raises(psycopg.OperationalError):
        list(session.copy_out(q(f"COPY (SELECT n, {end} FROM generate_series(1, 20000) n) TO STDOUT")))  # pyright: ignore[reportArgumentType]


def test_two_statements_are_refused_by_the_server(session: Session, production: Database) -> None:
    with pytest.raises(psycopg.errors.SyntaxError, match="multiple commands"):
        list(session.copy_out(q("COPY (SELECT 1) TO STDOUT; CREATE TABLE pwn ()")))
    assert production.sql("SELECT to_regclass('pwn')") == [(None,)]


def test_who_has_seen_enough_may_go_on(session: Session) -> None:
    rows = session.copy_out(q("COPY (SELECT generate_series(1, 10000000)) TO STDOUT"))
    assert next(rows)
    rows.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert session.value("SELECT 1") == 1
