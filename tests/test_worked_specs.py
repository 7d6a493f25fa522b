"""The specs that come with the project are right, and so is the schema beside them."""

from __future__ import annotations

import json
from pathlib import Path

from reconciler.spec import json_schema, load

SPECS = Path(__file__).parent.parent / "specs"


def test_every_worked_spec_loads_and_names_its_schema() -> None:
    assert load([SPECS], environ={}).resources()
    for path in SPECS.glob("*.yaml"):
        assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=reconciler.schema.json\n")


def test_the_schema_beside_them_is_the_program_s() -> None:
    assert json.loads((SPECS / "reconciler.schema.json").read_text("utf-8")) == json_schema()
