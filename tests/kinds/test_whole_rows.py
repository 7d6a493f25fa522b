"""Tables without a key: a row is all it holds, and of equal rows one stays."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.step import WHOLE
from tests.kinds.bench import Bench, changes, summary
from tests.kinds.test_unique_keys import key, refused

TABLE = 'CREATE TABLE t (k text, n int, j json, "a ""B" text DEFAULT \'x\', d int GENERATED ALWAYS AS (n * 2) STORED);'
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["'a'", "'b'", "NULL"]), st.sampled_from(["1", "2", "NULL"]), st.sampled_from(["'{}'", "NULL"])
    ),
    max_size=12,
)


def test_of_equal_rows_one_stays(bench: Bench) -> None:
    bench.production.sql(
        TABLE + "INSERT INTO t (k, n) VALUES ('a', 1), ('a', 1), ('a', 1), ('b', 1), ('b', NULL), ('c', 7)"
    )
    bench.spec(key())
    plan = bench.law()
    gone = changes(plan, "delete", "public.t")
    assert [change.reason for change in gone] == ["duplicate: loses by all columns"] * 3
    assert len({change.key for change in gone}) == 3
    step = next(step for step in plan.steps if step.verb == "delete")
    assert step.key == (WHOLE,)
    assert bench.production.sql("SELECT k, n FROM t ORDER BY 1") == [("a", 1), ("b", 1), ("c", 7)]


def test_rules_come_before_what_else_rows_hold(bench: Bench) -> None:
    bench.production.sql(
        TABLE + "INSERT INTO t (k, n, j) VALUES ('a', 1, '{}'), ('a', 3, NULL), ('a', 3, NULL), ('a', 2, NULL)"
    )
    bench.spec(key("keep: [{ n: highest }]\n"))
    bench.law()
    assert bench.production.sql("SELECT n FROM t") == [(3,)]


def test_rows_that_are_generated(bench: Bench) -> None:
    """Exactly one row a key stays, it is one of those there were, and the archive has the others."""
    bench.production.sql(TABLE)
    bench.spec(key("keep: [{ n: highest }]\n"))

    @settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(ROWS)
    def law(rows: list[tuple[str, str, str]]) -> None:
        bench.production.sql("DROP TABLE IF EXISTS gone; DROP TABLE t;" + TABLE)
        for row in rows:
            bench.production.sql(f"INSERT INTO t (k, n, j) VALUES ({', '.join(row)})")
        before = bench.production.sql("SELECT t::text FROM t ORDER BY 1")
        bench.law()
        left = bench.production.sql("SELECT k, n, t::text FROM t ORDER BY 1, 2 DESC NULLS LAST")
        there = bench.production.sql("SELECT to_regclass('gone') IS NOT NULL")[0][0]
        archived = bench.production.sql('SELECT ROW(k, n, j, "a ""B", d)::text FROM gone') if there else []
        assert sorted([*[row[2:] for row in left], *archived]) == before
        for name, members in groupby(left, key=lambda row: row[0]):
            assert name is None or len(list(members)) == 1
        best = {k: max((int(n) for k_, n, _ in rows if k_ == f"'{k}'" and n != "NULL"), default=None) for k in "ab"}
        assert all(n == best[k] for k, n, _ in left if k)

    law()


def test_one_of_several_comes_back(bench: Bench) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a', 1 FROM generate_series(1, 3)")
    bench.spec(key())
    plan = bench.plan()
    bench.apply(plan)
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_k_key")
    back = app.undo(plan, bench.folder / "one.plan.jsonl", only_key=changes(plan, "delete", "public.t")[0].key[0])
    bench.apply(back)
    assert bench.production.sql("SELECT count(*) FROM t") == [(2,)]
    assert bench.production.sql("SELECT count(*) FROM gone") == [(1,)]


def test_a_row_that_changed_meanwhile_stays(bench: Bench) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) VALUES ('a', 1), ('a', 2), ('b', 1), ('b', 2)")
    bench.spec(key())
    plan = bench.plan()
    bench.production.sql("UPDATE t SET k = 'c' WHERE k = 'b' AND n = 2")
    bench.apply(plan)
    assert bench.production.sql("SELECT k FROM t ORDER BY 1") == [("a",), ("b",), ("c",)]


def test_a_loser_that_changed_and_is_one_still(bench: Bench) -> None:
    """It is another row by now: the key cannot be made unique, and nothing is kept."""
    bench.production.sql(TABLE + "INSERT INTO t (k, n) VALUES ('a', 1), ('a', 2), ('a', 2)")
    bench.spec(key())
    plan = bench.plan()
    bench.production.sql("UPDATE t SET n = 9 WHERE ctid = (SELECT max(ctid) FROM t)")
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert caught.value.code is Exit.DRIFT
    assert bench.production.sql("SELECT n FROM t ORDER BY 1") == [(1,), (2,), (9,)]


def test_what_is_sensitive_stands_in_no_key(bench: Bench) -> None:
    bench.both(TABLE)
    spec = key() + "collections:\n  c: { table: production.t, source: backup, key: [n], sensitive: [j] }\n"
    bench.environ["RECONCILER_DIGEST_KEY"] = "x"
    assert "sensitive" in refused(bench, spec).what


def test_nothing_is_done_twice(bench: Bench) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a', g % 3 FROM generate_series(1, 9) g")
    bench.spec(key("keep: [{ n: highest }]\n"))
    assert summary(bench.law())["unique_keys.one[public.t]/delete"] == 8


def test_beside_triggers(bench: Bench) -> None:
    """What triggers write elsewhere is told; what they make of a row that comes back is no success."""
    bench.production.sql(
        TABLE + "CREATE TABLE seen (n int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO seen VALUES (1); RETURN coalesce(NEW, OLD); END $$;"
        " INSERT INTO t (k, n) SELECT 'a', 1 FROM generate_series(1, 3);"
        " CREATE TRIGGER tr BEFORE INSERT OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    bench.spec(key())
    plan = bench.plan()
    applied = bench.apply(plan)
    assert applied.code is Exit.DONE and any("public.seen: 2 inserted" in note for note in applied.notes)
    back = bench.undo(plan)
    assert bench.apply(back).code is Exit.DONE
    assert bench.production.sql("SELECT count(*) FROM t") == [(3,)]
    again = bench.plan()
    bench.apply(again)
    bench.production.sql(
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := 5; RETURN NEW; END $$"
    )
    assert bench.apply(bench.undo(again)).code is Exit.ERROR


@pytest.mark.parametrize("lock", ["brief", "online"])
def test_in_either_way_of_locking(bench: Bench, lock: str) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a' || g % 2, g % 3 FROM generate_series(1, 12) g")
    bench.spec(key(f"lock: {lock}\n"))
    bench.law()
    assert bench.production.sql("SELECT k, n FROM t ORDER BY 1") == [("a0", 0), ("a1", 0)]


def test_within_a_condition(bench: Bench) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a', g % 3 FROM generate_series(0, 8) g")
    bench.spec(key("where: n > 0\n"))
    bench.law()
    assert bench.production.sql("SELECT k, n FROM t ORDER BY 2") == [("a", 0), ("a", 0), ("a", 0), ("a", 1)]


def test_equals_that_have_come_since_stay(bench: Bench) -> None:
    """Built apart, a key fails after the deletes: carried out again, the plan takes no more than it lists."""
    bench.production.sql(TABLE + "INSERT INTO t (k, n) VALUES ('a', 1), ('a', 2), ('a', 2)")
    bench.spec(key("lock: online\nkeep: [{ n: lowest }]\n"))
    plan = bench.plan()
    bench.production.sql("INSERT INTO t (k, n) VALUES ('a', 2)")
    for _ in range(2):
        with pytest.raises(ReconcilerError) as caught:
            bench.apply(plan)
        assert caught.value.code is Exit.DRIFT and "equal rows" in caught.value.what
        assert bench.production.sql("SELECT count(*) FROM t") == [(4,)]


def test_no_more_come_back_than_went(bench: Bench) -> None:
    """Without the row that stayed, those that come back would have other numbers, and come back again."""
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a', 1 FROM generate_series(1, 3)")
    bench.spec(key())
    plan = bench.plan()
    bench.apply(plan)
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_k_key")
    last = app.undo(plan, bench.folder / "last.plan.jsonl", only_key=changes(plan, "delete", "public.t")[-1].key[0])
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(last)
    assert caught.value.code is Exit.DRIFT
    bench.production.sql("UPDATE t SET n = 7")
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(bench.undo(plan))
    assert caught.value.code is Exit.DRIFT
    assert bench.production.sql("SELECT n FROM t") == [(7,)]
    assert bench.production.sql("SELECT count(*) FROM gone") == [(2,)]


def test_a_column_that_has_come_since_tells_rows_apart(bench: Bench) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a', 1 FROM generate_series(1, 3)")
    bench.spec(key())
    plan = bench.plan()
    bench.production.sql("ALTER TABLE t ADD COLUMN more serial")
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert caught.value.details == ("public.t.more: not planned, and tells rows apart",)
    again = bench.plan()
    bench.apply(again)
    assert len(changes(again, "delete", "public.t")) == 2


@pytest.mark.parametrize(
    "column",
    ["ADD COLUMN more int DEFAULT 5", "ADD COLUMN more int GENERATED ALWAYS AS (n + 1) STORED", "DROP COLUMN d"],
)
def test_rows_come_back_to_other_columns(bench: Bench, column: str) -> None:
    bench.production.sql(TABLE + "INSERT INTO t (k, n) SELECT 'a', 1 FROM generate_series(1, 3)")
    bench.spec(key())
    plan = bench.plan()
    bench.apply(plan)
    bench.production.sql(f"ALTER TABLE t {column}")
    back = bench.undo(plan)
    assert bench.apply(back).converged
    assert bench.production.sql("SELECT count(*), to_regclass('gone') FROM t") == [(3, None)]


def test_a_column_may_be_called_whole_row(bench: Bench) -> None:
    bench.production.sql(
        f"CREATE TABLE t (\"{WHOLE}\" int PRIMARY KEY, k text); INSERT INTO t VALUES (1, 'a'), (2, 'a')"
    )
    bench.spec(key())
    assert [change.key for change in changes(bench.law(), "delete", "public.t")] == [("2",)]
    bench.production.sql(f'DROP TABLE t CASCADE; CREATE TABLE t ("{WHOLE}" int, k text)')
    assert "told apart" in refused(bench, key()).what


def test_whatever_the_table_and_its_columns_are_called(bench: Bench) -> None:
    for name in ("dup", "x", "ranked"):
        bench.production.sql(
            f"DROP TABLE IF EXISTS gone; CREATE TABLE {name} (k text, at int, whole int, k1 int, s1 text, g1 int, w0 int, rank int);"
            f"INSERT INTO {name} (k, at) SELECT 'a', g % 2 FROM generate_series(1, 4) g"
        )
        bench.spec(key("keep: [{ at: highest }]\nwhere: whole IS NULL AND g1 IS NULL\n", table=name))
        bench.law()


@pytest.mark.parametrize("primary", ["", ", PRIMARY KEY (n)"])
def test_a_trigger_that_takes_what_is_to_stay(bench: Bench, primary: str) -> None:
    bench.production.sql(
        f"CREATE TABLE t (k text, n int {primary}); INSERT INTO t VALUES ('a', 1), ('a', 2);"
        " CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t WHERE n = 1; RETURN NULL; END $$;"
        " CREATE TRIGGER tr AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    bench.spec(key())
    plan = bench.plan()
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert caught.value.code is Exit.DRIFT and "were to stay are gone" in caught.value.what
    assert bench.production.sql("SELECT count(*) FROM t") == [(2,)]
