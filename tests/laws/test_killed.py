"""An apply that is killed at any instant leaves all of its transaction or nothing, and can be run again to the same end.

It is killed 50 times, or as often as there is time for; `RECONCILER_KILL_ROUNDS` says how often, whatever the time. Half of the times
it is killed anywhere between start and end, half within its transaction.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import psycopg
import pytest
from psycopg import sql

from reconciler.plan.errors import Exit
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, counts
from tests.postgres import Database

ASKED = os.environ.get("RECONCILER_KILL_ROUNDS")
ROUNDS, LEAST, SECONDS = int(ASKED or 50), int(ASKED or 4), 40
SCHEMA = """
CREATE TABLE tally (n int NOT NULL);
CREATE TABLE one (id int PRIMARY KEY, other int NOT NULL, v text);
CREATE TABLE other (id int PRIMARY KEY, one int NOT NULL REFERENCES one ON DELETE CASCADE, v text);
ALTER TABLE one ADD FOREIGN KEY (other) REFERENCES other ON DELETE CASCADE;
CREATE TABLE document (id serial PRIMARY KEY, one int REFERENCES one ON DELETE SET NULL, title text UNIQUE, likes int NOT NULL DEFAULT 0);
CREATE TABLE likes (document int REFERENCES document ON DELETE CASCADE, n int, PRIMARY KEY (document, n));
CREATE FUNCTION count_likes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE document SET likes = likes + 1 WHERE id = NEW.document; UPDATE tally SET n = n + 1; RETURN NEW; END $$;
CREATE TRIGGER count_likes AFTER INSERT ON likes FOR EACH ROW EXECUTE FUNCTION count_likes();
INSERT INTO tally VALUES (0);
"""
ROWS = """
WITH x AS (INSERT INTO one SELECT n, 1001 - n, 'v' || n FROM generate_series(1, 1000) n)
  INSERT INTO other SELECT n, 1001 - n, 'w' || n FROM generate_series(1, 1000) n;
INSERT INTO document (one, title) SELECT n, 'title ' || n FROM generate_series(1, 1000) n;
INSERT INTO likes SELECT d, n FROM generate_series(1, 400) d, generate_series(1, 3) n;
"""
DAMAGE = """
DELETE FROM one WHERE id % 2 = 0;
DELETE FROM document WHERE id > 500 OR id < 100;
UPDATE document SET title = 'changed ' || id, one = NULL WHERE id % 3 = 0;
INSERT INTO document (id, title) VALUES (2000, 'title 7'), (2001, 'extra');
INSERT INTO likes VALUES (2000, 1), (300, 9);
SELECT setval('document_id_seq', 3);
"""
SPEC = """
one: { table: production.one, source: backup }
other: { table: production.other, source: backup }
document: { table: production.document, source: backup, on_extra: delete, max_delete: 3 }
likes: { table: production.likes, source: backup }
"""


@pytest.fixture
def refresh(bench: Bench, create_database: Callable[[str], Database]) -> Callable[[], None]:
    """Puts production back to what it is now; call it once to say when that is."""
    saved = create_database("damaged").name
    taken: list[bool] = []

    def copy(source: str, target: str) -> None:
        bench.production.close()
        with psycopg.connect(bench.production.server.dsn(), autocommit=True) as session:
            names = [sql.Identifier(name) for name in (target, source)]
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(names[0]))
            session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))

    def put() -> None:
        if not taken:
            copy(bench.production.name, saved)
            taken.append(True)
        copy(saved, bench.production.name)

    return put


def state(database: Database) -> Mapping[str, object]:
    """Every row, and the sequence."""
    return database.dump() | {
        "document_id_seq": database.sql("SELECT last_value, is_called FROM document_id_seq"),
    }


def test_killed_at_any_instant(bench: Bench, refresh: Callable[[], None]) -> None:
    bench.both(SCHEMA)
    bench.backup.sql(ROWS)
    bench.production.sql(ROWS + DAMAGE)
    refresh()
    damaged = state(bench.production)
    plan = bench.plan(SPEC)
    assert set(counts(plan)) == {
        "insert public.one", "insert public.other", "insert public.document", "update public.document", "delete public.document",
        "insert public.likes", "delete public.likes", "setval public.document_id_seq",
    }  # fmt: skip
    whole, within = uninterrupted(bench, plan)
    final = state(bench.production)
    assert final != damaged
    ends: list[str] = []
    began = time.monotonic()
    for number in range(ROUNDS):
        if number >= LEAST and time.monotonic() - began > SECONDS:
            break
        refresh()
        process = start(bench, plan)
        try:
            if number % 2:
                await_transaction(bench, plan, process)
                time.sleep(random.uniform(0, within * 1.2))
            else:
                time.sleep(random.uniform(0, whole * 1.1))
        finally:
            process.kill()
            process.communicate()
        await_transaction(bench, plan, None)
        found = state(bench.production)
        assert found in (damaged, final), f"after {ends}"
        ends.append("final" if found == final else "damaged")
        applied = bench.apply(plan)
        assert (applied.code, applied.converged) == (Exit.DONE, True)
        assert sum(step.applied for step in applied.steps) == (
            0 if found == final else sum(s.count for s in plan.steps)
        )
        assert state(bench.production) == final
    print(ends)


def uninterrupted(bench: Bench, plan: Plan) -> tuple[float, float]:
    """How long it takes as a whole, and of this from the start of its transaction on."""
    began = time.monotonic()
    process = start(bench, plan)
    try:
        await_transaction(bench, plan, process)
        within = time.monotonic()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - began, time.monotonic() - within


def await_transaction(bench: Bench, plan: Plan, process: subprocess.Popen[bytes] | None) -> None:
    """Until the plan's transaction is seen or its process has ended; without a process, until the server has let go of all of it."""
    query = "SELECT count(*) FILTER (WHERE application_name = %s), count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    bench.production.close()
    with psycopg.connect(bench.production.server.dsn(), autocommit=True) as session:
        for _ in range(6000):
            ((mine, all_),) = session.execute(query, (f"reconciler/{plan.id}", bench.production.name)).fetchall()
            if (mine or process.poll() is not None) if process else not all_:
                return
            time.sleep(0.005)
    raise AssertionError("waited for too long")


def start(bench: Bench, plan: Plan) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", "apply", str(plan.path), "--yes"],
        env={**os.environ, **bench.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=bench.folder,
    )
