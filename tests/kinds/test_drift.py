"""Apply does what the plan lists or nothing: whatever else has become of the world is named, and left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, summary
from tests.pooler import Pooler
from tests.postgres import Database

SPEC = """
t: { table: production.t, source: backup, on_extra: delete, max_delete: 9 }
"""


@pytest.fixture
def plan(bench: Bench) -> Plan:
    """Inserts 1, updates 2 and deletes 3."""
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text, w text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a', 'a'), (2, 'b', 'b')")
    bench.production.sql("INSERT INTO t VALUES (2, 'was', 'b'), (3, 'extra', 'c')")
    return bench.plan(SPEC)


def drifted(bench: Bench, plan: Plan) -> Drift:
    """Applying this is drift, and nothing of it is kept."""
    before = bench.production.dump()
    with pytest.raises(Drift) as caught:
        bench.apply(plan)
    assert bench.production.dump() == before
    assert caught.value.code is Exit.DRIFT
    return caught.value


def test_what_was_done_is_told_whatever_happens_after(
    bench: Bench, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*given: object) -> Plan:
        del given
        raise KeyError("a value of somebody's")

    monkeypatch.setattr(app, "_plan", mistaken)
    done = bench.apply(plan)
    assert (sum(it.applied for it in done.steps), done.converged, done.code) == (3, None, Exit.ERROR)
    assert done.remaining[0].startswith("could not plan again: internal error: KeyError at reconciler/app.py:")
    assert "somebody" not in done.remaining[0]


@pytest.mark.parametrize(
    ("happened", "named"),
    [
        ("INSERT INTO t VALUES (1, 'other', 'a')", ("(1)", "v: planned 'a', found 'other'")),
        ("UPDATE t SET v = 'now' WHERE id = 2", ("(2)", "v: planned 'was', found 'now'")),
        ("UPDATE t SET v = NULL WHERE id = 2", ("(2)", "v: planned 'was', found NULL")),
        ("DELETE FROM t WHERE id = 2", ("(2)", "planned update, found no such row")),
        ("UPDATE t SET w = 'now' WHERE id = 3", ("(3)", "w: planned 'c', found 'now'")),
    ],
    ids=["inserted", "updated", "nulled", "gone", "changed before it is deleted"],
)
def test_drift_is_named_and_nothing_is_kept(bench: Bench, plan: Plan, happened: str, named: tuple[str, ...]) -> None:
    bench.production.sql(happened)
    error = drifted(bench, plan)
    assert len(error.details) == 1
    for text in named:
        assert text in error.details[0]


def test_every_drifted_thing_is_named(bench: Bench, plan: Plan) -> None:
    bench.production.sql("INSERT INTO t VALUES (1, 'x', 'x'); UPDATE t SET v = 'now', w = 'now' WHERE id > 1")
    error = drifted(bench, plan)
    assert [next(key for key in ("(1)", "(2)", "(3)") if key in line) for line in sorted(error.details)] == [
        "(1)",
        "(2)",
        "(3)",
    ]


@pytest.mark.parametrize(
    "happened",
    [
        "INSERT INTO t VALUES (1, 'a', 'a')",
        "UPDATE t SET v = 'b' WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "UPDATE t SET w = 'unrelated' WHERE id = 2",
        "INSERT INTO t VALUES (4, 'unrelated', NULL)",
        "ALTER TABLE t ADD more int DEFAULT 1",
        "ALTER TABLE t ADD n int GENERATED ALWAYS AS IDENTITY",
    ],
)
def test_what_is_already_so_and_unrelated_writes_are_no_drift(bench: Bench, plan: Plan, happened: str) -> None:
    bench.production.sql(happened)
    assert bench.apply(plan).converged is ("INSERT INTO t VALUES (4" not in happened and "w =" not in happened)
    assert bench.production.sql("SELECT id, v FROM t WHERE id < 4 ORDER BY id") == [(1, "a"), (2, "b")]


def test_half_of_it_is_already_so(bench: Bench, plan: Plan) -> None:
    bench.production.sql("INSERT INTO t VALUES (1, 'a', 'a')")
    applied = bench.apply(plan)
    assert {(step.step_id.rpartition("/")[2], step.applied, step.already) for step in applied.steps} == {
        ("insert", 0, 1), ("update", 1, 0), ("delete", 1, 0),
    }  # fmt: skip


def test_a_table_or_column_that_is_gone(bench: Bench, plan: Plan) -> None:
    bench.production.sql("ALTER TABLE t DROP COLUMN v")
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert "v" in caught.value.render()
    bench.production.sql("DROP TABLE t")
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert "public.t" in caught.value.render()


FAMILY = """
CREATE TABLE p (id int PRIMARY KEY, v text);
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE, v text);
CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL);
CREATE TABLE b (id int PRIMARY KEY, p int REFERENCES p);
"""


def test_a_parent_that_vanished_is_drift(bench: Bench) -> None:
    bench.both(FAMILY + "INSERT INTO p VALUES (1), (2)")
    bench.backup.sql("INSERT INTO c VALUES (1, 1), (2, 2)")
    plan = bench.plan("c: { table: production.c, source: backup }\n")
    bench.production.sql("DELETE FROM p WHERE id = 2")
    error = drifted(bench, plan)
    assert "c_p_fkey" in error.render()
    assert "= (2)" in error.render()


@pytest.mark.parametrize("table", ["c", "n"])
def test_a_child_that_the_plan_does_not_list_is_drift(bench: Bench, table: str) -> None:
    bench.both(FAMILY + "INSERT INTO p VALUES (1)")
    bench.production.sql("INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2); INSERT INTO n VALUES (1, 2)")
    plan = bench.plan("p: { table: production.p, source: backup, on_extra: delete, max_delete: 9 }\n")
    bench.production.sql(f"INSERT INTO {table} VALUES (7, 2)")
    error = drifted(bench, plan)
    assert f"{table}_p_fkey" in error.render()
    bench.production.sql(f"DELETE FROM {table} WHERE id = 7")
    assert bench.apply(plan).code is Exit.DONE


def test_a_child_that_blocks_is_drift(bench: Bench) -> None:
    bench.both(FAMILY + "INSERT INTO p VALUES (1)")
    bench.production.sql("INSERT INTO p VALUES (2)")
    plan = bench.plan("p: { table: production.p, source: backup, on_extra: delete, max_delete: 9 }\n")
    bench.production.sql("INSERT INTO b VALUES (7, 2)")
    assert "b_p_fkey" in drifted(bench, plan).render()


def test_a_unique_value_taken_since_is_drift(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a')")
    plan = bench.plan("t: { table: production.t, source: backup }\n")
    bench.production.sql("INSERT INTO t VALUES (2, 'a')")
    assert "t_name_key" in drifted(bench, plan).render()


def test_a_plan_belongs_to_its_database(bench: Bench, plan: Plan) -> None:
    bench.environ["PRODUCTION_URL"] = bench.backup.dsn
    before = bench.backup.dump()
    with pytest.raises(Drift, match="another database"):
        bench.apply(plan)
    assert bench.backup.dump() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"v":"a"', '"v":"z"'),
        ('"verb":"insert"', '"verb":"update"'),
        ('"max_delete":9', '"max_delete":8'),
        ('{"end"', '{"of":"x"}\n{"end"'),
        ('"delete":1', '"delete":0'),
    ],
)
def test_an_edited_plan_is_refused(bench: Bench, plan: Plan, old: str, new: str) -> None:
    text = plan.path.read_text("utf-8")
    assert old in text
    plan.path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ReconcilerError, match="refused"):
        bench.apply(plan)


def test_a_plan_that_is_cut_short_is_refused(bench: Bench, plan: Plan) -> None:
    data = plan.path.read_bytes()
    for size in range(0, len(data) - 1, 37):
        plan.path.write_bytes(data[:size])
        with pytest.raises(ReconcilerError, match="refused"):
            app.open_plan(plan.path)


def test_one_apply_at_a_time(bench: Bench, plan: Plan) -> None:
    with bench.production.connect() as other:
        other.execute("SET application_name = 'reconciler/other'")
        other.execute("SELECT pg_advisory_xact_lock(x'7265636f'::int, x'6e63696c'::int)")
        with pytest.raises(ReconcilerError, match="another apply") as caught:
            bench.apply(plan)
        assert "reconciler/other" in caught.value.render()
        other.rollback()
    assert bench.apply(plan).code is Exit.DONE


def test_a_row_that_somebody_holds(bench: Bench, plan: Plan) -> None:
    before = bench.production.dump()
    with bench.production.connect() as other:
        other.execute("UPDATE t SET v = 'mine' WHERE id = 2")
        with pytest.raises(ReconcilerError) as caught:
            app.apply(app.open_plan(plan.path), bench.session(), lock_timeout="100ms")
        assert "lock" in caught.value.render()
        other.rollback()
    assert bench.production.dump() == before
    assert bench.apply(plan).code is Exit.DONE


def test_a_rehearsal_keeps_nothing(bench: Bench, plan: Plan) -> None:
    before = bench.production.dump()
    applied = app.apply(app.open_plan(plan.path), bench.session(), rehearse=True)
    assert applied.code is Exit.DONE
    assert bench.production.dump() == before


def test_undo_is_guarded_too(bench: Bench, plan: Plan) -> None:
    bench.apply(plan)
    back = bench.undo(plan)
    bench.production.sql("UPDATE t SET v = 'newer' WHERE id = 2")
    assert "found 'newer'" in drifted(bench, back).render()


def test_transactions_carry_the_plans_name(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY)")
    bench.backup.sql("INSERT INTO t VALUES (1)")
    bench.production.sql("""
        CREATE TABLE log (who text);
        CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO log VALUES (current_setting('application_name')); RETURN NULL; END $$;
        CREATE TRIGGER log AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION log();
    """)
    plan = bench.plan("t: { table: production.t, source: backup }\n")
    bench.apply(plan)
    assert bench.production.sql("SELECT who FROM log") == [(f"reconciler/{plan.id}",)]


# Killed

_APPLY = """
import os, sys
from pathlib import Path
from reconciler import app
print("begun", flush=True)
app.apply(app.open_plan(Path(sys.argv[1])), app.Session((Path(sys.argv[2]),), {}, None, dict(os.environ)))
"""


def test_killed_at_any_instant_the_plan_can_be_applied_again(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE p (id serial PRIMARY KEY, v text);
        CREATE TABLE c (id int PRIMARY KEY, p int NOT NULL REFERENCES p ON DELETE CASCADE);
    """)
    bench.backup.sql(
        "INSERT INTO p (v) SELECT repeat('x', 50) FROM generate_series(1, 5000); INSERT INTO c SELECT n, n FROM generate_series(1, 5000) n"
    )
    bench.production.sql(
        "INSERT INTO p SELECT n, 'was' FROM generate_series(3001, 5200) n; INSERT INTO c SELECT n, n FROM generate_series(5001, 5100) n"
    )
    plan = bench.plan("""
        p: { table: production.p, source: backup, on_extra: delete, max_delete: 2000 }
        c: { table: production.c, source: backup }
    """)
    before, wanted = bench.production.dump(), bench.backup.dump()
    # Delays spread over the time that a whole run needs, by a measured one.
    delays = random.Random(7)
    began = time.monotonic()
    _killed_after(bench, plan, None)
    whole = time.monotonic() - began
    assert bench.production.dump() == wanted
    bench.apply(bench.undo(plan))
    assert bench.production.dump() == before
    for _ in range(5):
        _killed_after(bench, plan, delays.uniform(0, whole))
        _wait_until_left(bench.production)
        assert bench.production.dump() in (before, wanted)
    assert bench.apply(plan).code is Exit.DONE
    assert bench.production.dump() == wanted


