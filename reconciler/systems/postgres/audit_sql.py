"""What an audit is made of in PostgreSQL: a log partitioned by month, a function for each table, four triggers for each relation.

In: a table with its options. Out: CREATE statements as the server spells them. Statement triggers read whole statements at once from
transition tables; TRUNCATE, which has none, is read before it happens.
Invariant: a column that is dropped or added later never makes a writer fail; who writes needs no right on the log and has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from reconciler.plan.names import LONGEST, TableName
from reconciler.systems.postgres.rows import relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

PREFIX = "reconciler_audit"
MONTHS_AHEAD = 3
"""How many months after the present one are made at once; nothing is planned as long as one of them is left."""

_SETTINGS: LiteralString = (
    "SET search_path = pg_catalog, pg_temp SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'postgres'"
    " SET bytea_output = 'hex' SET extra_float_digits = 1"
)
EVENTS: dict[str, LiteralString] = {
    "insert": "AFTER INSERT ON {} REFERENCING NEW TABLE AS new_rows",
    "update": "AFTER UPDATE ON {} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "AFTER DELETE ON {} REFERENCING OLD TABLE AS old_rows",
    "truncate": "BEFORE TRUNCATE ON {}",
}

_BODY: LiteralString = """
DECLARE
  this_tx bigint := txid_current();
  this_moment timestamptz := statement_timestamp();
  this_role text := nullif(current_setting('role'), 'none');
  this_program text := nullif(current_setting('application_name'), '');
  this_address inet := inet_client_addr();
  this_query text := {query};
  this_plan text := substring(this_program FROM '^reconciler/([0-9a-f]{{16}})$');
  this_reason text := nullif(current_setting('reconciler.allow', true), '');
  taken bigint;
BEGIN
  this_role := coalesce(this_role, session_user);
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO {log} ({columns})
    SELECT this_tx, this_moment, {schema}, {table}, TG_OP, this_role, this_program, this_address, this_query, {key_of_b}, {before}, {after},
      this_plan, this_reason
    FROM (SELECT row_number() OVER () AS n, to_jsonb(o.*) AS r FROM old_rows o) b
    JOIN (SELECT row_number() OVER () AS n, to_jsonb(o.*) AS r FROM new_rows o) a USING (n){differing};
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO {log} ({columns})
    SELECT this_tx, this_moment, {schema}, {table}, TG_OP, this_role, this_program, this_address, this_query, {key}, NULL, {image},
      this_plan, this_reason
    FROM (SELECT to_jsonb(o.*) AS r FROM new_rows o OFFSET 0) a;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO {log} ({columns})
    SELECT this_tx, this_moment, {schema}, {table}, TG_OP, this_role, this_program, this_address, this_query, {key}, {image}, NULL,
      this_plan, this_reason
    FROM (SELECT to_jsonb(o.*) AS r FROM old_rows o OFFSET 0) a;
  ELSE
    EXECUTE format({of_truncate}, TG_RELID::regclass)
    USING this_tx, this_moment, this_role, this_program, this_address, this_query, this_plan, this_reason;
    GET DIAGNOSTICS taken = ROW_COUNT;
    IF taken = 0 THEN
      INSERT INTO {log} ({columns})
      VALUES (this_tx, this_moment, {schema}, {table}, TG_OP, this_role, this_program, this_address, this_query, NULL, NULL, NULL,
        this_plan, this_reason);
    END IF;
  END IF;
  RETURN NULL;
