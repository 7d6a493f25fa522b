"""The whole spec: its sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from reconciler.spec.audit import Audit
from reconciler.spec.bucket_prefix import BucketPrefix
from reconciler.spec.check import Check
from reconciler.spec.collection import Collection
from reconciler.spec.connections import ConnectionSpec
from reconciler.spec.guard import Guard
from reconciler.spec.models import Strict
from reconciler.spec.pds_records import PdsRecords
from reconciler.spec.process import Process
from reconciler.spec.references import NAME
from reconciler.spec.sql_objects import SqlObjects
from reconciler.spec.unique_key import UniqueKey
from reconciler.spec.values import Number

Name = Annotated[str, Field(pattern=f"^{NAME}$")]


def _text(value: object) -> object:
    """A default as the text that variables are."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | Number():
            return str(value)
        case _:
            return value


class Variable(Strict):
    """A value given from outside: `${name}` in plain strings, `:name` in SQL."""

    description: str | None = Field(None, description="What it is, for whoever has to give it.")
    default: Annotated[
        str | None, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
    ] = Field(
        None, description="Its text when nothing else is given; without a default it is required. Never a secret."
    )


class Document(Strict):
    """A spec of version 1, or the merge of several files of it."""

    version: Literal[1] = Field(description="The version of the language: 1.")
    variables: dict[Name, Variable] = Field(
        default_factory=dict[str, Variable],
        description="Values given with --var name=… or RECONCILER_VAR_NAME; they stand in the plan, so never secrets.",
    )
    connections: dict[Name, ConnectionSpec] = Field(
        default_factory=dict[str, ConnectionSpec],
        description="Named access to systems. Here alone ${env:NAME} and ${env:NAME:-default} read the environment.",
    )
    checks: dict[Name, Check] = Field(
        default_factory=dict[str, Check],
        description="Facts that must hold after apply; a plan tells whether they hold already.",
    )
    collections: dict[Name, Collection] = Field(
        default_factory=dict[str, Collection], description="Rows of a table, within a scope, as a source has them."
    )
    unique_keys: dict[Name, UniqueKey] = Field(
        default_factory=dict[str, UniqueKey], description="At most one row per key, from now on."
    )
    bucket_prefixes: dict[Name, BucketPrefix] = Field(
        default_factory=dict[str, BucketPrefix],
        description="Objects under a prefix of a bucket and the rows that describe them, both ways.",
    )
    pds_records: dict[Name, PdsRecords] = Field(
        default_factory=dict[str, PdsRecords],
        description="Records of one collection of one repo, as a source has them.",
    )
    processes: dict[Name, Process] = Field(
        default_factory=dict[str, Process],
        description="Rows that a function, a request or a command is called for until they are done.",
    )
    sql_objects: dict[Name, SqlObjects] = Field(
        default_factory=dict[str, SqlObjects],
        description="Functions are compared with what the database has; tables, types, indexes, views and their like are "
        "created when absent.",
    )
    audits: dict[Name, Audit] = Field(
        default_factory=dict[str, Audit],
        description="Every insert, update, delete and truncate on these tables leaves a record.",
    )
    guards: dict[Name, Guard] = Field(
        default_factory=dict[str, Guard], description="The database itself refuses what must not happen."
    )


RESOURCE_SECTIONS = (
    "audits",
    "bucket_prefixes",
    "checks",
    "collections",
    "guards",
    "pds_records",
    "processes",
    "sql_objects",
    "unique_keys",
)
SECTIONS = ("variables", "connections", *RESOURCE_SECTIONS)
