"""One connection to one PostgreSQL: how it is opened, what holds in its transactions, how its errors reach users.

Settings and locks are of the transaction, never of the session, so that poolers in transaction mode work.
A message never holds a DSN: what the server says of a failed connection is reduced to its reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import tuple_row
from psycopg.waiting import Ready, Wait

from reconciler.plan.errors import Location, ReconcilerError

Row = tuple[Any, ...]
Composable = sql.Composable
Statement = LiteralString | sql.Composable

SETTINGS: LiteralString = (
    "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, MDY'; SET LOCAL IntervalStyle = 'postgres';"
    " SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL xmloption = 'content';"
    " SET LOCAL standard_conforming_strings = on; SET LOCAL row_security = off; SET LOCAL lc_monetary = 'C';"
    " SELECT set_config('search_path', (SELECT string_agg(DISTINCT quote_ident(n.nspname), ', ' ORDER BY quote_ident(n.nspname))"
    " FROM pg_namespace n WHERE n.nspname = 'public' OR n.oid IN (SELECT extnamespace FROM pg_extension)), true);"
    " SET LOCAL work_mem = '128MB'; SET LOCAL jit = off;"
)
"""Text forms of values and the meaning of names must not depend on who connects; rows hidden by a policy must be an error."""

FOR_READING: LiteralString = "SET LOCAL parallel_tuple_cost = 0.001; SET LOCAL default_statistics_target = 10"
"""Hashing a row is dearer than handing the hash to the leader, which the planner does not know; temporary tables need few statistics."""

PUBLIC_FIRST: LiteralString = (
    "SELECT set_config('search_path', (SELECT string_agg(s.name, ', ' ORDER BY s.name <> 'public', s.name COLLATE \"C\")"
    " FROM (SELECT DISTINCT quote_ident(n.nspname) AS name FROM pg_namespace n WHERE n.nspname = 'public'"
    " OR (n.nspname <> 'pg_catalog' AND n.oid IN (SELECT extnamespace FROM pg_extension))) s), true)"
)

FRESH_BYTES = 1 << 16


def join(parts: Sequence[Composable], by: LiteralString = ", ") -> sql.Composed:
    """Parts of SQL in a row."""
    return sql.SQL(by).join(parts)


def q(text: LiteralString, *args: Composable, **named: Composable) -> sql.Composed:
    """SQL text with composed parts put in its braces."""
    return sql.SQL(text).format(*args, **named)


def ident(*names: str) -> sql.Identifier:
    return sql.Identifier(*names)


def lit(value: object) -> sql.Literal:
    return sql.Literal(value)


def raw(text: str) -> sql.SQL:
    """Text that the server itself wrote (types, expressions of its catalog) or that was proven: never a user's raw words."""
    return sql.SQL(cast("LiteralString", text))


def _sent(query: Statement) -> LiteralString | sql.Composed:
    return sql.Composed([query]) if isinstance(query, sql.Composable) else query


