"""Keys that are no keys on one side: NULL in them, or made by the database."""

from __future__ import annotations

import pytest

from reconciler import app
from reconciler.plan.errors import ReconcilerError
from tests.kinds.bench import Bench

NULLS = "INSERT INTO t VALUES ('a', 'old'), (NULL, 'old')"


@pytest.mark.parametrize("more", ["where: \"v <> 'none'\"", "on_extra: keep"])
def test_rows_of_the_target_without_a_key_are_left(bench: Bench, more: str) -> None:
    bench.both("CREATE TABLE t (email text UNIQUE, v text)")
    bench.backup.sql("INSERT INTO t VALUES ('a', 'new'), ('b', 'new')")
    bench.production.sql(NULLS)
    bench.law(f"t: {{ table: production.t, source: backup, key: [email], {more} }}")
    assert bench.production.sql("SELECT * FROM t WHERE email IS NULL") == [(None, "old")]


def test_rows_of_the_target_without_a_key_cannot_be_told_to_go(bench: Bench) -> None:
    bench.both("CREATE TABLE t (email text UNIQUE, v text)")
    bench.backup.sql("INSERT INTO t VALUES ('a', 'old')")
    bench.production.sql(NULLS)
    with pytest.raises(ReconcilerError, match=r"1 rows of public\.t have NULL in the key"):
        bench.plan("t: { table: production.t, source: backup, key: [email], on_extra: delete, max_delete: 9 }")


def test_rows_of_the_source_without_a_key(bench: Bench) -> None:
    bench.backup.sql("CREATE TABLE t (email text UNIQUE, v text);" + NULLS)
    bench.production.sql("CREATE TABLE t (email text PRIMARY KEY, v text)")
    with pytest.raises(ReconcilerError, match="1 rows of backup have NULL in the key"):
        bench.plan("t: { table: production.t, source: backup }")


def test_generated_key(bench: Bench) -> None:
    bench.both(
        "CREATE TABLE t (id int PRIMARY KEY, email text, low text GENERATED ALWAYS AS (lower(email)) STORED UNIQUE NOT NULL)"
    )
    bench.backup.sql("INSERT INTO t (id, email) VALUES (1, 'A'), (2, 'b')")
    with pytest.raises(ReconcilerError, match="key column 'low' is generated"):
        bench.plan("t: { table: production.t, source: backup, key: [low] }")


@pytest.mark.parametrize(("key", "rule"), [("email", "mark"), ("mark", "email")])
def test_sensitive_columns_of_duplicates_and_of_what_goes_along_are_digests(bench: Bench, key: str, rule: str) -> None:
    bench.environ["RECONCILER_DIGEST_KEY"] = "k" * 32
    bench.both(
        "CREATE TABLE t (id int PRIMARY KEY, email text, mark text);"
        "CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE, note text)"
    )
    bench.production.sql(
        "INSERT INTO t VALUES (1, 'canary', 'm'), (2, 'canary', 'm'); INSERT INTO c VALUES (1, 2, 'canary')"
    )
    bench.spec(f"""
collections:
  t: {{ table: production.t, source: backup, sensitive: [email] }}
  c: {{ table: production.c, source: backup, sensitive: [note] }}
unique_keys:
  u: {{ table: production.t, key: [{key}], keep: [{{ {rule}: longest }}, {{ id: lowest }}], references: delete, archive: gone, max_delete: 9 }}
""")
    plan = bench.plan()
    assert b"canary" not in plan.path.read_bytes()
    assert bench.apply(plan).converged
    assert bench.production.sql("SELECT id, email FROM gone") == [(2, "canary")]


def test_sensitive_columns_of_what_a_delete_takes_along_are_digests(bench: Bench) -> None:
    bench.environ["RECONCILER_DIGEST_KEY"] = "k" * 32
    bench.both(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE, note text);"
        "INSERT INTO t VALUES (1)"
    )
    bench.production.sql("INSERT INTO t VALUES (2); INSERT INTO c VALUES (1, 2, 'canary')")
    bench.write("""
        t: { table: production.t, source: backup, on_extra: delete, max_delete: 9 }
        c: { table: production.c, source: backup, sensitive: [note] }
    """)
    plan = app.plan(bench.session(), out=bench.folder / "only.plan.jsonl", only=("collections.t",))
    assert b"canary" not in plan.path.read_bytes()
    assert bench.apply(plan).converged
    assert bench.production.sql("SELECT * FROM c") == []
