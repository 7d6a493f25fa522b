"""What every storage promises, in each way it is reached."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import Outcome, Totals, Verdict, read_signed_url, transfer
from tests.postgres import Database
from tests.storage.worlds import World

TREE = [
    "A/x", "a", "a b", "a+b", "a-b/c", "a.b", "a/1", "a/b/c", "a/b.png", "a/b?c=1&d.png", "aX", "a_b/c", "axb/c", "z",
]  # fmt: skip


def test_an_inventory_is_complete_and_in_the_order_of_bytes(world: World) -> None:
    tree = [name for name in TREE if not (world.way == "directory" and name == "a")]
    deep = [f"many/{number:05d}.png" for number in range(2300)]
    world.seed([*reversed(tree), *deep])
    world.seed(["elsewhere"], bucket=world.other)
    inventory = world.storage.inventory(world.bucket)
    found = list(inventory)
    assert [each.name for each in found] == sorted([*tree, *deep])
    assert inventory.totals == Totals(len(found), 3 * len(found))
    assert {each.size for each in found} == {3}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each.created_at or "") for each in found)


def test_a_prefix_means_itself(world: World) -> None:
    tree = [name for name in TREE if not (world.way == "directory" and name == "a")]
    world.seed([*tree, "many/1", "many/2", "manyfold"])
    for prefix in ("a", "a_b", "a_b/", "a/b", "A", "many/", "nothing", "a%", "a/b.png", "a/b?"):
        expected = sorted(name for name in [*tree, "many/1", "many/2", "manyfold"] if name.startswith(prefix))
        assert world.names(prefix) == expected


def test_an_empty_bucket_is_empty(world: World) -> None:
    inventory = world.storage.inventory(world.bucket)
    assert (list(inventory), inventory.totals) == ([], Totals(0, 0))
    assert list(world.storage.inventory_copy(world.bucket)) == []


def test_a_missing_bucket_is_an_error_everywhere(world: World) -> None:
    storage = world.storage
    calls: list[Callable[[], object]] = [
        lambda: list(storage.inventory("no-such")),
        lambda: list(storage.inventory_copy("no-such")),
        lambda: storage.remove("no-such", ["a"]),
        lambda: storage.sign("no-such", ["a"], 60),
        lambda: storage.upload("no-such", "a", b""),
        lambda: storage.head("no-such", "a"),
        lambda: list(storage.verify("no-such", ["a"])),
        lambda: storage.move(world.bucket, "a", "a", to_bucket="no-such"),
    ]
    for call in calls:
        with pytest.raises(ReconcilerError, match="no bucket no-such"):
            call()


def test_totals_come_with_the_end_only(world: World) -> None:
    world.seed(["a", "b"])
    inventory = world.storage.inventory(world.bucket)
    next(inventory)
    with pytest.raises(ReconcilerError, match="not read to its end"):
        _ = inventory.totals


def test_copy_text_is_the_same_inventory(world: World, production: Database) -> None:
    world.seed(
        [f"p/{number:04d} é.png" if world.way == "directory" else f"p/{number:04d}.png" for number in range(1234)]
    )
    if world.way == "sql":
        world.seed(["p/tab\there", "p/back\\slash"])
        world.sql("UPDATE storage.objects SET metadata = NULL WHERE name = 'p/0007.png'")
    objects = list(world.storage.inventory(world.bucket, "p/"))
    inventory = world.storage.inventory_copy(world.bucket, "p/")
    with psycopg.connect(production.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE i (name text, size bigint, etag text, mime text, created_at timestamptz)")
        with cursor.copy("COPY i FROM STDIN") as copy:
            for block in inventory:
                assert block.endswith(b"\n")
                copy.write(block)
        cursor.execute(
            "SELECT name, size, etag, mime, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
            ' FROM i ORDER BY name COLLATE "C"'
        )
        assert cursor.fetchall() == [(it.name, it.size, it.etag, it.mime, it.created_at) for it in objects]
    assert inventory.totals == Totals(len(objects), sum(it.size or 0 for it in objects))


def test_metadata_of_any_kind(world: World) -> None:
    if world.way == "directory":
        pytest.skip("files have no metadata")
    world.seed(["a", "b", "c"])
    more = '{"metadata": {"size": 9}, "name": "x", "id": null, "objects": []}'
    world.sql(
        "UPDATE storage.objects SET metadata = metadata || %s WHERE bucket_id = %s AND name = 'a'", more, world.bucket
    )
    world.sql(
        "UPDATE storage.objects SET metadata = metadata - 'eTag' - 'size' WHERE bucket_id = %s AND name = 'b'",
        world.bucket,
    )
    found = {it.name: (it.size, it.etag, it.mime) for it in world.storage.inventory(world.bucket)}
    assert found == {"a": (3, '"0"', "image/png"), "b": (None, None, "image/png"), "c": (3, '"0"', "image/png")}


def test_bytes_come_back(world: World) -> None:
    content = bytes(range(256)) * 3000
    names = ["a.png", "a/b/c d.jpg", "q?x=1&y=2.png", "(1)+!.webp", "no extension"]
    for name in names:
        assert world.storage.upload(world.bucket, name, content) is Outcome.APPLIED
        assert world.content(name) == content
        found = world.storage.head(world.bucket, name)
        assert found is not None
        assert (found.name, found.size) == (name, len(content))
        assert [found] == [it for it in world.storage.inventory(world.bucket) if it.name == name]
    assert dict(world.storage.verify(world.bucket, names)) == dict.fromkeys(names, Verdict.PRESENT)


def test_content_may_be_bytes_a_file_or_a_stream(world: World, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"file")
    assert world.storage.upload(world.bucket, "a", b"") is Outcome.APPLIED
    assert world.storage.upload(world.bucket, "b", tmp_path / "f") is Outcome.APPLIED
    assert world.storage.upload(world.bucket, "c", lambda: io.BytesIO(b"stream")) is Outcome.APPLIED
    assert [world.content(name) for name in "abc"] == [b"", b"file", b"stream"]


def test_an_upload_never_overwrites_unless_told(world: World) -> None:
    upload = world.storage.upload
    assert upload(world.bucket, "a", b"one") is Outcome.APPLIED
    assert upload(world.bucket, "a", b"one") is Outcome.ALREADY
    with pytest.raises(ReconcilerError, match="holds other bytes"):
        upload(world.bucket, "a", b"two")
    assert world.content("a") == b"one"
    assert upload(world.bucket, "a", b"two", overwrite=True) is Outcome.APPLIED
    assert world.content("a") == b"two"


def test_moves(world: World) -> None:
    move, bucket, other = world.storage.move, world.bucket, world.other
    for name in ("a", "b", "d/c"):
        world.storage.upload(bucket, name, name.encode())
    assert move(bucket, "a", "x/y") is Outcome.APPLIED
    assert move(bucket, "a", "x/y") is Outcome.ALREADY
    assert move(bucket, "d/c", "d/c", to_bucket=other) is Outcome.APPLIED
    with pytest.raises(ReconcilerError, match="holds other bytes"):
        move(bucket, "b", "x/y")
    with pytest.raises(ReconcilerError):
        move(bucket, "nothing", "nowhere")
    assert (world.names(), world.names(bucket=other)) == (["b", "x/y"], ["d/c"])
    assert (world.content("x/y"), world.content("d/c", other)) == (b"a", b"d/c")


def test_copies(world: World) -> None:
    copy, bucket, other = world.storage.copy, world.bucket, world.other
    for name in ("a", "b"):
        world.storage.upload(bucket, name, name.encode())
    assert copy(bucket, "a", "c/d") is Outcome.APPLIED
    assert copy(bucket, "a", "c/d") is Outcome.ALREADY
    assert copy(bucket, "a", "a", to_bucket=other) is Outcome.APPLIED
    with pytest.raises(ReconcilerError, match="holds other bytes"):
        copy(bucket, "b", "c/d")
    with pytest.raises(ReconcilerError):
        copy(bucket, "nothing", "nowhere")
    assert (world.names(), world.names(bucket=other)) == (["a", "b", "c/d"], ["a"])


def test_removal(world: World) -> None:
    for name in ("a/b/c", "a/d", "e"):
        world.storage.upload(world.bucket, name, b"x")
    done = world.storage.remove(world.bucket, ["a/b/c", "nothing", "e", "e"])
    assert (done.removed, done.absent) == (("a/b/c", "e"), ("nothing",))
    assert world.storage.remove(world.bucket, ["e"]).absent == ("e",)
    assert world.names() == ["a/d"]
    assert world.storage.remove(world.bucket, []).removed == ()


def test_removal_goes_in_batches(world: World) -> None:
    names = world.seed(f"{number:05d}" for number in range(2500))
    done = world.storage.remove(world.bucket, [*names, "nothing"])
    assert (len(done.removed), done.absent, world.names()) == (2500, ("nothing",), [])


def test_signing_is_by_name_and_names_what_is_missing(world: World) -> None:
    names = world.seed([f"p/{number:04d}?.png" for number in range(1500)])
    begin = int(time.time())
    signed = world.storage.sign(world.bucket, [*names, "missing", "missing"], 3600)
    assert (sorted(signed.urls), signed.missing) == (names, ("missing",))
    for name in names[::300]:
        url = read_signed_url(signed.urls[name])
        assert url is not None
        assert (url.bucket, url.name) == (world.bucket, name)
        assert begin + 3600 <= url.expires <= time.time() + 3600
    assert "token" not in repr(signed)


def test_a_signed_url_opens_its_object(world: World) -> None:
    if world.way == "directory":
        pytest.skip("nobody serves a folder's URLs")
    for name in ("a b.png", "q?x=1&y.png"):
        world.storage.upload(world.bucket, name, name.encode())
        answer = httpx.get(world.storage.sign(world.bucket, [name], 60).urls[name])
        assert (answer.status_code, answer.content) == (200, name.encode())


def test_verdicts_come_in_the_order_asked_for(world: World) -> None:
    for number in range(12):
        world.storage.upload(world.bucket, f"{number}", b"x")
    names = [str(number) for number in reversed(range(24))]
    verdicts = list(world.storage.verify(world.bucket, iter(names)))
    assert verdicts == [(name, Verdict.PRESENT if int(name) < 12 else Verdict.ABSENT) for name in names]


BAD = ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".", "%2e%2e/a", "a%20b", "a\\b", "a\nb", "a\0", "x" * 1025]


def test_names_that_mean_another_object_are_refused(world: World) -> None:
    storage, bucket = world.storage, world.bucket
    storage.upload(bucket, "there", b"x")
    calls: list[Callable[[str], object]] = [
        lambda name: storage.upload(bucket, name, b"x"),
        lambda name: storage.download(bucket, name),
        lambda name: storage.move(bucket, "there", name),
        lambda name: storage.move(bucket, name, "there"),
        lambda name: storage.copy(bucket, "there", name),
        lambda name: storage.remove(bucket, ["there", name]),
        lambda name: storage.sign(bucket, [name], 60),
        lambda name: storage.head(bucket, name),
        lambda name: list(storage.verify(bucket, [name])),
    ]
    for name in BAD:
        for call in calls:
            with pytest.raises(ReconcilerError, match="cannot be the name"):
                call(name)
    assert world.names() == ["there"]


def test_new_names_are_of_the_servers_alphabet(world: World) -> None:
    for name in ("é.png", "a#b", "a[1]", "a~", 'a"', "a<b", "a{b", "a|b", "a`", "a^b"):
        with pytest.raises(ReconcilerError, match="cannot be the name"):
            world.storage.upload(world.bucket, name, b"x")


def test_a_bucket_has_a_plain_name(world: World) -> None:
    for bucket in ("", ".", "..", "a/b", "../x", "a%2f", "é", "a\nb"):
        with pytest.raises(ReconcilerError, match="cannot be the name of a bucket"):
            list(world.storage.inventory(bucket))


def test_folders_may_lie_as_deep_as_names_are_long(world: World) -> None:
    names = world.seed(["a/" * depth + "x.png" for depth in (0, 1, 250)])
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)  # what is as deep as that is not gone into
    try:
        assert [it.name for it in world.storage.inventory(world.bucket)] == sorted(names)
    finally:
        sys.setrecursionlimit(limit)


def test_a_fingerprint_tells_buckets_apart_and_nothing_else(world: World) -> None:
    first, second = world.storage.fingerprint(world.bucket), world.storage.fingerprint(world.other)
    assert first == world.storage.fingerprint(world.bucket) != second
    assert re.fullmatch(r"[0-9a-f]{16}", first)


def test_objects_go_from_one_storage_to_another(world: World, make_world: Callable[[str], World]) -> None:
    folder = make_world("directory")
    content = b"0123456789" * 600_000
    folder.storage.upload(folder.bucket, "a.png", content)
    there = (world.storage, world.bucket, "b/c.png")
    assert transfer(folder.storage, folder.bucket, "a.png", *there) is Outcome.APPLIED
    assert transfer(folder.storage, folder.bucket, "a.png", *there) is Outcome.ALREADY
    assert world.content("b/c.png") == content
    found = world.storage.head(world.bucket, "b/c.png")
    assert found is not None
    assert found.mime == "image/png"
