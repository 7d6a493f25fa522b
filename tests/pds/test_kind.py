"""`pds_records` from the command line: a backup's records against a real repo, there and back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pds.bench import COLLECTION, NOTES, Records, header, steps, totals
from tests.pds.proxy import Answer, Call
from tests.pds.real import Account, Pds
from tests.pds.test_session import behind
from tests.pds.world import fill, note
from tests.postgres import Database

NAME = f"pds_records.notes[{COLLECTION}]"


@pytest.fixture
def records(place: Path, pds: Pds, account: Account, backup: Database, production: Database) -> Records:
    return Records(place, pds, account, backup, production)


def texts(**told: str) -> dict[str, str]:
    return {rkey: note(text) for rkey, text in told.items()}


def test_there_and_back(records: Records) -> None:
    fill(records.pds, records.account, texts(same="same", changed="old", extra="extra"))
    big = (
        '{"$type":"org.example.note","n":9007199254740991,"z":{"b":[1,{}],"a":null},"a":"\\u00e4\\\\n\\n","t":"x\\ty"}'
    )
    records.rows({**texts(same="same", changed="new", missing="missing"), "exact": big})
    before = records.repo()
    plan = records.plan()
    assert plan.read_bytes() == records.plan().read_bytes()
    assert steps(plan) == {f"{NAME}/put": 2, f"{NAME}/put#2": 1}
    assert header(plan)["connections"]["pds"] == {"type": "atproto", "fingerprint": records.account.did}
    assert records.repo() == before
    assert totals(records.apply(plan)) == (3, 0)
    after = records.repo()
    assert after == {
        **before,
        "changed": json.loads(note("new")),
        "missing": json.loads(note("missing")),
        "exact": json.loads(big),
    }
    assert steps(records.plan()) == {}
    assert totals(records.apply(plan)) == (0, 3)
    back = records.undo(plan)
    assert steps(back) == {f"{NAME}/delete": 2, f"{NAME}/put#2": 1}
    assert totals(records.apply(back)) == (3, 0)
    assert records.repo() == before
    assert totals(records.apply(back)) == (0, 3)
    again = records.undo(back)
    assert totals(records.apply(again)) == (3, 0)
    assert records.repo() == after


def test_deletes_within_keys_and_limit(records: Records) -> None:
    fill(records.pds, records.account, texts(a1="a", a2="a", b1="b"))
    records.rows(texts(a1="a"))
    records.write(NOTES + "  on_extra: delete\n")
    refused = records.run("plan", "spec.yaml")
    assert (refused.code, "needs `rkeys`" in refused.err) == (1, True)
    records.write(NOTES + '  on_extra: delete\n  rkeys: "a*"\n')
    over = records.run("plan", "spec.yaml")
    assert over.code == 4
    assert "would delete 1 records; max_delete allows 0" in over.err
    records.write(NOTES + '  on_extra: delete\n  rkeys: "a*"\n  max_delete: 1\n')
    before = records.repo()
    plan = records.plan()
    assert steps(plan) == {f"{NAME}/delete": 1}
    assert [it["kind"] for it in header(plan)["hazards"]] == ["delete"]
    assert totals(records.apply(plan)) == (1, 0)
    assert sorted(records.repo()) == ["a1", "b1"]
    assert totals(records.apply(plan)) == (0, 1)
    back = records.undo(plan)
    assert steps(back) == {f"{NAME}/put": 1}
    assert totals(records.apply(back)) == (1, 0)
    assert records.repo() == before


def test_an_empty_source_deletes_nothing(records: Records) -> None:
    fill(records.pds, records.account, texts(a="a"))
    records.write(NOTES + '  on_extra: delete\n  rkeys: "*"\n  max_delete: 100%\n')
    refused = records.run("plan", "spec.yaml")
    assert refused.code == 1
    assert "has no records, and 1 of the repo would be deleted" in refused.err


@pytest.mark.parametrize("option", ["on_changed: keep", "protect: true"])
def test_what_is_kept_is_kept(records: Records, option: str) -> None:
    fill(records.pds, records.account, texts(changed="old"))
    records.rows(texts(changed="new"))
    records.write(NOTES + f"  {option}\n")
    plan = records.plan()
    assert steps(plan) == {}
    assert [it["kind"] for it in header(plan)["hazards"]] == (["blocked"] if "protect" in option else [])


def test_drift_is_named_and_nothing_is_written(records: Records) -> None:
    fill(records.pds, records.account, texts(changed="old"))
    records.rows(texts(changed="new", missing="missing"))
    plan = records.plan()
    put = {"repo": records.account.did, "collection": COLLECTION, "rkey": "changed", "validate": False}
    other = {**json.loads(note("somebody else"))}
    records.pds.post("com.atproto.repo.putRecord", {**put, "record": other}, records.account.access)
    done = records.run("apply", plan.name)
    assert done.code == 3
    assert f"{COLLECTION}/changed: planned on " in done.err
    assert "missing" not in records.repo()


def test_a_killed_run_is_finished_by_the_same_plan(records: Records) -> None:
    """Killed when the server has carried out the second call and we have not yet heard of it."""
    records.rows({f"k{n:03}": note(f"{n}") for n in range(600)})
    runs: list[subprocess.Popen[str]] = []
    calls: list[Call] = []

    def treat(call: Call, pass_on: Callable[[], Answer]) -> Answer:
        answer = pass_on()
        if call.method == "com.atproto.repo.applyWrites":
            calls.append(call)
            if len(calls) == 2:
                runs[0].kill()
                runs[0].wait(30)
        return answer

    with behind(records.pds, treat) as (_, records.plc):
        records.write(NOTES)
        plan = records.plan()
        runs.append(records.start("apply", plan.name))
        runs[0].wait(60)
        assert len(records.repo()) == 400
        assert totals(records.apply(plan)) == (200, 400)
        assert len(records.repo()) == 600
        assert steps(records.plan()) == {}


def test_a_run_that_is_refused_midway_ends_with_5_and_can_finish(records: Records) -> None:
    records.rows({f"k{n:03}": note(f"{n}") for n in range(800)})
    calls: list[Call] = []

    def treat(call: Call, pass_on: Callable[[], Answer]) -> Answer:
        if call.method == "com.atproto.repo.applyWrites":
            calls.append(call)
        return pass_on() if len(calls) < 3 else Answer(403, b'{"error":"Forbidden","message":"no more"}')

    with behind(records.pds, treat) as (_, records.plc):
        records.write(NOTES)
        plan = records.plan()
        done = records.run("apply", plan.name)
        assert done.code == 5, done.err
        calls.clear()
        assert totals(records.apply(plan)) == (400, 400)


def test_a_run_logs_in_once_and_a_plan_never(records: Records) -> None:
    records.rows(texts(a="a"))
    other = f"at://{records.account.did}/org.example.other/o"
    records.backup.sql("INSERT INTO notes (uri, data) VALUES (%s, %s)", other, note("o", "org.example.other"))
    first = NOTES.replace("/')", f"/{COLLECTION}/')")
    second = NOTES.replace("/')", "/org.example.other/')").replace(COLLECTION, "org.example.other")
    rows = "collections:\n  rows: { table: production.zebras, source: backup, needs: [pds_records.notes] }\n"
    for side in (records.production, records.backup):
        side.sql("CREATE TABLE zebras (id integer PRIMARY KEY)")
    records.backup.sql("INSERT INTO zebras VALUES (1)")
    with behind(records.pds, lambda call, pass_on: pass_on()) as (proxy, records.plc):
        records.write(first + second.replace("notes:", "others:") + "  needs: [collections.rows]\n", rows)
        plan = records.plan()
        assert list(steps(plan)) == [
            f"{NAME}/put",
            "collections.rows[public.zebras]/insert",
            "pds_records.others[org.example.other]/put",
        ]
        assert proxy.count("createSession") == 0
        assert totals(records.apply(plan)) == (3, 0)
        assert proxy.count("createSession") == 1
        assert totals(records.apply(records.undo(plan))) == (3, 0)
        assert records.repo() == records.repo("org.example.other") == {}


@pytest.mark.parametrize(("there", "more", "whole"), [(150, "", True), (150, "  rkeys: a\n", False), (0, "", False)])
def test_of_a_large_table_no_pages_are_listed_in_vain(records: Records, there: int, more: str, *, whole: bool) -> None:
    """Unless the collection is small: then all of a repo, whatever else it holds, would be fetched for nothing."""
    fill(records.pds, records.account, {f"r{n}": note("x") for n in range(there)})
    prefix = f"at://{records.account.did}/{COLLECTION}/"
    records.backup.sql(
        "INSERT INTO notes (uri, data) SELECT %s || 'r' || n, %s FROM generate_series(0, 2999) n", prefix, note("x")
    )
    records.backup.sql("ANALYZE notes")
    with behind(records.pds, lambda call, pass_on: pass_on()) as (proxy, records.plc):
        records.write(NOTES + "  allow: [R011]\n" + more)
        found = json.loads(records.run("status", "spec.yaml", "--json").out)["resources"][0]
        assert proxy.count("getRepo") == whole
        if whole:
            assert proxy.count("listRecords") == 1
    if not more:
        assert (found["in_sync"], found["missing"]) == (there, 3000 - there)


def test_bad_records_are_named_with_their_rows(records: Records) -> None:
    records.rows(
        {"good": note("x"), "half": '{"$type":"org.example.note","n":0.5}', "other": note("x", "org.example.other")}
    )
    foreign = f"at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/{COLLECTION}/x"
    records.backup.sql("INSERT INTO notes VALUES (%s, %s)", foreign, note("x"))
    records.backup.sql("INSERT INTO notes VALUES (%s, NULL)", f"at://{records.account.did}/{COLLECTION}/none")
    records.write(NOTES.replace("  where: starts_with(uri, 'at://' || :did || '/')\n", ""))
    done = records.run("plan", "spec.yaml")
    assert done.code == 1
    assert "pds_records.notes: 4 records of backup public.notes cannot be written" in done.err
    assert f"row uri = at://{records.account.did}/{COLLECTION}/half: 0.5 is a fraction" in done.err.replace("'", "")
    assert f"row uri = {foreign}: its at-uri is one of did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" in done.err
    assert "/none: its record is NULL" in done.err


def test_another_repo_is_refused(records: Records) -> None:
    records.rows(texts(a="a"))
    plan = records.plan()
    other = records.pds.account()
    spec = records.folder / "spec.yaml"
    was = records.account.did
    spec.write_text(spec.read_text().replace(f'atproto: "{was}"', f'atproto: "{other.did}"'))
    done = records.run("plan", "spec.yaml")
    assert (done.code, f"is the repo of {other.did}, not of {was}" in done.err) == (1, True)
    (records.folder / "others.yaml").write_text(
        f'version: 1\nconnections: {{ pds: {{ atproto: "{other.did}", plc: "{records.pds.plc}" }}, backup: {{ postgres: embedded }} }}\n'
    )
    done = records.run("apply", plan.name, "--connections", "others.yaml")
    assert done.code == 3, done.err
    assert "is another repo" in done.err


def test_rows_come_before_records(records: Records) -> None:
    for side in (records.production, records.backup):
        side.sql("CREATE TABLE authors (did text PRIMARY KEY)")
        side.sql("CREATE TABLE zebras (id integer PRIMARY KEY)")
    records.backup.sql("INSERT INTO authors VALUES ('x'); INSERT INTO zebras VALUES (1)")
    records.rows(texts(a="a"))
    authors = "collections:\n  authors: { table: production.authors, source: backup }\n"
    records.write(
        NOTES, authors + "  zebras: { table: production.zebras, source: backup, needs: [pds_records.notes] }\n"
    )
    plan = records.plan()
    assert list(steps(plan)) == [
        "collections.authors[public.authors]/insert",
        f"{NAME}/put",
        "collections.zebras[public.zebras]/insert",
    ]
    assert totals(records.apply(plan)) == (3, 0)
    back = records.undo(plan)
    assert list(steps(back))[1] == f"{NAME}/delete"
    assert totals(records.apply(back)) == (3, 0)
    assert records.repo() == {}


def test_a_source_that_this_plan_changes_is_deferred(records: Records) -> None:
    records.production.sql("CREATE TABLE notes (uri text PRIMARY KEY, data jsonb, title text, words integer)")
    records.rows(texts(a="a"))
    records.write(
        NOTES.replace("source: backup.notes", "source: production.notes"),
        "collections:\n  rows: { table: production.notes, source: backup }\n",
    )
    plan = records.plan()
    assert list(steps(plan)) == ["collections.rows[public.notes]/insert"]
    assert [it["address"] for it in header(plan)["deferred"]] == ["pds_records.notes"]
    records.apply(plan)
    records.apply(records.plan())
    assert sorted(records.repo()) == ["a"]
