"""`guards`: the database itself refuses what must not happen."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from reconciler.plan.names import TableName
from reconciler.spec.collection import Condition, connection_and_table
from reconciler.spec.models import Resource
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.values import Number, Path


def _rows(value: object) -> object:
    match value:
        case bool():
            pass
        case int() if value >= 0:
            return value
        case Number() if str(value).isdecimal():
            return int(str(value))
        case _:
            pass
    raise PydanticCustomError("shape", "a number of rows is wanted, 0 or more")


Rows: TypeAlias = Annotated[int, BeforeValidator(_rows), WithJsonSchema({"type": "integer", "minimum": 0})]


class Guard(Resource):
    """What no statement may do to a table, unless it says why."""

    table: str = Field(
        description="connection.table or connection.schema.table, in SQL's quotes where needed; its partitions are meant too.",
        examples=["production.images"],
    )
    max_rows_per_delete: Rows | None = Field(
        None, description="How many rows one DELETE may take at most; a TRUNCATE counts as a delete of all rows."
    )
    max_rows_per_update: Rows | None = Field(None, description="How many rows one UPDATE may touch at most.")
    no_truncate: bool = Field(False, description="true: no TRUNCATE.")
    protect: Condition | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride]  # a guard's own meaning of the word
        None,
        description="Rows that satisfy this SQL condition may not be deleted or changed. It stands over the row's own columns.",
        examples=["status = 'SUCCESS'"],
    )
    remove: bool = Field(
        False,
        description="true: the guard is taken out of the database. To take the block out of the spec removes nothing.",
    )

    def target(self) -> tuple[str, TableName]:
        """The connection and the table."""
        connection, table = connection_and_table(self.table)
        if table is None:
            raise ValueError(f"`{self.table}` lacks a table: write connection.table")
        return connection, table

    @property
    def refuses(self) -> bool:
        """Whether it refuses anything at all."""
        limits = (self.max_rows_per_delete, self.max_rows_per_update, self.protect)
        return self.no_truncate or any(limit is not None for limit in limits)


def report_guard(guard: Guard, at: Path, problems: Problems) -> None:
    """Note everything in the guard that contradicts itself."""
    try:
        guard.target()
    except ValueError as error:
        problems.add(str(error), (*at, "table"), todo="write connection.table or connection.schema.table")
        return
    if not guard.refuses and not guard.remove:
        todo = "write max_rows_per_delete, max_rows_per_update, no_truncate: true or protect; or remove: true"
        problems.add(f"{dotted(at)} guards against nothing", at, todo=todo)
