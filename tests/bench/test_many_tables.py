"""500 tables with 2,000 foreign keys, planned from one root. `pytest -n 0 -s tests/bench/test_many_tables.py`."""

from __future__ import annotations

import random
import time
from pathlib import Path

from reconciler import app
from reconciler.plan.errors import Exit
from tests.postgres import Database

TABLES, KEYS = 500, 2_000
_SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
collections:
  all: { into: production, source: backup, roots: { t0: "true" }, follow: dependents }
"""


def test_five_hundred_tables(place: Path, production: Database, backup: Database) -> None:
    choice = random.Random(7)
    columns: dict[int, list[int]] = {n: [n - 1 if n < 20 else choice.randrange(n)] for n in range(1, TABLES)}
    for _ in range(KEYS - TABLES + 1):
        child = choice.randrange(1, TABLES)
        columns[child].append(choice.randrange(child))
    made = ["CREATE TABLE t0 (id int PRIMARY KEY, name text)"]
    for number, parents in columns.items():
        keys = "".join(f", p{n} int REFERENCES t{parent} ON DELETE CASCADE" for n, parent in enumerate(parents))
        made.append(f"CREATE TABLE t{number} (id int PRIMARY KEY{keys})")
    filled = ["INSERT INTO t0 SELECT n, 'x' FROM generate_series(1, 5) n"]
    for number, parents in columns.items():
        filled.append(f"INSERT INTO t{number} SELECT n{', n' * len(parents)} FROM generate_series(1, 5) n")
    for database in (production, backup):
        database.sql("; ".join(made))
    backup.sql("; ".join(filled))
    (place / "spec.yaml").write_text(_SPEC)
    session = app.Session(
        (place / "spec.yaml",), {}, None, {"PRODUCTION_URL": production.dsn, "BACKUP_URL": backup.dsn}
    )
    begin = time.perf_counter()
    plan = app.plan(session, out=place / "a.plan.jsonl")
    print(f"\n500 tables, 2,000 foreign keys: planned in {time.perf_counter() - begin:.1f} s")
    assert sum(step.count for step in plan.steps) == 5 * TABLES
    begin = time.perf_counter()
    assert app.apply(plan, session, rehearse=True).code is Exit.DONE
    print(f"applied and rolled back in {time.perf_counter() - begin:.1f} s")
