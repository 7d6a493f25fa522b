"""An audit log, whoever writes it, in one vocabulary: when, which table, which operation, by whom, before and after.

In: the catalog, a table's name or none, names given by the user. Out: a `Log`, whose expressions read one record of the table under
the alias `l`. Recognised are this program's own log, supa_audit's record_version, 2ndQuadrant's logged_actions and, by the usual
names of their columns, the logs people write themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.catalog import Catalog, Column, Table
from reconciler.systems.postgres.rows import full_name
from reconciler.systems.postgres.session import Composable, ident, join, lit, q, raw

WORDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "event_id", "log_id", "audit_id"),
    "at": (
        "statement_at", "action_tstamp_stm", "ts", "occurred_at", "logged_at", "changed_at", "event_time", "action_timestamp",
        "performed_at", "executed_at", "audited_at", "timestamp", "created_at",
    ),
    "tx": ("tx_id", "transaction_id", "txid", "xid"),
    "schema": ("table_schema", "schema_name", "schemaname"),
    "table": ("table_name", "relname", "tablename", "relation"),
    "operation": ("operation", "op", "action", "tg_op"),
    "role": (
        "role", "session_user_name", "db_user", "user_name", "username", "changed_by", "performed_by", "executed_by", "usename",
        "db_role", "session_user", "current_user", "user",
    ),
    "application": ("application_name", "application", "app_name"),
    "client": ("client_addr", "client_ip", "inet_client_addr", "ip_address"),
    "query": ("query", "client_query"),
    "key": ("key", "record_key", "primary_key", "row_key", "pk"),
    "old": ("old", "old_data", "old_record", "old_values", "old_row", "before", "row_before"),
    "new": ("new", "new_data", "new_record", "new_values", "new_row", "after", "row_after", "record"),
    "plan": ("plan_id",),
}  # fmt: skip
"""What a log's columns mean, and the names they go by."""

_NEEDED = ("at", "table", "operation")
_JSON = ("json", "jsonb")
_WORDS_OF_A_NAME = ("audit", "log", "history", "record_version")


class Log(NamedTuple):
    """A log's table and what its columns are called; every expression is over the alias `l`."""

    table: Table
    columns: Mapping[str, str]
    """Word -> column."""
    layout: str

    @property
    def name(self) -> TableName:
        return self.table.name

    def has(self, word: str) -> bool:
        return word in self.columns

    def _column(self, word: str) -> Column:
        return self.table.columns[self.columns[word]]

    def value(self, word: str) -> Composable:
        """A column as it is; NULL where the log has none of this meaning."""
        return ident("l", self.columns[word]) if word in self.columns else raw("NULL::text")

    @property
    def at(self) -> Composable:
        return q("{}::timestamptz", self.value("at")) if self._column("at").type != _TIMESTAMPTZ else self.value("at")

    @property
    def operation(self) -> Composable:
        """INSERT, UPDATE, DELETE or TRUNCATE; also where the log has only their first letters."""
        return self.meaning(self.value("operation"))

    def meaning(self, operation: Composable) -> Composable:
        """The same of what a record holds."""
        if self.layout == OURS:
            return operation
        return q("CASE upper(left({}::text, 1)) WHEN 'I' THEN 'INSERT' WHEN 'U' THEN 'UPDATE' WHEN 'D' THEN 'DELETE'"
                 " WHEN 'T' THEN 'TRUNCATE' END", operation)  # fmt: skip

    def tells(self, operation: str) -> Composable:
        """Whether a record is of this operation; cheaper than to compare `operation`."""
        if self.layout == OURS:
            return q("{} = {}", self.value("operation"), lit(operation))
        return q("left({}::text, 1) IN ({}, {})", self.value("operation"), lit(operation[0]), lit(operation[0].lower()))

    def image(self, word: str) -> Composable:
        """The row before (`old`) or after (`new`), as jsonb."""
        if self.layout == LOGGED_ACTIONS:
            row, changed = raw("hstore_to_jsonb(l.row_data)"), raw("hstore_to_jsonb(coalesce(l.changed_fields, ''))")
            return (
                q("CASE WHEN l.action::text IN ('U', 'D') THEN {} END", row)
                if word == "old"
                else q("CASE l.action::text WHEN 'I' THEN {} WHEN 'U' THEN {} || {} END", row, row, changed)
            )
        if word not in self.columns:
            return raw("NULL::jsonb")
        type_ = self._column(word).type
        if type_.endswith("hstore"):
            return q("hstore_to_jsonb({})", self.value(word))
        return self.value(word) if type_ == "jsonb" else q("{}::jsonb", self.value(word))

    @property
    def plain(self) -> bool:
        """Whether its images are columns of it, which cost nothing to name several times."""
        return self.layout != LOGGED_ACTIONS and all(
            self._column(word).type == "jsonb" for word in ("old", "new") if word in self.columns
        )

    def key(self, column: str, position: int) -> Composable:
        """The text of one column of a record's primary key: from the key as an object or a list, else from its images."""
        images = q("coalesce({}, {}) ->> {}", self.image("old"), self.image("new"), lit(column))
        if "key" not in self.columns:
            return q("({})", images)
        key = self.value("key") if self._column("key").type == "jsonb" else q("{}::jsonb", self.value("key"))
        return q("coalesce({k} ->> {c}, {k} ->> {n}, {i})", k=key, c=lit(column), n=lit(position), i=images)

    def concerns(self, table: TableName) -> Composable:
        """Whether a record is about a table."""
        named = [q("{} = {}", self.value("table"), lit(table.name))]
        if "schema" in self.columns:
            here = q("{} = {}", self.value("schema"), lit(table.schema or "public"))
            empty = q("coalesce({}::text, '') = ''", self.value("schema"))
            loose = table.schema in (None, "public") and not self._column("schema").not_null
            named.append(q("({} OR {})", here, empty) if loose else here)
        else:  # a log that has one column for both may write schema.table
            named = [q("{} IN ({}, {})", self.value("table"), lit(table.name), lit(full_name(table)))]
        return join(named, " AND ")


