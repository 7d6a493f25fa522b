"""Unique keys at apply: what has changed since the plan, who writes at the same time, and being killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, summary
from tests.kinds.test_unique_keys import key, survivors

WORLD = """
CREATE TABLE t (id int PRIMARY KEY, k text, v text);
CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
INSERT INTO t VALUES (1, 'a', 'x'), (2, 'a', 'y'), (3, 'b', 'z'), (4, 'b', 'w');
INSERT INTO c VALUES (1, 2), (2, 1), (3, 4);
"""
LOCKS = pytest.mark.parametrize("lock", ["brief", "online"])


def planned(bench: Bench, lock: str = "brief", world: str = WORLD) -> Plan:
    bench.production.sql(world)
    bench.spec(key(f"references: repoint\nlock: {lock}\n"))
    return bench.plan()


def drifted(bench: Bench, plan: Plan) -> Drift:
    before = (bench.dump(), bench.structure())
    with pytest.raises(Drift) as caught:
        bench.apply(plan)
    assert (bench.dump(), bench.structure()) == before
    assert caught.value.code is Exit.DRIFT
    return caught.value


@pytest.mark.parametrize(
    ("happened", "named"),
    [
        ("DELETE FROM t WHERE id = 1", "public.t (id) = (1): planned as there, found no such row"),
        ("UPDATE t SET k = 'other' WHERE id = 1", "public.t (1): planned to stay for (2), found no such duplicate"),
        ("UPDATE t SET k = NULL WHERE id = 1", "public.t (1): planned to stay for (2), found no such duplicate"),
        ("UPDATE t SET id = 100 WHERE id = 1", "public.t (id) = (1)"),
        ("UPDATE t SET k = 'other' WHERE id = 2", "public.t (2): k: planned 'a', found 'other'"),
        ("UPDATE t SET v = 'new' WHERE id = 2", "public.t (2): v: planned 'y', found 'new'"),
        ("UPDATE c SET t = 3 WHERE id = 1", "public.c (1): t: planned '2', found '3'"),
        ("DELETE FROM c WHERE id = 1", "public.c (1): planned update, found no such row"),
        ("INSERT INTO c VALUES (4, 2)", "c_t_fkey"),
        ("INSERT INTO t VALUES (5, 'a', 'late')", "rows with the same key have come since the plan was made"),
        ("INSERT INTO t VALUES (5, 'c', ''), (6, 'c', '')", "rows with the same key have come since the plan was made"),
        ("CREATE TABLE gone ()", "gone"),
        ("CREATE UNIQUE INDEX t_k_key ON t (v)", "t_k_key"),
        ("ALTER TABLE t ADD CONSTRAINT t_k_key UNIQUE (v, k)", "t_k_key"),
    ],
)
def test_what_does_not_fit_any_more(bench: Bench, happened: str, named: str) -> None:
    bench.production.sql(WORLD + "ALTER TABLE c DROP CONSTRAINT c_t_fkey; DELETE FROM c WHERE id = 2")
    bench.production.sql("ALTER TABLE c ADD FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE")
    bench.spec(key("references: repoint\n"))
    plan = bench.plan()
    bench.production.sql(happened)
    assert named in drifted(bench, plan).render()


@pytest.mark.parametrize(
    "happened",
    [
        "UPDATE t SET v = 'unrelated' WHERE id = 1",
        "INSERT INTO t VALUES (5, 'c', 'unrelated'), (6, NULL, ''), (7, NULL, '')",
        "UPDATE c SET t = 1 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "ALTER TABLE t ADD more int DEFAULT 7",
        "ALTER TABLE c ALTER t TYPE int",
    ],
)
def test_unrelated_writes_are_no_drift(bench: Bench, happened: str) -> None:
    plan = planned(bench)
    if "DELETE" in happened:
        bench.production.sql("UPDATE c SET t = 1 WHERE id = 1")
    bench.production.sql(happened)
    if "more" in happened:
        # The archive that the plan creates has no such column: nothing may be lost without a word.
        assert "more" in drifted(bench, plan).render()
        plan = bench.plan()
    assert bench.apply(plan).converged
    assert {3, 1} <= set(survivors(bench))
    assert 2 not in survivors(bench)


@LOCKS
def test_duplicates_that_came_since(bench: Bench, lock: str) -> None:
    plan = planned(bench, lock)
    bench.production.sql("INSERT INTO t VALUES (5, 'c', ''), (6, 'c', ''), (7, 'a', '')")
    with pytest.raises(Drift, match="rows with the same key have come") as caught:
        bench.apply(plan)
    assert caught.value.code is Exit.DRIFT
    assert not any("t_k_key" in line for line in bench.structure())
    assert survivors(bench) == ([1, 3, 5, 6, 7] if lock == "online" else [1, 2, 3, 4, 5, 6, 7])
    again = bench.plan()
    assert bench.apply(again).converged
    assert survivors(bench) == [1, 3, 5]
    assert bench.production.sql("SELECT t FROM c ORDER BY id") == [(1,), (1,), (3,)]
    assert bench.production.sql("SELECT count(*), count(DISTINCT id) FROM gone") == [(4, 4)]


@LOCKS
def test_undo_and_again(bench: Bench, lock: str) -> None:
    plan = planned(bench, lock)
    before = (bench.dump(), bench.structure())
    assert bench.apply(plan).converged
    after = (bench.dump(), bench.structure())
    assert "t t_k_key UNIQUE (k)" in after[1]
    back = bench.undo(plan)
    assert bench.apply(back).converged
    assert (bench.dump(), bench.structure()) == before
    assert sum(step.applied for step in bench.apply(back).steps) == 0
    assert (bench.dump(), bench.structure()) == before
    assert bench.apply(plan).converged
    assert (bench.dump(), bench.structure()) == after


@LOCKS
def test_undo_when_the_archive_was_emptied(bench: Bench, lock: str) -> None:
    plan = planned(bench, lock)
    bench.apply(plan)
    bench.production.sql("DELETE FROM gone WHERE id = 2")
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert survivors(bench) == [1, 2, 3, 4]


def test_undo_leaves_an_archive_that_others_use(bench: Bench) -> None:
    plan = planned(bench)
    bench.apply(plan)
    bench.production.sql("INSERT INTO gone (id) VALUES (99)")
    with pytest.raises(Drift, match="has rows"):
        bench.apply(bench.undo(plan))
    assert survivors(bench) == [1, 3]


def test_undo_when_something_needs_the_constraint(bench: Bench) -> None:
    plan = planned(bench)
    bench.apply(plan)
    bench.production.sql("CREATE TABLE d (k text REFERENCES t (k))")
    with pytest.raises(Drift, match="something uses it"):
        bench.apply(bench.undo(plan))
    assert survivors(bench) == [1, 3]


def writing(dsn: str, stop: threading.Event, first: int, wrote: list[int]) -> None:
    """Insert rows of a key that is there already, as fast as that goes, until told to stop or refused."""
    with psycopg.connect(dsn, autocommit=True) as session:
        for number in range(first, first + 100_000):
            if stop.is_set():
                return
            try:
                session.execute("INSERT INTO t VALUES (%s, 'a', 'writer')", (number,))
            except psycopg.errors.UniqueViolation:
                return
            wrote.append(number)
            time.sleep(0.002)


@LOCKS
def test_a_writer_never_spoils_it(bench: Bench, lock: str) -> None:
    """Duplicates keep coming while the plan is applied: drift and nothing half done, or they are refused from some moment on."""
    bench.production.sql(WORLD)
    bench.spec(key(f"references: repoint\nlock: {lock}\n"))
    stop, wrote = threading.Event(), list[int]()
    writer = threading.Thread(target=writing, args=(bench.production.dsn, stop, 1000, wrote))
    plan = bench.plan()
    writer.start()
    try:
        while len(wrote) < 5:
            time.sleep(0.01)
        with pytest.raises(Drift):
            bench.apply(plan)
        assert not any("t_k_key" in line for line in bench.structure())
        assert set(wrote[:5]) <= set(survivors(bench))
    finally:
        stop.set()
        writer.join()
    assert bench.apply(bench.plan()).converged
    assert survivors(bench) == [1, 3]


def test_nobody_writes_from_the_look_to_the_constraint(bench: Bench) -> None:
    """A duplicate that arrives during a brief apply waits for its end, and is refused then."""
    plan = planned(bench)
    # The check that runs for every repointed row makes the apply last; the plan has no say in it.
    bench.production.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;"
        "CREATE TRIGGER slow BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION slow()"
    )
    said: list[BaseException | None] = []

    def insert() -> None:
        with psycopg.connect(bench.production.dsn, autocommit=True) as session:
            while not session.execute(
                "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted AND relation = 't'::regclass"
            ).fetchone()[0]:  # type: ignore[index]
                time.sleep(0.01)
            try:
                session.execute("INSERT INTO t VALUES (9, 'a', 'late')")
                said.append(None)
            except psycopg.Error as error:
                said.append(error)

    late = threading.Thread(target=insert)
    late.start()
    applied = bench.apply(plan)
    late.join()
    assert applied.converged
    assert isinstance(said[0], psycopg.errors.UniqueViolation)


def test_a_lock_that_is_not_to_be_had(bench: Bench) -> None:
    plan = planned(bench)
    with bench.production.connect() as other:
        other.execute("SET application_name = 'night job'; UPDATE t SET v = 'busy' WHERE id = 3")
        with pytest.raises(ReconcilerError) as caught:
            app.apply(app.open_plan(plan.path), bench.session(), lock_timeout="100ms")
        other.rollback()
    said = caught.value.render()
    assert "not to be had within 100ms" in said
    assert "public.t: night job (pid" in said or "t: night job (pid" in said
    assert survivors(bench) == [1, 2, 3, 4]


def test_a_lock_that_is_let_go_after_a_while(bench: Bench) -> None:
    """What waits tries again: nobody need be there to start it anew."""
    plan = planned(bench)
    with bench.production.connect() as other:
        other.execute("UPDATE t SET v = 'busy' WHERE id = 3")
        timer = threading.Timer(0.4, other.rollback)
        timer.start()
        applied = app.apply(app.open_plan(plan.path), bench.session(), lock_timeout="250ms")
        timer.join()
    assert applied.converged


def test_an_index_built_apart_names_its_plan(bench: Bench) -> None:
    plan = planned(bench, "online")
    with bench.production.connect() as other:
        other.execute("SELECT 1 FROM c")  # an old snapshot: the concurrent build waits for it to end
        run = threading.Thread(target=bench.apply, args=(plan,))
        other.execute("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        run.start()
        seen = "SELECT application_name FROM pg_stat_activity WHERE query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY%' AND state = 'active'"
        named: list[tuple[object, ...]] = []
        for _ in range(300):
            if named := bench.production.sql(seen):
                break
            time.sleep(0.02)
        other.rollback()
        run.join()
    assert named == [(f"reconciler/{plan.id}",)]
    assert survivors(bench) == [1, 3]


BIG = """
CREATE TABLE t (id int PRIMARY KEY, k int, v text);
CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t);
CREATE INDEX ON c (t);
INSERT INTO t SELECT i, i % 2000, md5(i::text) FROM generate_series(1, 4000) i;
INSERT INTO c SELECT i, i FROM generate_series(1, 4000) i;
"""


def run(bench: Bench, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", *words], cwd=bench.folder, env={**os.environ, **bench.environ},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def ends(bench: Bench, plan: Plan, same: Callable[[], bool]) -> None:
    """Apply until it says that all is done; what the server still does for the one that was killed is waited for."""
    for _ in range(60):
        try:
            applied = bench.apply(plan)
        except ReconcilerError as error:
            assert error.code in (Exit.PARTIAL, Exit.ERROR), error.render()
            assert "at this moment" in error.render() or "another apply" in error.render(), error.render()
            time.sleep(0.2)
            continue
        assert applied.code is Exit.DONE
        assert same()
        return
    raise AssertionError("it never came to an end")


@LOCKS
def test_killed_at_any_instant(bench: Bench, lock: str) -> None:
    plan = planned(bench, lock, BIG)
    began = time.perf_counter()
    process = run(bench, "apply", str(plan.path), "--yes")
    assert process.wait(120) == 0
    whole = time.perf_counter() - began
    wanted = (bench.dump(), bench.structure())
    back = bench.undo(plan)
    dice = random.Random(7)
    for _ in range(8):
        bench.apply(back)
        process = run(bench, "apply", str(plan.path), "--yes")
        time.sleep(whole * dice.uniform(0.2, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        ends(bench, plan, lambda: (bench.dump(), bench.structure()) == wanted)
    assert summary(bench.plan()) == {}


def test_an_online_build_that_was_cut_off_is_gone_on_with(bench: Bench) -> None:
    """The rows are gone and the index is invalid, as when the server was killed while it built: run again, and it ends well."""
    plan = planned(bench, "online")
    wanted = None
    bench.apply(plan)
    wanted = (bench.dump(), bench.structure())
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_k_key; CREATE UNIQUE INDEX t_k_key ON t (k)")
    bench.production.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_k_key'::regclass")
    ends(bench, plan, lambda: (bench.dump(), bench.structure()) == wanted)
