"""Pydantic's findings, said in the spec's own words and at the value's own place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.spec.audit import Audit
from reconciler.spec.collection import Collection, ColumnsExcept, InlineRows, Newer, TableOptions
from reconciler.spec.connections import AtprotoSpec, FilesSpec, PostgresSpec
from reconciler.spec.document import RESOURCE_SECTIONS, Variable, section_to_come
from reconciler.spec.guard import Guard
from reconciler.spec.models import Resource
from reconciler.spec.pds_records import Blobs, CarFile, PdsRecords
from reconciler.spec.problems import Problems, did_you_mean, dotted, one_of, suggest
from reconciler.spec.sql_objects import SqlObjects
from reconciler.spec.unique_key import UniqueKey
from reconciler.spec.values import Path, Value, describe

_TAGS = frozenset({"text", "a list", "a mapping", "a CAR file", "nothing (null)", "true or false"})
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
    if word == "audit" and parent[-1:] == ("source",):
        problems.claim((*parent, "rows"))
        problems.add("a source from an audit log is not supported yet", path, key=True)
    elif _of_resource(parent) and (section := section_to_come(word)):
        problems.add(f"`{word}` belongs to {section}, which is not supported yet", path, key=True)
    elif _of_resource(parent) and word in _ELSEWHERE:
        problems.add(what, path, key=True, todo=_ELSEWHERE[word])
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
            return tuple(dict.fromkeys((*_keys(PostgresSpec), *_keys(FilesSpec), *_keys(AtprotoSpec))))
        case ("collections", _):
            return _keys(Collection)
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
        case ("pds_records", _):
            return _keys(PdsRecords)
        case ("pds_records", _, "source"):
            return (*_keys(InlineRows), *_keys(CarFile))
        case ("pds_records", _, "blobs"):
            return _keys(Blobs)
        case (*_, "source"):
            return _keys(InlineRows)
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
