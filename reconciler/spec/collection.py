"""`collections`: rows of a table, within a scope, as a source has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from reconciler.plan.names import TableName, split_dotted
from reconciler.spec.models import Resource, Strict
from reconciler.spec.values import Value, describe

# `true` means every row, in YAML as in SQL.
Condition: TypeAlias = Annotated[
    str,
    BeforeValidator(lambda value: value if not isinstance(value, bool) else "true" if value else "false"),
    WithJsonSchema({"type": ["string", "boolean"]}),
]
ColumnName: TypeAlias = Annotated[str, Field(min_length=1)]
ColumnNames: TypeAlias = Annotated[tuple[ColumnName, ...], Field(strict=False, min_length=1)]
OnMissingParent: TypeAlias = Annotated[
    Literal["fail", "null", "skip"],
    BeforeValidator(lambda value: "null" if value is None else value),  # YAML's null is the same choice
    WithJsonSchema({"enum": ["fail", "null", "skip", None]}),
]

_PERCENT = re.compile(r"(?:100|[0-9]{1,2})(?:\.[0-9]{1,6})?%")


def _limit(value: object) -> object:
    match value:
        case bool() | None:
            pass
        case int() if value >= 0:
            return value
        case str() if _PERCENT.fullmatch(value) and Fraction(value[:-1]) <= 100:
            return value
        case _:
            pass
    raise PydanticCustomError("limit", 'a limit is a number of rows such as 10, or a share of the scope such as "5%"')


Limit: TypeAlias = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=f"^{_PERCENT.pattern}$")], BeforeValidator(_limit)
]


class ColumnsExcept(Strict):
    """All columns but these."""

    excluded: ColumnNames = Field(alias="except", description="Columns that are neither compared nor written.")


class Newer(Strict):
    """The row with the later value wins."""

    column: ColumnName = Field(
        alias="newer",
        description="A row is updated only where the source's value of this column is greater than the target's.",
    )


class InlineRows(Strict):
    """Rows written into the spec itself."""

    rows: Annotated[tuple[dict[ColumnName, object], ...], Field(strict=False)] = Field(
        description="Rows as mappings of column to value, all with the same columns. Numbers keep their digits, dates "
        "are text, mappings and lists are JSON."
    )


class AuditSource(Strict):
    """Rows as an audit log tells that they were."""

    audit: Annotated[str, Field(min_length=1)] = Field(
        description="The log: connection.table or connection.schema.table. The table itself is read beside it, for rows that "
        "have not changed since.",
        examples=["production.audit_log"],
    )
    as_of: Annotated[str, Field(min_length=1)] = Field(
        description="The moment: statements that began later are taken back.", examples=["2025-12-10T04:24:00Z"]
    )


def _shape(value: object) -> str:
    return describe(value) if not isinstance(value, Strict) else "a mapping"


def _source_shape(value: object) -> str:
    if isinstance(value, AuditSource):
        return "an audit log"
    if isinstance(value, dict) and ("audit" in value or "as_of" in value):
        return "an audit log"
    return _shape(cast("object", value))


def _by_shape(message: str) -> Discriminator:
    """Tell the forms of a value apart by whether text, a list or a mapping stands there."""
    return Discriminator(_shape, custom_error_type="shape", custom_error_message=message)


Columns: TypeAlias = Annotated[
    Annotated[ColumnNames, Tag("a list")] | Annotated[ColumnsExcept, Tag("a mapping")],
    _by_shape("columns are a list of names, or { except: [names] }"),
]
OnChanged: TypeAlias = Annotated[
    Annotated[Literal["update", "fill", "keep"], Tag("text")] | Annotated[Newer, Tag("a mapping")],
    _by_shape("on_changed is update, fill or keep, or { newer: column }"),
]
Source: TypeAlias = Annotated[
    Annotated[ColumnName, Tag("text")]
    | Annotated[InlineRows, Tag("a mapping")]
    | Annotated[AuditSource, Tag("an audit log")],
    Discriminator(
        _source_shape,
        custom_error_type="shape",
        custom_error_message="a source is a connection, connection.table, { rows: [{…}] }, or { audit: …, as_of: … }",
    ),
]
OnMissingParents: TypeAlias = Annotated[
    Annotated[OnMissingParent, Tag("text")]
    | Annotated[OnMissingParent, Tag("nothing (null)")]
    | Annotated[dict[ColumnName, OnMissingParent], Tag("a mapping")],
    _by_shape("on_missing_parent is fail, null or skip, or a mapping of column to one of them"),
]


class RowOptions(Strict):
    """How the rows of one table are compared and what happens to those that differ."""

    key: ColumnNames | None = Field(
        None, description="Columns that identify a row on both sides; default: the primary key."
    )
    columns: Columns | None = Field(
        None,
        description="Columns to compare and write, as a list or { except: [names] }; the key always belongs to them. "
        "Default: all that both sides have, without generated ones. Names are written exactly as the table has them.",
    )
    sensitive: Annotated[tuple[ColumnName, ...], Field(strict=False)] = Field(
        (), description="Columns whose values appear in no plan, log or error; they stand as keyed digests."
    )
    compare: Literal["value", "exact"] = Field(
        "value", description="value: PostgreSQL's own equality, 1.0 is 1.00. exact: the text must be the same."
    )
    on_changed: OnChanged | None = Field(
        None,
        description="What to do where both sides have the row and it differs. update: as the source has it. fill: only "
        "what is NULL in the target. keep: nothing. { newer: column }: update where the source's value there is "
        "greater. Default: update; fill under `follow`.",
    )
    on_extra: Literal["keep", "delete"] = Field(
        "keep", description="What to do with rows of the scope that only the target has; delete needs `max_delete`."
    )
    on_missing_parent: OnMissingParents = Field(
        "fail",
        description="What to do with a row whose foreign key leads nowhere. fail: plan nothing. null: write NULL "
        "there. skip: leave the row out. A mapping says it for each referencing column.",
    )
    triggers: Literal["fire", "off"] = Field(
        "fire", description="off: the table's own triggers do not fire for these rows; needs the rights for it."
    )
    max_delete: Limit = Field(
        0,
        description="How many rows of a table may be deleted at most, cascades counted: a number, or a share of the "
        'scope such as "5%", rounded down.',
    )

    def missing_parent(self, column: str) -> Literal["fail", "null", "skip"]:
        """What to do with a row whose foreign key in this column leads nowhere."""
        match self.on_missing_parent:
            case str() as choice:
                return choice
            case choices:
                return choices.get(column, "fail")


class TableOptions(RowOptions):
    """Options for one table of a collection that covers several; what is left out is as the collection says."""


@dataclass(frozen=True)
class SourceTable:
    """Rows of a connection; without a table it is the target's own name there."""

    connection: str
    table: TableName | None


