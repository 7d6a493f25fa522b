"""Reading a collection: both ways give the same, and what is incomplete is an error."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import libipld
import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import car, inventory, records
from reconciler.systems.pds.inventory import PAGES, Way
from reconciler.systems.pds.tree import Tree
from tests.pds.proxy import Answer, Call
from tests.pds.real import Account, Pds
from tests.pds.test_session import behind
from tests.pds.world import COLLECTION, fill, key, note, session


@pytest.fixture(scope="module")
def full(pds: Pds) -> Account:
    """A repo with a large collection, its neighbours in the tree, and a small one."""
    account = pds.account()
    fill(pds, account, {key(n): note(f"n{n}") for n in range(PAGES * 100 + 50)})
    fill(pds, account, {"a": note("x", f"{COLLECTION}s"), "~": note("x", f"{COLLECTION}s")}, f"{COLLECTION}s")
    fill(pds, account, {"z": note("x", "org.example.not")}, "org.example.not")
    return account


def test_both_ways_give_the_same(pds: Pds, full: Account) -> None:
    with session(pds, full) as reader:
        listed = inventory.inventory(reader, COLLECTION, way=Way.LIST)
        repo = inventory.inventory(reader, COLLECTION, way=Way.REPO)
        assert listed.commit == repo.commit == inventory.head(reader)
        assert dict(listed.cids) == dict(repo.cids) and len(repo.cids) == PAGES * 100 + 50
        assert list(repo.cids) == sorted(repo.cids)
        assert repo.cids[key(7)] == records.read(COLLECTION, key(7), note("n7")).cid
        small = inventory.inventory(reader, f"{COLLECTION}s")
        assert sorted(small.cids) == ["a", "~"]
        for way in Way:
            assert inventory.inventory(reader, "org.example.none", way=way).cids == {}


def test_the_cheaper_way_is_chosen(pds: Pds, full: Account) -> None:
    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, full, plc=plc) as reader:
        inventory.inventory(reader, f"{COLLECTION}s")
        assert (proxy.count("getRepo"), proxy.count("listRecords")) == (0, 2)
        assert len(inventory.inventory(reader, COLLECTION).cids) == PAGES * 100 + 50
        assert (proxy.count("getRepo"), proxy.count("listRecords")) == (1, 2 + PAGES + 1)


def test_what_is_known_to_be_large_is_not_listed_first(pds: Pds, full: Account) -> None:
    with behind(pds, lambda call, on: on()) as (proxy, plc), session(pds, full, plc=plc) as reader:
        found = inventory.inventory(reader, COLLECTION, many=lambda: True)
        assert len(found.cids) == PAGES * 100 + 50
        assert (proxy.count("getRepo"), proxy.count("listRecords")) == (1, 1)
        assert (
            len(inventory.inventory(reader, f"{COLLECTION}s", many=lambda: True).cids) == 2
        )  # it ends before anyone asks
        assert proxy.count("getRepo") == 1


def test_an_empty_repo(pds: Pds, account: Account) -> None:
    with session(pds, account) as reader:
        for way in Way:
            assert inventory.inventory(reader, COLLECTION, way=way).cids == {}
        assert inventory.one(reader, COLLECTION, "none") is None


def test_bodies_of_a_few_and_of_many(pds: Pds, full: Account) -> None:
    with session(pds, full) as reader:
        few = list(inventory.bodies(reader, COLLECTION, [key(3), "absent", key(1)]))
        assert [it.rkey for it in few] == [key(1), key(3)]
        many = list(inventory.bodies(reader, COLLECTION, [key(n) for n in range(300)] + ["absent"]))
        assert len(many) == 300
        listed = {it.rkey: it for it in inventory.listed(reader, COLLECTION)}
        for found in few + many:
            assert records.read(COLLECTION, found.rkey, found.text).cid == found.cid == listed[found.rkey].cid
            assert json.loads(found.text) == json.loads(note(f"n{TEXT[found.rkey]}"))


TEXT = {key(n): n for n in range(2000)}


def test_a_backup_file(pds: Pds, full: Account, tmp_path: Path) -> None:
    path = tmp_path / "backup.car"
    with session(pds, full) as reader:
        with reader.public.stream("com.atproto.sync.getRepo", {"did": full.did}) as pieces:
            path.write_bytes(b"".join(pieces))
        with car.opened(path) as backup:
            assert backup.did == full.did and backup.commit == inventory.head(reader)
            assert backup.collections() == ["org.example.not", COLLECTION, f"{COLLECTION}s"]
            assert backup.cids(COLLECTION) == dict(inventory.inventory(reader, COLLECTION).cids)
            for rkey, cid, text in backup.records(COLLECTION):
                assert records.read(COLLECTION, rkey, text).cid == cid
            assert [it[0] for it in backup.records(f"{COLLECTION}s")] == ["a", "~"]


def test_a_backup_cut_anywhere_is_never_a_small_repo(pds: Pds, full: Account) -> None:
    with session(pds, full) as reader, reader.public.stream("com.atproto.sync.getRepo", {"did": full.did}) as pieces:
        whole = b"".join(pieces)
    told = car.Car(io.BytesIO(whole), "whole").cids(COLLECTION)
    refused = 0
    for size in range(0, len(whole), len(whole) // 97):
        try:
            cut = car.Car(io.BytesIO(whole[:size]), "cut")
            assert cut.cids(COLLECTION) == told
            assert len(list(cut.records(COLLECTION))) == len(told)
        except ReconcilerError as error:
            assert "is no complete repo" in error.what
            refused += 1
    assert refused > 90
    damaged = bytearray(whole)
    for at in range(200, len(whole), len(whole) // 53):
        damaged[at] ^= 1
    with pytest.raises(ReconcilerError, match="is no complete repo"):
        list(car.Car(io.BytesIO(bytes(damaged)), "damaged").records(COLLECTION))


@pytest.mark.parametrize("size", [1, 7, 36, 4096])
def test_a_backup_is_the_same_in_whatever_parts_it_comes(pds: Pds, account: Account, tmp_path: Path, size: int) -> None:
    fill(pds, account, {key(n): note("x" * (40 * n)) for n in range(40)})  # lengths of one byte and of two
    with session(pds, account) as reader, reader.public.stream("com.atproto.sync.getRepo", {"did": account.did}) as got:
        whole = b"".join(got)
    told = list(car.Car(io.BytesIO(whole), "whole").records(COLLECTION))
    coming = car.Car(io.BytesIO(), "coming", parts=(whole[at : at + size] for at in range(0, len(whole), size)))
    assert list(coming.records(COLLECTION)) == told and len(told) == 40
    coming.save(tmp_path / "saved.car")
    assert (tmp_path / "saved.car").read_bytes() == whole
    for end in range(0, len(whole) - 1, 101):
        with pytest.raises(ReconcilerError, match="is no complete repo"):
            parts = [whole[at : min(at + size, end)] for at in range(0, end, size)]
            list(car.Car(io.BytesIO(), "cut", parts=parts).records(COLLECTION))


def framed(*blocks: bytes) -> bytes:
    """A CAR of blocks that are no records, with the first for its root."""
    cids = [b"\x01\x55\x12\x20" + hashlib.sha256(block).digest() for block in blocks]
    head = libipld.encode_dag_cbor({"roots": [cids[0]], "version": 1})
    pieces = [head, *(cid + block for cid, block in zip(cids, blocks, strict=True))]
    return b"".join(varint(len(it)) + it for it in pieces)


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


class Counting(io.BytesIO):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_blobs_in_a_backup_are_passed_over_until_they_are_asked_for() -> None:
    nothing = libipld.encode_dag_cbor({"e": [], "l": None})
    root = b"\x01\x71\x12\x20" + hashlib.sha256(nothing).digest()
    commit = libipld.encode_dag_cbor({"did": "did:plc:abcdefghijklmnopqrstuvwx", "rev": "1", "data": root})
    blobs = [bytes([n]) * n * 300_000 for n in range(12)]  # one is empty
    data = framed(commit, *blobs) + varint(36 + len(nothing)) + root + nothing
    file = Counting(data)
    backup = car.Car(file, "blobs")
    assert backup.cids(COLLECTION) == {}
    for blob in blobs:
        assert backup.blob(records.cid_of_blob(hashlib.sha256(blob).digest())) == blob
    assert file.read_bytes < sum(map(len, blobs)) + 3 * 12 * (1 << 16)
    assert car.Car(io.BytesIO(), "coming", parts=[data[:9], data[9:]]).cids(COLLECTION) == {}
    for end in (len(data) - 1, len(data) - len(nothing) - 40, 2_000_000):
        with pytest.raises(ReconcilerError, match="is no complete repo"):
            car.Car(io.BytesIO(data[:end]), "cut")


def test_a_backup_that_vanishes_while_it_is_read(pds: Pds, full: Account, tmp_path: Path) -> None:
    path = tmp_path / "backup.car"
    with session(pds, full) as reader, reader.public.stream("com.atproto.sync.getRepo", {"did": full.did}) as parts:
        path.write_bytes(b"".join(parts))
    with car.opened(path) as backup, pytest.raises(ReconcilerError, match="is no complete repo"):
        os.truncate(path, 0)
        list(backup.records(COLLECTION))


@pytest.mark.parametrize("value", [None, b"", b"x" * 36, "x" * 36])
def test_a_tree_whose_record_has_no_cid_is_malformed(value: object) -> None:
    node = libipld.encode_dag_cbor({"e": [{"p": 0, "k": f"{COLLECTION}/a".encode(), "v": value, "t": None}], "l": None})
    root = b"\x01\x71\x12\x20" + hashlib.sha256(node).digest()
    tree = Tree("did:plc:x", "c", "1", root, {root: node}, "a backup")
    with pytest.raises(ReconcilerError, match="a backup is no complete repo"):
        tree.cid(COLLECTION, "a")
    with pytest.raises(ReconcilerError, match="a backup is no complete repo"):
        list(tree.entries(COLLECTION))


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 20, b"{}", b"\x01\xa0", b"\x0a\xa1eroots\x80"])
def test_what_is_no_backup(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.car").write_bytes(data)
    with pytest.raises(ReconcilerError, match=r"x\.car is no complete repo"), car.opened(tmp_path / "x.car"):
        pass
    with pytest.raises(ReconcilerError, match=r"cannot read y\.car"), car.opened(tmp_path / "y.car"):
        pass


def page(answer: Answer, **changes: object) -> Answer:
    given = {**json.loads(answer.body), **changes}
    return Answer(200, json.dumps({name: it for name, it in given.items() if it is not None}).encode())


def same_cursor(call: Call, on: Callable[[], Answer]) -> Answer:
    return page(on(), cursor=key(500)) if call.method.endswith("listRecords") else on()


def another_s(call: Call, on: Callable[[], Answer]) -> Answer:
    if not call.method.endswith("listRecords"):
        return on()
    other: dict[str, object] = {"uri": f"at://did:plc:other/{COLLECTION}/r", "cid": "x", "value": {"a": 1}}
    return page(on(), records=[other])


def no_last_cursor(call: Call, on: Callable[[], Answer]) -> Answer:
    answer = on()
    if call.method.endswith("listRecords") and len(json.loads(answer.body)["records"]) < 100:
        return page(answer, cursor=None)
    return answer


def test_a_listing_in_a_circle_is_an_error(pds: Pds, full: Account) -> None:
    with behind(pds, same_cursor) as (proxy, plc), session(pds, full, plc=plc) as reader:
        with pytest.raises(ReconcilerError, match="cannot be relied on") as wrong:
            inventory.inventory(reader, COLLECTION, way=Way.LIST)
        assert "in a circle" in (wrong.value.why or "") and proxy.count("listRecords") < 9


def test_a_last_page_without_a_cursor_ends_the_listing(pds: Pds, full: Account) -> None:
    with behind(pds, no_last_cursor) as (proxy, plc), session(pds, full, plc=plc) as reader:
        assert len(inventory.inventory(reader, COLLECTION, way=Way.LIST).cids) == PAGES * 100 + 50
        assert proxy.count("listRecords") == PAGES + 1


def test_records_that_were_not_asked_for_are_an_error(pds: Pds, full: Account) -> None:
    with behind(pds, another_s) as (_, plc), session(pds, full, plc=plc) as reader, pytest.raises(ReconcilerError):
        inventory.inventory(reader, COLLECTION, way=Way.LIST)


@pytest.mark.parametrize("way", [Way.LIST, Way.REPO])
def test_a_read_that_breaks_off_is_tried_again_and_then_an_error(pds: Pds, full: Account, way: Way) -> None:
    failures = 2

    def treat(call: Call, on: Callable[[], Answer]) -> Answer | None:
        nonlocal failures
        if call.method.endswith(("listRecords", "getRepo")) and failures:
            failures -= 1
            answer = on()
            # No answer at all, or one that is shorter than it says.
            return None if way is Way.LIST else Answer(200, b"", {"content-length": str(len(answer.body))})
        return on()

    with behind(pds, treat) as (_, plc), session(pds, full, plc=plc) as reader:
        assert len(inventory.inventory(reader, COLLECTION, way=way).cids) == PAGES * 100 + 50


def test_a_repo_that_changes_while_it_is_listed_has_no_commit(pds: Pds) -> None:
    account = pds.account()
    fill(pds, account, {key(n): note("x") for n in range(150)})

    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        answer = on()
        if call.method.endswith("listRecords") and "cursor" not in call.query:
            fill(pds, account, {"zz": note("late")})
        return answer

    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc) as reader:
        assert inventory.inventory(reader, COLLECTION, way=Way.LIST).commit is None


def test_a_repo_that_is_not_there(pds: Pds) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        return Answer(400, b'{"error":"RepoDeactivated","message":"Repo has been deactivated"}')

    account = pds.account()
    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc) as reader:
        for way in Way:
            with pytest.raises(ReconcilerError, match="cannot be read") as wrong:
                inventory.inventory(reader, COLLECTION, way=way)
            assert "RepoDeactivated" in wrong.value.render()
