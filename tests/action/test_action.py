"""The action from a pull request to the merge: one comment, the plan that was reviewed and no other, exit codes by policy."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.action.runner import ACTION, ROOT, Job, comments, environment
from tests.postgres import Database

HEAD, NEXT = "a" * 40, "b" * 40
SPEC = """version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
collections:
  t: { table: production.t, source: backup, where: id < :most }
variables: { most: { default: "%s" } }
"""


def pull(head: str) -> dict[str, Any]:
    return {"repository": "o/r", "event": {"pull_request": {"number": 7, "head": {"sha": head}}}, "sha": "c" * 40}


@pytest.fixture
def job(place: Path, production: Database, backup: Database) -> Job:
    """A checkout with a spec; the backup has two rows that production lacks."""
    for database in (production, backup):
        database.sql("CREATE TABLE t (id int PRIMARY KEY, x text)")
    backup.sql("INSERT INTO t VALUES (1, 'personal'), (2, 'personal')")
    environ = environment(place, PRODUCTION_URL=production.dsn, BACKUP_URL=backup.dsn)
    work = place / "work"
    (work / "specs").mkdir(parents=True)
    (work / "specs/spec.yaml").write_text(SPEC % 9)
    return Job(work, pull(HEAD), environ)


def merged(job: Job, head: str) -> Job:
    """The job that runs where the pull request was merged."""
    pulls = [{"number": 3, "merged_at": None}, {"number": 7, "merged_at": "2026-01-01", "head": {"sha": head}}]
    (Path(job.environ["FAKE_GITHUB"]) / "pulls").write_text(json.dumps(pulls))
    return Job(job.folder, {"repository": "o/r", "event": {}, "sha": "c" * 40}, job.environ, {"mode": "apply"})


def test_from_the_pull_request_to_the_merge(job: Job, production: Database) -> None:
    plan = "<!-- reconciler:plan -->\n\n## Plan `0000000000000000`: x\n"
    others = [
        {"id": 1, "user": {"login": "mallory"}, "body": f"{plan}<!-- reconciler:run reconciler {HEAD} -->"},
        {"id": 2, "user": {"login": "github-actions[bot]"}, "body": f"{plan}<!-- reconciler:run other {HEAD} -->"},
    ]
    (Path(job.environ["FAKE_GITHUB"]) / "comments").write_text(json.dumps(others))
    assert job.run() == 0, job.said
    assert job.outputs["plan"]["exit-code"] == "2"
    first = comments(job.environ)
    assert first[:2] == others
    assert len(first) == 3
    assert "2 to insert" in first[2]["body"]
    assert "personal" not in first[2]["body"]
    assert "reconciler:plan" in Path(job.environ["GITHUB_STEP_SUMMARY"]).read_text()
    sarif = json.loads(Path(job.outputs["sarif"]["file"]).read_text())
    assert sarif["version"] == "2.1.0"

    job.github = pull(NEXT)
    (job.folder / "specs/spec.yaml").write_text(SPEC % 2)
    assert job.run() == 0, job.said
    again = comments(job.environ)
    assert len(again) == 3
    assert "1 to insert" in again[2]["body"]
    assert again[2]["id"] == 3

    (job.folder / "plans").rename(job.folder / "gone")
    late = merged(job, HEAD)  # the plan on show is of a later head
    assert late.run() == 1
    assert "nothing is applied" in late.said
    on_merge = merged(job, NEXT)
    assert on_merge.run() == 0, on_merge.said
    assert production.sql("SELECT id FROM t") == [(1,)]
    assert (
        f'"--name", "reconciler-plan-{job.outputs["plan"]["id"]}"'
        in (Path(job.environ["FAKE_GITHUB"]) / "calls").read_text()
    )


def test_a_plan_that_is_committed(job: Job, production: Database) -> None:
    job.inputs = {"artifact": "false"}
    assert job.run() == 0, job.said
    on_merge = merged(job, HEAD)
    on_merge.inputs |= {"artifact": "false"}
    shutil.copy(job.folder / "plans/reconciler.plan.jsonl", job.folder / "kept")
    job.inputs = {"artifact": "false", "variables": "most=2\n"}
    assert job.run() == 0, job.said  # the comment shows this plan now, and the file is put back
    shutil.copy(job.folder / "kept", job.folder / "plans/reconciler.plan.jsonl")
    assert on_merge.run() == 1
    assert "--id names the plan that was reviewed" in on_merge.said
    assert production.sql("SELECT id FROM t") == []


def test_errors_are_shown_and_fail(job: Job) -> None:
    (job.folder / "specs/spec.yaml").write_text((SPEC % 9).replace("source:", "sorce:"))
    assert job.run() == 1
    assert "::error file=specs/spec.yaml,line=6," in job.said
    (only,) = comments(job.environ)
    assert only["body"].startswith("<!-- reconciler:plan -->\n\n## No plan: exit code 1\n")
    assert "    error: unknown key `sorce`" in only["body"]
    assert json.loads(Path(job.outputs["sarif"]["file"]).read_text())["runs"][0]["results"][0]["ruleId"] == "S001"
    on_merge = merged(job, HEAD)
    assert on_merge.run() == 1
    assert "shows no plan" in on_merge.said


def test_the_policy_says_what_fails(job: Job) -> None:
    job.inputs = {"fail-on": "1 2 3 4 5 130"}
    assert job.run() == 2
    job.inputs |= {"fail-on": ""}
    (job.folder / "specs/spec.yaml").write_text("version: 2\n")
    assert job.run() == 0
    assert job.outputs["plan"]["exit-code"] == "1"


def test_a_commit_without_a_pull_request_applies_nothing(job: Job, production: Database) -> None:
    assert job.run() == 0, job.said
    (Path(job.environ["FAKE_GITHUB"]) / "pulls").write_text("[]")
    alone = Job(job.folder, {"repository": "o/r", "event": {}, "sha": "c" * 40}, job.environ, {"mode": "apply"})
    assert alone.run() == 0
    assert "nothing is applied" in alone.said
    assert production.sql("SELECT id FROM t") == []


def test_no_input_is_read_as_code(job: Job) -> None:
    """Expressions stand in `env` alone, and what comes from there is quoted."""
    action = cast("dict[str, Any]", yaml.safe_load((ACTION / "action.yml").read_text()))
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert "shell" in step or "uses" in step
    job.inputs = {"specs": "$(touch hit)\n", "name": "`touch hit`", "variables": "most=$(touch hit)", "fail-on": ""}
    job.run()
    assert not (job.folder / "hit").exists()


def test_inputs_and_outputs_are_those_that_are_used() -> None:
    text = (ACTION / "action.yml").read_text()
    action = cast("dict[str, Any]", yaml.safe_load(text))
    assert set(action["inputs"]) == set(re.findall(r"inputs\.([\w-]+)", text))
    steps = {it["id"] for it in action["runs"]["steps"] if "id" in it}
    assert set(re.findall(r"steps\.([\w-]+)\.outputs", text)) <= steps
    readme = (ROOT / "README.md").read_text()
    assert all(
        f"`{name}`" in readme for name in (*action["inputs"], *action["outputs"]) if name not in ("token", "install")
    )


def test_the_hook_of_pre_commit_is_a_command() -> None:
    (hook,) = cast("list[dict[str, Any]]", yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()))
    assert hook["entry"] == "reconciler validate"
    assert hook["language"] == "python"
    assert re.search(hook["files"], "specs/a.yaml")
    assert not re.search(hook["files"], "specs/reconciler.schema.json")
