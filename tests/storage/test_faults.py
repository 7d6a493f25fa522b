"""Requests that fail, answers that are lost, keys that see too little: the same result, or an error that says what to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import Outcome, Totals, Verdict, supabase
from reconciler.systems.storage.http import Patience
from reconciler.systems.storage.project import SupabaseStorage
from tests.postgres import Database
from tests.storage import tokens
from tests.storage.double import Double
from tests.storage.faults import Fault
from tests.storage.worlds import World

IMPATIENT = Patience(first=0.001, longest=0.01, tries=3, deadline=5, silence=0.3)
OPERATIONS: list[tuple[str, Callable[[World], object]]] = [
    ("listing", lambda world: list(world.storage.inventory(world.bucket))),
    ("uploading", lambda world: world.storage.upload(world.bucket, "a", b"x")),
    ("signing", lambda world: world.storage.sign(world.bucket, ["there"], 60)),
    ("removing", lambda world: world.storage.remove(world.bucket, ["there"])),
    ("copying", lambda world: world.storage.copy(world.bucket, "there", "copied")),
    ("moving", lambda world: world.storage.move(world.bucket, "there", "moved")),
    ("looking up", lambda world: world.storage.head(world.bucket, "there")),
    ("reading", lambda world: world.content("there")),
]


def run(world: World) -> list[object]:
    """Every action once, and what each gave."""
    storage, bucket, other = world.storage, world.bucket, world.other
    names = [f"p/{number:02d}.png" for number in range(12)]
    done: list[object] = [storage.upload(bucket, name, name.encode() * 5000) for name in names]
    done.append(storage.upload(bucket, names[0], b"other", overwrite=True))
    done.append([storage.move(bucket, name, name.replace("p/", "q/")) for name in names[:4]])
    done.append([storage.move(bucket, name, name, to_bucket=other) for name in names[4:6]])
    done.append([storage.copy(bucket, name, f"copy of {name[2:]}") for name in names[6:8]])
    done.append([storage.copy(bucket, name, name, to_bucket=other) for name in names[8:10]])
    done.append(storage.remove(bucket, [names[10], "never there", names[11]]))
    done.append(list(storage.verify(bucket, [*names, "q/00.png"])))
    signed = storage.sign(bucket, [*names[6:10], "nothing"], 600)
    done.append((sorted(signed.urls), signed.missing))
    done.append([world.content(name) for name in names[6:9]])
    done.append(world.content("q/00.png"))
    for each in (bucket, other):
        inventory = storage.inventory(each)
        done.append([(found.name, found.size, found.etag) for found in inventory])
        done.append(inventory.totals)
    return done


@pytest.fixture(scope="session")
def untroubled() -> dict[str, list[object]]:
    return {}


@pytest.mark.parametrize("seed", range(3))
def test_a_fifth_of_all_requests_fails_and_nobody_can_tell(
    doubled: World, seed: int, untroubled: dict[str, list[object]], make_world: Callable[[str], World]
) -> None:
    if doubled.way not in untroubled:
        untroubled[doubled.way] = run(make_world(doubled.way))
    files = len(list(doubled.double.folder.iterdir()))
    doubled.double.fail(0.2, seed=seed)
    assert run(doubled) == untroubled[doubled.way]
    doubled.double.heal()
    there = len(doubled.names()) + len(doubled.names(bucket=doubled.other))
    assert len(list(doubled.double.folder.iterdir())) - files == there  # nothing was stored twice


LOST: list[Fault] = ["lost", "truncated", "cut"]


@pytest.mark.parametrize("fault", LOST)
def test_what_was_done_before_its_answer_was_lost_is_not_done_again(api: World, fault: Fault) -> None:
    storage, bucket = api.storage, api.bucket
    list(storage.inventory(bucket))
    api.double.once(fault, "POST /storage/v1/object/")
    assert storage.upload(bucket, "a", b"x") is Outcome.APPLIED
    api.double.once(fault, "/object/copy")
    assert storage.copy(bucket, "a", "b") is Outcome.APPLIED
    api.double.once(fault, "/object/move")
    assert storage.move(bucket, "b", "c") is Outcome.APPLIED
    api.double.once(fault, "DELETE ")
    done = storage.remove(bucket, ["c", "d"])
    assert (done.removed, done.absent) == (("c",), ("d",))
    assert api.names() == ["a"]


def test_a_download_goes_on_where_it_broke_off(api: World) -> None:
    content = bytes(range(256)) * 4000
    api.storage.upload(api.bucket, "a", content)
    api.double.once("truncated", "GET .*/object/authenticated", times=3)
    assert api.content("a") == content


def test_retry_after_is_honoured_by_every_request(api: World) -> None:
    api.seed(["a"])
    list(api.storage.inventory(api.bucket))
    at = int(time.time()) + 3
    for told, until in (("1", time.time() + 1), (formatdate(at, usegmt=True), at)):
        api.double.faults.retry_after = told
        api.double.once("wait", "list-v2")
        assert api.names() == ["a"]
        assert until <= time.time() < until + 10


def test_a_wait_beyond_all_patience_is_an_error_at_once(api: World) -> None:
    list(api.storage.inventory(api.bucket))
    api.double.faults.retry_after = "3600"
    api.double.once("wait", "list-v2")
    begin = time.monotonic()
    for _ in range(2):  # the second request is not even sent
        with pytest.raises(ReconcilerError, match="listing bucket") as raised:
            api.names()
        assert "429" in (raised.value.why or "")
        assert "try again in 3" in (raised.value.todo or "")
    assert time.monotonic() - begin < 2


BROKEN: list[Fault] = ["busy", "500", "503", "400/503", "reset", "lost", "truncated"]


@pytest.mark.parametrize("fault", BROKEN)
def test_what_never_gets_well_ends_in_time(api: World, double: Double, fault: Fault) -> None:
    storage = SupabaseStorage("storage", double.url, double.key, None, IMPATIENT)
    world = World(storage, api.bucket, api.other, "list v2", api.server)
    storage.upload(api.bucket, "there", b"x")
    double.fail(1.0, kinds=[fault])
    try:
        for doing, call in OPERATIONS:
            begin = time.monotonic()
            with pytest.raises(ReconcilerError, match=f"{doing} .* failed on storage") as raised:
                call(world)
            assert raised.value.todo
            assert time.monotonic() - begin < 2
    finally:
        storage.close()


def test_a_server_that_keeps_silent_is_not_waited_for(api: World, double: Double) -> None:
    storage = SupabaseStorage("storage", double.url, double.key, None, IMPATIENT)
    double.faults.latency = 1.0
    begin = time.monotonic()
    with pytest.raises(ReconcilerError, match="failed on storage") as raised:
        list(storage.inventory(api.bucket))
    assert "in time" in (raised.value.why or "")
    assert time.monotonic() - begin < 4
    storage.close()


def test_a_server_that_is_not_there_is_said() -> None:
    storage = supabase("storage", "http://127.0.0.1:9", "sb_secret_canary", patience=IMPATIENT)
    with pytest.raises(ReconcilerError, match="failed on storage") as raised:
        list(storage.inventory("images"))
    assert "cannot be reached" in (raised.value.why or "")
    assert "canary" not in raised.value.render()
    assert "127.0.0.1" not in raised.value.render()
    storage.close()


def test_requests_at_a_time_are_few(api: World) -> None:
    names = [f"{number}" for number in range(40)]
    for name in names:
        api.storage.upload(api.bucket, name, b"x")
    api.double.heal()
    api.double.faults.latency = 0.02
    assert set(dict(api.storage.verify(api.bucket, names)).values()) == {Verdict.PRESENT}
    assert 2 <= api.double.peak <= 8


def test_a_key_of_another_role_is_refused_before_anything_is_asked(double: Double) -> None:
    for key in (double.anon_key, double.token("authenticated"), "sb_publishable_canary", "", "a\nb"):
        with pytest.raises(ReconcilerError, match=r"the key behind connections\.storage") as raised:
            supabase("storage", double.url, key)
        assert "canary" not in raised.value.render()
    with pytest.raises(ReconcilerError, match="of the role anon") as raised:
        supabase("storage", double.url, double.anon_key)
    assert "service role key" in (raised.value.todo or "")


def test_a_refused_key_says_which_and_what_role_is_needed(
    api: World, double: Double, client_of: Callable[[str], SupabaseStorage]
) -> None:
    """401 of the gateway, 403 of the server: whatever is asked, not only at first."""
    api.storage.upload(api.bucket, "there", b"x")
    for key in (
        "sb_secret_canary",
        double.token("service_role", expires=1),
        tokens.sign({"role": "service_role"}, "canary"),
    ):
        storage = client_of(key)
        world = World(storage, api.bucket, api.other, "list v2", api.server)
        for known in (False, True):
            if known:  # as if the key had been taken away meanwhile
                cast("dict[str, str]", vars(storage)["_buckets"])[api.bucket] = "2026-01-01T00:00:00Z"
            for _, call in OPERATIONS:
                with pytest.raises(ReconcilerError) as raised:
                    call(world)
                assert "connections.storage.key" in (raised.value.todo or ""), raised.value.render()
                assert "service role" in (raised.value.todo or "")
                assert "canary" not in raised.value.render()
                assert key not in raised.value.render()
    assert api.names() == ["there"]


def test_a_missing_bucket_says_what_may_be_wrong(api: World) -> None:
    with pytest.raises(ReconcilerError, match="has no bucket no-such") as raised:
        list(api.storage.inventory("no-such"))
    assert "connections.storage.key" in (raised.value.todo or "")
    assert "service role" in (raised.value.todo or "")


def test_a_referenced_object_is_named_with_what_to_do(api: World) -> None:
    for name in "ab":
        api.storage.upload(api.bucket, name, b"x")
    api.sql("CREATE TABLE kept (id uuid REFERENCES storage.objects (id))")
    try:
        api.sql("INSERT INTO kept SELECT id FROM storage.objects WHERE bucket_id = %s AND name = 'b'", api.bucket)
        with pytest.raises(ReconcilerError, match="removing 2 objects") as raised:
            api.storage.remove(api.bucket, ["a", "b"])
        assert "foreign key" in (raised.value.todo or "")
        assert api.names() == ["a", "b"]
    finally:
        api.sql("DROP TABLE kept")


def test_lost_bytes_are_told_from_a_server_in_trouble(doubled: World) -> None:
    for name in ("a", "b", "c"):
        doubled.storage.upload(doubled.bucket, name, b"x")
    doubled.sql("UPDATE storage.objects SET version = 'x' WHERE bucket_id = %s AND name = 'b'", doubled.bucket)
    said = [("a", Verdict.PRESENT), ("b", Verdict.BYTES_GONE), ("c", Verdict.PRESENT), ("d", Verdict.ABSENT)]
    assert list(doubled.storage.verify(doubled.bucket, "abcd")) == said
    doubled.double.fail(0.2, seed=5)
    assert list(doubled.storage.verify(doubled.bucket, "abcd")) == said
    assert list(doubled.storage.verify(doubled.bucket, "b")) == [("b", Verdict.BYTES_GONE)]
    doubled.double.heal()
    doubled.double.fail(1.0, kinds=["500"], only="(HEAD|GET) .*/object/sign/")
    for name in "ab":
        with pytest.raises(ReconcilerError, match="cannot be told"):
            list(doubled.storage.verify(doubled.bucket, [name]))


def test_another_projects_database_is_refused(api: World, double: Double, production: Database) -> None:
    from reconciler.systems.postgres.session import connect
    from tests.storage.double_schema import SCHEMA

    with connect("storage", production.dsn) as session:
        storage = SupabaseStorage("storage", double.url, double.key, session)
        with pytest.raises(ReconcilerError, match=r"has no storage\.objects|no bucket"):
            list(storage.inventory(api.bucket))
        production.sql(SCHEMA)
        with pytest.raises(ReconcilerError, match="is not the one of its storage"):
            list(storage.inventory(api.bucket))
        production.sql("INSERT INTO storage.buckets (id, name) VALUES (%s, %s)", api.bucket, api.bucket)
        with pytest.raises(ReconcilerError, match="is not the one of its storage"):
            list(storage.inventory(api.bucket))
        storage.close()


def test_a_full_inventory_by_sql_and_by_the_api_agree(make_world: Callable[[str], World], double: Double) -> None:
    by_sql = make_world("sql")
    by_sql.seed(f"{number % 7}/{number:04d}.png" for number in range(1500))
    by_api = SupabaseStorage("storage", double.url, double.key)
    one, other = by_sql.storage.inventory(by_sql.bucket), by_api.inventory(by_sql.bucket)
    assert list(one) == list(other)
    assert one.totals == other.totals == Totals(1500, 4500)
    by_api.close()


@pytest.mark.parametrize(
    "signed", ["", "/object/sign/x/a", "/object/sign/x/a?token=", "/object/sign/x/a?token=cut.off"]
)
def test_an_answer_without_a_token_is_no_signed_url(api: World, signed: str) -> None:
    api.storage.upload(api.bucket, "a", b"x")

    def tamper(path: str, given: object) -> object:
        return [{"path": "a", "signedURL": signed, "error": None}] if "/object/sign/" in path else given

    api.double.tamper(tamper)
    with pytest.raises(ReconcilerError, match="signing 1 objects"):
        api.storage.sign(api.bucket, ["a"], 60)


@pytest.mark.parametrize(("operation", "run"), [it for it in OPERATIONS if it[0] in ("reading", "removing", "moving")])
def test_a_redirect_is_not_taken_for_an_answer(api: World, operation: str, run: Callable[[World], object]) -> None:
    api.storage.upload(api.bucket, "there", b"x")
    api.double.once("redirect", "object", times=50)
    with pytest.raises(ReconcilerError, match=rf"^{operation} .* failed on") as caught:
        run(api)
    assert "canary" not in caught.value.render()


def test_a_redirect_says_nothing_of_bytes(api: World) -> None:
    api.storage.upload(api.bucket, "there", b"x")
    api.double.once("redirect", "^HEAD ", times=50)
    with pytest.raises(ReconcilerError, match="cannot be told"):
        list(api.storage.verify(api.bucket, ["there"]))
