"""`unique_keys`: at most one row per key, from now on."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from reconciler.plan.names import LONGEST, TableName
from reconciler.spec.collection import ColumnNames, Condition, Limit, connection_and_table
from reconciler.spec.models import Resource, Strict
from reconciler.spec.values import Number

Order: TypeAlias = Literal["newest", "oldest", "highest", "lowest", "filled", "longest"]
ORDERS: tuple[str, ...] = ("newest", "oldest", "highest", "lowest", "filled", "longest")


class Rule(Strict):
    """One column decides: by a list of its values, best first, or by an order."""

    column: str
    values: tuple[str, ...] = ()
    order: Order | None = None


class RuleSql(Strict):
    """An SQL expression decides: the greatest value survives; true is greater than false."""

    expression: str


def _rule(value: object) -> object:
    match value:
        case Rule() | RuleSql():
            return value
        case str():
            return RuleSql(expression=value)
        case dict() if len(cast("dict[str, object]", value)) == 1:
            ((column, how),) = cast("dict[str, object]", value).items()
            match how:
                case str() if how in ORDERS:
                    return Rule(column=column, order=cast("Order", how))
                case list() if how and all(
                    isinstance(one, str | int | Number) and not isinstance(one, bool)
                    for one in cast("list[object]", how)
                ):
                    return Rule(column=column, values=tuple(str(one) for one in cast("list[object]", how)))
                case _:
                    pass
        case _:
            pass
    raise PydanticCustomError(
        "shape",
        "a rule is { column: [values, best first] }, { column: one of newest, oldest, highest, lowest, filled, longest },"
        " or an SQL expression",
    )


def _short(name: str) -> str:
    if len(name.encode()) > LONGEST:
        raise PydanticCustomError(
            "shape",
            "`{name}` is longer than the {most} bytes PostgreSQL allows a name",
            {"name": name, "most": LONGEST},
        )
    return name


Keep: TypeAlias = Annotated[
    Rule | RuleSql,
    BeforeValidator(_rule),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "description": "An SQL expression: the greatest value survives, NULLs rank last."},
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": {
                        "anyOf": [
                            {"enum": list(ORDERS)},
                            {"type": "array", "minItems": 1, "items": {"type": ["string", "number"]}},
                        ]
                    },
                },
            ]
        }
    ),
]


class UniqueKey(Resource):
    """A key that at most one row has, and what becomes of the rows that share one now."""

    table: str = Field(
        description="connection.table or connection.schema.table, in SQL's quotes where needed.",
        examples=["production.device_images"],
    )
    key: ColumnNames = Field(description="The columns that no two rows may share.")
    where: Condition | None = Field(
        None, description="A partial key: only rows that satisfy this SQL condition must be unique."
    )
    nulls: Literal["distinct", "not_distinct"] = Field(
        "distinct",
        description="distinct: rows with a NULL in the key are never duplicates. not_distinct: NULL equals NULL (PostgreSQL 15 or later).",
    )
    keep: Annotated[tuple[Keep, ...], Field(strict=False)] = Field(
        (),
        description="Who survives, first rule first: { column: [values, best first] }, { column: newest | oldest | highest | lowest | "
        "filled | longest }, or an SQL expression whose greatest value survives. NULLs rank last in every rule, unlisted values after "
        "listed ones; the primary key breaks ties, or all columns where there is none.",
    )
    references: Literal["repoint", "delete", "fail"] = Field(
        "fail",
        description="Rows that point at a loser. repoint: they point at the survivor from then on. delete: they go too. fail: plan nothing.",
    )
    on_collision: Literal["fail", "drop_child"] = Field(
        "fail",
        description="A repointed row that a unique key of its own table has no room for. fail: plan nothing. drop_child: it is deleted.",
    )
    archive: str | None = Field(
        None,
        description="The table ([schema.]table) that losers go to first, with all their columns, when, by which plan and rule, and the "
        "survivor's key. Created if absent.",
    )
    max_delete: Limit | None = Field(
        None,
        description='How many rows may be deleted at most: a number, or a share of the table such as "5%". Default: no limit for rows '
        "that are archived, else 0.",
    )
    constraint: Annotated[str, AfterValidator(_short)] | None = Field(
        None,
        min_length=1,
        description="The name of the constraint, or of the unique index if the key is partial. Default: as PostgreSQL names it.",
    )
    lock: Literal["brief", "online"] = Field(
        "brief",
        description="brief: one transaction in which nobody else can write to the table. online: the index is built concurrently after it.",
    )

    def target(self) -> tuple[str, TableName]:
        """The connection and the table."""
        connection, table = connection_and_table(self.table)
        if table is None:
            raise ValueError(f"`{self.table}` lacks a table: write connection.table")
        return connection, table

    def archive_table(self) -> TableName | None:
        """Where losers go; without a schema, beside their own table."""
        if self.archive is None:
            return None
        name = TableName.parse(self.archive)
        return name if name.schema else TableName(self.target()[1].schema, name.name)
