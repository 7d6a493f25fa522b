"""Corners that generated worlds have found. A mark says what does not hold yet; each world is the smallest known."""

from __future__ import annotations

import pytest

from reconciler.plan.errors import ReconcilerError
from tests.kinds.bench import Bench

T = "t: { table: production.t, source: backup }"


def test_a_unique_column_named_like_the_key_of_a_temporary_table(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, k1 int UNIQUE)")
    bench.backup.sql("INSERT INTO t VALUES (1, 1)")
    bench.law(T, same=("t",))


def test_two_rows_that_swap_a_part_of_a_unique_value(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, a int, b int, UNIQUE (a, b))")
    bench.backup.sql("INSERT INTO t VALUES (1, 1, 1), (2, 1, 2)")
    bench.production.sql("INSERT INTO t VALUES (1, 1, 2), (2, 1, 1)")
    bench.law(T, same=("t",))


def test_two_rows_that_hand_on_a_null_that_is_unique(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, a int, UNIQUE NULLS NOT DISTINCT (a))")
    bench.backup.sql("INSERT INTO t VALUES (1, 1), (2, NULL)")
    bench.production.sql("INSERT INTO t VALUES (1, NULL), (2, 1)")
    with pytest.raises(ReconcilerError, match="unique values are taken"):
        bench.plan(T)


def test_a_unique_value_that_is_freed_only_after_it_is_needed(bench: Bench) -> None:
    """The new parent needs the value of the old one, which cannot go before its child points at the new one."""
    bench.both(
        "CREATE TABLE p (id int PRIMARY KEY, u int UNIQUE); CREATE TABLE c (id int PRIMARY KEY, p int NOT NULL REFERENCES p)"
    )
    bench.backup.sql("INSERT INTO p VALUES (1, 1); INSERT INTO c VALUES (1, 1)")
    bench.production.sql("INSERT INTO p VALUES (2, 1); INSERT INTO c VALUES (1, 2)")
    spec = "p: { table: production.p, source: backup, on_extra: delete, max_delete: 1 }\nc: { table: production.c, source: backup }"
    with pytest.raises(ReconcilerError, match="no order can satisfy all"):
        bench.plan(spec)


def test_restoring_a_row_brings_others_into_the_scope(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE root (id int PRIMARY KEY);
        CREATE TABLE middle (id int PRIMARY KEY, root int REFERENCES root);
        CREATE TABLE leaf (id int PRIMARY KEY, middle int REFERENCES middle);
        INSERT INTO root VALUES (1); INSERT INTO middle VALUES (1, 1);
    """)
    bench.backup.sql("INSERT INTO leaf VALUES (1, 1)")
    bench.production.sql("INSERT INTO leaf VALUES (2, 1); UPDATE middle SET root = NULL")
    bench.law(
        """
        all: { into: production, source: backup, roots: { root: "true" }, follow: dependents, on_extra: delete, max_delete: 1 }
        """,
        same=("root", "middle", "leaf"),
    )


def test_a_parent_that_gets_the_value_its_child_points_at_by_an_update(bench: Bench) -> None:
    bench.both(
        "CREATE TABLE p (id int PRIMARY KEY, u int UNIQUE); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p (u))"
    )
    bench.backup.sql("INSERT INTO p VALUES (1, 1); INSERT INTO c VALUES (1, 1)")
    bench.production.sql("INSERT INTO p VALUES (1, 7)")
    spec = "p: { table: production.p, source: backup }\nc: { table: production.c, source: backup }"
    bench.law(spec, same=("p", "c"))
