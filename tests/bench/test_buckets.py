"""Objects and rows compared, beside the same found by hand on the same database in the same run.

`pytest -n 0 -s tests/bench/test_buckets.py`; RECONCILER_BENCH_OBJECTS sets another number than 100,000. Two references: a bare anti-join
of names that are spelled one way only, and what a plan has to find, written by hand as somebody would who knows the database well.
A plan is timed as a command, start-up and all, and within a process that has planned before. Figures are printed, never asserted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import app
from tests.bench.test_rows import _MEASURED  # pyright: ignore[reportPrivateUsage]
from tests.postgres import Database
from tests.storage.double import serving

OBJECTS = int(os.environ.get("RECONCILER_BENCH_OBJECTS", "100000"))
TIMES = 4
SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  storage: { supabase: "${env:SUPABASE_URL}", key: "${env:SUPABASE_KEY}"%s }
bucket_prefixes:
  images: { bucket: storage.pictures, match: ["*.jpg", "*.png"], table: production.images, column: src, form: "{bucket}/{name}",
            wrong_forms: ["old/{name}"], on_missing_row: { insert: { title: "{stem}" } } }
"""
BY_SQL = ', postgres: "${env:PRODUCTION_URL}"'
FILL = """
INSERT INTO storage.buckets (id, name) VALUES ('pictures', 'pictures');
INSERT INTO storage.objects (bucket_id, name, metadata, version)
SELECT 'pictures', 'folder/' || n % 100 || '/' || n || '.jpg', jsonb_build_object('eTag', '"' || md5(n::text) || '"', 'size', 100000 + n,
       'mimetype', 'image/jpeg', 'cacheControl', 'max-age=3600', 'lastModified', now(), 'contentLength', 100000 + n, 'httpStatusCode', 200),
       gen_random_uuid()::text FROM generate_series(1, {n}) n;
CREATE TABLE images (id serial PRIMARY KEY, src text, title text);
INSERT INTO images (src) SELECT CASE WHEN n % 1000 = 1 THEN 'old/' ELSE 'pictures/' END || 'folder/' || n % 100 || '/' || n || '.jpg'
  FROM generate_series(1, {n}) n WHERE n % 100 > 0;
"""
ANTI_JOIN = """
SELECT count(*) FROM storage.objects o WHERE bucket_id = 'pictures' AND NOT EXISTS (SELECT FROM images i WHERE i.src = 'pictures/' || o.name)
UNION ALL SELECT count(*) FROM images i WHERE NOT EXISTS
  (SELECT FROM storage.objects o WHERE bucket_id = 'pictures' AND i.src = 'pictures/' || o.name)
"""
BY_HAND = """
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL work_mem = '128MB';
SET LOCAL jit = off;
CREATE TEMP TABLE o ON COMMIT DROP AS
  SELECT name, (metadata ->> 'size')::int8 AS size, metadata ->> 'eTag' AS etag, metadata ->> 'mimetype' AS mime, created_at
    FROM storage.objects
   WHERE bucket_id = 'pictures' AND (name LIKE '%.jpg' OR name LIKE '%.png') AND name NOT LIKE '%.emptyFolderPlaceholder';
CREATE TEMP TABLE r ON COMMIT DROP AS
  SELECT id, src, substr(src, CASE WHEN starts_with(src, 'old/') THEN 5 ELSE 10 END) AS name, starts_with(src, 'old/') AS wrong
    FROM images WHERE starts_with(src, 'pictures/') OR starts_with(src, 'old/');
ANALYZE o; ANALYZE r;
CREATE TEMP TABLE lacking ON COMMIT DROP AS SELECT * FROM o WHERE NOT EXISTS (SELECT FROM r WHERE r.name = o.name);
CREATE TEMP TABLE gone ON COMMIT DROP AS SELECT * FROM r WHERE NOT EXISTS (SELECT FROM o WHERE o.name = r.name);
CREATE TEMP TABLE wrong ON COMMIT DROP AS SELECT r.* FROM r JOIN o USING (name) WHERE wrong;
CREATE TEMP TABLE twice ON COMMIT DROP AS SELECT name, count(*) FROM r GROUP BY name HAVING count(*) > 1;
CREATE TEMP TABLE alike ON COMMIT DROP AS
  SELECT lower(regexp_replace(name, '\\.[^./]*$', '')), count(*) FROM o GROUP BY 1 HAVING count(*) > 1;
SELECT (SELECT count(*) FROM lacking), (SELECT count(*) FROM gone), (SELECT count(*) FROM wrong), (SELECT count(*) FROM twice),
  (SELECT count(*) FROM alike), (SELECT count(*) FROM images WHERE src IS NOT NULL), (SELECT count(*) FROM o), (SELECT sum(size) FROM o);
COMMIT;
"""


def in_turns(*ways: Callable[[], object]) -> list[float]:
    """The best of each: whatever else the machine does hurts all of them."""
    took: list[list[float]] = [[] for _ in ways]
    for _ in range(TIMES):
        for way, times in zip(ways, took, strict=True):
            begin = time.perf_counter()
            way()
            times.append(time.perf_counter() - begin)
    return [min(times) for times in took]


@pytest.mark.parametrize("way", ["sql", "api"])
def test_objects_beside_rows(place: Path, production: Database, way: str) -> None:
    with serving(production.dsn) as double:
        production.sql(FILL.replace("{n}", str(OBJECTS)))
        production.sql("VACUUM ANALYZE storage.objects")
        production.sql("VACUUM ANALYZE images")
        (place / "spec.yaml").write_text(SPEC % (BY_SQL if way == "sql" else ""))
        lacking, wrong = OBJECTS // 100, len([n for n in range(1, OBJECTS + 1, 1000) if n % 100])
        assert production.sql(ANTI_JOIN) == [(lacking + wrong,), (wrong,)]
        rows = OBJECTS - lacking
        assert production.sql(BY_HAND)[0][:7] == (lacking, 0, wrong, 0, 0, rows, OBJECTS)
        environ = {
            **os.environ,
            "PRODUCTION_URL": production.dsn,
            "SUPABASE_URL": double.url,
            "SUPABASE_KEY": double.key,
        }
        session = app.Session((place / "spec.yaml",), {}, None, environ)
        plan = app.plan(session, out=place / "within.plan.jsonl")
        assert {step.verb.value: step.count for step in plan.steps} == {"insert": lacking, "update": wrong}
        joined, by_hand, within = in_turns(
            lambda: production.sql(ANTI_JOIN),
            lambda: production.sql(BY_HAND),
            lambda: app.plan(session, out=place / "within.plan.jsonl"),
        )
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, sys.executable, "-m", "reconciler", "plan", "spec.yaml", "-o", "a.plan.jsonl"],
            cwd=place, env=environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        command = time.perf_counter() - began
        memory = int(done.stdout.split()[-1]) // 1024
        print(
            f"\n{OBJECTS:,} objects by {way}: anti-join {joined:.2f} s · the same by hand {by_hand:.2f} s · plan {within:.2f} s ="
            f" {within / joined:.1f} × and {within / by_hand:.2f} × · command {command:.2f} s, {memory} MB"
        )
