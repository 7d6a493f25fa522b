"""What the user wrote: specs read strictly from YAML, with the place of every value, and their JSON Schema."""

from reconciler.spec.audit import Audit
from reconciler.spec.bucket_prefix import BucketPrefix, CopyFrom, InsertRow, Quarantine, SetRow, SignedUrl
from reconciler.spec.check import Check
from reconciler.spec.collection import (
    AuditSource,
    Cascade,
    Collection,
    ColumnsExcept,
    InlineRows,
    Newer,
    OneTable,
    RowOptions,
    SourceAudit,
    SourceRows,
    SourceTable,
    TableOptions,
)
from reconciler.spec.connections import (
    AtprotoConnection,
    AtprotoSpec,
    ConnectionSpec,
    DirectoryConnection,
    FilesConnection,
    FilesSpec,
    HttpConnection,
    PostgresConnection,
    PostgresSpec,
    ResolvedConnection,
    Secret,
    SupabaseConnection,
    type_of,
)
from reconciler.spec.document import Document, Variable
from reconciler.spec.guard import Guard
from reconciler.spec.loading import Spec, from_canonical, load
from reconciler.spec.models import Resource
from reconciler.spec.pds_records import Blobs, CarFile, PdsRecords
from reconciler.spec.process import CommandCall, FunctionCall, HttpCall, Process
from reconciler.spec.schema import json_schema
from reconciler.spec.sql_objects import ObjectsFile, SqlObjects, read_objects
from reconciler.spec.storages import DirectorySpec, SupabaseSpec
from reconciler.spec.unique_key import Rule, RuleSql, UniqueKey
from reconciler.spec.values import Number, Value, json_text

__all__ = [
    "AtprotoConnection",
    "AtprotoSpec",
    "Audit",
    "AuditSource",
    "Blobs",
    "BucketPrefix",
    "CarFile",
    "Cascade",
    "Check",
    "Collection",
    "ColumnsExcept",
    "CommandCall",
    "ConnectionSpec",
    "CopyFrom",
    "DirectoryConnection",
    "DirectorySpec",
    "Document",
    "FilesConnection",
    "FilesSpec",
    "FunctionCall",
    "Guard",
    "HttpCall",
    "HttpConnection",
    "InlineRows",
    "InsertRow",
    "Newer",
    "Number",
    "ObjectsFile",
    "OneTable",
    "PdsRecords",
    "PostgresConnection",
    "PostgresSpec",
    "Process",
    "Quarantine",
    "ResolvedConnection",
    "Resource",
    "RowOptions",
    "Rule",
    "RuleSql",
    "Secret",
    "SetRow",
    "SignedUrl",
    "SourceAudit",
    "SourceRows",
    "SourceTable",
    "Spec",
    "SqlObjects",
    "SupabaseConnection",
    "SupabaseSpec",
    "TableOptions",
    "UniqueKey",
    "Value",
    "Variable",
    "from_canonical",
    "json_schema",
    "json_text",
    "load",
    "read_objects",
    "type_of",
]
