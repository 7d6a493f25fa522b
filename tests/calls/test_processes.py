"""Rows are called for until they are done: within the ceiling of the plan and the rate, and no bad row stops another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.calls.hook import Answer, Hook, Seen
from tests.kinds.bench import Bench, summary
from tests.postgres import Database

STEP = "processes.thumbnails[public.images]/call"
ROWS = "INSERT INTO images (id) SELECT generate_series(1, %d)"
LEFT = "SELECT id FROM images WHERE metadata_status <> 'ready' ORDER BY id"


def spec(
    call: str = "{ http: hooks/resize }", more: str = "batch: 4", rate: str = "1000/second", timeout: str = "5s"
) -> str:
    return f"""
  hooks: {{ http: "${{env:HOOK_URL}}", headers: {{ Authorization: "Bearer ${{env:HOOK_TOKEN}}" }} }}
  storage: {{ supabase: "${{env:SUPABASE_URL}}", key: "${{env:SUPABASE_KEY}}" }}
processes:
  thumbnails:
    table: production.images
    pending: metadata_status <> 'ready'
    done: metadata_status = 'ready'
    call: {call}
    rate: {rate}
    timeout: {timeout}
    {more}
"""


def plan(bench: Bench, text: str) -> Plan:
    bench.spec(text.replace("\n  hooks", "  hooks", 1))
    return bench.plan()


def image(plan: Plan) -> dict[str, Any]:
    (step,) = [step for step in plan.steps if step.verb == "call"]
    (change,) = plan.changes(step)
    return json.loads(json.dumps(change.after))


def left(database: Database) -> list[int]:
    return [row[0] for row in database.sql(LEFT)]


def test_every_pending_row_is_called_for_once(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 10 + "; UPDATE images SET metadata_status = 'ready' WHERE id = 3")
    before = bench.dump()
    made = plan(bench, spec())
    assert bench.dump() == before and hook.seen == []
    assert bench.plan().path.read_bytes() == made.path.read_bytes()
    assert summary(made) == {STEP: 1}
    assert image(made)["rows"] == {"added": 0, "ceiling": 9, "pending": 9}
    applied = bench.apply(made)
    assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
    assert [it.keys for it in hook.seen] == [[1, 2, 4, 5], [6, 7, 8, 9], [10]]
    assert left(bench.production) == []
    assert summary(bench.plan()) == {}
    again = bench.apply(made)
    assert (again.code, [s.already for s in again.steps], len(hook.seen)) == (Exit.DONE, [1], 3)
    back = bench.undo(made)
    assert back.empty
    assert "cannot be taken back" in back.header.hazards[0].text


def test_the_headers_of_the_connection_go_along(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 1)
    bench.apply(plan(bench, spec(more="batch: 1")))
    (seen,) = hook.seen
    assert (seen.path, seen.body) == ("/resize", {"keys": [1]})
    assert seen.headers["authorization"] == "Bearer canary-of-hooks"
    assert seen.headers["content-type"] == "application/json"


def bad(*keys: int, status: int = 500) -> Any:
    """A function that gives up as soon as one of these is among its rows."""

    def react(seen: Seen) -> Answer | None:
        found = set(keys) & set(seen.keys)
        return Answer(status, {"message": f"row {min(found)} is bad"}) if found else None

    return react


def test_one_bad_row_stops_no_other(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 20)
    hook.react = bad(7)
    made = plan(bench, spec(more="batch: 8"))
    applied = bench.apply(made)
    assert left(bench.production) == [7]
    assert (applied.code, applied.converged, [s.failed for s in applied.steps]) == (Exit.PARTIAL, False, [1])
    assert applied.remaining[0] == "processes.thumbnails: row 7: the server answered 500: row 7 is bad"
    assert "1 row is pending" in applied.remaining[1]
    assert [it.keys for it in hook.seen][:7] == [
        [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [5, 6, 7, 8], [5, 6], [7, 8], [7], [8]
    ]  # fmt: skip
    hook.react = lambda seen: None
    assert bench.apply(made).code is Exit.DONE
    assert left(bench.production) == []


def test_a_row_that_only_stays_pending_is_found_too(bench: Bench, hook: Hook) -> None:
    """The server says yes each time, and does nothing as long as the bad row is in the batch."""
    bench.production.sql(ROWS % 8)
    hook.react = lambda seen: Answer() if 3 in seen.keys else None
    applied = bench.apply(plan(bench, spec(more="batch: 8", timeout="1s")))
    assert left(bench.production) == [3]
    assert applied.code is Exit.PARTIAL
    assert "row 3: it is pending 0.4 seconds after the call" in applied.remaining[0]


def test_rows_may_take_their_time(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 6)
    hook.late = 0.4
    assert bench.apply(plan(bench, spec(more="batch: 3"))).code is Exit.DONE
    assert len(hook.seen) == 2


def test_a_connection_that_breaks_is_like_any_failure(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 8)
    turn = iter(range(100))
    hook.react = lambda seen: Answer(drop=True) if next(turn) in (0, 3) or 5 in seen.keys else None
    applied = bench.apply(plan(bench, spec()))
    assert left(bench.production) == [5]
    assert "row 5: the connection was lost" in applied.remaining[0]


def test_what_was_done_before_the_connection_broke_is_not_called_for_again(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 4)

    def half(seen: Seen) -> Answer | None:
        hook.work(seen.keys[:2])
        return Answer(drop=True)

    hook.react = half
    assert bench.apply(plan(bench, spec())).code is Exit.DONE
    assert [it.keys for it in hook.seen] == [[1, 2, 3, 4], [3], [4]]


def test_a_row_that_is_being_worked_on_is_waited_for_and_not_called_for(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 2)
    text = spec().replace("pending: metadata_status <> 'ready'", "pending: metadata_status = 'pending'")

    def start(seen: Seen) -> Answer | None:
        bench.production.sql("UPDATE images SET metadata_status = 'processing' WHERE id = 1")
        bench.production.sql("UPDATE images SET metadata_status = 'error' WHERE id = 2")
        hook.late = 0.3
        import threading

        threading.Timer(0.3, hook.work, ([1],)).start()
        return Answer(500)

    hook.react = start
    applied = bench.apply(plan(bench, text.replace("timeout: 5s", "timeout: 1s")))
    assert (len(hook.seen), applied.code) == (1, Exit.ERROR)
    assert applied.remaining == ("processes.thumbnails: row 2: it is neither pending nor done",)


def test_a_server_that_is_busy_is_asked_again(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 4)
    turn = iter([429, 503])
    hook.react = lambda seen: Answer(status, headers={"Retry-After": "0"}) if (status := next(turn, 0)) else None
    assert bench.apply(plan(bench, spec())).code is Exit.DONE
    assert [it.keys for it in hook.seen] == [[1, 2, 3, 4]] * 3


def refused(bench: Bench, made: Plan) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(made)
    return caught.value


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_closed_door_is_no_row_to_blame(bench: Bench, hook: Hook, status: int) -> None:
    bench.production.sql(ROWS % 8)
    hook.react = lambda seen: Answer(status, {"message": "no entry for canary-of-hooks"})
    error = refused(bench, plan(bench, spec()))
    assert len(hook.seen) == 1
    assert error.code is Exit.ERROR
    assert f"the server answered {status}: no entry for ***" in error.render()
    assert "see that connections.hooks has the headers it wants" in error.render()


def test_nobody_answers(bench: Bench) -> None:
    bench.production.sql(ROWS % 8)
    bench.environ["HOOK_URL"] = "http://127.0.0.1:9"
    error = refused(bench, plan(bench, spec()))
    assert (error.code, error.why) == (Exit.ERROR, "it cannot be reached")


def test_a_function_that_is_broken_is_not_called_for_ever(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 400)
    hook.react = lambda seen: Answer(500)
    error = refused(bench, plan(bench, spec()))
    assert "calls in a row brought nothing" in error.what
    assert len(hook.seen) <= 3 * 2 * 7


def test_never_more_rows_than_the_ceiling(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 10)
    made = plan(bench, spec())

    def crowd(seen: Seen) -> Answer | None:
        bench.production.sql("INSERT INTO images (id) SELECT max(id) + 1 FROM images")
        return None

    bench.production.sql("INSERT INTO images (id) SELECT generate_series(-5, 0)")
    hook.react = crowd
    applied = bench.apply(made)
    assert len(set(hook.called_for())) == 10
    assert (applied.code, applied.converged) == (Exit.ERROR, False)
    assert any("9 more rows are pending that this run did not call for" in note for note in applied.notes)
    assert "9 rows are pending" in applied.remaining[0]


def test_a_call_that_takes_every_row_is_refused_where_there_are_too_many(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 10)
    made = plan(bench, spec("{ function: storage.process_image, payload: { force: true } }", "batch: 0"))
    bench.production.sql("INSERT INTO images (id) VALUES (11)")
    error = refused(bench, made)
    assert (error.code, hook.seen) == (Exit.DRIFT, [])


def test_one_call_drains_all(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 10)
    hook.sql = "UPDATE images SET metadata_status = 'ready'"
    made = plan(bench, spec("{ function: storage.process_image, payload: { force: true, n: 1.10 } }", "batch: 0"))
    applied = bench.apply(made)
    assert (applied.code, left(bench.production)) == (Exit.DONE, [])
    (seen,) = hook.seen
    assert (seen.path, seen.body) == ("/functions/v1/process_image", {"force": True, "n": 1.10})
    assert seen.headers["authorization"] == "Bearer sb_secret_canary-of-functions"
    assert seen.headers["apikey"] == "sb_secret_canary-of-functions"
    assert "10 rows done in 1 call" in applied.notes[0]


def test_a_drain_that_leaves_rows_names_them(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 10)
    hook.sql = "UPDATE images SET metadata_status = 'ready' WHERE id < 9"
    made = plan(bench, spec("{ function: storage.process_image, payload: {} }", "batch: 0", timeout="1s"))
    applied = bench.apply(made)
    assert (applied.code, left(bench.production)) == (Exit.PARTIAL, [9, 10])
    assert "row 9: it is pending 0.4 seconds after the call" in applied.remaining[0]


# What the plan itself adds

COLLECTION = """
collections:
  images: {{ table: production.images, source: backup, {more} }}
