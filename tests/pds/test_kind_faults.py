"""What can go wrong between us and a PDS, from the command line: the same end, and nothing written twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pds.bench import NOTES, Records, steps, totals
from tests.pds.proxy import Answer, Call
from tests.pds.real import Account, Pds
from tests.pds.test_session import behind
from tests.pds.world import fill, note
from tests.postgres import Database

APPLY = "com.atproto.repo.applyWrites"
LOGIN = "com.atproto.server.createSession"
Fault = Callable[[Records, Call, Callable[[], Answer], int], Answer | None]


@pytest.fixture
def records(place: Path, pds: Pds, account: Account, backup: Database, production: Database) -> Records:
    return Records(place, pds, account, backup, production)


def cut_after_commit(records: Records, call: Call, pass_on: Callable[[], Answer], number: int) -> Answer | None:
    del records
    answer = pass_on()
    return None if call.method == APPLY and number in (1, 3) else answer


def expired_midway(records: Records, call: Call, pass_on: Callable[[], Answer], number: int) -> Answer | None:
    """The server's own answer to a token of three hours ago, from the second call on."""
    answer = pass_on()
    if call.method == LOGIN:
        given = json.loads(answer.body)
        return Answer(200, json.dumps({**given, "accessJwt": records.pds.expired_token(records.account)}).encode())
    return answer


def storm(records: Records, call: Call, pass_on: Callable[[], Answer], number: int) -> Answer | None:
    del records
    if call.method == APPLY and number % 2:
        return Answer(429, b'{"error":"RateLimitExceeded"}', {"retry-after": "0"})
    return pass_on()


def gone_for_a_moment(records: Records, call: Call, pass_on: Callable[[], Answer], number: int) -> Answer | None:
    del records
    return Answer(502, b"bad gateway") if call.method == APPLY and number in (1, 4) else pass_on()


def as_it_is(records: Records, call: Call, pass_on: Callable[[], Answer], number: int) -> Answer | None:
    del records, call, number
    return pass_on()


@contextmanager
def rival(records: Records, every: float) -> Generator[list[int]]:
    """Another program that writes to the same repo all the time."""
    done: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            fill(
                records.pds, records.account, {f"n{len(done)}": note("rival", "org.example.rival")}, "org.example.rival"
            )
            done.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("fault", "rivals"),
    [
        (cut_after_commit, False),
        (expired_midway, False),
        (storm, False),
        (gone_for_a_moment, False),
        (as_it_is, True),
        (cut_after_commit, True),
    ],
)
def test_the_end_is_the_same(records: Records, fault: Fault, rivals: bool) -> None:
    fill(records.pds, records.account, {f"k{n:03}": note(f"old {n}") for n in range(200)})
    wanted = {f"k{n:03}": note(f"{n}") for n in range(100, 550)}
    records.rows(wanted)
    written: list[str] = []
    calls: list[Call] = []

    def treat(call: Call, pass_on: Callable[[], Answer]) -> Answer | None:
        def noting() -> Answer:
            answer = pass_on()
            if answer.status == 200 and call.method == APPLY:
                written.extend(it["rkey"] for it in json.loads(call.body)["writes"])
            elif answer.status == 200 and call.method == "com.atproto.repo.putRecord":
                written.append(json.loads(call.body)["rkey"])
            return answer

        calls.append(call)
        return fault(records, call, noting, sum(it.method == APPLY for it in calls))

    with behind(records.pds, treat) as (_, records.plc):
        records.write(NOTES)
        plan = records.plan()
        if rivals:
            with rival(records, 0.1) as done:
                assert totals(records.apply(plan)) == (450, 0)
            assert len(records.repo("org.example.rival")) == len(done) > 0
        else:
            assert totals(records.apply(plan)) == (450, 0)
        assert sorted(written) == sorted(wanted)
        assert records.repo() == {
            **{f"k{n:03}": json.loads(note(f"old {n}")) for n in range(100)},
            **{rkey: json.loads(text) for rkey, text in wanted.items()},
        }
        assert steps(records.plan()) == {}
    assert len({it for it in calls if it.method == LOGIN}) == 1
