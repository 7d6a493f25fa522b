"""`audits`: every insert, update, delete and truncate on these tables leaves a record."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from reconciler.plan.names import TableName
from reconciler.spec.collection import ColumnNames, connection_and_table
from reconciler.spec.models import Resource
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.values import Path

_DAYS = re.compile(r"[1-9][0-9]{0,4}d")


def _days(value: object) -> object:
    if isinstance(value, str) and _DAYS.fullmatch(value):
        return value
    raise PydanticCustomError("shape", 'how long records are kept is a number of days such as "400d"')


Days: TypeAlias = Annotated[
    str, BeforeValidator(_days), WithJsonSchema({"type": "string", "pattern": f"^{_DAYS.pattern}$"})
]


def _which(value: object) -> str:
    return "a list" if isinstance(value, list | tuple) else "text"


Logged: TypeAlias = Annotated[
    Annotated[Literal["all", "changed"], Tag("text")] | Annotated[ColumnNames, Tag("a list")],
    Discriminator(_which, custom_error_type="shape", custom_error_message="write all, changed, or a list of columns"),
]


def _whether(value: object) -> str:
    return "text" if isinstance(value, str) else "true or false"


Removal: TypeAlias = Annotated[
    Annotated[bool, Tag("true or false")] | Annotated[Literal["with_log"], Tag("text")],
    Discriminator(_whether, custom_error_type="shape", custom_error_message="write true, false, or with_log"),
]


class Audit(Resource):
    """Tables of which every change is recorded, and the log that holds the records."""

    tables: ColumnNames = Field(
        description="connection.table or connection.schema.table, all of one connection; partitions are meant with their table.",
        examples=[["production.images", "production.jobs"]],
    )
    log: str = Field(
        description="The table that records go to, on the same connection; created if absent, partitioned by month.",
        examples=["production.audit_log"],
    )
    columns: Logged = Field(
        "all",
        description="What `old` and `new` hold. all: every column. changed: of updates only the columns that differ. A list: these "
        "columns and the key.",
    )
    query: Literal["omit", "keep"] = Field(
        "omit", description="keep: the text of the statement too; it may hold values that nobody wants in a log."
    )
    sensitive: ColumnNames | None = Field(
        None,
        description="Columns whose values never reach the log; those that a collection of the same table calls sensitive are left out too.",
    )
    keep: Days | None = Field(
        None,
        description='Months that are older than this are dropped, under plan: "400d". Default: nothing is dropped.',
    )
    remove: Removal = Field(
        False,
        description="true: triggers and functions are dropped, and the log too if it holds nothing. with_log: the log with all its "
        "records. To take the block out of the spec removes nothing.",
    )

    def names(self) -> list[tuple[str, TableName]]:
        """The tables, each with its connection."""
        return [_table(text) for text in self.tables]

    @property
    def connection(self) -> str:
        return connection_and_table(self.log)[0]

    def log_table(self) -> TableName:
        name = _table(self.log)[1]
        return TableName(name.schema or "public", name.name)

    @property
    def days(self) -> int | None:
        return int(self.keep[:-1]) if self.keep else None


def _table(text: str) -> tuple[str, TableName]:
    connection, table = connection_and_table(text)
    if table is None:
        raise ValueError(f"`{text}` lacks a table: write connection.table")
    return connection, table


def report_audit(audit: Audit, at: Path, problems: Problems) -> bool:
    """Note everything in the audit that contradicts itself; whether its names can be read."""
    readable = True
    named = [((*at, "tables", n), text) for n, text in enumerate(audit.tables)]
    for path, text in (*named, ((*at, "log"), audit.log)):
        try:
            _table(text)
        except ValueError as error:
            problems.add(str(error), path, todo="write connection.table or connection.schema.table")
            readable = False
    if not readable:
        return False
    full = [(connection, TableName(name.schema or "public", name.name)) for connection, name in audit.names()]
    for (path, text), (connection, name) in zip(named, full, strict=True):
        if connection != audit.connection:
            problems.add(
                f"`{text}` and the log are on two connections", path, why="a trigger writes to its own database only",
                todo=f"write {audit.connection}.{name.name}, or an audit for each connection",
            )  # fmt: skip
        elif name == audit.log_table():
            problems.add("the log is audited by itself", path, todo="take it out of `tables`")
    for n, one in enumerate(full):
        if one in full[:n]:
            problems.add(
                f"`{audit.tables[n]}` stands twice in {dotted((*at, 'tables'))}", (*at, "tables", n), todo="keep one"
            )
    if audit.sensitive and audit.query == "keep":
        problems.add(
            "`query: keep` cannot stand beside `sensitive`", (*at, "query"), why="the text of a statement holds their values",
            todo="write query: omit",
        )  # fmt: skip
    if isinstance(audit.columns, tuple) and audit.sensitive:
        for name in sorted(set(audit.columns) & set(audit.sensitive)):
            problems.add(
                f"`{name}` is to be logged and is sensitive", (*at, "columns"), todo="take it out of one of the lists"
            )
    return True


def report_shared(audits: dict[str, Audit], problems: Problems) -> None:
    """Note what several audits say of the same table or the same log."""
    tables: dict[tuple[str, TableName], str] = {}
    logs: dict[tuple[str, TableName], tuple[str, Audit]] = {}
    for name, audit in sorted(audits.items()):
        for n, (connection, table) in enumerate(audit.names()):
            one = (connection, TableName(table.schema or "public", table.name))
            if one in tables:
                problems.add(
                    f"audits.{tables[one]} audits `{audit.tables[n]}` already",
                    ("audits", name, "tables", n),
                    todo="keep one",
                )
            tables.setdefault(one, name)
        first = logs.setdefault((audit.connection, audit.log_table()), (name, audit))
        if first[1].keep != audit.keep:
            problems.add(
                f"audits.{first[0]} keeps the same log for another time", ("audits", name, "keep"), key=True,
                todo="say the same `keep` in both, or give them two logs",
            )  # fmt: skip
