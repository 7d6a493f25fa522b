"""What a guard is made of in PostgreSQL: a function, and triggers that call it once for each statement.

In: a table with its limits. Out: CREATE statements as the server spells them.
A reason given with SET LOCAL reconciler.allow lets a transaction pass; one given for a whole session is spent by the first that does.
Invariant: a guard that cannot look fails the statement; it never lets one pass by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

import psycopg

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.audit_sql import create_trigger, short
from reconciler.systems.postgres.guard_limits import PREFIX, SQLSTATE, Limits
from reconciler.systems.postgres.kept import qualified
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw, scrub

EVENTS = ("delete", "update", "truncate")

_BODY: LiteralString = """
#variable_conflict use_column
DECLARE
  given_reason text := nullif(btrim(current_setting('reconciler.allow', true)), '');
  counted bigint;
  refused text;
BEGIN
  IF TG_OP = 'DELETE' THEN
{delete}
  ELSIF TG_OP = 'UPDATE' THEN
{update}
  ELSE
{truncate}
  END IF;
  IF refused IS NULL THEN
    RETURN NULL;
  END IF;
  IF given_reason IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = {sqlstate}, MESSAGE = {guard} || ': ' || refused,
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME,
      HINT = 'If it is meant, say why in the same transaction: SET LOCAL reconciler.allow = ''the reason'';';
  END IF;
  PERFORM set_config('reconciler.allow', '', false), set_config('reconciler.allow', given_reason, true);
  RAISE LOG USING MESSAGE = format('%s was passed by %s: %s; reason: %s', {guard}, session_user, refused, given_reason);
  RETURN NULL;
END
"""
_COUNT: LiteralString = """\
    SELECT count(*) INTO counted FROM {rows};
    IF counted > {limit} THEN
      refused := format('this %s {takes} %s rows of %s, and %s is the most', TG_OP, to_char(counted, 'FM999,999,999,999'), {table}, {shown});
    END IF;"""
_PROTECT: LiteralString = """\
    SELECT count(*) INTO counted FROM {rows} WHERE {condition};
    IF counted > 0 THEN
      refused := concat_ws('; ', refused, format('this %s {takes} %s protected rows of %s (%s)', TG_OP,
        to_char(counted, 'FM999,999,999,999'), {table}, {told}));
    END IF;"""
_CHANGED: LiteralString = """\
    SELECT count(*) INTO counted FROM (SELECT b.* FROM (SELECT row_number() OVER () AS rc_n, rc_was AS rc_row FROM old_rows rc_was) x
      JOIN (SELECT row_number() OVER () AS rc_n, rc_is AS rc_row FROM new_rows rc_is) y USING (rc_n)
      CROSS JOIN LATERAL (SELECT (x.rc_row).*) b WHERE x.rc_row *<> y.rc_row) AS {alias} WHERE {condition};
    IF counted > 0 THEN
      refused := concat_ws('; ', refused, format('this %s changes %s protected rows of %s (%s)', TG_OP,
        to_char(counted, 'FM999,999,999,999'), {table}, {told}));
    END IF;"""
_TRUNCATE: LiteralString = """\
    EXECUTE format({query}, TG_RELID::regclass) INTO counted;
    IF counted > {most} THEN
      refused := concat_ws('; ', refused, format({said}, TG_OP, to_char(counted, 'FM999,999,999,999'), {table}));
    END IF;"""


def function_name(table: TableName, guard: str) -> TableName:
    """The guard's function; it stands in the table's schema."""
    return TableName(table.schema or "public", short(PREFIX, guard))


def trigger_name(guard: str, event: str) -> str:
    return short(PREFIX, guard, event)


def create_function(session: Session, table: TableName, limits: Limits) -> str:
    """The statement of the guard's function."""
    named = {"table": lit(full_name(table)), "alias": ident(table.name), "told": lit(limits.protect)}
    condition = raw(limits.protect or "false")
    delete: list[Composable] = []
    update: list[Composable] = []
    truncate: list[Composable] = []
    if limits.max_rows_per_delete is not None:
        most = limits.max_rows_per_delete
        delete.append(
            q(
                _COUNT,
                rows=raw("old_rows"),
                limit=lit(most),
                takes=raw("takes"),
                shown=lit(f"{most:,}"),
                **_only(named, "table"),
            )
        )
        truncate.append(
            _of_truncate(session, raw("true"), most, f"this %s takes %s rows of %s, and {most:,} is the most", named)
        )
    if limits.max_rows_per_update is not None:
        most = limits.max_rows_per_update
        update.append(
            q(
                _COUNT,
                rows=raw("old_rows"),
                limit=lit(most),
                takes=raw("touches"),
                shown=lit(f"{most:,}"),
                **_only(named, "table"),
            )
        )
    if limits.protect:
        rows = q("old_rows AS {}", ident(table.name))
        delete.append(q(_PROTECT, rows=rows, condition=condition, takes=raw("takes"), **_only(named, "table", "told")))
        update.append(q(_CHANGED, condition=condition, **named))
        said = f"this %s takes %s protected rows of %s ({_percent(limits.protect)})"
        truncate.append(_of_truncate(session, condition, 0, said, named))
    if limits.no_truncate:
        truncate.append(q("    refused := concat_ws('; ', refused, 'no TRUNCATE of ' || {});", named["table"]))
    nothing = [raw("    NULL;")]
    body = q(_BODY, delete=join(delete or nothing, "\n"), update=join(update or nothing, "\n"), truncate=join(truncate or nothing, "\n"),
             guard=lit(f"guard {limits.guard}"), sqlstate=lit(SQLSTATE))  # fmt: skip
    return q("CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS {}",
             relation(function_name(table, limits.guard)), lit(body.as_string(session.connection))).as_string(session.connection)  # fmt: skip


def _of_truncate(
    session: Session, condition: Composable, most: int, said: str, named: Mapping[str, Composable]
) -> Composable:
    query = q("SELECT count(*) FROM ONLY {{}} AS {} WHERE {}", named["alias"], condition).as_string(session.connection)
    return q(
        _TRUNCATE,
        query=lit(_percent(query).replace("{}", "%s", 1)),
        most=lit(most),
        said=lit(said),
        table=named["table"],
    )


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _only(named: Mapping[str, Composable], *names: str) -> dict[str, Composable]:
    return {name: named[name] for name in names}


def triggers(session: Session, on: TableName, table: TableName, limits: Limits) -> list[tuple[str, str]]:
    """The name and the statement of each trigger of a relation."""
    function = function_name(table, limits.guard)
    return [
        (name := trigger_name(limits.guard, event), create_trigger(session, name, how, on, function, limits.told()))
        for event, how in limits.events.items()
    ]


def condition_as_written(session: Session, table: TableName, condition: Composable, place: Location | None) -> str:
    """A proven condition as the server writes it, every name with its schema; asked of a check over a temporary copy of the table."""
    try:
        with session.undone():
            session.run(q("CREATE TEMP TABLE {} (LIKE {})", ident(table.name), relation(table)))
            session.run(q("ALTER TABLE pg_temp.{} ADD CONSTRAINT rc_protect CHECK ({})", ident(table.name), condition))
            with qualified(session):
                return session.value(
                    "SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint WHERE conname = 'rc_protect'"
                    " AND connamespace = pg_my_temp_schema()"
                )
    except psycopg.Error as error:
        raise ReconcilerError(
            "this condition cannot be looked at for each row", where=place, why=scrub(error.diag.message_primary or "the server refuses it"),
            todo="write a condition over the row's own columns, without subqueries",
        ) from None  # fmt: skip
