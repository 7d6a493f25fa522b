"""Keys that are no keys on one side: NULL in them, or made by the database."""

from __future__ import annotations

import pytest

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
    with pytest.raises(ReconcilerError, match="1 rows of public.t have NULL in the key"):
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
