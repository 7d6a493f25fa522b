"""One entry of a section: from its tree to its model, or to what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from reconciler.spec import strings
from reconciler.spec.audit import Audit, report_audit
from reconciler.spec.bucket_prefix import BucketPrefix, report_bucket_prefix
from reconciler.spec.check import Check, report_check
from reconciler.spec.collection import Collection
from reconciler.spec.connections import (
    DSN_TODO,
    TYPES,
    AtprotoSpec,
    ConnectionSpec,
    FilesSpec,
    PostgresSpec,
    looks_like_dsn,
    report_atproto,
)
from reconciler.spec.document import Variable
from reconciler.spec.guard import Guard, report_guard
from reconciler.spec.http import HttpSpec, report_http
from reconciler.spec.models import Strict
from reconciler.spec.nodes import MapNode
from reconciler.spec.pds_records import PdsRecords, report_pds_records
from reconciler.spec.problems import Problems, dotted, one_of, suggest
from reconciler.spec.process import Process, report_process
from reconciler.spec.sql_objects import SqlObjects, wrong_path
from reconciler.spec.storages import DirectorySpec, SupabaseSpec, report_folder, report_supabase
from reconciler.spec.unique_key import UniqueKey
from reconciler.spec.values import Path, Value, describe

_Model = TypeVar("_Model", bound=Strict)


def variable_of(name: str, value: Value, problems: Problems) -> Variable | None:
    """The declaration of a variable."""
    return _model(Variable, ("variables", name), value, problems)


def connection_of(name: str, value: Value, problems: Problems) -> ConnectionSpec | None:
    """A connection, of the one type its keys name."""
    path: Path = ("connections", name)
    if not isinstance(value, dict):
        return _model(PostgresSpec, path, value, problems)
    match [word for word in TYPES if word in value]:
        case ["files"]:
            connection = _model(FilesSpec, path, value, problems)
            if connection:
                report_folder(connection.files, (*path, "files"), problems)
            return connection
        case ["directory"]:
            connection = _model(DirectorySpec, path, value, problems)
            if connection:
                report_folder(connection.directory, (*path, "directory"), problems)
            return connection
        case ["supabase"] | ["postgres", "supabase"]:
            connection = _model(SupabaseSpec, path, value, problems)
            if connection:
                report_supabase(connection, path, looks_like_dsn(connection.postgres or ""), problems)
            return connection
        case ["postgres"]:
            connection = _model(PostgresSpec, path, value, problems)
            if connection and "${" not in connection.postgres and not looks_like_dsn(connection.postgres):
                problems.add(f"connections.{name} is no PostgreSQL address", (*path, "postgres"), todo=DSN_TODO)
            return connection
        case ["http"]:
            connection = _model(HttpSpec, path, value, problems)
            if connection:
                report_http(connection, path, problems)
            return connection
        case ["atproto"] | ["directory", "atproto"] | ["atproto", "directory"]:
            connection = _model(AtprotoSpec, path, value, problems)
            if connection:
                report_atproto(connection, path, problems)
            return connection
        case []:
            _typeless(path, value, problems)
        case both:
            todo = f"write two connections: one with {one_of(both, 'and')} each"
            problems.add(
                f"a connection is of one type, and {one_of(both, 'and')} stand here", path, key=True, todo=todo
            )
    return None


def _typeless(path: Path, value: Mapping[str, Value], problems: Problems) -> None:
    for word in value:
        if suggest(word, TYPES):
            from reconciler.spec import wrong_types

            wrong_types.unknown_key((*path, word), problems)
            return
    todo = 'write { postgres: "${env:NAME}" } or { files: folder }'
    problems.add(f"{dotted(path)} has no type", path, key=True, todo=todo)


def collection_of(
    root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems
) -> Collection | None:
    """A collection, with its SQL and what it says against itself examined."""
    path: Path = ("collections", name)
    strings.report_sql(root, (*path, "where"), variables, problems)
    roots = value.get("roots") if isinstance(value, dict) else None
    for table in roots if isinstance(roots, dict) else ():
        strings.report_sql(root, (*path, "roots", table), variables, problems)
    collection = _model(Collection, path, value, problems)
    if collection is not None:
        from reconciler.spec import contradictions

        contradictions.report(collection, path, problems)
    return collection


def unique_key_of(
    root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems
) -> UniqueKey | None:
    """A unique key, with its SQL examined."""
    path: Path = ("unique_keys", name)
    strings.report_sql(root, (*path, "where"), variables, problems)
    keep = value.get("keep") if isinstance(value, dict) else None
    for index in range(len(keep) if isinstance(keep, list) else 0):
        strings.report_sql(root, (*path, "keep", index), variables, problems)
    unique_key = _model(UniqueKey, path, value, problems)
    if unique_key is not None:
        from reconciler.spec import contradictions

        contradictions.report_unique_key(unique_key, path, problems)
    return unique_key


def prefix_of(
    root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems
) -> BucketPrefix | None:
    """Objects and their rows, with the SQL and what they say against themselves examined."""
    path: Path = ("bucket_prefixes", name)
    for word in ("where", "stale"):
        strings.report_sql(root, (*path, word), variables, problems)
    prefix = _model(BucketPrefix, path, value, problems)
    if prefix is not None:
        report_bucket_prefix(prefix, path, problems)
    return prefix


def records_of(
    root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems
) -> PdsRecords | None:
    """Records of a repo, with their SQL and what they say against themselves examined."""
    path: Path = ("pds_records", name)
    strings.report_sql(root, (*path, "where"), variables, problems)
    records = _model(PdsRecords, path, value, problems)
    if records is not None:
        report_pds_records(records, path, problems)
    return records


def process_of(
    root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems
) -> Process | None:
    """A process, with its SQL and what it says against itself examined."""
    path: Path = ("processes", name)
    for word in ("where", "pending", "done"):
        strings.report_sql(root, (*path, word), variables, problems)
    process = _model(Process, path, value, problems)
    if process is not None:
        report_process(process, path, problems)
    return process


def objects_of(name: str, value: Value, problems: Problems) -> SqlObjects | None:
    """Objects of a database; their file is read elsewhere, for a plan does without it."""
    path: Path = ("sql_objects", name)
    objects = _model(SqlObjects, path, value, problems)
    if objects and (why := wrong_path(objects.file)):
        todo = "write it relative to the folder of the specs, as in sql/functions.sql"
        problems.add(f"`{objects.file}` cannot be the file", (*path, "file"), why=why, todo=todo)
    return objects


def check_of(root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems) -> Check | None:
    """A check, with its SQL examined."""
    path: Path = ("checks", name)
    strings.report_sql(root, (*path, "query"), variables, problems)
    strings.report_sql(root, (*path, "coverage", "where"), variables, problems)
    check = _model(Check, path, value, problems)
    if check is not None:
        report_check(check, path, problems)
    return check


def audit_of(name: str, value: Value, problems: Problems) -> Audit | None:
    """An audit, with what it says against itself examined."""
    audit = _model(Audit, ("audits", name), value, problems)
    return audit if audit and report_audit(audit, ("audits", name), problems) else None


def guard_of(root: MapNode, name: str, value: Value, variables: tuple[str, ...], problems: Problems) -> Guard | None:
    """A guard, with its SQL examined."""
    path: Path = ("guards", name)
    strings.report_sql(root, (*path, "protect"), variables, problems)
    guard = _model(Guard, path, value, problems)
    if guard is not None:
        report_guard(guard, path, problems)
    return guard


def _model(kind: type[_Model], path: Path, value: Value, problems: Problems) -> _Model | None:
    """The entry as its model, or None after saying why it is none."""
    if not isinstance(value, dict):
        examples = {
            "variables": "{ default: … }",
            "connections": '{ postgres: "${env:NAME}" }',
            "collections": "{ table: …, source: … }",
            "unique_keys": "{ table: …, key: […] }",
            "bucket_prefixes": "{ bucket: connection.bucket, table: …, column: … }",
            "pds_records": '{ repo: "pds.${did}", collection: …, source: …, rkey: …, record: … }',
            "processes": "{ table: …, pending: …, done: …, call: … }",
            "checks": "{ on: connection, query: SELECT …, expect: … }",
            "audits": "{ tables: [connection.table], log: connection.audit_log }",
            "guards": "{ table: connection.table, max_rows_per_delete: 1000 }",
            "sql_objects": "{ on: connection, file: sql/functions.sql }",
        }
        todo = f"write {path[-1]}: {examples[str(path[0])]}"
        problems.add(f"{dotted(path)} is a mapping, and {describe(value)} stands there", path, todo=todo)
        return None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        from reconciler.spec import wrong_types

        wrong_types.report(error, path, value, problems)
        return None
