"""Rows are called for until they are done: within the ceiling of the plan and the rate, and no bad row stops another."""

from __future__ import annotations

import json
from typing import Any

from reconciler.plan.errors import Exit
from reconciler.plan.file import Plan
from tests.calls.hook import Hook
from tests.kinds.bench import Bench, summary
from tests.postgres import Database

STEP = "processes.thumbnails[public.images]/call"
ROWS = "INSERT INTO images (id) SELECT generate_series(1, %d)"
LEFT = "SELECT id FROM images WHERE metadata_status <> 'ready' ORDER BY id"


def spec(
    call: str = "{ http: hooks/resize }", more: str = "batch: 4", rate: str = "1000/second", timeout: str = "5s"
) -> str:
    return f"""
  hooks: {{ http: "${{env:HOOK_URL}}", headers: {{ Authorization: "Bearer ${{env:HOOK_TOKEN:-canary-of-hooks}}" }} }}
  storage: {{ supabase: "${{env:SUPABASE_URL}}", key: "${{env:SUPABASE_KEY}}" }}
processes:
  thumbnails:
    table: production.images
    pending: metadata_status <> 'ready'
    done: metadata_status = 'ready'
    call: {call}
    rate: {rate}
    timeout: {timeout}
    {more}
"""


def plan(bench: Bench, text: str) -> Plan:
    bench.spec(text.replace("\n  hooks", "  hooks", 1))
    return bench.plan()


def image(plan: Plan) -> dict[str, Any]:
    (step,) = [step for step in plan.steps if step.verb == "call"]
    (change,) = plan.changes(step)
    return json.loads(json.dumps(change.after))


def left(database: Database) -> list[int]:
    return [row[0] for row in database.sql(LEFT)]


def test_every_pending_row_is_called_for_once(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 10 + "; UPDATE images SET metadata_status = 'ready' WHERE id = 3")
    before = bench.dump()
    made = plan(bench, spec())
    assert bench.dump() == before and hook.seen == []
    assert bench.plan().path.read_bytes() == made.path.read_bytes()
    assert summary(made) == {STEP: 1}
    assert image(made)["rows"] == {"added": 0, "ceiling": 9, "pending": 9}
    applied = bench.apply(made)
    assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
    assert [it.keys for it in hook.seen] == [[1, 2, 4, 5], [6, 7, 8, 9], [10]]
    assert left(bench.production) == []
    assert summary(bench.plan()) == {}
    again = bench.apply(made)
    assert (again.code, [s.already for s in again.steps], len(hook.seen)) == (Exit.DONE, [1], 3)
    back = bench.undo(made)
    assert back.empty
    assert "cannot be taken back" in back.header.hazards[0].text


def test_the_headers_of_the_connection_go_along(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 1)
    bench.apply(plan(bench, spec(more="batch: 1")))
    (seen,) = hook.seen
    assert (seen.path, seen.body) == ("/resize", {"keys": [1]})
    assert seen.headers["authorization"] == "Bearer canary-of-hooks"
    assert seen.headers["content-type"] == "application/json"
