"""What an audit costs: a mass deletion with its cascade, and one row updated at a time, beside the same without it.

`pytest -n 0 -s tests/bench/test_audits.py`; RECONCILER_BENCH_ROWS sets another size. The reference of the deletion is a table without any
trigger; of the single updates a row trigger that does nothing. The server's own processor time is taken, so that a busy machine
counts for little; the best of several runs counts. Limits: 3 times the reference; 60 µs more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psycopg

from reconciler import app
from reconciler.plan.errors import Exit
from tests.postgres import Database

ROWS = int(os.environ.get("RECONCILER_BENCH_ROWS", "111082"))
SINGLE = 5000
RUNS = 3
_SPEC = """\
version: 1
connections: { production: { postgres: "${env:PRODUCTION_URL}" } }
audits: { images: { tables: [production.images, production.thumbs], log: production.audit_log } }
"""
_WORLD = f"""
DROP TABLE IF EXISTS thumbs, images, audit_log CASCADE; DROP FUNCTION IF EXISTS reconciler_audit_images, reconciler_audit_thumbs CASCADE;
CREATE TABLE images (id bigint PRIMARY KEY, path text NOT NULL, status text, size int, thumbnail_path text, quality real, taken_at timestamptz);
CREATE TABLE thumbs (id bigint PRIMARY KEY, image_id bigint REFERENCES images ON DELETE CASCADE, path text, created_at timestamptz);
INSERT INTO images SELECT i, '/photos/2024/' || md5(i::text) || '.jpg', 'pending', i % 5000, NULL, NULL, now() FROM generate_series(1, {ROWS}) i;
INSERT INTO thumbs SELECT i, i, '/thumbs/' || md5(i::text) || '.jpg', now() FROM generate_series(1, {ROWS}) i;
CREATE INDEX ON thumbs (image_id); ANALYZE images, thumbs; CHECKPOINT;
"""
_NOTHING = """
CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing AFTER UPDATE ON images FOR EACH ROW EXECUTE FUNCTION nothing();
"""
_UPDATES = f"DO $$BEGIN FOR i IN 1..{SINGLE} LOOP UPDATE images SET size = size + 1 WHERE id = i; END LOOP; END$$"


def seconds(session: psycopg.Connection, statement: str) -> float:
    """How long the server's process worked for it."""

    def used() -> float:
        fields = Path(f"/proc/{session.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    begin = used()
    session.execute(statement.encode())
    return used() - begin


def best(production: Database, setup: Callable[[], object], statement: str, times: int = 1) -> float:
    taken: list[float] = []
    with psycopg.connect(production.dsn, autocommit=True) as session:
        for _ in range(RUNS):
            session.execute(_WORLD.encode())
            setup()
            taken.append(sum(seconds(session, statement) for _ in range(times)))
    return min(taken)


def test_what_an_audit_costs(place: Path, production: Database) -> None:
    (place / "spec.yaml").write_text(_SPEC)
    called = app.Session((place / "spec.yaml",), {}, None, {"PRODUCTION_URL": production.dsn})

    def audited() -> None:
        assert app.apply(app.plan(called, out=place / "a.plan.jsonl"), called).code is Exit.DONE

    bare = best(production, lambda: None, "DELETE FROM images")
    logged = best(production, audited, "DELETE FROM images")
    assert production.sql("SELECT count(*) FROM audit_log") == [(2 * ROWS,)]
    print(f"\ndelete of {ROWS:,} and as many cascaded: {bare:.2f} s, audited {logged:.2f} s = {logged / bare:.2f}")
    nothing = best(production, lambda: production.sql(_NOTHING), _UPDATES, 4) / SINGLE / 4 * 1e6
    single = best(production, audited, _UPDATES, 4) / SINGLE / 4 * 1e6
    print(
        f"one row updated: {nothing:.1f} µs with a row trigger that does nothing, audited {single:.1f} µs = +{single - nothing:.1f} µs"
    )
    assert logged <= 3 * bare
    assert single - nothing <= 60