END
"""
_OF_TRUNCATE: LiteralString = (
    "INSERT INTO {log} ({columns}) SELECT $1, $2, {schema}, {table}, 'TRUNCATE', $3, $4, $5, $6, {key}, {image}, NULL, $7, $8"
    " FROM (SELECT to_jsonb(o.*) AS r FROM ONLY "
)
_DIFFERING: LiteralString = (
    "\n    CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(e.key, e.value), '{{}}') AS before,"
    " coalesce(jsonb_object_agg(e.key, i.r -> e.key), '{{}}') AS after"
    "\n      FROM (SELECT {after} AS r OFFSET 0) i, jsonb_each({before}) e WHERE i.r -> e.key IS DISTINCT FROM e.value) d"
)
_WRITTEN = (
    "tx_id", "statement_at", "table_schema", "table_name", "operation", "role", "application_name", "client_addr", "query", "key",
    "old", "new", "plan_id", "allowed",
)  # fmt: skip
_MEMBERS_A_CALL = 50
_INDEXES = {
    "time": "brin (table_name, statement_at) WITH (autosummarize='on')",
    "key": "gin (key jsonb_path_ops) WITH (gin_pending_list_limit='16384')",
}
"""Records come in the order of time, and by the hundred thousand: other kinds of indexes would cost more than all the rest of a record."""


class Audited(NamedTuple):
    """A table whose changes are recorded. `columns` None: all of them; `changed`: of updates what differs."""

    table: TableName
    key: tuple[str, ...]
    columns: tuple[str, ...] | None
    changed: bool
    sensitive: tuple[str, ...]
    query: bool
    log: TableName


def short(*parts: str) -> str:
    """A name of the parts; one that is too long is cut and told apart by a hash."""
    name = "_".join(parts)
    if len(name.encode()) <= LONGEST:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}_{mark}"


def function_name(table: TableName) -> TableName:
    """The function that records what becomes of a table; it stands in the table's schema."""
    return TableName(table.schema or "public", short(PREFIX, table.name))


def create_function(session: Session, it: Audited) -> str:
    """The statement; every value in it is quoted by the driver."""
    log = relation(it.log)
    columns = join([ident(column) for column in _WRITTEN])
    named = {"log": log, "columns": columns, "schema": lit(it.table.schema or "public"), "table": lit(it.table.name)}
    image = _image(it, raw("a.r"))
    key = _key(it, raw("a.r"))
    truncate = (
        q(_OF_TRUNCATE, **named, key=key, image=image).as_string(session.connection).replace("%", "%%")
        + "%s o OFFSET 0) a"
    )
    before = _image(it, raw("b.r"))
    body = q(_BODY, **named, query=raw("current_query()" if it.query else "NULL"), key_of_b=_key(it, raw("b.r")), key=key, image=image,
             before=raw("d.before") if it.changed else before, after=raw("d.after") if it.changed else image,
             differing=q(_DIFFERING, before=before, after=image) if it.changed else raw(""),
             of_truncate=lit(truncate))  # fmt: skip
    text = body.as_string(session.connection)
    return q("CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {} AS {}", relation(function_name(it.table)),
             raw(_SETTINGS), lit(text)).as_string(session.connection)  # fmt: skip


def _members(names: Sequence[str], row: Composable) -> Composable:
    """A JSON object of some members of another; a call takes no more than a hundred arguments."""
    parts = [names[at : at + _MEMBERS_A_CALL] for at in range(0, len(names), _MEMBERS_A_CALL)]
    calls = [
        q("jsonb_build_object({})", join([q("{}, {} -> {}", lit(name), row, lit(name)) for name in part]))
        for part in parts
    ]
    return join(calls, " || ")


def _key(it: Audited, row: Composable) -> Composable:
    """Its columns put into an object that has their names: half the cost of one that is built."""
    if not it.key:
        return raw("NULL::jsonb")
    made = q("{}::jsonb", lit(json.dumps(dict.fromkeys(it.key), ensure_ascii=False)))
    for name in it.key:
        made = q("jsonb_set_lax({}, ARRAY[{}], {} -> {})", made, lit(name), row, lit(name))
    return made


def _image(it: Audited, row: Composable) -> Composable:
    if it.columns is not None:
        return q("({})", _members(list(dict.fromkeys((*it.key, *it.columns))), row))
    if it.sensitive:
        return q("({} - {}::text[])", row, q("ARRAY[{}]", join([lit(name) for name in it.sensitive])))
    return row


def triggers(session: Session, relation_name: TableName, function: TableName) -> list[tuple[str, str]]:
    """The name and the statement of each trigger of a relation."""
    return [
        (f"{PREFIX}_{event}", create_trigger(session, f"{PREFIX}_{event}", how, relation_name, function))
        for event, how in EVENTS.items()
    ]


def create_trigger(
    session: Session, name: str, how: LiteralString, on: TableName, function: TableName, *arguments: str
) -> str:
    """The statement of a trigger for each statement, word for word as the server gives it back."""
    place, called = spelled(session, on), spelled(session, function)
    quoted = ", ".join("'" + argument.replace("'", "''") + "'" for argument in arguments)  # a backslash stays as it is
    event = q(how, raw(place)).as_string(session.connection)
    named = session.value("SELECT quote_ident(%s)", (name,))
    return f"CREATE TRIGGER {named} {event} FOR EACH STATEMENT EXECUTE FUNCTION {called}({quoted})"