"""


def test_the_ceiling_counts_what_the_plan_adds(bench: Bench, hook: Hook) -> None:
    """Of the rows as they will be: new ones by their default, and changed ones that were not pending before."""
    bench.production.sql(ROWS % 10 + "; UPDATE images SET metadata_status = 'ready' WHERE id > 5")
    bench.backup.sql(ROWS % 14 + "; UPDATE images SET metadata_status = 'ready' WHERE id IN (6, 7, 11) OR id < 3")
    made = plan(bench, spec() + COLLECTION.format(more=""))
    # pending are 1-5; 8, 9, 10 become so by update and 12, 13, 14 by insert; 1 and 2 no longer are
    assert image(made)["rows"] == {"added": 6, "ceiling": 11, "pending": 5}
    assert [step.id for step in made.steps][-1] == STEP
    applied = bench.apply(made)
    assert (applied.code, applied.converged, left(bench.production)) == (Exit.DONE, True, [])
    assert sorted(hook.called_for()) == [3, 4, 5, 8, 9, 10, 12, 13, 14]
    assert any("changes to rows that processes.thumbnails works on" in note for note in applied.notes)


def test_what_cannot_be_computed_is_counted_whole(bench: Bench, hook: Hook) -> None:
    bench.both("ALTER TABLE images ADD seen timestamptz NOT NULL DEFAULT clock_timestamp()")
    bench.backup.sql("ALTER TABLE images DROP seen; " + ROWS % 4)
    text = spec().replace(
        "pending: metadata_status <> 'ready'", "pending: metadata_status <> 'ready' AND seen < 'infinity'"
    )
    made = plan(bench, text + COLLECTION.format(more=""))
    assert image(made)["rows"]["added"] == 4
    assert any("counted whole" in note for note in made.steps[-1].notes)
    assert bench.apply(made).code is Exit.DONE


def test_nothing_follows_what_comes_after_it_by_needs(bench: Bench, hook: Hook) -> None:
    """A collection of the same rows that needs the process is planned after, not on rows that it will change."""
    bench.production.sql(ROWS % 3)
    bench.backup.sql("INSERT INTO images VALUES (1, 'new', 'ready')")
    made = plan(bench, spec() + COLLECTION.format(more="needs: [processes.thumbnails]"))
    assert [step.id for step in made.steps] == [STEP]
    assert [it.address for it in made.header.deferred] == ["collections.images"]
    assert image(made)["rows"]["ceiling"] == 3


def test_another_table_may_come_after(bench: Bench, hook: Hook) -> None:
    bench.both("CREATE TABLE other (id int PRIMARY KEY)")
    bench.production.sql(ROWS % 3)
    bench.backup.sql("INSERT INTO other VALUES (1)")
    other = "\ncollections:\n  o: { table: production.other, source: backup%s }\n"
    made = plan(bench, spec() + other % ", needs: [processes.thumbnails]")
    assert [step.verb.value for step in made.steps] == ["call", "insert"]
    hook.react = bad(2)
    applied = bench.apply(made)
    assert [(s.failed, s.skipped) for s in applied.steps] == [(1, 0), (0, 1)]
    assert bench.production.sql("SELECT * FROM other") == []
    hook.react = lambda seen: None
    assert bench.apply(made).code is Exit.DONE
    made = plan(bench, spec() + other.replace("production.other", "production.images") % "")
    assert made.empty


def test_a_chain_of_processes(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 4 + "; UPDATE images SET metadata_status = 'a' WHERE id > 1")
    two = spec().replace("metadata_status <> 'ready'", "metadata_status IN ('pending', 'a')").replace(
        "done: metadata_status = 'ready'", "done: metadata_status IN ('b', 'ready')"
    ) + """
  later:
    table: production.images
    pending: metadata_status = 'b'
    done: metadata_status = 'ready'
    needs: [processes.thumbnails]
    call: { http: hooks/later }
    rate: 1000/second
