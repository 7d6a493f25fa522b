"""The JSON Schema of the spec language, for editors and other checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from reconciler.spec.document import Document

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "urn:reconciler:spec:1"
_REFERENCE = {
    "type": "string",
    "pattern": r"\$\{[a-z][a-z0-9_]*\}",
    "description": "A variable: ${name}, declared under `variables`.",
}


def json_schema() -> dict[str, object]:
    """The schema of one file; name it in a first line `# yaml-language-server: $schema=<path of the schema>`."""
    schema = cast("dict[str, object]", _open_to_variables(Document.model_json_schema(by_alias=True)))
    definitions = cast("dict[str, object]", schema.pop("$defs"))
    return {
        "$schema": _DIALECT,
        "$id": _ID,
        **schema,
        "title": "reconciler spec, version 1",
        "description": "What should be true of live data. Editors check a spec that begins with the line "
        "`# yaml-language-server: $schema=<path of this file>`.",
        "$defs": {**definitions, "Variable reference": _REFERENCE},
    }


def _open_to_variables(schema: object) -> object:
    """The schema with `${name}` allowed wherever a choice is made, and without titles that only repeat names."""
    match schema:
        case dict():
            node = cast("Mapping[str, object]", schema)
            opened = {
                key: _properties(value)
                if key in ("properties", "patternProperties", "$defs")
                else _open_to_variables(value)
                for key, value in node.items()
                if key != "title" and not (key == "default" and value is None)
            }
            if "patternProperties" in opened:
                opened["additionalProperties"] = False
            return _with_reference(opened)
        case list():
            return [_open_to_variables(item) for item in cast("list[object]", schema)]
        case _:
            return schema


def _properties(named: object) -> dict[str, object]:
    return {name: _open_to_variables(schema) for name, schema in cast("Mapping[str, object]", named).items()}


def _with_reference(node: dict[str, object]) -> dict[str, object]:
    if (
        "enum" in node
        or node.get("type") == "boolean"
        or (node.get("type") == "string" and {"const", "pattern"} & node.keys())
    ):
        about = {key: node.pop(key) for key in ("description", "default", "examples") if key in node}
        return {**about, "anyOf": [node, {"$ref": "#/$defs/Variable reference"}]}
    return node
