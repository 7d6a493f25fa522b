"""What the user wrote: specs read strictly from YAML, with the place of every value, and their JSON Schema."""

from reconciler.spec.audit import Audit
from reconciler.spec.collection import (
    Cascade,
    Collection,
    ColumnsExcept,
    InlineRows,
    Newer,
    OneTable,
    RowOptions,
    SourceRows,
    SourceTable,
    TableOptions,
)
from reconciler.spec.connections import (
    AtprotoConnection,
    AtprotoSpec,
    ConnectionSpec,
    FilesConnection,
    FilesSpec,
    PostgresConnection,
    PostgresSpec,
    ResolvedConnection,
    Secret,
)
from reconciler.spec.document import Document, Variable
from reconciler.spec.guard import Guard
from reconciler.spec.loading import Spec, from_canonical, load
from reconciler.spec.models import Resource
from reconciler.spec.pds_records import Blobs, CarFile, PdsRecords
from reconciler.spec.schema import json_schema
from reconciler.spec.sql_objects import ObjectsFile, SqlObjects, read_objects
from reconciler.spec.unique_key import Rule, RuleSql, UniqueKey
from reconciler.spec.values import Number, Value, json_text

__all__ = [
    "AtprotoConnection",
    "AtprotoSpec",
    "Audit",
    "Blobs",
    "CarFile",
    "Cascade",
    "Collection",
    "ColumnsExcept",
    "ConnectionSpec",
    "Document",
    "FilesConnection",
    "FilesSpec",
    "Guard",
    "InlineRows",
    "Newer",
    "Number",
    "ObjectsFile",
    "OneTable",
    "PdsRecords",
    "PostgresConnection",
    "PostgresSpec",
    "ResolvedConnection",
    "Resource",
    "RowOptions",
    "Rule",
    "RuleSql",
    "Secret",
    "SourceRows",
    "SourceTable",
    "Spec",
    "SqlObjects",
    "TableOptions",
    "UniqueKey",
    "Value",
    "Variable",
    "from_canonical",
    "json_schema",
    "json_text",
    "load",
    "read_objects",
]
