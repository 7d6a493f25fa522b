"""Writing on the real server: in batches, under guard, against other writers, cut connections, limits and bad records."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.systems.pds import batches, inventory, records
from reconciler.systems.pds.batches import Outcome, Result, Validate, Write
from reconciler.systems.pds.inventory import Inventory, Way
from reconciler.systems.pds.quota import Limit, Quota
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.write import check, write
from tests.pds.proxy import Answer, Call
from tests.pds.real import Account, Pds
from tests.pds.test_session import behind
from tests.pds.world import COLLECTION, Hurried, Told, fill, key, note, session

APPLY = "applyWrites"
MISSING = "bafkreibjk2zm52hfizr454i2vrctndr2q2oimlwxu36s3or2icabptr6by"  # a blob nobody has

BLOB = {"$type": "blob", "ref": {"$link": MISSING}, "mimeType": "a/b", "size": 1}


def created(number: int, text: str = "new") -> Write:
    return Write(COLLECTION, key(number), None, records.read(COLLECTION, key(number), note(f"{text} {number}")))


def updated(number: int, text: str = "changed") -> Write:
    before = records.read(COLLECTION, key(number), note(f"old {number}")).cid
    return Write(COLLECTION, key(number), before, records.read(COLLECTION, key(number), note(f"{text} {number}")))


def deleted(number: int) -> Write:
    return Write(COLLECTION, key(number), records.read(COLLECTION, key(number), note(f"old {number}")).cid, None)


def old(numbers: Iterable[int]) -> dict[str, str]:
    return {key(number): note(f"old {number}") for number in numbers}


def outcomes(results: Iterable[Result]) -> dict[str, int]:
    found: dict[str, int] = {}
    for result in results:
        found[result.outcome] = found.get(result.outcome, 0) + 1
    return found


def there(owner: Session) -> Inventory:
    return inventory.inventory(owner, COLLECTION, way=Way.REPO)


def as_planned(owner: Session, writes: Iterable[Write]) -> None:
    now = there(owner).cids
    for change in writes:
        assert now.get(change.rkey) == change.cid, change.path


def commits(call: Call) -> list[str]:
    return [it["rkey"] for it in json.loads(call.body)["writes"]]


def test_creates_updates_and_deletes_in_batches(pds: Pds, account: Account) -> None:
    fill(pds, account, old(range(300)))
    writes = [*map(updated, range(150)), *map(deleted, range(150, 300)), *map(created, range(300, 750))]
    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, account, plc=plc) as owner:
        known = there(owner)
        check(known, writes)
        reads = len(proxy.calls)
        assert outcomes(write(owner, writes, known=known)) == {"applied": 750}
        # Nobody else wrote: nothing but logging in and four full calls.
        assert [it.method.rpartition(".")[2] for it in proxy.calls[reads:]] == ["createSession", *[APPLY] * 4]
        as_planned(owner, writes)
        assert outcomes(write(owner, writes, known=there(owner))) == {"already": 750}
        assert outcomes(write(owner, writes)) == {"already": 750}
        assert proxy.count(APPLY) == 4


def test_calls_are_cut_by_bytes_too(pds: Pds, account: Account) -> None:
    writes = [Write(COLLECTION, key(n), None, records.read(COLLECTION, key(n), note("x" * 240_000))) for n in range(9)]
    writes.append(Write(COLLECTION, "large", None, records.read(COLLECTION, "large", note("y" * 990_000))))
    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, account, plc=plc) as owner:
        assert outcomes(write(owner, writes)) == {"applied": 10}
        assert [len(commits(it)) for it in proxy.calls if it.method.endswith(APPLY)] == [4, 4, 1, 1]
        as_planned(owner, writes)


def test_a_server_that_takes_less_is_given_less(pds: Pds, account: Account) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if len(call.body) > 150 * 1024:
            return Answer(413, b'{"error":"PayloadTooLargeError","message":"request entity too large"}')
        return on()

    writes = [Write(COLLECTION, key(n), None, records.read(COLLECTION, key(n), note("x" * 9000))) for n in range(100)]
    with behind(pds, treat) as (proxy, plc), session(pds, account, plc=plc) as owner:
        assert outcomes(write(owner, writes)) == {"applied": 100}
        assert proxy.count(APPLY) < 15
        as_planned(owner, writes)


def test_drift_is_named_before_anything_is_written(pds: Pds, account: Account) -> None:
    fill(pds, account, {**old([0, 2]), key(1): note("another's")})
    writes = [updated(0), updated(1), deleted(2), created(3)]
    with session(pds, account) as owner:
        known = there(owner)
        with pytest.raises(Drift, match="1 record is not what the plan saw") as drift:
            check(known, writes)
        assert drift.value.code is Exit.DRIFT and len(drift.value.details) == 1
        actual = records.read(COLLECTION, key(1), note("another's")).cid
        assert drift.value.details == (f"{COLLECTION}/{key(1)}: planned on {writes[1].before}, is {actual}",)
        for base in (known, None):
            with pytest.raises(Drift):
                list(write(owner, writes, known=base))
        assert there(owner) == known


def put(account: Account, collection: str, rkey: str, text: str) -> str:
    where = f'"repo":"{account.did}","collection":"{collection}","rkey":"{rkey}"'
    return f'{{{where},"validate":false,"record":{text}}}'


@contextmanager
def rival(
    pds: Pds, account: Account, write_one: Callable[[int], tuple[str, str]], every: float = 0.1
) -> Generator[list[int]]:
    """Another program that writes to the repo all the time."""
    done: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            rkey, text = write_one(len(done))
            collection = json.loads(text)["$type"]
            pds.send("com.atproto.repo.putRecord", put(account, collection, rkey, text), account)
            done.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def test_another_writer_s_records_do_not_stop_us(pds: Pds, account: Account) -> None:
    fill(pds, account, old(range(600)))
    writes = [*map(updated, range(600)), *map(created, range(600, 1000))]

    def elsewhere(number: int) -> tuple[str, str]:
        return f"n{number}", note("rival", "org.example.rival")

    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, account, plc=plc) as owner:
        known = there(owner)
        with rival(pds, account, elsewhere) as done:
            assert outcomes(write(owner, writes, known=known)) == {"applied": 1000}
        as_planned(owner, writes)
        assert len(done) > 3 and len(inventory.inventory(owner, "org.example.rival").cids) == len(done)
        # The race was run: some calls came too late, and none of those was carried out.
        assert proxy.count(APPLY) > 5


def test_a_writer_who_is_always_faster_does_not_stop_us(pds: Pds, account: Account) -> None:
    """Somebody writes before each of our calls, so that none finds the repo as we saw it: records go one by one."""
    fill(pds, account, old(range(45)))
    writes = [*map(updated, range(15)), *map(deleted, range(15, 30)), *map(created, range(100, 130))]
    bad = Write(
        COLLECTION, "bad", None, records.read(COLLECTION, "bad", json.dumps({"$type": COLLECTION, "blob": BLOB}))
    )
    rivals = iter(range(1000))

    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if call.method.endswith(APPLY):
            fill(pds, account, {f"n{next(rivals)}": note("rival", "org.example.rival")}, "org.example.rival")
        return on()

    with behind(pds, treat) as (proxy, plc), session(pds, account, plc=plc) as owner:
        known = there(owner)
        assert outcomes(write(owner, [*writes, bad], known=known)) == {"applied": 60, "failed": 1}
        as_planned(owner, writes)
        assert (proxy.count("putRecord"), proxy.count("deleteRecord")) == (46, 15)
        assert outcomes(write(owner, writes)) == {"already": 60}


def test_drift_is_seen_one_by_one_too(pds: Pds, account: Account) -> None:
    fill(pds, account, old(range(5)))
    writes = [*map(updated, range(5)), created(7)]
    changed = False

    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        nonlocal changed
        if call.method.endswith(APPLY):
            return Answer(400, b'{"error":"InvalidSwap","message":"Commit was at bafy"}')
        if call.method.endswith("putRecord") and not changed:
            changed = True
            for rkey in (key(0), key(7)):
                pds.send("com.atproto.repo.putRecord", put(account, COLLECTION, rkey, note("rival")), account)
        return on()

    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc) as owner:
        with pytest.raises(Drift) as drift:
            list(write(owner, writes, known=there(owner)))
        assert len(drift.value.details) == 2
        assert [it for it in there(owner).cids.values() if it in {w.cid for w in writes}] == []


def test_another_writer_s_change_to_our_records_is_drift_and_stays(pds: Pds, account: Account) -> None:
    fill(pds, account, old(range(1000)))
    writes = [*map(updated, range(1000))]
    with session(pds, account) as owner:
        known = there(owner)
        applied: list[Result] = []
        with pytest.raises(Drift) as drift:
            for result in write(owner, writes, known=known):
                applied.append(result)
                if len(applied) == 1:
                    fill(pds, account, {"zz": note("unrelated")})
                    body = put(account, COLLECTION, key(999), note("rival"))
                    pds.send("com.atproto.repo.putRecord", body, account)
        assert key(999) in drift.value.details[0] and len(drift.value.details) == 1
        now = there(owner).cids
        assert now[key(999)] == records.read(COLLECTION, key(999), note("rival")).cid
        assert 200 <= len(applied) < 1000
        for change in writes[:999]:
            assert now[change.rkey] in (change.before, change.cid)
        assert sum(now[it.rkey] == it.cid for it in writes) == len(applied)


def test_a_connection_cut_after_the_server_committed(pds: Pds, account: Account) -> None:
    fill(pds, account, old(range(200)))
    writes = [*map(updated, range(200)), *map(created, range(200, 600))]
    cut_at = {2, 4}
    seen = 0

    def treat(call: Call, on: Callable[[], Answer]) -> Answer | None:
        nonlocal seen
        answer = on()
        if call.method.endswith(APPLY):
            seen += 1
            if seen in cut_at:
                assert answer.status == 200
                return None
        return answer

    with behind(pds, treat) as (proxy, plc), session(pds, account, plc=plc) as owner:
        known = there(owner)
        rev = pds.get("com.atproto.sync.getLatestCommit", did=account.did)["cid"]
        assert outcomes(write(owner, writes, known=known)) == {"applied": 600}
        as_planned(owner, writes)
        assert rev == known.commit
        # Every record was in exactly one call that the server carried out.
        sent = [rkey for call in proxy.calls if call.method.endswith(APPLY) for rkey in commits(call)]
        assert len(sent) == len(set(sent)) == 600


def test_a_connection_cut_before_the_server_heard(pds: Pds, account: Account) -> None:
    seen = 0

    def treat(call: Call, on: Callable[[], Answer]) -> Answer | None:
        nonlocal seen
        if call.method.endswith(APPLY):
            seen += 1
            if seen in (1, 2, 4):
                return None if seen < 4 else Answer(502, b"bad gateway")
        return on()

    writes = [*map(created, range(450))]
    with behind(pds, treat) as (proxy, plc), session(pds, account, plc=plc) as owner:
        assert outcomes(write(owner, writes)) == {"applied": 450}
        as_planned(owner, writes)
        assert proxy.count(APPLY) == 6


def test_a_call_that_arrives_after_we_gave_it_up(pds: Pds, account: Account) -> None:
    """The worst cut: the server carries the call out while we already look whether it did."""
    late: list[threading.Thread] = []

    def treat(call: Call, on: Callable[[], Answer]) -> Answer | None:
        if call.method.endswith(APPLY) and not late:
            late.append(threading.Thread(target=lambda: (time.sleep(0.6), on())))
            late[0].start()
            return None
        return on()

    writes = [*map(created, range(100))]
    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc) as owner:
        assert outcomes(write(owner, writes)) == {"applied": 100}
        late[0].join()
        as_planned(owner, writes)


def test_a_connection_that_stays_cut_ends_with_what_to_do(pds: Pds, account: Account) -> None:
    seen = 0

    def treat(call: Call, on: Callable[[], Answer]) -> Answer | None:
        nonlocal seen
        if call.method.endswith(APPLY):
            seen += 1
            return on() if seen == 1 else None
        return on()

    told = Told()
    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc, told=told, clock=Hurried()) as owner:
        results: list[Result] = []
        with pytest.raises(ReconcilerError, match="is lost") as lost:
            results.extend(write(owner, map(created, range(300))))
        assert lost.value.code is Exit.PARTIAL and "run the same again" in lost.value.render()
        assert told.waits and "broke" in told.waits[0].reason


def test_a_bad_record_is_named_and_the_rest_goes_through(pds: Pds, account: Account) -> None:
    """A record key the server refuses for its own reasons, and a blob that is not there."""
    blob = json.dumps({"$type": COLLECTION, "blob": BLOB})
    old_blob = json.dumps({"$type": COLLECTION, "blob": {"cid": MISSING, "mimeType": "a/b"}})
    bad = {key(77): blob, key(150): old_blob, key(399): blob}
    writes = [
        Write(COLLECTION, key(n), None, records.read(COLLECTION, key(n), bad.get(key(n)) or note(f"new {n}")))
        for n in range(400)
    ]
    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, account, plc=plc) as owner:
        results = list(write(owner, writes))
        failed = {it.write.rkey: it.error for it in results if it.outcome is Outcome.FAILED}
        assert failed.keys() == bad.keys() and len(results) == 400
        for rkey, error in failed.items():
            assert error is not None and rkey in error.what and "lob" in (error.why or "")
        assert len(there(owner).cids) == 397
        # The server's words lead to the record: no search by halves.
        assert proxy.count(APPLY) <= 8


def test_a_bare_500_is_narrowed_down(pds: Pds, account: Account) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if call.method.endswith(APPLY) and key(137).encode() in call.body:
            return Answer(500, b'{"error":"InternalServerError","message":"Internal Server Error"}')
        return on()

    writes = [*map(created, range(200))]
    with behind(pds, treat) as (proxy, plc), session(pds, account, plc=plc) as owner:
        results = list(write(owner, writes))
        assert [it.write.rkey for it in results if it.outcome is Outcome.FAILED] == [key(137)]
        assert outcomes(results) == {"applied": 199, "failed": 1}
        assert proxy.count(APPLY) <= 18


def test_an_account_that_may_not_write_is_not_searched(pds: Pds) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        if call.method.endswith(APPLY):
            return Answer(400, b'{"error":"AccountDeactivated","message":"Account is deactivated"}')
        return on()

    account = pds.account()
    with behind(pds, treat) as (proxy, plc), session(pds, account, plc=plc) as owner:
        with pytest.raises(ReconcilerError, match="takes no writes"):
            list(write(owner, map(created, range(50))))
        assert proxy.count(APPLY) == 1


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "7"}, 7, 9),
        ({"ratelimit-reset": "soon"}, 5, 5),
        ({}, 5, 5),
        ({"ratelimit-reset": "+30"}, 29, 32),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1, 1),
    ],
)
def test_a_storm_of_429_is_waited_out(
    pds: Pds, account: Account, headers: dict[str, str], least: float, most: float
) -> None:
    told, clock, seen = Told(), Hurried(), 0

    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        nonlocal seen
        if call.method.endswith((APPLY, "createSession", "getRepo", "getLatestCommit")):
            seen += 1
            if seen % 3:
                given = {k: str(int(clock.now()) + 30) if v == "+30" else v for k, v in headers.items()}
                return Answer(429, b'{"error":"RateLimitExceeded","message":"Rate Limit Exceeded"}', given)
        return on()

    writes = [*map(created, range(300))]
    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc, told=told, clock=clock) as owner:
        assert outcomes(write(owner, writes)) == {"applied": 300}
        as_planned(owner, writes)
    assert len(told.waits) >= 6
    assert least <= told.waits[0].seconds <= most
    assert all("limits how often" in it.reason for it in told.waits)


def test_points_are_counted_where_the_server_does(strict_pds: Pds) -> None:
    """The server never has to say no, because we wait, also where its answers do not say what is left."""
    account, told, clock = strict_pds.account(), Told(), Hurried()
    with (
        behind(strict_pds, lambda call, on: on()) as (proxy, plc),
        session(strict_pds, account, plc=plc, told=told, clock=clock) as owner,
    ):
        owner._owning.limited = True  # pyright: ignore[reportPrivateUsage] - the proxy passes no headers on
        results = write(owner, map(created, range(400)), quota=Quota((Limit(1000, 3600),)))
        assert outcomes(islice(results, 333)) == {"applied": 333}
        assert told.waits == []
        sent = sum(len(commits(it)) for it in proxy.calls if it.method.endswith(APPLY))
        assert sent == 333 and len(there(owner).cids) == 333
        # The next one waits an hour.
        owner._owning._waiting = stop  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(Stop):
            list(results)


def test_points_of_an_earlier_run_are_known_from_what_the_server_tells(strict_pds: Pds) -> None:
    """A run that begins with nothing counted spends what the server says is left, and waits before it says no."""
    account, told = strict_pds.account(), Told()
    with session(strict_pds, account) as owner:
        assert outcomes(write(owner, map(created, range(1200)), quota=owner.quota)) == {"applied": 1200}
    with session(strict_pds, account, told=told) as owner:
        results = write(owner, map(created, range(1800)), quota=owner.quota)
        assert outcomes(islice(results, 1666)) == {"already": 1200, "applied": 466}
        assert told.waits == [] and owner.quota.told and owner.quota.left(owner.clock.now()) < 3
        owner._owning._waiting = stop  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(Stop) as stopped:
            list(results)
        assert "only so many writes an hour" in str(stopped.value) and len(there(owner).cids) == 1666


class Stop(Exception):
    pass


def stop(wait: object) -> None:
    raise Stop(wait)


def test_a_server_without_limits_is_not_waited_for(pds: Pds, account: Account) -> None:
    told = Told()
    with session(pds, account, told=told) as owner:
        quota = Quota((Limit(30, 3600),))
        assert outcomes(write(owner, map(created, range(40)), quota=quota)) == {"applied": 40}
        assert told.waits == [] and quota.left(owner.clock.now()) == 0


def test_a_server_with_limits_says_so_itself(strict_pds: Pds) -> None:
    account, told, clock = strict_pds.account(), Told(), Hurried()
    with session(strict_pds, account, told=told, clock=clock) as owner:
        quota = Quota((Limit(300, 3600),))
        assert outcomes(write(owner, map(created, range(450)), quota=quota)) == {"applied": 450}
        # The first call is sent before the server has said anything.
        assert 2 <= len(told.waits) <= 4 and sum(it.seconds for it in told.waits) > 2 * 3500


def test_a_token_that_runs_out_in_the_middle(pds: Pds, account: Account) -> None:
    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, account, plc=plc) as owner:
        results: list[Result] = []
        for result in write(owner, map(created, range(600))):
            results.append(result)
            if len(results) == 250:
                owner._access = pds.expired_token(account)  # pyright: ignore[reportPrivateUsage]
        assert outcomes(results) == {"applied": 600}
        assert (proxy.count("createSession"), proxy.count("refreshSession")) == (1, 1)


def test_one_writer_a_repo(pds: Pds, account: Account) -> None:
    with session(pds, account) as owner, session(pds, account) as other:
        running = write(owner, map(created, range(2)))
        next(running)
        with pytest.raises(ReconcilerError, match="another run is writing"):
            next(write(other, map(created, range(2))))
        running.close()
        assert outcomes(write(other, map(created, range(2)))) == {"already": 2}
    name = hashlib.sha256(account.did.encode()).hexdigest()[:24]
    assert list(Path(tempfile.gettempdir()).glob(f"reconciler-*{name}*")) == []


def test_a_record_twice_is_an_error(pds: Pds, account: Account) -> None:
    with session(pds, account) as owner, pytest.raises(ReconcilerError, match="written twice"):
        list(write(owner, [created(1), created(1)]))


@pytest.mark.parametrize(
    ("how", "outcome"), [(Validate.OFF, "applied"), (Validate.KNOWN, "failed"), (Validate.ON, "failed")]
)
def test_the_server_checks_records_when_told_to(pds: Pds, account: Account, how: Validate, outcome: str) -> None:
    known = "app.bsky.feed.post"
    change = Write(known, key(1), None, records.read(known, key(1), f'{{"$type":"{known}","text":1}}'))
    with session(pds, account) as owner:
        assert outcomes(write(owner, [change], validate=how)) == {outcome: 1}
        unknown = outcomes(write(owner, [created(1)], validate=how))
        assert unknown == ({"failed": 1} if how is Validate.ON else {"applied": 1})


def test_a_write_that_is_no_record_s_is_refused() -> None:
    with pytest.raises(ReconcilerError, match="is no record key"):
        Write(COLLECTION, 'x","value":{}', "b", None)
    with pytest.raises(ReconcilerError, match="is no collection"):
        Write("x", "x", "b", None)


def test_a_call_holds_records_byte_for_byte() -> None:
    text = '{ "$type" : "org.example.note", "a":1.0, "b":null,"c":"\\u00e9é" }'
    change = Write(COLLECTION, "r", None, records.read(COLLECTION, "r", text))
    body = batches.body("did:plc:abc", [change, deleted(1)], "bafy", Validate.OFF)
    assert text.encode() in body and json.loads(body)["swapCommit"] == "bafy"
    assert len(body) <= change.size + deleted(1).size + 2400
