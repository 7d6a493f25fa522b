"""A plan loads the kinds that its spec has resources of, and no other: half of the tool is of kinds that a spec does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import Database

# What each kind is made of, as far as no other needs it.
OF_KIND = {
    "audits": {"kinds.audits", "kinds.kept", "systems.postgres.audit_sql", "systems.postgres.kept_diff"},
    "bucket_prefixes": {"kinds.bucket_prefixes", "systems.storage", "systems.postgres.described_find"},
    "checks": {"kinds.checks", "systems.postgres.checks"},
    "collections": {"kinds.collections", "systems.files", "systems.postgres.closure", "systems.postgres.as_of"},
    "guards": {"kinds.guards", "kinds.kept", "systems.postgres.guard_sql", "systems.postgres.kept_diff"},
    "pds_records": {"kinds.pds_records", "systems.pds"},
    "processes": {"kinds.processes", "kinds.endpoints", "systems.postgres.pending"},
    "sql_objects": {"kinds.sql_objects", "systems.postgres.object_diff", "plan.statements"},
    "unique_keys": {"kinds.unique_keys", "systems.postgres.duplicates", "systems.postgres.structure"},
}
# What writes, takes back or compares plans is no part of planning.
_OTHERS = {"systems.postgres.executor", "systems.postgres.staging", "plan.invert", "plan.compare", "demo", "embedded"}
CONNECTIONS = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  files: { directory: buckets }
"""
SPECS = {
    "bucket_prefixes": "images: { bucket: files.pictures, table: production.images, column: src }",
    "checks": "filled: { on: production, query: SELECT 1, expect: 1 }",
    "collections": "images: { table: production.images, source: { rows: [{ id: 1, src: a }] } }",
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


@pytest.mark.parametrize("kind", SPECS)
def test_kinds_are_loaded_when_a_spec_has_them(kind: str, place: Path, production: Database) -> None:
    production.sql("CREATE TABLE images (id serial PRIMARY KEY, src text)")
    (place / "buckets" / "pictures").mkdir(parents=True)
    (place / "buckets" / "pictures" / "a.jpg").write_bytes(b"a")
    (place / "spec.yaml").write_text(f"{CONNECTIONS}{kind}:\n  {SPECS[kind]}\n")
    environ = {**os.environ, "PRODUCTION_URL": production.dsn}
    subprocess.run([sys.executable, "-c", PLAN], cwd=place, env=environ, check=True, stdout=subprocess.DEVNULL)
    loaded = set((place / "loaded").read_text().split())
    own = OF_KIND[kind]
    assert {f"reconciler.{name}" for name in own} <= loaded
    foreign = set[str]().union(*OF_KIND.values(), _OTHERS) - own
    assert {name for name in foreign if f"reconciler.{name}" in loaded} == set()
