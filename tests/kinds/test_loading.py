"""A plan loads the kinds that its spec has resources of, and no other: half of the tool is of kinds that a spec does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.postgres import Database

# What each kind is made of, as far as not every plan needs it.
OF_KIND = {
    "audits": {"kinds.audits", "kinds.kept", "systems.postgres.audit_sql", "plan.statements"},
    "bucket_prefixes": {"kinds.bucket_prefixes", "systems.storage.folder", "systems.postgres.described_find"},
    "checks": {"kinds.checks", "systems.postgres.checks"},
    "collections": {"kinds.collections", "systems.files", "systems.postgres.closure", "systems.postgres.as_of"},
    "guards": {
        "kinds.guards",
        "kinds.kept",
        "systems.postgres.guard_sql",
        "systems.postgres.audit_sql",
        "plan.statements",
    },
    "pds_records": {"kinds.pds_records", "systems.pds", "systems.files"},
    "processes": {"kinds.processes", "kinds.endpoints", "systems.postgres.pending"},
    "sql_objects": {"kinds.sql_objects", "systems.postgres.object_diff", "plan.statements"},
    "unique_keys": {"kinds.unique_keys", "systems.postgres.duplicates", "systems.postgres.structure"},
}
# What writes, takes back or compares plans is no part of planning.
OTHERS = {"systems.postgres.executor", "systems.postgres.staging", "plan.invert", "plan.compare", "demo", "embedded"}
DID = "did:plc:abcdefghijklmnopqrstuvwx"
HEAD = f"""\
version: 1
connections:
  production: {{ postgres: "${{env:PRODUCTION_URL}}" }}
  files: {{ directory: buckets }}
  records: {{ atproto: "{DID}", directory: repo }}
"""
SPECS = {
    "audits": "images: { tables: [production.images], log: production.audit_log }",
    "bucket_prefixes": "images: { bucket: files.pictures, table: production.images, column: src, on_missing_object: delete, max_delete: 9 }",
    "checks": "filled: { on: production, query: SELECT 1, expect: 1 }",
    "collections": "images: { table: production.images, source: { rows: [{ id: 9, src: a }] } }",
    "guards": "images: { table: production.images, max_rows_per_delete: 10 }",
    "pds_records": f"a: {{ repo: records.{DID}, collection: app.test.a, source: production.records, rkey: rkey, record: record }}",
    "processes": "images: { table: production.images, pending: src = 'b', done: src <> 'b', call: { command: [./done] }, rate: 60/minute }",
    "sql_objects": "one: { on: production, file: one.sql }",
    "unique_keys": "src: { table: production.images, key: [src] }",
}
PLAN = """
import sys
from reconciler.cli import main
try:
    main(["plan", "spec.yaml", "-o", "a.plan.jsonl"])
except SystemExit as end:
    assert end.code == 0, end.code
print(*sys.modules, file=open("loaded", "w"))
"""


def test_every_name_is_one_of_a_module() -> None:
    names = OTHERS.union(*OF_KIND.values())
    assert [name for name in sorted(names) if find_spec(f"reconciler.{name}") is None] == []


@pytest.mark.parametrize("kind", SPECS)
def test_kinds_are_loaded_when_a_spec_has_them(kind: str, place: Path, production: Database) -> None:
    production.sql(
        "CREATE TABLE images (id serial PRIMARY KEY, src text); CREATE TABLE records (rkey text, record jsonb)"
    )
    (place / "buckets" / "pictures").mkdir(parents=True)
    (place / "buckets" / "pictures" / "a.jpg").write_bytes(b"a")
    (place / "repo").mkdir()
    (place / "one.sql").write_text("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';\n")
    (place / "spec.yaml").write_text(f"{HEAD}{kind}:\n  {SPECS[kind]}\n")
    environ = {**os.environ, "PRODUCTION_URL": production.dsn}
    subprocess.run([sys.executable, "-c", PLAN], cwd=place, env=environ, check=True, stdout=subprocess.DEVNULL)
    loaded = {it.removeprefix("reconciler.") for it in (place / "loaded").read_text().split()}
    assert OF_KIND[kind] <= loaded
    assert (OTHERS.union(*OF_KIND.values()) - OF_KIND[kind]) & loaded == set()
