"""A million rows, 50,000 of them duplicates that 36,000 children point at, beside the same repair written by hand.

`pytest -n 0 -s tests/bench/test_unique_keys.py`; RECONCILER_BENCH_ROWS sets another size. Reference for the plan: the ranking scan, and a
COPY of the losers to a file; for apply: rank, repoint, DELETE … RETURNING into an archive, ADD UNIQUE. Ratios are printed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg

from tests.bench.test_rows import command
from tests.postgres import Database

ROWS = int(os.environ.get("RECONCILER_BENCH_ROWS", "1000000"))
LOSERS = ROWS // 20
_SPEC = """\
version: 1
connections: { production: { postgres: "${env:PRODUCTION_URL}" } }
unique_keys:
  images:
    table: production.images
    key: [device_id, image_name]
    keep: [{ status: [complete, receiving, pending, failed] }, { updated_at: newest }, { received_chunks: highest }]
    references: repoint
    archive: images_archive
    allow: [R005]  # a million rows
    constraint: images_key
"""
_WORLD = f"""
CREATE TABLE images (id bigint PRIMARY KEY, device_id uuid NOT NULL, image_name text NOT NULL, status text, updated_at timestamptz,
  received_chunks int, metadata jsonb);
INSERT INTO images SELECT i, md5((n / 1000)::text)::uuid, 'image_' || n || '.jpg', (ARRAY['complete','receiving','pending','failed'])[1 + i % 4],
  '2025-01-01'::timestamptz + i * interval '1 second', nullif(i % 9, 0), jsonb_build_object('n', i, 'text', repeat(md5(i::text), 4))
FROM generate_series(1, {ROWS}) i, LATERAL (SELECT CASE WHEN i > {ROWS - LOSERS} THEN i - {ROWS - LOSERS} ELSE i END) x(n);
CREATE TABLE captures (id bigint PRIMARY KEY, image_id bigint REFERENCES images ON DELETE SET NULL, note text);
INSERT INTO captures SELECT n, CASE WHEN n % 2 = 0 THEN n ELSE {ROWS - LOSERS} + n END, 'x' FROM generate_series(1, {LOSERS * 72 // 100}) n;
CREATE INDEX ON captures (image_id); ANALYZE images; ANALYZE captures;
"""
_RANK = """
SELECT id, first_value(id) OVER w AS best, row_number() OVER w AS rank FROM images JOIN (
  SELECT device_id, image_name FROM images GROUP BY 1, 2 HAVING count(*) > 1) d USING (device_id, image_name)
WINDOW w AS (PARTITION BY device_id, image_name ORDER BY array_position(ARRAY['complete','receiving','pending','failed'], status),
  updated_at DESC NULLS LAST, received_chunks DESC NULLS LAST, id)
"""


def reference(production: Database, folder: Path) -> tuple[float, float]:
    """Seconds for the ranking scan with its file, and for the whole repair; rolled back."""
    with psycopg.connect(production.dsn) as session:
        session.execute("SET work_mem = '128MB'; SET jit = off")
        begin = time.perf_counter()
        session.execute(f"CREATE TEMP TABLE losers AS SELECT * FROM ({_RANK}) r WHERE rank > 1".encode())
        session.execute("ANALYZE losers")
        ranked = time.perf_counter() - begin
        with (folder / "losers").open("wb") as file, session.cursor() as cursor:
            query = "COPY (SELECT to_jsonb(i) FROM images i JOIN losers USING (id)) TO STDOUT"
            with cursor.copy(query) as copy:
                for block in copy:
                    file.write(block)
        planned = time.perf_counter() - begin
        begin = time.perf_counter()
        session.execute("UPDATE captures c SET image_id = l.best FROM losers l WHERE c.image_id = l.id")
        session.execute("CREATE TABLE images_archive AS SELECT i.*, now() AS archived_at FROM images i WITH NO DATA")
        session.execute("""
            WITH gone AS (DELETE FROM images i USING losers l WHERE i.id = l.id RETURNING i.*)
            INSERT INTO images_archive SELECT g.*, now() FROM gone g
        """)
        session.execute("ALTER TABLE images ADD CONSTRAINT images_key UNIQUE (device_id, image_name)")
        whole = ranked + time.perf_counter() - begin
        session.rollback()
    return planned, whole


def test_fifty_thousand_losers(place: Path, production: Database, backup: Database) -> None:
    production.sql(_WORLD)
    (place / "specs").mkdir()
    (place / "specs" / "images.yaml").write_text(_SPEC)
    turns: list[tuple[float, ...]] = []
    for _ in range(2):
        by_hand = reference(production, place)
        production.sql("VACUUM ANALYZE images")
        planned = command(place, production, backup, "plan", "-o", "a.plan.jsonl")
        applied = command(place, production, backup, "apply", "--rehearse", "a.plan.jsonl")
        turns.append((*by_hand, *planned, *applied))
    ranked, whole, planned, _, applied, _ = (min(them) for them in zip(*turns, strict=True))
    memory = max(max(turn[3], turn[5]) for turn in turns)
    print(f"\nthe least of two turns each; at most {memory} MB")
    print(f"ranking by hand with its file {ranked:.2f} s · plan {planned:.2f} s = {planned / ranked:.2f}")
    print(f"by hand {whole:.2f} s · apply, rolled back {applied:.2f} s = {applied / whole:.2f}")
    production.sql("VACUUM ANALYZE images")
    took, memory = command(place, production, backup, "apply", "a.plan.jsonl")
    print(f"apply and planning again {took:.2f} s = {took / whole:.2f}, {memory} MB")
    assert production.sql("SELECT count(*) FROM images") == [(ROWS - LOSERS,)]
    assert production.sql("SELECT count(*) FROM images_archive") == [(LOSERS,)]
    assert production.sql("SELECT count(*) FROM captures WHERE image_id IS NULL") == [(0,)]