"""  # fmt: skip
    bench.production.sql("UPDATE images SET metadata_status = 'b' WHERE id = 4")
    made = plan(bench, two)
    ceilings = {step.address: change.after for step in made.steps for change in made.changes(step)}
    assert [(name, (it or {})["rows"]) for name, it in ceilings.items()] == [
        ("processes.thumbnails", {"added": 0, "ceiling": 3, "pending": 3}),
        ("processes.later", {"added": 3, "ceiling": 4, "pending": 1}),
    ]

    def react(seen: Seen) -> Answer | None:
        if seen.path == "/later":
            return None
        bench.production.sql("UPDATE images SET metadata_status = 'b' WHERE id = ANY(%s)", seen.keys)
        return Answer()

    hook.react = react
    assert bench.apply(made).code is Exit.DONE
    assert left(bench.production) == []


# Keys


def test_keys_of_several_columns_and_of_any_type(bench: Bench, hook: Hook) -> None:
    bench.production.sql(
        "CREATE TABLE pages (book text, n bigint, ok bool NOT NULL DEFAULT false, u uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),"
        " PRIMARY KEY (book, n));"
        """INSERT INTO pages (book, n) VALUES ('a"b', 9007199254740993), ('ä', -1), ('a"b', 2)"""
    )
    hook.sql = "UPDATE pages SET ok = true"
    text = spec(more="batch: 2").replace("production.images", "production.pages")
    text = text.replace("metadata_status <> 'ready'", "NOT ok").replace("metadata_status = 'ready'", "ok")
    assert bench.apply(plan(bench, text)).code is Exit.DONE
    assert hook.seen[0].keys == [{"book": 'a"b', "n": 2}, {"book": 'a"b', "n": 9007199254740993}]
    bench.production.sql("UPDATE pages SET ok = false")
    assert bench.apply(plan(bench, text.replace("batch: 2", "key: [u]"))).code is Exit.DONE
    assert set(hook.seen[-1].keys) == {str(u) for (u,) in bench.production.sql("SELECT u FROM pages")}
    with pytest.raises(ReconcilerError, match="does not tell rows"):
        plan(bench, text.replace("batch: 2", "key: [book]"))


def test_a_header_that_cannot_be_sent(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 1)
    made = plan(bench, spec())
    bench.environ["HOOK_TOKEN"] = "canary-ä"
    error = refused(bench, made)
    assert "the header Authorization of connections.hooks cannot be sent" in error.what
    assert hook.seen == [] and "canary" not in error.render()


# Commands

WORK = """
import json, os, sys, psycopg
keys = json.load(sys.stdin)["keys"]
with open("calls.txt", "a") as file: file.write(json.dumps(keys) + "\\n")
if 3 in keys: sys.exit("cannot do 3 for " + os.environ["PRODUCTION_URL"].replace("@", ":canary-of-a-dsn@"))
with psycopg.connect(os.environ["PRODUCTION_URL"], autocommit=True) as session:
    session.execute("UPDATE images SET metadata_status = 'ready' WHERE id = ANY(%s)", (keys,))
