"""`show --format json` is what its schema says, and the example policy judges it as written."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reconciler.plan.file import Header, Plan
from reconciler.plan.rules import settled
from reconciler.plan.step import Deferred, Hazard, Verb
from reconciler.views import json as json_view
from tests.views.plans import PRODUCTION, inserts, make, step

SPECS = Path(__file__).parents[2] / "specs"
SCHEMA = json.loads((SPECS / "plan-json.schema.json").read_text())
POLICY = SPECS / "policy/plan.rego"


def document(plan: Plan) -> str:
    text = "".join(json_view.render(plan))
    jsonschema.validate(json.loads(text), SCHEMA, jsonschema.Draft202012Validator)
    return text


def wrong(folder: Path, *, deletes: int = 101) -> Plan:
    """A plan that goes against every sentence of the policy."""
    hidden = {"uri": "text", "n": "text sensitive", "created_at": "text"}
    gone = step(Verb.DELETE, "public.identities", columns=hidden)
    changed = step(Verb.UPDATE, columns=hidden)
    record = step(Verb.PUT, "site.doc", address="pds_records.d", connection="pds", columns={})
    hazards = settled(
        [Hazard("whole-table", "collections.documents", "no row stays", 2, gone.id), Hazard("lock", "x.y", "a while")],
        {},
    )
    header = Header({}, {"did": "x"}, PRODUCTION, deferred=(Deferred("x.y", "later"),), hazards=hazards)
    return make(
        folder,
        [
            (gone, [((f"g{n}",), {"uri": f"g{n}", "n": "h"}, None) for n in range(deletes)]),
            (changed, [(("u",), {"n": "h1", "created_at": None}, {"n": "h2", "created_at": "2026"})]),
            (record, [(("r",), None, {"a": [1, {"b": None}]})]),
            (step(Verb.INSERT, "public.two", key=("a", "b")), [(("1", "2"), None, {"a": "1", "b": "2"})]),
        ],
        header,
    )


def right(folder: Path) -> Plan:
    folder.mkdir()
    return make(folder, [(step(Verb.INSERT), inserts("ab"))])


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["$defs"]["verb"]["enum"]) == {it.value for it in Verb}
    assert SCHEMA["properties"]["format_version"]["const"] == json_view.FORMAT_VERSION


def test_documents_are_what_it_says(tmp_path: Path) -> None:
    document(wrong(tmp_path))
    document(right(tmp_path / "right"))
    tree = json.loads(document(wrong(tmp_path)))
    tree["resource_changes"][0]["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, SCHEMA, jsonschema.Draft202012Validator)


def judged(word: str, text: str) -> list[str]:
    evaluator: Any = importlib.import_module("opa_eval")
    return sorted(evaluator.OpaEval(str(POLICY), query=f"data.main.{word}").evaluate_parsed(text))


def test_the_policy_judges(tmp_path: Path) -> None:
    text = document(wrong(tmp_path))
    denied = judged("deny", text)
    assert len(denied) == 101 + 1 + 1
    assert sum("rows of public.identities are never deleted" in it for it in denied) == 101
    assert sum("changes created_at" in it for it in denied) == 1
    assert "R010 collections.documents no row stays" in denied
    assert judged("warn", text) == ["101 rows are deleted: look twice"]
    fine = document(right(tmp_path / "right"))
    assert judged("deny", fine) == judged("warn", fine) == []


@pytest.mark.skipif(shutil.which("conftest") is None, reason="conftest is not here; opa_eval judges in its place")
def test_conftest_says_the_same(tmp_path: Path) -> None:
    for plan, code in ((wrong(tmp_path, deletes=1), 1), (right(tmp_path / "right"), 0)):
        path = tmp_path / "plan.json"
        path.write_text(document(plan))
        done = subprocess.run(
            ["conftest", "test", str(path), "--policy", str(POLICY.parent)], capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout
