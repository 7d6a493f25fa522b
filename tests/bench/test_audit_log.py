"""A table's past out of a log of a million records, beside a DISTINCT ON written by hand; and logs investigated.

`pytest -n 0 -s tests/bench/test_audit_log.py`; RECONCILER_BENCH_ROWS sets another size. Ratios are printed; only results are asserted,
for times on shared machines vary.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from reconciler.plan.names import TableName
from reconciler.systems.postgres.as_of import as_of
from reconciler.systems.postgres.audit_log import find_log
from reconciler.systems.postgres.catalog import read_catalog
from reconciler.systems.postgres.investigate import Limits, investigate
from reconciler.systems.postgres.session import connect
from tests.postgres import Database
from tests.scenarios.scenario import parse

RECORDS = int(os.environ.get("RECONCILER_BENCH_ROWS", "1000000"))
LOG = (Path(__file__).parent.parent / "audit" / "log.sql").read_text("utf-8")
MOMENT = "2025-01-02Z"
# Half of the rows are deleted, the other half is updated twice; a third of the log lies before the moment.
FILL = f"""
CREATE TABLE images (id bigint PRIMARY KEY, catalog_id int, file_path text, size bigint, thumbnail_path text, created_at timestamptz);
INSERT INTO images SELECT g, 1, '/photos/' || md5(g::text), g, NULL, '2025-01-01Z' FROM generate_series(1, {RECORDS // 3}) g;
INSERT INTO audit_log (statement_at, table_schema, table_name, operation, key, new)
  SELECT '2025-01-01 12:00Z', 'public', 'images', 'INSERT', jsonb_build_object('id', i.id), to_jsonb(i) FROM images i;
INSERT INTO audit_log (statement_at, table_schema, table_name, operation, key, old, new)
  SELECT '2025-01-03Z'::timestamptz + h * interval '1 day', 'public', 'images', 'UPDATE', jsonb_build_object('id', i.id), to_jsonb(i), to_jsonb(i)
  FROM generate_series(0, 1) h, images i WHERE i.id % 2 = 1;
INSERT INTO audit_log (statement_at, table_schema, table_name, operation, key, old)
  SELECT '2025-01-05Z', 'public', 'images', 'DELETE', jsonb_build_object('id', i.id), to_jsonb(i) FROM images i;
DELETE FROM images WHERE id % 2 = 0;
ANALYZE;
"""
# What one would write by hand for one table: the first record after the moment, as rows of the table's types.
BY_HAND = f"""
CREATE TEMP TABLE by_hand ON COMMIT DROP AS
SELECT p.* FROM (SELECT DISTINCT ON ((key ->> 'id')::bigint) operation, old FROM audit_log
  WHERE table_schema = 'public' AND table_name = 'images' AND statement_at > '{MOMENT}'
  ORDER BY (key ->> 'id')::bigint, statement_at, id) f, jsonb_populate_record(NULL::images, f.old) p WHERE f.operation <> 'INSERT'
"""


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def test_the_past_beside_a_query_by_hand(database: Database) -> None:
    database.sql(LOG)
    database.sql(FILL)
    with connect("production", database.dsn) as session:
        for _ in range(2):
            with session.snapshot():
                hand = timed(lambda: session.run(BY_HAND))
                rows = session.value("SELECT count(*) FROM by_hand")
            with session.snapshot():
                catalog = read_catalog(session)
                log = find_log(catalog, "production", TableName(None, "audit_log"))
                past, reach = as_of(session, log, catalog.tables[TableName("public", "images")], MOMENT, 1, "c", None)
                reach.make()
                ours = timed(reach.fill)
                assert session.value("SELECT count(*) FROM rc_w_1") == rows == RECORDS // 3
                assert past.name == TableName("pg_temp", "rc_v_1")
            print(f"\nas of, {RECORDS:,} records: by hand {hand:.2f} s, as_of {ours:.2f} s, ratio {ours / hand:.2f}")


def test_a_log_is_investigated(database: Database) -> None:
    database.sql(LOG)
    database.sql(FILL)
    with connect("production", database.dsn) as session:
        scan = timed(
            lambda: session.value("SELECT count(*) FROM audit_log WHERE old IS NULL OR old ->> 'id' IS NOT NULL")
        )
        with session.snapshot():
            catalog = read_catalog(session)
            log = find_log(catalog, "production", None)
            took = timed(lambda: investigate(session, catalog, log, None, Limits()))
    print(f"\ninvestigate, {RECORDS:,} records: a scan {scan:.2f} s, all of it {took:.2f} s, ratio {took / scan:.2f}")


def test_the_night_of_the_catalog_is_told_at_once(place: Path, database: Database) -> None:
    """The log of the second field report, with all that a user waits for: the program's start and the connection too."""
    story = parse((Path(__file__).parent.parent / "scenarios" / "catalog_thumbnails.txt").read_text("utf-8"))
    database.sql(story.files["production.sql"])
    (place / "spec.yaml").write_text('version: 1\nconnections: { catalog: { postgres: "${env:NIGHT_URL}" } }\n')
    environment = {**os.environ, "NIGHT_URL": database.dsn, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    said: list[str] = []

    def command(*words: str) -> None:
        program = [sys.executable, "-m", "reconciler", *words]
        done = subprocess.run(program, cwd=place, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout)

    start = min(timed(lambda: command("validate", "spec.yaml")) for _ in range(5))
    took = min(timed(lambda: command("investigate", "catalog", "--spec", "spec.yaml")) for _ in range(5))
    assert "public.audit_log: 120,770 records" in said[-1]
    assert "111,082 rows, none had thumbnail_path, dhash or quality_score" in said[-1]
    print(f"\ninvestigate, 120,770 records: {took:.2f} s, of which a command that reads nothing takes {start:.2f} s")