@dataclass(frozen=True)
class SourceRows:
    """Rows written into the spec, each a mapping of column to value."""

    rows: tuple[Mapping[str, Value], ...]


@dataclass(frozen=True)
class SourceAudit:
    """Rows as a log tells that they were at a moment."""

    connection: str
    log: TableName
    as_of: str


@dataclass(frozen=True)
class OneTable:
    """The rows of one table that satisfy `where`."""

    connection: str
    table: TableName
    where: str | None


@dataclass(frozen=True)
class Cascade:
    """The rows of the roots that satisfy their condition and, with `follow`, every row that depends on them."""

    connection: str
    roots: Mapping[TableName, str]
    follow: bool


class Collection(Resource, RowOptions):
    """Rows of a table, or of tables that hang together, as a source has them."""

    model_config = ConfigDict(
        json_schema_extra={"required": ["source"], "anyOf": [{"required": ["table"]}, {"required": ["into", "roots"]}]}
    )

    table: str | None = Field(
        None,
        description="connection.table or connection.schema.table, in SQL's quotes where needed. Either this or `into`.",
        examples=["production.publications", 'production.public."Order"'],
    )
    source: Source | None = Field(
        None,
        description="Where the rows are as they should be: a connection (the same table there), connection.table, "
        "connection.schema.table, { rows: [{…}] }, or { audit: connection.table, as_of: time }: as an audit log tells that they were.",
        examples=["backup", "backup.archive.publications"],
    )
    where: Condition | None = Field(
        None,
        description="The scope: an SQL condition both sides are read with, variables as :name. Default: every row.",
        examples=["starts_with(uri, 'at://' || :did || '/')"],
    )
    into: str | None = Field(None, description="The connection that `roots` and what depends on them are written to.")
    roots: dict[str, Condition] | None = Field(
        None, description="Tables ([schema.]table) and the condition for the rows of each that the cascade starts from."
    )
    follow: Literal["dependents"] | None = Field(
        None,
        description="dependents: every row whose foreign keys lead to the roots belongs to it, in source or target.",
    )
    tables: dict[str, TableOptions] = Field(
        default_factory=dict[str, TableOptions],
        description="Options for single tables ([schema.]table) of such a collection.",
    )

    def scope(self) -> OneTable | Cascade:
        """Which rows of the target are meant."""
        if self.into is not None:
            roots = {TableName.parse(table): where for table, where in (self.roots or {}).items()}
            return Cascade(self.into, roots, self.follow is not None)
        connection, table = self.target()
        return OneTable(connection, table, self.where)

    def target(self) -> tuple[str, TableName]:
        """The connection and the table, of a collection that has one table."""
        if self.table is None:
            raise TypeError("a collection with `into` has no single table")
        connection, table = connection_and_table(self.table)
        if table is None:
            raise ValueError(f"`{self.table}` lacks a table: write connection.table")
        return connection, table

    def source_ref(self) -> SourceTable | SourceRows | SourceAudit:
        """Where the rows come from."""
        match self.source:
            case None:
                raise TypeError("the collection has no source")
            case InlineRows(rows=rows):
                return SourceRows(cast("tuple[Mapping[str, Value], ...]", rows))
            case AuditSource(audit=audit, as_of=as_of):
                connection, log = connection_and_table(audit)
                if log is None:
                    raise ValueError(f"`{audit}` names no table: write connection.table")
                return SourceAudit(connection, log, as_of)
            case text:
                return SourceTable(*connection_and_table(text))

    def options(self, table: TableName) -> RowOptions:
        """What holds for one table: its own options, then the collection's; an entry without a schema means any."""
        own = {TableName.parse(name): options for name, options in self.tables.items()}
        chosen = own.get(table) or own.get(TableName(None, table.name))
        if chosen is None:
            return self
        inherited = {
            name: getattr(self, name) for name in RowOptions.model_fields if name not in chosen.model_fields_set
        }
        return chosen.model_copy(update=inherited)


def connection_and_table(text: str) -> tuple[str, TableName | None]:
    """Read `connection`, `connection.table` or `connection.schema.table`; a ValueError says what is wrong."""
    match split_dotted(text):
        case (connection,):
            return connection, None
        case (connection, name):
            return connection, TableName(None, name)
        case (connection, schema, name):
            return connection, TableName(schema, name)
        case parts:
            raise ValueError(f"`{text}` has {len(parts)} parts: write connection.table or connection.schema.table")
