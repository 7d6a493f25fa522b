"""Pydantic's findings, said in the spec's own words and at the value's own place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.spec.audit import Audit
from reconciler.spec.bucket_prefix import BucketPrefix, CopyFrom, InsertRow, Quarantine, SetRow, SignedUrl
from reconciler.spec.check import Check, Coverage, Expectation
from reconciler.spec.collection import AuditSource, Collection, ColumnsExcept, InlineRows, Newer, TableOptions
from reconciler.spec.connections import AtprotoSpec, FilesSpec, PostgresSpec
from reconciler.spec.document import RESOURCE_SECTIONS, Variable
from reconciler.spec.guard import Guard
from reconciler.spec.http import HttpSpec
from reconciler.spec.models import Resource
from reconciler.spec.pds_records import Blobs, CarFile, PdsRecords
from reconciler.spec.problems import Problems, did_you_mean, dotted, one_of, suggest
from reconciler.spec.process import CommandCall, FunctionCall, HttpCall, Process
from reconciler.spec.sql_objects import SqlObjects
from reconciler.spec.storages import DirectorySpec, SupabaseSpec
from reconciler.spec.unique_key import UniqueKey
from reconciler.spec.values import Path, Value, describe

_TAGS = frozenset(
    {
        "text",
        "true or false",
        "a value",
        "an audit log",
        "a list",
        "a mapping",
        "a CAR file",
        "nothing (null)",
        "insert",
        "set",
        "copy_from",
        "quarantine",
        "a function",
        "a request",
        "a command",
    }
)
_PATTERNS = {"rate": "write it like 5/second, 20/minute or 100/hour", "timeout": "write it like 90s, 30m or 2h"}
_ELSEWHERE = {
    "rows": "write source: { rows: [{…}] }",
    "except": "write columns: { except: [names] }",
    "newer": "write on_changed: { newer: column }",
    "target": "write table: connection.table",
    "connection": "the connection stands before the table: table: connection.table",
    "schema": "the schema stands in the table's name: table: connection.schema.table",
    "filter": "write where: an SQL condition",
    "depends_on": "did you mean `needs`?",
}


def report(error: ValidationError, at: Path, tree: Value, problems: Problems) -> None:
    """Note everything that is wrong with the entry at `at`; unknown keys first, for they explain missing ones."""
    found = error.errors(include_url=False)
    for detail in sorted(found, key=lambda detail: detail["type"] != "extra_forbidden"):
        path = (*at, *_real(detail["loc"], tree))
        if detail["type"] == "extra_forbidden":
            unknown_key(path, problems)
        else:
            _wrong_value(detail, path, problems)


def unknown_key(path: Path, problems: Problems) -> None:
    """Note a key that nothing at its place knows, with what was probably meant."""
    word, parent = str(path[-1]), path[:-1]
    known = _known(parent)
    what = f"unknown key `{word}` in {dotted(parent)}"
    meant = suggest(word, known)
    if _of_resource(parent) and (
        others := [it for it in RESOURCE_SECTIONS if it != parent[0] and word in _known((it, ""))]
    ):
        problems.add(what, path, key=True, todo=f"`{word}` belongs to {one_of(others, 'and')}")
    elif _of_resource(parent) and word in _ELSEWHERE:
        problems.add(what, path, key=True, todo=_ELSEWHERE[word])
    elif word in known and parent[0] == "connections":
        problems.add(what, path, key=True, todo="leave it out: connections of another type have it")
    elif meant is None and ":" in word:
        problems.add(what, path, key=True, todo="write a space after the colon")
    else:
        if meant:
            problems.claim((*parent, meant))
        problems.add(what, path, key=True, todo=did_you_mean(word, known, f"known here: {', '.join(known)}"))


def _of_resource(parent: Path) -> bool:
    return len(parent) == 2 and parent[0] in RESOURCE_SECTIONS


def _known(parent: Path) -> tuple[str, ...]:
    """The keys of the mapping at a path."""
    match parent:
        case ("variables", _):
            return _keys(Variable)
        case ("connections", _):
            types = (PostgresSpec, FilesSpec, AtprotoSpec, SupabaseSpec, DirectorySpec, HttpSpec)
            return tuple(dict.fromkeys(key for model in types for key in _keys(model)))
        case ("collections", _):
            return _keys(Collection)
        case ("checks", _):
            return _keys(Check)
        case ("checks", _, "expect"):
            return _keys(Expectation)
        case ("checks", _, "coverage"):
            return _keys(Coverage)
        case ("audits", _):
            return _keys(Audit)
        case ("guards", _):
            return _keys(Guard)
        case ("sql_objects", _):
            return _keys(SqlObjects)
        case ("collections", _, "tables", _):
            return _keys(TableOptions)
        case ("unique_keys", _):
            return _keys(UniqueKey)
        case ("bucket_prefixes", _):
            return _keys(BucketPrefix)
        case ("bucket_prefixes", _, "signed_url"):
            return _keys(SignedUrl)
        case ("bucket_prefixes", _, "on_missing_object"):
            return (*_keys(SetRow), *_keys(CopyFrom))
        case ("bucket_prefixes", _, "on_missing_row"):
            return _keys(InsertRow)
        case ("bucket_prefixes", _, "on_extra_object"):
            return _keys(Quarantine)
        case ("bucket_prefixes", _, "columns"):
            return ()
        case ("pds_records", _):
            return _keys(PdsRecords)
        case ("processes", _):
            return _keys(Process)
        case ("processes", _, "call"):
            models = (FunctionCall, HttpCall, CommandCall)
            return tuple(dict.fromkeys(key for model in models for key in _keys(model)))
        case ("pds_records", _, "source"):
            return (*_keys(InlineRows), *_keys(CarFile))
        case ("pds_records", _, "blobs"):
            return _keys(Blobs)
        case (*_, "source"):
            return (*_keys(InlineRows), *_keys(AuditSource))
        case (*_, "columns"):
            return _keys(ColumnsExcept)
        case (*_, "on_changed"):
            return _keys(Newer)
        case _:
            return ()


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    """Its own keys first, then those that every resource has."""
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] in Resource.model_fields)
    return tuple(field.alias or name for name, field in fields)


def _real(location: Sequence[str | int], tree: Value) -> Path:
    """The location without the marks that pydantic adds for the alternatives of a value."""
    path: list[str | int] = []
    node: object = tree
    for step in location:
        if isinstance(node, dict) and step in node:
            node = cast("Mapping[str | int, object]", node)[step]
        elif isinstance(node, list) and isinstance(step, int) and step < len(cast("list[object]", node)):
            node = cast("list[object]", node)[step]
        elif step in _TAGS or step == "[key]":
            continue
        path.append(step)
    return tuple(path)


def _wrong_value(detail: ErrorDetails, path: Path, problems: Problems) -> None:
    name, value = dotted(path), cast(object, detail["input"])
    shown = path[0] != "connections"
    match detail["type"]:
        case "missing":
            problems.add(f"`{path[-1]}` is missing in {dotted(path[:-1])}", path, todo=f"write {path[-1]}: …")
        case "literal_error":
            words = [word.strip("'") for word in detail.get("ctx", {})["expected"].replace(" or ", ", ").split(", ")]
            said = f"`{value}`" if isinstance(value, str) and shown else describe(value)
            meant = suggest(value, words) if isinstance(value, str) else None
            todo = f"did you mean `{meant}`? It is {one_of(words)}" if meant else f"write {one_of(words)}"
            problems.add(f"{name} cannot be {said}", path, todo=todo)
        case "string_type":
            problems.add(f"{name} is text, and {describe(value)} stands there", path, todo=_as_text(value))
        case "bool_type":
            problems.add(f"{name} is true or false, and {describe(value)} stands there", path, todo=_as_bool(value))
        case "tuple_type":
            todo = f"write [{value}]" if isinstance(value, str) and shown else "write [a, b]"
            problems.add(f"{name} is a list, and {describe(value)} stands there", path, todo=todo)
        case "dict_type" | "model_type":
            problems.add(f"{name} is a mapping, and {describe(value)} stands there", path, todo="write { key: value }")
        case "too_short" | "string_too_short":
            problems.add(f"{name} is empty", path, todo="write at least one, or leave the key out")
        case "string_pattern_mismatch" if path[-1] in _PATTERNS:
            problems.add(f"{name} cannot be this text", path, todo=_PATTERNS[str(path[-1])])
        case "shape" | "limit":
            problems.add(f"{name} is wrong: {describe(value)} stands there", path, todo=detail["msg"])
        case _:
            problems.add(f"{name} is wrong: {describe(value)} stands there", path, why=detail["msg"])


def _as_text(value: object) -> str:
    match value:
        case None:
            return "write the text, or leave the key out"
        case dict() | list():
            return "write text; put it in quotes if it holds { } [ ] or :"
        case _:
            return "put it in quotes"


def _as_bool(value: object) -> str:
    match str(value).lower():
        case "yes" | "on" | "true" | "1" | "y":
            return "write true"
        case "no" | "off" | "false" | "0" | "n":
            return "write false"
        case _:
            return "write true or false"