OURS = "reconciler's own log"
SUPA_AUDIT = "supa_audit"
LOGGED_ACTIONS = "2ndQuadrant audit-trigger"
_TIMESTAMPTZ = "timestamp with time zone"


def recognise(table: Table, given: Mapping[str, str] | None = None) -> Log | None:
    """The table as a log, if its columns allow it; `given` names columns outright."""
    columns = dict(given or {})
    for word, names in WORDS.items():
        if word not in columns and (found := next((name for name in names if name in table.columns), None)):
            columns[word] = found
    if any(word not in columns for word in _NEEDED) or not table.columns[columns["at"]].type.startswith("timestamp"):
        return None
    if {"row_data", "changed_fields", "action"} <= table.columns.keys() and not given:
        return Log(table, {**columns, "old": "row_data", "new": "changed_fields"}, LOGGED_ACTIONS)
    for word in ("key", "old", "new"):
        type_ = table.columns[columns[word]].type if word in columns else ""
        if type_ and type_ not in _JSON and not type_.endswith("hstore"):
            del columns[word]
    if not columns.keys() & {"old", "new"}:
        return None
    if {"record_id", "old_record_id", "op", "ts"} <= table.columns.keys():
        return Log(table, columns, SUPA_AUDIT)
    ours = {
        "id",
        "tx_id",
        "statement_at",
        "table_schema",
        "operation",
        "key",
        "old",
        "new",
        "plan_id",
    } <= table.columns.keys()
    return Log(table, columns, OURS if ours else "columns by their usual names" if not given else "columns as given")


def find_log(
    catalog: Catalog, connection: str, name: TableName | None, given: Mapping[str, str] | None = None,
    where: Location | None = None
) -> Log:  # fmt: skip
    """The log of that name, or the one table that is a log."""
    if name is None:
        return _only_log(catalog, connection)
    table = catalog.find(name)
    if table is None:
        close = catalog.suggest(name)
        raise ReconcilerError(
            f"{connection} has no table {full_name(name)}",
            where=where,
            todo=f"did you mean {close}?" if close else None,
        )
    for word, column in (given or {}).items():
        if word not in WORDS:
            raise ReconcilerError(f"a log has no `{word}`", where=where, todo=f"the words are {', '.join(WORDS)}")
        if column not in table.columns:
            raise ReconcilerError(
                f"{full_name(table.name)} has no column {column!r}",
                where=where,
                todo=f"it has {', '.join(table.columns)}",
            )
    log = recognise(table, given)
    if log is None:
        raise ReconcilerError(
            f"{full_name(table.name)} cannot be read as an audit log", where=where,
            why="it lacks a time, the name of a table, an operation, or the row before or after as JSON",
            todo="say which column is which: --columns at=…,table=…,operation=…,old=…,new=…",
        )  # fmt: skip
    return log


def _only_log(catalog: Catalog, connection: str) -> Log:
    partitions = _partitions(catalog)
    found = [
        log for name, table in sorted(catalog.tables.items())
        if table.kind in "rpvm" and name not in partitions
        if any(word in name.name for word in _WORDS_OF_A_NAME) or name.schema == "audit"
        if (log := recognise(table))
    ]  # fmt: skip
    if len(found) == 1:
        return found[0]
    names = ", ".join(full_name(log.name) for log in found)
    raise ReconcilerError(
        f"{connection} has {'several tables that may be an audit log: ' + names if found else 'no table that looks like an audit log'}",
        todo="name it: --log schema.table"
        + ("" if found else ", and its columns: --columns at=…,table=…,operation=…,old=…"),
    )


def _partitions(catalog: Catalog) -> set[TableName]:
    """Tables whose rows belong to a partitioned one: same columns, its name before theirs."""
    parents = [name for name, table in catalog.tables.items() if table.kind == "p"]
    return {
        name
        for name in catalog.tables
        for parent in parents
        if name != parent and name.name.startswith(parent.name)
        if catalog.tables[name].columns.keys() == catalog.tables[parent].columns.keys()
    }


EVENTS = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


def recording(log: Log, table: Table) -> dict[str, str]:
    """Event -> the trigger that seems to record it now: its function names the log, stands in its schema, or is one of an audit."""
    found: dict[str, str] = {}
    for trigger in table.triggers:
        function = trigger.function.lower()
        named = log.name.name.lower() in trigger.source.lower() or log.name.name.lower() in function
        known = "audit" in function or "if_modified" in function or "insert_update_delete_trigger" in function
        if trigger.fires and (named or known or trigger.source.lower().find("audit") >= 0):
            found |= {event: trigger.name for event in trigger.events if event not in found}
    return found


def unrecorded(log: Log, table: Table) -> list[str]:
    """The kinds of statements that leave no record now."""
    there = recording(log, table)
    return [event for event in EVENTS if event not in there]