def _killed_after(bench: Bench, plan: Plan, seconds: float | None) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _APPLY, str(plan.path), str(bench.path)],
        env={**os.environ, **bench.environ},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        if seconds is None:
            assert process.wait(60) == 0
            return
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()


def _wait_until_left(database: Database) -> None:
    """Until the server has noticed that its client is gone."""
    deadline = time.monotonic() + 30
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'reconciler%'"
    while database.sql(query) and time.monotonic() < deadline:
        time.sleep(0.05)


# Rights


@contextmanager
def role(bench: Bench, database: Database, grants: str) -> Generator[str]:
    """A login of its own, and how it connects."""
    name = f"role_{database.name}"
    bench.production.sql(f"CREATE ROLE {name} LOGIN")
    try:
        database.sql(grants.format(role=name, database=database.name))
        yield database.dsn.replace("postgres@", f"{name}@")
    finally:
        for each in (bench.production, bench.backup):
            each.sql(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}")
        bench.production.sql(f"DROP ROLE {name}")


READING = """
REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT, TEMP ON DATABASE {database} TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}
"""


@pytest.mark.each_postgres
def test_a_role_that_only_reads_can_plan(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text, w text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a', 'a'), (2, 'b', 'b')")
    bench.production.sql("INSERT INTO t VALUES (2, 'was', 'b'), (3, 'extra', 'c')")
    expected = bench.plan(SPEC).path.read_bytes()
    reading = READING.replace(", TEMP", "")
    with role(bench, bench.production, READING) as target, role(bench, bench.backup, reading) as source:
        bench.environ |= {"PRODUCTION_URL": target, "BACKUP_URL": source}
        plan = bench.plan(SPEC)
        assert plan.path.read_bytes() == expected
        with pytest.raises(ReconcilerError, match=r"failed|denied"):
            bench.apply(plan)


@pytest.mark.each_postgres
def test_an_owner_who_is_no_superuser_can_apply(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE p (id serial PRIMARY KEY, v text);
        CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER f BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION f();
    """)
    bench.backup.sql("INSERT INTO p (v) VALUES ('a'), ('b'); INSERT INTO c VALUES (1, 1)")
    bench.production.sql("INSERT INTO p VALUES (9, 'extra'); INSERT INTO c VALUES (9, 9)")
    grants = """
        GRANT CREATE, USAGE ON SCHEMA public TO {role}; ALTER TABLE p OWNER TO {role}; ALTER TABLE c OWNER TO {role};
        ALTER FUNCTION f OWNER TO {role}
    """
    with role(bench, bench.production, grants) as target:
        bench.environ["PRODUCTION_URL"] = target
        bench.law(
            """
            p: { table: production.p, source: backup, on_extra: delete, max_delete: 2 }
            c: { table: production.c, source: backup, triggers: "off" }
            """,
            same=("p", "c"),
        )


# A pooler between


def test_through_a_pooler(bench: Bench, pooler: Pooler, plan: Plan) -> None:
    expected = summary(plan)
    bench.environ |= {"PRODUCTION_URL": pooler.dsn(bench.production), "BACKUP_URL": pooler.dsn(bench.backup)}
    assert summary(bench.plan()) == expected
    bench.law(same=("t",))


def test_a_pooled_session_is_left_as_it_was(bench: Bench, pooler: Pooler, plan: Plan) -> None:
    bench.environ |= {"PRODUCTION_URL": pooler.dsn(bench.production), "BACKUP_URL": pooler.dsn(bench.backup)}
    bench.apply(plan)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'reconciler/%' AND state <> 'active'"
    assert bench.production.sql(query) == [(0,)]


def test_a_right_that_is_missing_is_named_and_not_a_traceback(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id serial PRIMARY KEY)")
    bench.backup.sql("INSERT INTO t VALUES (7)")
    bench.production.sql("DROP ROLE IF EXISTS seqless; CREATE ROLE seqless LOGIN; GRANT SELECT ON t TO seqless")
    bench.environ["PRODUCTION_URL"] = bench.production.dsn.replace("postgres@", "seqless@")
    try:
        with pytest.raises(ReconcilerError) as caught:
            bench.plan("t: { table: production.t, source: backup }\n")
        assert "t_id_seq" in caught.value.render()
        assert "grant" in caught.value.render()
    finally:
        bench.production.sql("DROP OWNED BY seqless; DROP ROLE seqless")


DOUBLED = "CREATE TABLE d (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, v text)"


@pytest.mark.parametrize("come", ["INSERT INTO d (email, v) VALUES ('a', 'old')",
                                  "DELETE FROM d WHERE email = 'b'; INSERT INTO d (email, v) VALUES ('a', 'old')"])  # fmt: skip
def test_a_key_that_stands_twice_by_now(bench: Bench, come: str) -> None:
    """One row more and one row less are not the same rows, though as many."""
    bench.both(DOUBLED)
    bench.backup.sql("INSERT INTO d (email, v) VALUES ('a', 'new'), ('b', 'new')")
    bench.production.sql("INSERT INTO d (email, v) VALUES ('a', 'old'), ('b', 'old')")
    plan = bench.plan("d: { table: production.d, source: backup, key: [email], columns: [v] }\n")
    bench.production.sql(come)
    before = bench.dump()
    with pytest.raises(Drift, match="stand for several rows") as caught:
        bench.apply(plan)
    assert "public.d (a): planned one row, found 2" in caught.value.render()
    assert bench.dump() == before
