"""Risks on real rows: what a reviewer is told, what stops, and how the spec allows it."""

from __future__ import annotations

import pytest

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.rules import rule, stops
from tests.kinds.bench import Bench

T = "CREATE TABLE t (id int PRIMARY KEY, x text, updated_at timestamptz)"


def risks(plan: Plan) -> list[tuple[str, str, int, bool]]:
    return [(rule(it.kind).id, it.step, it.count, stops(it)) for it in plan.header.hazards]


def refused(bench: Bench, plan: Plan) -> ReconcilerError:
    """It is not applied, and nothing is written; a rehearsal is."""
    before = bench.dump()
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert caught.value.code is Exit.LIMIT
    app.apply(app.open_plan(plan.path), bench.session(), rehearse=True)
    assert bench.dump() == before
    return caught.value


NEWER = "t: { table: production.t, source: backup%s }\n"


def test_newer_rows_are_overwritten_only_if_that_is_allowed(bench: Bench) -> None:
    bench.both(T)
    bench.backup.sql("INSERT INTO t SELECT n, 'old', '2026-01-01' FROM generate_series(1, 4) n")
    bench.production.sql(
        "INSERT INTO t VALUES (1, 'new', '2026-02-01'), (2, 'newer', '2026-03-01'), (3, 'older', '2025-01-01'), (4, 'x', NULL)"
    )
    plan = bench.plan(NEWER % "")
    update = "collections.t[public.t]/update"
    assert risks(plan) == [("R004", update, 2, True)]
    assert "allow: [R004]" in refused(bench, plan).render()
    assert risks(bench.plan(NEWER % ", on_changed: { newer: updated_at }")) == []
    assert risks(bench.plan(NEWER % ", on_changed: keep")) == []
    assert risks(bench.plan(NEWER % ", columns: [x]")) == []
    allowed = bench.plan(NEWER % ", allow: [R004]")
    assert risks(allowed) == [("R004", update, 2, False)]
    assert bench.apply(allowed).converged


def test_a_comment_allows_too(bench: Bench) -> None:
    bench.both(T)
    bench.backup.sql("INSERT INTO t VALUES (1, 'old', '2026-01-01')")
    bench.production.sql("INSERT INTO t VALUES (1, 'new', '2026-02-01')")
    plan = bench.plan(
        "t:  # reconciler: allow R004 they were written by the broken import\n  table: production.t\n  source: backup\n"
    )
    assert risks(plan) == [("R004", "collections.t[public.t]/update", 1, False)]
    assert bench.apply(plan).converged


WHOLE = "t: { table: production.t, source: backup, on_extra: delete, max_delete: 9%s }\n"


def test_emptying_a_table_must_be_allowed(bench: Bench) -> None:
    bench.both(T)
    bench.backup.sql("INSERT INTO t VALUES (11, 'a'), (12, 'b')")
    bench.production.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    plan = bench.plan(WHOLE % "")
    delete = "collections.t[public.t]/delete"
    assert risks(plan) == [("R010", delete, 2, True), ("R002", delete, 2, False)]
    assert "no row of public.t stays" in refused(bench, plan).render()
    assert bench.apply(bench.plan(WHOLE % ", allow: [R010]")).converged


def test_a_table_of_which_something_stays_is_not_emptied(bench: Bench) -> None:
    bench.both(T)
    bench.backup.sql("INSERT INTO t VALUES (1, 'a')")
    bench.production.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    assert [it[0] for it in risks(bench.plan(WHOLE % ""))] == ["R002"]


def test_a_table_that_is_rewritten_as_a_whole_is_named(bench: Bench) -> None:
    bench.both(T)
    bench.backup.sql("INSERT INTO t SELECT n, 'a' FROM generate_series(1, 1200) n")
    bench.production.sql("INSERT INTO t SELECT n, 'b' FROM generate_series(1, 1200) n")
    plan = bench.plan(NEWER % "")
    assert risks(plan) == [("R025", "collections.t[public.t]/update", 1200, False)]
    bench.production.sql("INSERT INTO t VALUES (0, 'a')")
    assert risks(bench.plan(NEWER % "")) == []


def test_what_goes_along_is_named_at_its_own_step(bench: Bench) -> None:
    bench.both(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);"
        "INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1)"
    )
    bench.production.sql("INSERT INTO p VALUES (3); INSERT INTO c VALUES (3, 3), (4, 3)")
    plan = bench.plan("p: { table: production.p, source: backup, on_extra: delete, max_delete: 3 }\n")
    parents, children = "collections.p[public.p]/delete", "collections.p[public.c]/delete"
    assert risks(plan) == [
        ("R002", children, 2, False),
        ("R002", parents, 1, False),
        ("R003", children, 2, False),
        ("R008", parents, 1, False),
    ]


LIMITED = "t: { table: production.t, source: backup, on_extra: delete, max_delete: 1%s }\n"


def test_a_limit_may_be_exceeded_only_if_that_is_allowed(bench: Bench) -> None:
    bench.both(T + "; INSERT INTO t VALUES (1, 'a')")
    bench.production.sql("INSERT INTO t VALUES (2, 'b'), (3, 'c')")
    with pytest.raises(ReconcilerError) as caught:
        bench.plan(LIMITED % "")
    assert (caught.value.code, caught.value.rule) == (Exit.LIMIT, "R001")
    plan = bench.plan(LIMITED % ", allow: [R001]")
    assert risks(plan) == [("R001", "", 2, False), ("R002", "collections.t[public.t]/delete", 2, False)]
    assert bench.apply(plan).converged


def test_duplicates_beyond_the_limit_too(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, k int); INSERT INTO t VALUES (1, 1), (2, 1), (3, 1)")
    key = "unique_keys:\n  k: { table: production.t, key: [k], max_delete: 1%s }\n"
    bench.spec(key % "")
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert (caught.value.code, caught.value.rule) == (Exit.LIMIT, "R001")
    bench.spec(key % ", allow: [R001]")
    plan = bench.plan()
    assert [it[0] for it in risks(plan)] == ["R001", "R002", "R009", "R020"]
    assert bench.apply(plan).converged


def test_the_undo_of_what_was_allowed_can_be_applied(bench: Bench) -> None:
    bench.both(T)
    bench.backup.sql("INSERT INTO t VALUES (1, 'old', '2026-01-01')")
    bench.production.sql("INSERT INTO t VALUES (1, 'new', '2026-02-01')")
    before = bench.dump()
    plan = bench.plan(NEWER % ", allow: [R004]")
    bench.apply(plan)
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert bench.dump() == before


@pytest.mark.parametrize(
    ("rows", "lock", "id_"), [(2_000_000, "brief", "R005"), (2_000_000, "online", "R020"), (10, "brief", "R020")]
)
def test_an_index_on_a_large_table_must_be_allowed(bench: Bench, rows: int, lock: str, id_: str) -> None:
    bench.both(
        "CREATE TABLE t (id int PRIMARY KEY, k int) WITH (autovacuum_enabled = false); INSERT INTO t VALUES (1, 1)"
    )
    bench.production.sql("ANALYZE t")
    bench.production.sql(
        f"UPDATE pg_class SET reltuples = {rows} WHERE relname = 't'"
    )  # as large as the planner believes
    bench.spec(f"unique_keys:\n  k: {{ table: production.t, key: [k], lock: {lock} }}\n")
    plan = bench.plan()
    assert [(it[0], it[3]) for it in risks(plan)] == [(id_, id_ == "R005")]
    assert all(it[1] in {step.id for step in plan.steps} for it in risks(plan))
