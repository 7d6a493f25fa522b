"""The app holds the owner's session: records are written by way of a server of the app's, with a token of the app's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pds.bench import NOTES, Records, steps, totals
from tests.pds.proxy import Answer, Call, passing
from tests.pds.real import Account, Pds
from tests.pds.world import fill, note
from tests.postgres import Database

TOKEN = "canary-app-token"
WRITES = "com.atproto.repo.applyWrites"


@pytest.fixture
def records(place: Path, pds: Pds, account: Account, backup: Database, production: Database) -> Records:
    return Records(place, pds, account, backup, production)


def by_way_of(records: Records, url: str, more: str = "") -> None:
    """The spec with the app's server and token, and no password."""
    records.write(NOTES + more)
    spec = records.folder / "spec.yaml"
    spec.write_text(
        spec.read_text().replace('password: "${env:PDS_PASSWORD}"', f'via: "{url}", token: "${{env:APP_TOKEN}}"')
    )
    records.environ["APP_TOKEN"] = TOKEN


def known(call: Call, pass_on: Callable[[], Answer]) -> Answer:
    """What the app's server does: it knows its own token, and forwards the calls it is there for."""
    if call.token != f"Bearer {TOKEN}":
        return Answer(401, json.dumps({"error": "Unauthorized", "message": f"what is {call.token}?"}).encode())
    if call.method not in (WRITES, "com.atproto.repo.uploadBlob", "com.atproto.repo.putRecord"):
        return Answer(501, b'{"error":"MethodNotImplemented","message":"not here"}')
    return pass_on()


def test_there_and_back_by_way_of_the_app(records: Records) -> None:
    fill(records.pds, records.account, {"old": note("old"), "other": note("other")})
    records.rows({"old": note("new"), **{f"k{n:03}": note(f"{n}") for n in range(250)}})
    before = records.repo()
    with passing(records.pds.url, known, token=records.account.access) as app:
        by_way_of(records, app.url)
        plan = records.plan()
        assert app.calls == []  # reading goes to the PDS itself
        assert totals(records.apply(plan)) == (251, 0)
        assert {it.method for it in app.calls} == {WRITES}
        assert steps(records.plan()) == {}
        assert TOKEN not in plan.read_text()
        assert totals(records.apply(records.undo(plan))) == (251, 0)
    assert records.repo() == before


def test_a_session_that_the_app_lost_midway(records: Records) -> None:
    """The run ends with what is done said, and the same plan finishes once the app is let in again."""
    records.rows({f"k{n:03}": note(f"{n}") for n in range(500)})
    calls: list[Call] = []

    def lost(call: Call, pass_on: Callable[[], Answer]) -> Answer:
        calls.append(call)
        if len(calls) == 2:
            return Answer(401, b'{"error":"Unauthorized","message":"the session is gone"}')
        return known(call, pass_on)

    with passing(records.pds.url, lost, token=records.account.access) as app:
        by_way_of(records, app.url)
        plan = records.plan()
        done = records.run("apply", plan.name)
        assert done.code == 5
        assert "the session is gone" in done.err
        assert TOKEN not in done.err + done.out
        assert totals(records.apply(plan)) == (300, 200)
    assert len(records.repo()) == 500


def test_a_token_the_app_does_not_know_is_not_repeated(records: Records) -> None:
    records.rows({"a": note("a")})
    with passing(records.pds.url, known, token=records.account.access) as app:
        by_way_of(records, app.url)
        plan = records.plan()
        records.environ["APP_TOKEN"] = "canary-of-another"
        done = records.run("apply", plan.name)
    assert done.code == 1
    assert "refuses the owner's call" in done.err
    assert "canary" not in done.err + done.out
    assert records.repo() == {}
