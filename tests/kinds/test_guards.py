"""Guards: the database refuses what must not happen, says the way through, and our own plans pass only where they say so."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps

import psycopg
import pytest

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, summary
from tests.kinds.test_audits import Audits

_JOBS = """
CREATE TYPE state AS ENUM ('SUCCESS', 'FAILED');
CREATE TABLE jobs (id int PRIMARY KEY, kind text NOT NULL, status state, given_reason text);
INSERT INTO jobs SELECT n, CASE WHEN n % 2 = 0 THEN 'thumb' ELSE 'scan' END, CASE WHEN n <= 4 THEN 'SUCCESS'::state ELSE 'FAILED' END
FROM generate_series(1, 20) n;
"""
_GUARD = (
    "guards: { jobs: { table: production.jobs, max_rows_per_delete: 5, max_rows_per_update: 3,"
    """ protect: "status = 'SUCCESS' AND kind = 'thumb'" } }\n"""
)


@pytest.fixture
def bench(bench: Bench) -> Audits:
    bench.both(_JOBS)
    return Audits(bench.folder, bench.production, bench.backup)


def refused(bench: Bench, statement: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        bench.production.sql(statement)
    assert caught.value.sqlstate == "RCG01"
    assert caught.value.diag.message_hint == (
        "If it is meant, say why in the same transaction: SET LOCAL reconciler.allow = 'the reason';"
    )
    return caught.value


@pytest.mark.each_postgres
def test_a_guard_is_planned_applied_found_again_and_taken_back(bench: Audits) -> None:
    plan = bench.whole_law(_GUARD)
    assert [step.target for step in plan.steps] == [
        "guard function public.reconciler_guard_jobs()",
        *(f"guard trigger public.jobs.reconciler_guard_jobs_{event}" for event in ("delete", "update", "truncate")),
    ]


REFUSED = [
    ("DELETE FROM jobs WHERE id > 14", "guard jobs: this DELETE takes 6 rows of public.jobs, and 5 is the most"),
    ("UPDATE jobs SET kind = 'x' WHERE id > 16", "guard jobs: this UPDATE touches 4 rows of public.jobs, and 3 is the most"),
    ("DELETE FROM jobs WHERE id IN (2, 5)", "guard jobs: this DELETE takes 1 protected rows of public.jobs"),
    ("UPDATE jobs SET kind = 'scan' WHERE id IN (2, 4)", "guard jobs: this UPDATE changes 2 protected rows of public.jobs"),
    ("TRUNCATE jobs", "guard jobs: this TRUNCATE takes 20 rows of public.jobs, and 5 is the most; this TRUNCATE takes 2 protected"),
    ("MERGE INTO jobs j USING (VALUES (2)) v (id) ON j.id = v.id WHEN MATCHED THEN DELETE", "takes 1 protected rows"),
]  # fmt: skip


@pytest.mark.each_postgres
def test_what_must_not_happen_is_refused_with_the_guard_the_count_and_the_way_through(bench: Audits) -> None:
    bench.installed(_GUARD)
    before = bench.dump()
    for statement, told in REFUSED:
        error = refused(bench, statement)
        assert told in (error.diag.message_primary or "")
        assert (error.diag.schema_name, error.diag.table_name) == ("public", "jobs")
        assert bench.dump() == before
        bench.production.sql(f"BEGIN; SET LOCAL reconciler.allow = 'meant'; {statement}; ROLLBACK")


@pytest.mark.each_postgres
def test_what_is_allowed_is_not_refused(bench: Audits) -> None:
    bench.installed(_GUARD)
    bench.production.sql("UPDATE jobs SET kind = kind, status = 'SUCCESS' WHERE id IN (2, 4)")  # nothing changes
    bench.production.sql("UPDATE jobs SET status = 'SUCCESS' WHERE id = 6")
    refused(bench, "UPDATE jobs SET given_reason = 'x' WHERE id = 6")
    bench.production.sql(
        "DELETE FROM jobs WHERE id > 15; DELETE FROM jobs WHERE false; INSERT INTO jobs SELECT n, 'x' FROM generate_series(30, 60) n"
    )


@pytest.mark.each_postgres
def test_a_reason_holds_for_one_transaction_even_if_it_was_given_to_the_session(bench: Audits) -> None:
    bench.installed(_GUARD)
    with bench.production.connect() as session:
        session.execute("SET reconciler.allow = 'left behind'")
        session.commit()
        session.execute("DELETE FROM jobs WHERE id > 14")
        session.execute("DELETE FROM jobs WHERE id = 2")
        assert session.execute("SHOW reconciler.allow").fetchone() == ("left behind",)
        session.commit()
        assert session.execute("SHOW reconciler.allow").fetchone() == ("",)
        with pytest.raises(psycopg.Error, match="protected"):
            session.execute("DELETE FROM jobs WHERE id = 4")
        session.rollback()
        session.execute("SET LOCAL reconciler.allow = '  '")
        with pytest.raises(psycopg.Error, match="protected"):
            session.execute("DELETE FROM jobs WHERE id = 4")


def test_who_passes_is_recorded_with_the_reason(bench: Audits) -> None:
    bench.installed(_GUARD + "audits: { jobs: { tables: [production.jobs], log: production.audit_log } }")
    bench.production.sql(
        "BEGIN; SET LOCAL reconciler.allow = 'the jobs were run twice'; DELETE FROM jobs WHERE id = 2; COMMIT"
    )
    bench.production.sql("DELETE FROM jobs WHERE id = 20")
    assert bench.records("key, allowed") == [({"id": 2}, "the jobs were run twice"), ({"id": 20}, None)]


@pytest.mark.each_postgres
def test_cascades_and_partitions_are_guarded_too(bench: Audits) -> None:
    bench.production.sql(
        "CREATE TABLE parts (id int, job int REFERENCES jobs ON DELETE CASCADE, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        " CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (1000);"
        " INSERT INTO parts SELECT n, 7 FROM generate_series(1, 30) n; CREATE INDEX ON parts (job)"
    )
    bench.whole_law("guards: { a: { table: production.parts, max_rows_per_delete: 10, no_truncate: true } }")
    for statement in ("DELETE FROM jobs WHERE id = 7", "DELETE FROM parts", "DELETE FROM parts_1", "TRUNCATE parts_1"):
        assert "guard a: this" in str(refused(bench, statement))


@pytest.mark.each_postgres
def test_a_condition_means_the_same_whoever_asks(bench: Audits) -> None:
    bench.production.sql(
        "CREATE SCHEMA other; CREATE FUNCTION public.precious(t text) RETURNS bool LANGUAGE sql AS $$SELECT t = 'thumb'$$;"
        " CREATE FUNCTION other.precious(t text) RETURNS bool LANGUAGE sql AS $$SELECT false$$"
    )
    bench.spec(
        'variables: { word: { default: "a\'%s" } }\n'
        "guards: { g: { table: production.jobs, protect: 'precious(kind) OR kind LIKE :word' } }"
    )
    assert bench.apply(bench.plan()).code is Exit.DONE
    assert summary(bench.plan()) == {}
    with bench.production.connect() as session:
        session.execute("SET search_path = other, pg_catalog")
        with pytest.raises(psycopg.Error, match="protected"):
            session.execute("DELETE FROM public.jobs WHERE id = 2")
        session.rollback()
        session.execute("SET search_path = ''")
        with pytest.raises(psycopg.Error, match="protected"):
            session.execute("TRUNCATE public.jobs")


def test_what_was_done_to_a_guard_by_hand_is_told_and_repaired(bench: Audits) -> None:
    bench.installed(_GUARD)
    whole = bench.objects()
    for harm in (
        "DROP TRIGGER reconciler_guard_jobs_delete ON jobs; ALTER TABLE jobs DISABLE TRIGGER reconciler_guard_jobs_update;"
        " CREATE OR REPLACE FUNCTION reconciler_guard_jobs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP FUNCTION reconciler_guard_jobs() CASCADE",
    ):
        bench.production.sql(harm)
        harmed = bench.objects()
        (told,) = app.status(bench.session())
        assert told.differs
        plan = bench.plan()
        assert bench.apply(plan).code is Exit.DONE
        assert bench.objects() == whole
        assert bench.apply(bench.undo(plan)).code is Exit.DONE
        assert bench.objects() == harmed
        assert bench.apply(plan).code is Exit.DONE


def test_a_guard_changes_with_its_spec_and_goes_only_when_told(bench: Audits) -> None:
    before = bench.objects()
    bench.installed(_GUARD)
    bench.spec("guards: { jobs: { table: production.jobs, max_rows_per_update: 9 } }")
    plan = bench.plan()
    assert sorted(step.id.rpartition(".")[2] for step in plan.steps) == [
        "reconciler_guard_jobs()]/alter", "reconciler_guard_jobs_delete]/drop", "reconciler_guard_jobs_truncate]/drop",
        "reconciler_guard_jobs_update]/alter",
    ]  # fmt: skip
    assert bench.apply(plan).code is Exit.DONE
    bench.production.sql("DELETE FROM jobs")
    bench.spec("")
    assert summary(bench.plan()) == {}
    assert len(bench.production.sql("SELECT FROM pg_trigger WHERE tgname ~ '^reconciler_guard'")) == 1
    bench.spec("guards: { jobs: { table: production.jobs, remove: true } }")
    plan = bench.plan()
    assert bench.apply(plan).code is Exit.DONE
    assert bench.objects() == before
    assert summary(bench.plan()) == {}
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert bench.objects() != before


_COLLECTION = """
collections:
  jobs: {{ table: production.jobs, source: backup, on_extra: delete, max_delete: 100{more} }}
