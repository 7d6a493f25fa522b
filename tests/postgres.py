"""Real PostgreSQL for tests: databases on servers that live as long as the test process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any

import psycopg
from psycopg import sql

from reconciler.embedded import Binaries, Server, cluster, find, installed

DEFAULT = "default"
OLDEST = 15  # the oldest version we promise; Debian's, where it is installed

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
# Two worlds are the same when their dumps are: nothing a session or a database sets may show in them.
CANONICAL = """
SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
SET bytea_output = 'hex'; SET extra_float_digits = 1; SET row_security = off; SET search_path = public;
"""


class Database:
    """An empty database of a test's own."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.dsn = server.dsn(name)
        self._session: psycopg.Connection | None = None

    def sql(self, text: str, *params: object) -> list[tuple[Any, ...]]:
        """Run one statement with `params`, or without them any number; the rows of the last one that gives rows."""
        if self._session is None or self._session.closed:
            self._session = psycopg.connect(self.dsn, autocommit=True)
        rows: list[tuple[Any, ...]] = []
        with self._session.cursor() as cursor:
            cursor.execute(text.encode(), params or None)
            while True:
                if cursor.description is not None:
                    rows = cursor.fetchall()
                if not cursor.nextset():
                    return rows

    def dump(self, *tables: str) -> dict[str, list[str]]:
        """An exact image of every row of the tables, of all by default: equal dumps are equal bytes."""
        with psycopg.connect(self.dsn, autocommit=True) as session:
            session.execute(CANONICAL)
            names: Sequence[str] = tables or [name for (name,) in session.execute(_TABLES)]
            return {name: [row for (row,) in session.execute(_images(name))] for name in names}

    def connect(self) -> psycopg.Connection:
        """A session of the test's own, to be closed by the test."""
        return psycopg.connect(self.dsn)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


class Servers:
    """One server of each version asked for, started when it is, ended together."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._sessions: dict[int, psycopg.Connection] = {}
        self._numbers = count(1)
        self._ends = ExitStack()

    def of(self, version: str) -> Server:
        if version not in self._servers:
            self._servers[version] = self._ends.enter_context(cluster(_binaries(version)))
        return self._servers[version]

    def create(self, server: Server, name: str) -> Database:
        """A new database; its name is made unique, so that a test can have several."""
        unique = f"{name}__{next(self._numbers)}"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 STRATEGY wal_log").format(sql.Identifier(unique))
        self._session(server).execute(create)
        return Database(server, unique)

    def drop(self, database: Database) -> None:
        database.close()
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name))
        self._session(database.server).execute(drop)

    def close(self) -> None:
        self._ends.close()

    def _session(self, server: Server) -> psycopg.Connection:
        session = self._sessions.get(server.port)
        if session is None or session.closed:
            session = self._ends.enter_context(psycopg.connect(server.dsn(), autocommit=True))
            self._sessions[server.port] = session
        return session


def versions() -> list[str]:
    """Every version there is to test against on this machine, the default first."""
    return [DEFAULT] if _oldest() is None or find().major == OLDEST else [DEFAULT, f"postgres{OLDEST}"]


def _oldest() -> Binaries | None:
    return next((binaries for binaries in installed() if binaries.major == OLDEST), None)


def _binaries(version: str) -> Binaries | None:
    return None if version == DEFAULT else _oldest()


def all_rows(table: str, columns: str = "*") -> str:
    """Every row of the table, in the order of their text; no column can have the name the row goes by."""
    return f'SELECT {columns} FROM {table} AS "the row" ORDER BY "the row"::text COLLATE "C"'


def _images(table: str) -> bytes:
    return all_rows(table, '"the row"::text').encode()
