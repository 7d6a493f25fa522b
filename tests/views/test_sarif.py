"""SARIF as code scanning reads it: valid by its own schema, at the right place, with rules that keep their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.file import Header, Plan
from reconciler.plan.rules import RULES, settled
from reconciler.plan.step import Deferred, Hazard, Verb
from reconciler.views import sarif
from tests.views.plans import NASTY, PRODUCTION, inserts, make, step

SCHEMA = json.loads((Path(__file__).parent / "sarif-2.1.0.json").read_text())


def results(text: str) -> list[dict[str, Any]]:
    tree = json.loads(text)
    jsonschema.validate(tree, SCHEMA, jsonschema.Draft4Validator)
    return tree["runs"][0]["results"]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    hazards = settled(
        [
            Hazard("overwrite-newer", "collections.documents", f"2 rows {NASTY}", 2, step(Verb.UPDATE).id),
            Hazard("whole-table", "collections.other", "all", 5),
            Hazard("lock", "collections.other", "a while"),
            Hazard("what is this", "collections.other", "?"),
        ],
        {"collections.other": ("R010",)},
    )
    header = Header(connections=PRODUCTION, hazards=hazards, deferred=(Deferred("processes.p", "later"),))
    return make(tmp_path, [(step(Verb.INSERT), inserts("a"))], header)


def test_risks_of_a_plan(plan: Plan) -> None:
    found = results(
        sarif.render(
            sarif.of_plan(
                plan, {"collections.documents": Location("specs/a b.yaml", 7, 3)}, Location("x.plan.jsonl", 1)
            )
        )
    )
    assert [(it["ruleId"], it["level"]) for it in found] == [
        ("R004", "error"), ("R000", "warning"), ("R010", "warning"), ("R020", "note"), ("R012", "note"),
    ]  # fmt: skip
    place = found[0]["locations"][0]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "specs/a%20b.yaml"},
        "region": {"startLine": 7, "startColumn": 3},
    }
    assert place["logicalLocations"][0]["fullyQualifiedName"] == step(Verb.UPDATE).id
    assert [it["suppressions"][0]["kind"] for it in found if "suppressions" in it] == ["inSource"]
    assert found[2]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "x.plan.jsonl"
    assert len({it["partialFingerprints"]["reconciler/v1"] for it in found}) == len(found)


def test_rules_stand_at_their_index(plan: Plan) -> None:
    text = sarif.render(sarif.of_plan(plan, {}))
    rules = json.loads(text)["runs"][0]["tool"]["driver"]["rules"]
    assert {it.id for it in RULES} < {it["id"] for it in rules}
    assert all(rules[it["ruleIndex"]]["id"] == it["ruleId"] for it in results(text))
    assert "\x1b" not in text and "\u202e" not in text


def test_a_fingerprint_does_not_move_with_lines_and_counts() -> None:
    one, other = (
        sarif.Finding("R002", "warning", text, Location("a.yaml", line), "collections.a")
        for text, line in (("3 rows", 1), ("4 rows", 9))
    )
    prints = [results(sarif.render([it]))[0]["partialFingerprints"] for it in (one, other)]
    assert prints[0] == prints[1]


def test_errors_of_a_spec() -> None:
    error = ReconcilerError("wrong", where=Location("a.yaml", 2, 5, "x: y"), why="it is", todo="mend it")
    found = results(sarif.render([sarif.of_error(error), sarif.of_error(ReconcilerError("no place"))]))
    assert found[0]["message"]["text"] == "wrong: it is: mend it"
    assert [it["ruleId"] for it in found] == ["S001", "S001"]
    assert "locations" not in found[1]
    assert results(sarif.render([sarif.of_error(error, warning=True)]))[0]["level"] == "warning"
    assert results(sarif.render([])) == []