"""


def _passes(plan: Plan) -> dict[str, Sequence[str]]:
    return {step.id.rpartition("/")[2]: step.passes for step in plan.steps}


def test_our_own_plan_passes_a_guard_only_where_it_says_so(bench: Audits) -> None:
    bench.installed(_GUARD + "audits: { jobs: { tables: [production.jobs], log: production.audit_log } }")
    bench.backup.sql(
        "DELETE FROM jobs WHERE id > 13; UPDATE jobs SET kind = 'x' WHERE id = 2; INSERT INTO jobs SELECT n, 'n' FROM generate_series(50, 60) n"
    )
    before = bench.dump()
    bench.spec(_GUARD + _COLLECTION.format(more=""))
    plan = bench.plan()
    assert _passes(plan) == {"insert": (), "update": ("jobs",), "delete": ("jobs",)}
    assert [hazard.text for hazard in plan.header.hazards if hazard.kind == "guard"] == [
        "collections.jobs[public.jobs]/delete passes guard jobs, which would refuse it",
        "collections.jobs[public.jobs]/update passes guard jobs, which would refuse it",
    ]
    applied = bench.apply(plan)
    assert (applied.code, applied.converged) == (Exit.DONE, True)
    assert bench.production.sql("SELECT DISTINCT operation, allowed FROM audit_log ORDER BY 1") == [
        ("DELETE", f"reconciler plan {plan.id} passes jobs"),
        ("INSERT", None),
        ("UPDATE", f"reconciler plan {plan.id} passes jobs"),
    ]
    back = bench.undo(plan)
    assert _passes(back)["delete"] == ("jobs",)
    assert [hazard.kind for hazard in back.header.hazards] == ["guard", "guard"]
    undone = bench.apply(back)
    assert (undone.code, undone.converged) == (Exit.DONE, True)
    del before["public.audit_log_" + bench.production.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")[0][0]]
    assert {name: rows for name, rows in bench.dump().items() if name in before} == before


def test_a_guard_that_came_after_the_plan_refuses_it(bench: Audits) -> None:
    bench.backup.sql("DELETE FROM jobs WHERE id > 13")
    bench.spec(_COLLECTION.format(more=""))
    plan = bench.plan()
    before = bench.dump()
    bench.installed(_GUARD)
    bench.spec(_COLLECTION.format(more=""))
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert caught.value.code is Exit.LIMIT
    assert "takes 7 rows of public.jobs, and 5 is the most" in (caught.value.why or "")
    assert bench.dump() == before


def test_a_plan_within_the_limits_passes_nothing(bench: Audits) -> None:
    bench.installed(_GUARD)
    bench.backup.sql("DELETE FROM jobs WHERE id > 18; UPDATE jobs SET kind = 'x' WHERE id = 7")
    bench.spec(_COLLECTION.format(more=""))
    plan = bench.plan()
    assert _passes(plan) == {"update": (), "delete": ()}
    assert bench.apply(plan).code is Exit.DONE


def test_a_guard_of_the_same_plan_begins_to_refuse_after_the_rows(bench: Audits) -> None:
    bench.backup.sql("DELETE FROM jobs WHERE id > 10")
    bench.spec(_GUARD + _COLLECTION.format(more=""))
    plan = bench.plan()
    assert plan.steps[0].verb.value == "delete"
    assert _passes(plan)["delete"] == ()
    assert bench.apply(plan).code is Exit.DONE
    assert bench.apply(bench.undo(plan)).code is Exit.DONE


@pytest.mark.parametrize(
    ("protect", "told"),
    [
        ("nope = 1", "this condition cannot stand in SQL"),
        ("kind", "this condition cannot stand in SQL"),
        ("id IN (SELECT 1)", "cannot be looked at for each row"),
        ("count(*) > 1", "cannot stand in SQL"),
        ("true) OR (true", "closes nothing"),
    ],
)
def test_what_is_no_condition_is_told(bench: Audits, protect: str, told: str) -> None:
    bench.spec(f'guards: {{ g: {{ table: production.jobs, protect: "{protect}" }} }}')
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert told in caught.value.what


@pytest.mark.parametrize(
    "protect", ['"Status" = 1', r"name ~ '^\d+$'", "name LIKE '100%'", "name = 'é'", """name = 'it''s "{}"'"""]
)
def test_names_and_conditions_with_signs_of_any_kind(bench: Audits, protect: str) -> None:
    bench.production.sql("""CREATE TABLE "G%{}'" (id int PRIMARY KEY, "Status" int, name text)""")
    bench.whole_law(
        f"""guards: {{ g: {{ table: {dumps('production."G%{}' + "'" + '"')}, no_truncate: true, protect: {dumps(protect)} }} }}\n"""
    )
    bench.production.sql("""INSERT INTO "G%{}'" VALUES (1, 2, 'b'); UPDATE "G%{}'" SET "Status" = 3""")
    refused(bench, """TRUNCATE "G%{}'" """)


def test_columns_of_any_name(bench: Audits) -> None:
    bench.production.sql("CREATE TABLE g (id int PRIMARY KEY, o int, n text, b int, x int, y int, counted int)")
    bench.installed("guards: { g: { table: production.g, protect: o = 1 } }\n")
    bench.production.sql("INSERT INTO g VALUES (1, 1), (2, 2); UPDATE g SET n = 'c' WHERE id = 2")
    refused(bench, "UPDATE g SET n = 'c' WHERE id = 1")
