"""The published JSON Schema takes every right spec and refuses what the loader refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from reconciler.spec import json_schema
from tests.spec.worked import RESTORE

VALIDATOR: Any = jsonschema.Draft202012Validator(json_schema())


class Editor(yaml.SafeLoader):
    """YAML as editors read it: version 1.2, where dates and `off` are text."""


Editor.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for first in "tf":
    Editor.yaml_implicit_resolvers[first] = [("tag:yaml.org,2002:bool", re.compile("true|false"))]


def errors(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.load(text, Loader=Editor))]


def test_it_is_a_schema_of_its_dialect_and_names_no_host() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "urn:reconciler:spec:1"
    hosts = set(re.findall(r"https?://([^/\"']+)", json.dumps(schema)))
    assert {host for host in hosts if not host.endswith((".example.com", "{host}"))} == {"json-schema.org"}


def test_it_takes_a_right_spec() -> None:
    assert errors(RESTORE) == []


A = "version: 1\ncollections: { a: { table: x.t, source: y, "
RIGHT = [
    "version: 1\naudits: { a: { tables: [x.t], log: x.l, columns: changed, keep: 400d, remove: with_log } }\n",
    "version: 1\naudits: { a: { tables: [x.t], log: x.l, columns: [a, b], sensitive: [c], remove: true } }\n",
    "version: 1\nguards: { a: { table: x.t, max_rows_per_delete: 10, protect: a > 1, no_truncate: true } }\n",
    "version: 1\n",
    "version: 1\nvariables: { a: {}, b: { default: 1.5 }, c: { default: true } }\n",
    A + "on_extra: '${mode}', protect: '${p}', max_delete: '${n}' } }\n",
    A + "where: null, key: null, columns: null, on_changed: null } }\n",
    A + "on_missing_parent: null, where: true } }\n",
    A + "columns: [a], on_changed: fill, max_delete: 5% } }\n",
]
WRONG = [
    "version: 1\naudits: { a: { tables: [x.t] } }\n",
    "version: 1\naudits: { a: { tables: [x.t], log: x.l, keep: 400 } }\n",
    "version: 1\nguards: { a: { table: x.t, max_rows_per_delete: -1 } }\n",
    "{}\n",
    "version: 2\n",
    "version: 1\nunknown: {}\n",
    "version: 1\nvariables: { A: {} }\n",
    "version: 1\nvariables: { a: { x: 1 } }\n",
    "version: 1\nvariables: { a: { default: [] } }\n",
    "version: 1\nconnections: { a: { postgress: x } }\n",
    "version: 1\nconnections: { a: { postgres: x, files: y } }\n",
    A + "on_Extra: keep } }\n",
    A + "on_extra: drop } }\n",
    "version: 1\ncollections: { a: { table: x.t, source: { row: [] } } }\n",
    A + "columns: { excpt: [a] } } }\n",
    A + "tables: { t: { where: x } } } }\n",
    A + "protect: 'yes' } }\n",
    A + "max_delete: 200% } }\n",
    A + "on_missing_parent: ignore } }\n",
    "version: 1\ncollections: { a: { table: x.t } }\n",
    "version: 1\ncollections: { a: { source: y } }\n",
]


@pytest.mark.parametrize("text", RIGHT)
def test_takes(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize("text", WRONG)
def test_refuses(text: str) -> None:
    assert errors(text)


def undescribed(schema: dict[str, Any]) -> list[str]:
    return [name for name, value in schema.get("properties", {}).items() if "description" not in value]


def test_every_word_is_described() -> None:
    schema: dict[str, Any] = json_schema()
    assert undescribed(schema) == []
    assert {name: undescribed(part) for name, part in schema["$defs"].items() if undescribed(part)} == {}