def spelled(session: Session, name: TableName) -> str:
    """A name as the server quotes it, with its schema."""
    return session.value("SELECT quote_ident(%s) || '.' || quote_ident(%s)", (name.schema or "public", name.name))


def indexes(session: Session, log: TableName) -> list[tuple[str, str]]:
    """The name and the statement of each index of a log."""
    made: list[tuple[str, str]] = []
    for word, how in _INDEXES.items():
        name = TableName(log.schema, short(log.name, word, "idx"))
        quoted = session.value("SELECT quote_ident(%s)", (name.name,))
        made.append((spelled(session, name), f"CREATE INDEX {quoted} ON {spelled(session, log)} USING {how}"))
    return made


class Part(NamedTuple):
    """A partition of a log: its name, its bounds as the catalog says them, and whether it is older than what is kept."""

    name: str
    old: bool
    rest: bool


def partitions(session: Session, log: TableName, now: int, days: int | None) -> list[Part]:
    """The partitions there are."""
    rows = session.rows(
        q("SELECT format('%%I.%%I', n.nspname, c.relname), b.bound = 'DEFAULT',"
          " coalesce(substring(b.bound FROM $$TO \\('(.*?)'\\)$$)::timestamptz <= {now} - make_interval(days => %s), false)"
          " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
          " CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) b (bound)"
          " WHERE i.inhparent = to_regclass(%s) ORDER BY 1", now=_clock(now)), (days, spelled(session, log))
    )  # fmt: skip
    return [Part(name, old, rest) for name, rest, old in rows]


def lacking(session: Session, log: TableName, now: int, days: int | None) -> list[tuple[str, str]]:
    """Partitions that are to be made: name and statement. Months ahead where none is left, and months whose records have no place of
    their own; the default one, so that no writer ever fails.
    """
    here = spelled(session, log)
    there = bool(session.value("SELECT to_regclass(%s)", (here,)))
    rest = short(log.name, "rest")
    parts = partitions(session, log, now, days) if there else []
    stray = raw("SELECT NULL::timestamptz AS month WHERE false")
    if name := next((part.name for part in parts if part.rest), None):
        stray = q("SELECT DISTINCT date_trunc('month', statement_at, 'UTC') AS month FROM {}", raw(name))
    rows = session.rows(
        q("WITH ours AS (SELECT substring(b.bound FROM $$FROM \\('(.*?)'\\)$$)::timestamptz AS low,"
          " substring(b.bound FROM $$TO \\('(.*?)'\\)$$)::timestamptz AS high FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
          " CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) b (bound) WHERE i.inhparent = to_regclass({log})),"
          " clock AS (SELECT date_trunc('month', {now}, 'UTC') AS month),"
          " ahead AS (SELECT g.n, clock.month + make_interval(months => g.n) AS month FROM clock, generate_series(0, {most}) g (n)),"
          " covered AS (SELECT a.n, a.month, EXISTS (SELECT FROM ours o WHERE coalesce(o.low, '-infinity') <= a.month"
          "   AND coalesce(o.high, 'infinity') > a.month AND (o.low IS NOT NULL OR o.high IS NOT NULL)) AS done FROM ahead a),"
          " wanted AS (SELECT month FROM covered WHERE NOT done AND NOT (SELECT bool_and(done) FROM covered WHERE n <= 1)"
          " UNION SELECT s.month FROM ({stray}) s WHERE {days}::int IS NULL"
          "   OR s.month + interval '1 month' > {now} - make_interval(days => {days}::int))"
          " SELECT to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'), month::text, (month + interval '1 month')::text"
          " FROM wanted ORDER BY month",
          log=lit(here), now=_clock(now), most=lit(MONTHS_AHEAD), stray=stray, days=lit(days))
    )  # fmt: skip
    made: list[tuple[str, str]] = []
    for month, low, high in rows:
        name = spelled(session, TableName(log.schema, short(log.name, month)))
        made.append((name, f"CREATE TABLE {name} PARTITION OF {here} FOR VALUES FROM ('{low}') TO ('{high}')"))
    if not any(part.rest for part in parts):
        name = spelled(session, TableName(log.schema, rest))
        made.append((name, f"CREATE TABLE {name} PARTITION OF {here} DEFAULT"))
    return made


def _clock(now: int) -> Composable:
    return q("to_timestamp({})", lit(now))
