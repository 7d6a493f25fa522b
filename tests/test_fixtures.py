"""The fixtures give what they promise."""

from __future__ import annotations

import psycopg
import pytest

from reconciler.embedded import Server
from tests.pooler import Pooler
from tests.postgres import OLDEST, Database, versions


@pytest.mark.each_postgres
def test_each_version_is_run_on(server: Server, database: Database, request: pytest.FixtureRequest) -> None:
    [(number,)] = database.sql("SELECT current_setting('server_version_num')::int")
    assert (number // 10000 == OLDEST) == (f"postgres{OLDEST}" in request.node.name)
    assert database.server is server


def test_the_default_version_is_one_of_them(server: Server, postgres_server: Server) -> None:
    assert server is postgres_server
    assert versions()[0] == "default"


def test_sql_gives_the_rows_of_the_last_statement_that_has_any(database: Database) -> None:
    assert database.sql("CREATE TABLE a (x int); INSERT INTO a VALUES (1), (2)") == []
    assert database.sql("SELECT x FROM a WHERE x > %s", 1) == [(2,)]
    assert database.sql("SELECT 1; SELECT 2; SET TimeZone = 'UTC'") == [(2,)]


def test_a_dump_is_exact(production: Database, backup: Database) -> None:
    for database in (production, backup):
        database.sql("CREATE TABLE a (x numeric, y text, z timestamptz, j json)")
        database.sql("""INSERT INTO a VALUES (1.0, '', '2026-01-01T00:00:00Z', '{"a":  1}'), (2, NULL, NULL, NULL)""")
    backup.sql("ALTER DATABASE " + backup.name + " SET TimeZone = 'Asia/Tokyo'")
    rows = ['(1.0,"","2026-01-01 00:00:00+00","{""a"":  1}")', "(2,,,)"]
    assert production.dump("a") == backup.dump("a") == {"a": rows}
    assert production.dump() == {"public.a": rows}
    production.sql("UPDATE a SET x = 1.00 WHERE x = 1")
    assert production.dump() != backup.dump()


def test_the_pooler_shares_sessions(pooler: Pooler, database: Database) -> None:
    with psycopg.connect(pooler.dsn(database), prepare_threshold=None, autocommit=True) as client:
        with client.transaction(), psycopg.connect(pooler.dsn(database), prepare_threshold=None) as other:
            pids = [session.execute("SELECT pg_backend_pid()").fetchall() for session in (client, other)]
        assert pids[0] != pids[1]
        seen = {client.execute("SELECT pg_backend_pid()").fetchone() for _ in range(10)}
    assert len(seen) > 1
