"""`checks`: facts that must hold once a plan was applied, each a query with what is expected of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from reconciler.plan.names import TableName, split_dotted
from reconciler.spec.collection import ColumnName, Condition
from reconciler.spec.models import Resource, Strict
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.values import Number, Path, describe

_PERCENT = r"(?:100|[0-9]{1,2})(?:\.[0-9]{1,6})?%"


def _text(value: object) -> object:
    """A scalar as the text that the database is asked to compare with."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | Number():
            return str(value)
        case _:
            return value


Expected: TypeAlias = Annotated[
    str | None, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
Bound: TypeAlias = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number"]})]


class Expectation(Strict):
    """What the one value of a query is to be."""

    equal: Expected = Field(None, description="The value, compared as the query's own type compares; null: NULL.")
    at_most: Bound | None = Field(None, description="The greatest value that will do.")
    at_least: Bound | None = Field(None, description="The least value that will do.")


def _shape(value: object) -> str:
    return "a mapping" if isinstance(value, dict | Strict) else "a list" if isinstance(value, list) else "a value"


Expect: TypeAlias = Annotated[
    Annotated[Expected, Tag("a value")] | Annotated[Expectation, Tag("a mapping")],
    Discriminator(
        _shape,
        custom_error_type="shape",
        custom_error_message="expect is a value, empty, or { equal: … }, { at_most: … }, { at_least: … }",
    ),
]


class Coverage(Strict):
    """How much of a table's column is to be filled."""

    table: str = Field(
        min_length=1,
        description="connection.table or connection.schema.table; beside `on` the table alone will do.",
        examples=["production.images"],
    )
    column: ColumnName = Field(description="The column that is to hold a value.", examples=["thumbnail_path"])
    at_least: Annotated[str, Field(pattern=f"^{_PERCENT}$")] = Field(
        "100%", description="The share of rows in which it is not NULL."
    )
    where: Condition | None = Field(None, description="Which rows count: an SQL condition. Default: every row.")


class Check(Resource):
    """A fact about a database; a plan tells whether it holds, apply makes sure of it."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["on", "query", "expect"]}, {"required": ["coverage"]}]}
    )

    on: str | None = Field(None, min_length=1, description="The connection it is asked on.", examples=["production"])
    query: str | None = Field(
        None,
        description="One SELECT that writes nothing, variables as :name; tables without a schema are in `public`.",
        examples=["SELECT count(*) FROM images WHERE thumbnail_path IS NULL"],
    )
    expect: Expect | None = Field(
        None,
        description="What it is to return: one value as written here, { equal: … }, { at_most: … }, { at_least: … }, or "
        "`empty`: no row at all. PostgreSQL compares, as the type of the query's column does.",
    )
    coverage: Coverage | None = Field(
        None, description="Instead of a query: how many rows of a table have a value in a column."
    )
    severity: Literal["error", "warn"] = Field(
        "error",
        description="error: apply fails where it does not hold, and keeps nothing where it can. warn: it is told.",
    )

    def place(self) -> tuple[str, TableName | None]:
        """The connection it is asked on, and the table whose coverage is meant."""
        if self.coverage is None:
            return self.on or "", None
        parts = split_dotted(self.coverage.table)
        if self.on is None or (len(parts) > 1 and parts[0] == self.on):
            connection, parts = parts[0], parts[1:]
        else:
            connection = self.on
        match parts:
            case (name,):
                return connection, TableName(None, name)
            case (schema, name):
                return connection, TableName(schema, name)
            case _:
                raise ValueError(f"`{self.coverage.table}` names no table: write connection.table")

    def wants_nothing(self) -> bool:
        """Whether no row is expected."""
        return self.expect == "empty"

    def expectation(self) -> Expectation:
        """What the value is to be."""
        if isinstance(self.expect, Expectation):
            return self.expect
        return Expectation(equal=self.expect, at_most=None, at_least=None)


def report_check(check: Check, at: Path, problems: Problems) -> None:
    """Note what a check says against itself."""
    if check.protect:
        problems.add(
            "a check changes nothing that `protect` could keep", (*at, "protect"), key=True, todo="leave it out"
        )
    if check.coverage is not None:
        for word in ("query", "expect"):
            if word in check.model_fields_set:
                todo = "write a query with what is expected, or coverage"
                problems.add(f"`{word}` cannot stand beside `coverage`", (*at, word), key=True, todo=todo)
        try:
            check.place()
        except ValueError as error:
            problems.add(
                str(error), (*at, "coverage", "table"), todo="write connection.table or connection.schema.table"
            )
        return
    examples = {"on": "a connection", "query": "SELECT …", "expect": "0"}
    for word in ("on", "query", "expect"):
        if word not in check.model_fields_set or (word != "expect" and getattr(check, word) is None):
            todo = f"write {word}: {examples[word]}"
            if word == "query":
                todo += ", or coverage: { table: …, column: … }"
            problems.add(f"`{word}` is missing in {dotted(at)}", (*at, word), todo=todo)
    if isinstance(check.expect, Expectation):
        _report_expectation(check.expect, (*at, "expect"), problems)


def _report_expectation(expect: Expectation, at: Path, problems: Problems) -> None:
    given = expect.model_fields_set
    if not given:
        problems.add(f"{dotted(at)} expects nothing", at, todo="write { equal: … }, { at_most: … } or { at_least: … }")
    elif "equal" in given and len(given) > 1:
        problems.add("`equal` stands alone", (*at, "equal"), key=True, todo="write equal, or bounds")
    for word in sorted(given - {"equal"}):
        if getattr(expect, word) is None:
            problems.add(f"{dotted((*at, word))} is {describe(None)}", (*at, word), todo="write a number")
