"""A million rows, 10 % missing and 1 % changed, beside plain COPY on the same machine in the same run.

`pytest -n 0 -s tests/bench/test_rows.py`; RECONCILER_BENCH_ROWS sets another size. L: text COPY of both sides in parallel. W: COPY of
the rows that differ into a table with its key. Beside it the script's way, an upsert a row. Ratios are printed; only the result is
asserted, for times on shared machines vary.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from tests.postgres import Database

ROWS = int(os.environ.get("RECONCILER_BENCH_ROWS", "1000000"))
SAMPLE = 5_000
_SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
collections:
  documents: { table: production.documents, source: backup }
"""
_TABLE = "CREATE TABLE documents (uri text PRIMARY KEY, data jsonb, indexed_at timestamptz)"
_FILL = f"""
INSERT INTO documents SELECT 'at://did:plc:abcdefgh/site.standard.document/' || lpad(i::text, 9, '0'),
  jsonb_build_object('title', 'T' || i, 'text', repeat(md5(i::text), 11), 'n', i, 'tags', jsonb_build_array('a', 'b')),
  '2025-01-01'::timestamptz + i * interval '1 second' FROM generate_series(1, {ROWS}) i
"""
_MISSING = "substr(md5(uri), 1, 3) < '199'"
_CHANGED = "substr(md5(uri), 4, 3) < '029'"


def drain(dsn: str) -> None:
    with (
        psycopg.connect(dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY documents TO STDOUT") as copy,
    ):
        for _ in copy:
            pass


def copied_out(production: Database, backup: Database) -> float:
    begin = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(drain, (production.dsn, backup.dsn)))
    return time.perf_counter() - begin


def copied_in(production: Database, backup: Database) -> float:
    with psycopg.connect(backup.dsn) as connection, connection.cursor() as cursor:
        query = "COPY (SELECT * FROM documents WHERE substr(md5(uri), 1, 3) < '199' OR substr(md5(uri), 4, 3) < '029') TO STDOUT"
        with cursor.copy(query) as copy:
            data = b"".join(bytes(block) for block in copy)
    production.sql("CREATE TABLE w (uri text PRIMARY KEY, data jsonb, indexed_at timestamptz)")
    begin = time.perf_counter()
    with (
        psycopg.connect(production.dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY w FROM STDIN") as copy,
    ):
        for at in range(0, len(data), 1 << 18):
            copy.write(data[at : at + (1 << 18)])
    took = time.perf_counter() - begin
    production.sql("DROP TABLE w")
    return took


def copied_between(production: Database, backup: Database) -> float:
    """The same rows into the table that lacks them, whose key has to be kept: what no way of inserting can undercut."""
    with (
        psycopg.connect(backup.dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy(
            "COPY (SELECT * FROM documents WHERE substr(md5(uri), 1, 3) < '199' ORDER BY uri) TO STDOUT"
        ) as copy,
    ):
        data = b"".join(bytes(block) for block in copy)
    with psycopg.connect(production.dsn) as connection, connection.cursor() as cursor:
        begin = time.perf_counter()
        with cursor.copy("COPY documents FROM STDIN") as copy:
            for at in range(0, len(data), 1 << 18):
                copy.write(data[at : at + (1 << 18)])
        took = time.perf_counter() - begin
        connection.rollback()
    production.sql("VACUUM documents")
    return took


def row_by_row(production: Database, backup: Database) -> float:
    """As scripts do it: an upsert a row, in one transaction; of a sample, taken for all."""
    rows = backup.sql(
        f"SELECT uri, data::text, indexed_at::text FROM documents WHERE substr(md5(uri), 1, 3) < '199' LIMIT {SAMPLE}"
    )
    query = "INSERT INTO documents VALUES (%s, %s, %s) ON CONFLICT (uri) DO UPDATE SET data = excluded.data, indexed_at = excluded.indexed_at"
    with psycopg.connect(production.dsn) as connection:
        begin = time.perf_counter()
        for row in rows:
            connection.execute(query, row)
        took = time.perf_counter() - begin
        connection.rollback()
    return took / len(rows) * ROWS * 0.11


def command(folder: Path, production: Database, backup: Database, *words: str) -> tuple[float, int]:
    """Seconds and peak megabytes of a whole command, start-up included."""
    environ = {**os.environ, "PRODUCTION_URL": production.dsn, "BACKUP_URL": backup.dsn}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, sys.executable, "-m", "reconciler", *words],
        cwd=folder, env=environ, check=True, capture_output=True, text=True,
    )  # fmt: skip
    took, peak = done.stdout.split()
    return float(took), int(peak) // 1024


# A process of its own in between: a child's peak counts from the size of the process it was forked from.
_MEASURED = """
import resource, subprocess, sys, time
begin = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def beside(reference: Callable[[], float], run: Callable[[], tuple[float, int]]) -> tuple[float, float, int]:
    """The least of two turns each, taken in turns, and the most memory."""
    turns = [(reference(), *run()) for _ in range(2)]
    references, took, memory = zip(*turns, strict=True)
    return min(references), min(took), max(memory)


def test_a_million_rows(place: Path, production: Database, backup: Database) -> None:
    for database in (production, backup):
        database.sql(_TABLE)
        database.sql(_FILL)
        database.sql("ANALYZE documents")
    (place / "specs").mkdir()
    (place / "specs" / "documents.yaml").write_text(_SPEC)
    read, took, memory = beside(
        lambda: copied_out(production, backup),
        lambda: command(place, production, backup, "plan", "-o", "same.plan.jsonl"),
    )
    print(f"\nL = {read:.2f} s · plan of identical tables {took:.2f} s = {took / read:.2f} L, {memory} MB")
    production.sql(f"DELETE FROM documents WHERE {_MISSING}")
    production.sql(f"UPDATE documents SET data = jsonb_set(data, '{{title}}', '\"x\"') WHERE {_CHANGED}")
    production.sql("ANALYZE documents")
    read, took, memory = beside(
        lambda: copied_out(production, backup), lambda: command(place, production, backup, "plan", "-o", "a.plan.jsonl")
    )
    print(f"L = {read:.2f} s · plan of 11 % differences {took:.2f} s = {took / read:.2f} L, {memory} MB")

    def rehearsed() -> tuple[float, int]:
        production.sql("VACUUM documents")  # of what the turn before left
        return command(place, production, backup, "apply", "--rehearse", "a.plan.jsonl")

    written, took, memory = beside(lambda: copied_in(production, backup), rehearsed)
    print(f"W = {written:.2f} s · apply, rolled back {took:.2f} s = {took / written:.2f} W, {memory} MB")
    into, upserts = copied_between(production, backup), row_by_row(production, backup)
    whole, memory = command(place, production, backup, "apply", "a.plan.jsonl")
    print(
        f"COPY of what is missing into the table itself {into:.2f} s = {into / written:.2f} W; apply takes {took / into:.2f} times that"
    )
    print(f"an upsert row by row {upserts:.0f} s (a sample, taken for all) = {upserts / written:.0f} W")
    print(f"apply and planning again {whole:.2f} s = {whole / written:.2f} W, {memory} MB")
    count = "SELECT count(*), bit_xor(hashtextextended(d::text, 0)) FROM documents d"
    assert production.sql(count) == backup.sql(count)