@dataclass
class Session:
    """An open connection, named as the spec names it. One transaction at a time, begun by `reading` or `writing`."""

    name: str
    connection: psycopg.Connection[Row]

    def rows(self, query: Statement, params: Sequence[object] | None = None) -> list[Row]:
        with self.connection.cursor() as cursor:
            cursor.execute(_sent(query), params)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: Statement, params: Sequence[object] | None = None) -> Row:
        return self.rows(query, params)[0]

    def value(self, query: Statement, params: Sequence[object] | None = None) -> Any:
        return self.one(query, params)[0]

    def run(self, query: Statement, params: Sequence[object] | None = None) -> int:
        """Execute and tell how many rows the server says it touched."""
        with self.connection.cursor() as cursor:
            cursor.execute(_sent(query), params)
            return cursor.rowcount

    def copy_out(self, query: Composable) -> Iterator[bytes]:
        """The rows of a COPY … TO STDOUT, whole ones, some in a block.

        By libpq's own functions: a cursor that gives row by row costs as much as the server's work.
        """
        pgconn = self.connection.pgconn
        pgconn.send_query_params(query.as_bytes(self.connection), None)  # by the protocol that takes one statement only
        try:
            while pgconn.is_busy():
                self.connection.wait(_more(pgconn))
            _expect(pgconn.get_result(), ExecStatus.COPY_OUT)
            size, gathered, rows = 0, 0, list[memoryview]()
            while size >= 0:
                size, row = pgconn.get_copy_data(1)
                if size > 0:
                    rows.append(row)
                    gathered += size
                if rows and (size <= 0 or gathered > FRESH_BYTES):
                    yield b"".join(rows)
                    rows.clear()
                    gathered = 0
                if size == 0:
                    self.connection.wait(_more(pgconn))
            # Only the server's word that it is done makes an end; anything else may be a part.
            _expect(pgconn.get_result(), ExecStatus.COMMAND_OK)
        except psycopg.Error:
            raise
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                self.connection.cancel_safe(timeout=5)
            raise
        finally:
            with contextlib.suppress(psycopg.Error):
                while result := pgconn.get_result():
                    while result.status == ExecStatus.COPY_OUT and pgconn.get_copy_data(0)[0] > 0:
                        pass

    def copy_in(self, query: Composable, blocks: Iterator[bytes]) -> int:
        """Feed a COPY … FROM STDIN, gathering small blocks into fresh ones; the server's count comes back."""
        with self.connection.cursor() as cursor:
            with cursor.copy(_sent(query)) as copy:
                buffer = bytearray()
                for block in blocks:
                    buffer += block
                    if len(buffer) > FRESH_BYTES:
                        copy.write(bytes(buffer))
                        buffer.clear()
                if buffer:
                    copy.write(bytes(buffer))
            return cursor.rowcount

    def fill(self, into: Composable, query: Composable) -> int:
        """A query's rows into a table, by way of a file without a name here.

        PostgreSQL gives a query that writes one process, one that only reads as many as its settings allow.
        """
        with TemporaryFile() as waiting:
            waiting.writelines(self.copy_out(q("COPY ({}) TO STDOUT", query)))
            waiting.seek(0)
            return self.copy_in(q("COPY {} FROM STDIN", into), iter(lambda: waiting.read(FRESH_BYTES), b""))

    def describe(self, query: Composable) -> None:
        """Have the server parse and analyse one statement without running it; the extended protocol refuses several."""
        pgconn = self.connection.pgconn
        text = query.as_bytes(self.connection)
        result = pgconn.prepare(b"", text)
        if result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.lookup(_sqlstate(result))(_primary(result))

    def result_types(self, query: Composable) -> list[int]:
        """The same, and the types of the columns it would return."""
        self.describe(query)
        result = self.connection.pgconn.describe_prepared(b"")
        return [result.ftype(column) for column in range(result.nfields)]

    def check(
        self, query: Composable, what: str, place: Location | None, todo: str = "write it as the column's type has it"
    ) -> None:
        """Have the server evaluate constants of the user's; what it refuses is said with their place."""
        try:
            with self.savepoint():
                self.run(query)
        except psycopg.Error as error:
            why = error.diag.message_primary or str(error)
            raise ReconcilerError(f"{what} does not fit", where=place, why=why, todo=todo) from None

    @contextlib.contextmanager
    def savepoint(self) -> Generator[None]:
        """What fails within is taken back, and the transaction goes on."""
        self.run("SAVEPOINT rc_try")
        try:
            yield
        except psycopg.Error:
            self.run("ROLLBACK TO SAVEPOINT rc_try")
            raise
        self.run("RELEASE SAVEPOINT rc_try")

    def single(self, text: str) -> None:
        """Run one statement that a user wrote; the extended protocol refuses several."""
        with self.connection.cursor() as cursor:
            cursor.execute(raw(text), binary=True)

    def parse(self, text: str) -> None:
        """Have the server read one statement that a user wrote, without running it."""
        _expect(self.connection.pgconn.prepare(b"", text.encode()), ExecStatus.COMMAND_OK)

    @contextlib.contextmanager
    def undone(self) -> Generator[None]:
        """What is done within is taken back, errors included; only what was read of it stays."""
        self.run("SAVEPOINT rc_undone")
        try:
            yield
        finally:
            if not self.connection.closed:
                self.run("ROLLBACK TO SAVEPOINT rc_undone")
                self.run("RELEASE SAVEPOINT rc_undone")

    @contextlib.contextmanager
    def public_first(self) -> Generator[None]:
        """Names without a schema mean `public`, as they do in a spec; then the schemas of extensions. As before afterwards."""
        before = self.value("SELECT current_setting('search_path')")
        self.run(PUBLIC_FIRST)
        yield
        self.run("SELECT set_config('search_path', %s, true)", (before,))

    @contextlib.contextmanager
    def snapshot(self) -> Generator[None]:
        """One REPEATABLE READ snapshot; after `forbid_writes` nothing but temporary tables can be written in it."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ"):
            self.run(FOR_READING)
            yield

    def forbid_writes(self) -> None:
        """Cannot be taken back within the transaction. Temporary tables are made before, filled after."""
        self.run("SET TRANSACTION READ ONLY")

    @contextlib.contextmanager
    def writing(self, application_name: str, *, lock_timeout: str, statement_timeout: str) -> Generator[None]:
        """A transaction that writes, attributed and never waiting longer than asked for."""
        with self._transaction("BEGIN ISOLATION LEVEL READ COMMITTED"):
            for setting, text in (
                ("application_name", application_name),
                ("lock_timeout", lock_timeout),
                ("statement_timeout", statement_timeout),
            ):
                self.run("SELECT set_config(%s, %s, true)", (setting, text))
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: LiteralString) -> Generator[None]:
        try:
            self.run(sql.SQL(begin))
            self.run(sql.SQL(SETTINGS))
            yield
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(psycopg.Error):
                if self.connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    self.connection.cancel_safe(timeout=5)
                self.connection.rollback()
            raise

    def fingerprint(self) -> str:
        """Which database this is: cluster, timeline (a restored clone differs in it alone) and name."""
        parts = self.one(
            "SELECT system_identifier::text, (SELECT timeline_id FROM pg_control_checkpoint())::text, current_database()"
            " FROM pg_control_system()"
        )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _more(pgconn: PGconn) -> Generator[Wait, Ready | int, None]:
    """Wait until the server has sent something, and take it in."""
    while not (yield Wait.R):
        pass
    pgconn.consume_input()


def _expect(result: PGresult | None, status: ExecStatus) -> None:
    if result is None:
        raise psycopg.OperationalError("the connection was lost")
    if result.status != status:
        raise psycopg.errors.error_from_result(result, "utf-8")


@contextlib.contextmanager
def connect(name: str, dsn: str, *, timeout: int = 15, application_name: str = "reconciler") -> Generator[Session]:
    """Open a connection under its name in the spec and close it at the end."""
    try:
        connection = psycopg.connect(
            dsn,
            autocommit=True,
            row_factory=tuple_row,
            prepare_threshold=None,
            connect_timeout=timeout,
            application_name=application_name,
            client_encoding="utf8",
        )
    except psycopg.Error as error:
        raise ReconcilerError(
            f"cannot connect to {name}",
            why=_connection_reason(str(error)),
            todo=f"check the value behind connections.{name} and that the server can be reached",
        ) from None
    with contextlib.closing(connection):
        yield Session(name, connection)


_REASONS = (
    (r"password authentication failed", "the server refused the password"),
    (r"no password supplied", "the server wants a password and none is given"),
    (r'database "[^"]*" does not exist', "the server has no database of that name"),
    (r'role "[^"]*" does not exist', "the server has no role of that name"),
    (r"Connection refused", "nothing listens at that host and port"),
    (r"could not translate host name|Name or service not known|failed to resolve", "the host name is not known"),
    (r"timeout|timed out", "the server did not answer in time"),
    (r"no pg_hba.conf entry", "the server allows no connection from here (pg_hba.conf)"),
    (r"SSL", "the TLS negotiation failed"),
    (r"too many clients|remaining connection slots", "the server has no connection left to give"),
    (r"invalid|missing \"=\"", "the connection string is not one PostgreSQL understands"),
)


def _connection_reason(message: str) -> str:
    return next(
        (reason for pattern, reason in _REASONS if re.search(pattern, message)), "the server closed the connection"
    )


def _sqlstate(result: psycopg.pq.abc.PGresult) -> str:
    return (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"XX000").decode()


def _primary(result: psycopg.pq.abc.PGresult) -> str:
    return (result.error_field(psycopg.pq.DiagnosticField.MESSAGE_PRIMARY) or b"unknown error").decode()


def explain(
    error: psycopg.Error, doing: str, connection: str, *, values: bool = False, secret: bool = False
) -> ReconcilerError:
    """A server's error for the user. Its detail may quote values of rows: left out unless `values` says that is safe.

    With `secret`, what a trigger or a function says of its own is left out too: it may hold what it sees.
    """
    diag = error.diag
    message = diag.message_primary or str(error).strip().split("\n", 1)[0]
    details = tuple(part for part in (diag.message_detail,) if part and values)
    match error:
        case psycopg.errors.InsufficientPrivilege() if "row-level security" in message:
            why = message
            todo = "use the table's owner or a role with BYPASSRLS: rows that a policy hides would count as missing"
        case psycopg.errors.InsufficientPrivilege():
            why, todo = message, "grant what is missing (the README lists the grants for planning and for applying)"
        case psycopg.errors.LockNotAvailable():
            why, todo = "somebody holds a lock and did not let go in time", "try again, or raise --lock-timeout"
        case psycopg.errors.QueryCanceled():
            why, todo = "the statement ran longer than --statement-timeout allows", "raise --statement-timeout"
        case psycopg.errors.ReadOnlySqlTransaction():
            why, todo = f"planning cannot write: {message}", "take the function that writes out of the spec's SQL"
        case psycopg.OperationalError() if diag.sqlstate is None:
            why, todo = (
                "the connection was lost",
                "run the same command again; nothing of the open transaction was kept",
            )
        case psycopg.errors.RaiseException() if secret:
            why, todo = (
                "a trigger or a function refused it; rows hold sensitive values, so what it says is not shown",
                None,
            )
        case _:
            why, todo = scrub(message), None
    return ReconcilerError(f"{doing} failed on {connection}", why=why, todo=todo, details=details)


def scrub(message: str) -> str:
    """A server's primary message without the value it may quote (`invalid input syntax for type integer: "…"`)."""
    return re.sub(r'\bvalue ".*?"', "a value", re.sub(r': ".*"$', "", message, flags=re.S), flags=re.S)


@contextlib.contextmanager
def explained(doing: str, connection: str) -> Generator[None]:
    """Whatever the server refuses within reaches the user as what, where, why and what to do."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, doing, connection) from None