"""


def test_a_command(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    bench.production.sql(ROWS % 3)
    (bench.folder / "work.py").write_text(WORK)
    monkeypatch.setenv("PRODUCTION_URL", bench.production.dsn)
    made = plan(bench, spec(f"{{ command: [{sys.executable}, work.py] }}", "batch: 2"))
    applied = bench.apply(made)
    assert (applied.code, left(bench.production)) == (Exit.PARTIAL, [3])
    calls = [json.loads(line) for line in (bench.folder / "calls.txt").read_text().splitlines()]
    assert calls == [[1, 2], [3], [3]]
    assert "row 3: it ended with 1: cannot do 3 for postgresql://" in applied.remaining[0]
    assert "canary" not in applied.remaining[0]


def test_a_command_tells_no_secret_of_the_spec(bench: Bench) -> None:
    bench.production.sql(ROWS % 1)
    made = plan(bench, spec("{ command: [sh, '-c', 'echo no, not with canary-of-hooks >&2; exit 1'] }", "batch: 1"))
    applied = bench.apply(made)
    assert applied.remaining[0].endswith("it ended with 1: no, not with ***")


def test_a_command_that_is_not_there_or_never_ends(bench: Bench) -> None:
    bench.production.sql(ROWS % 2)
    error = refused(bench, plan(bench, spec("{ command: [./nothing] }")))
    assert "the command ./nothing cannot be run" in error.what
    applied = bench.apply(
        plan(
            bench,
            spec("{ command: [sleep, '60'] }", "batch: 1", timeout="1s").replace(
                "images\n    pending:", "images\n    where: id = 1\n    pending:"
            ),
        )
    )
    assert "row 1: it did not end within 0.4 seconds" in applied.remaining[0]


# Guards


def test_a_plan_belongs_to_the_server_it_was_made_for(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 2)
    made = plan(bench, spec())
    bench.environ["HOOK_URL"] = hook.url.replace("127.0.0.1", "localhost")
    error = refused(bench, made)
    assert (error.code, hook.seen) == (Exit.DRIFT, [])


def test_a_protected_process_calls_nobody(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 2)
    made = plan(bench, spec(more="protect: true"))
    assert made.empty and made.header.hazards[0].kind == "blocked"


def test_status(bench: Bench) -> None:
    bench.production.sql(ROWS % 5 + "; UPDATE images SET metadata_status = 'ready' WHERE id = 3")
    plan(bench, spec())
    (it,) = app.status(bench.session())
    assert (it.in_sync, it.wrong, it.differs, it.notes) == (1, 4, True, ("4 rows are pending",))
    paths = app.status_csv(bench.session(), bench.folder / "csv")
    lines = next(path for path in paths if path.stem == "pending").read_text().splitlines()
    assert lines == ["resource,table,key", *(f"processes.thumbnails,public.images,{n}" for n in (1, 2, 4, 5))]


def test_a_rehearsal_calls_nobody(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 5)
    made = plan(bench, spec())
    applied = app.apply(made, bench.session(), rehearse=True)
    assert hook.seen == [] and "not rehearsed" in applied.notes[0]


def test_a_condition_cannot_write(bench: Bench) -> None:
    bench.production.sql(
        ROWS % 2
        + "; CREATE FUNCTION sneak() RETURNS bool LANGUAGE plpgsql AS $$BEGIN DELETE FROM images; RETURN true; END$$"
    )
    with pytest.raises(ReconcilerError, match="failed"):
        plan(bench, spec().replace("metadata_status <> 'ready'", "sneak()"))
    assert left(bench.production) == [1, 2]
