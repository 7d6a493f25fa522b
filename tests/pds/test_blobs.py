"""Blobs that records name: found in records, missed by the server, and given to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import blobs, records
from reconciler.systems.pds.batches import Outcome, Write
from reconciler.systems.pds.blobs import Reference
from reconciler.systems.pds.write import write
from tests.pds.proxy import Answer, Call
from tests.pds.real import Account, Pds
from tests.pds.test_session import behind
from tests.pds.world import COLLECTION, session


def reference(data: bytes, mime: str = "text/plain") -> Reference:
    return Reference(records.cid_of_blob(hashlib.sha256(data).digest()), mime, len(data), legacy=False)


def naming(*named: Reference) -> str:
    given = [{"$type": "blob", "ref": {"$link": it.cid}, "mimeType": it.mime, "size": it.size} for it in named]
    return json.dumps({"$type": COLLECTION, "files": given})


def test_references_in_the_new_form_and_the_old() -> None:
    one, two = reference(b"one"), reference(b"two", "image/png")
    old = {"cid": one.cid, "mimeType": "image/jpeg"}
    text = json.dumps({"b": {"x": [json.loads(naming(two, two))]}, "a": old, "no": {"cid": "x", "mimeType": "y"}})
    assert blobs.references(text) == [two, Reference(one.cid, "image/jpeg", None, legacy=True)]
    assert blobs.references('{"a":[1,null,{"$type":"blob"}]}') == []


def test_a_record_goes_when_its_blob_is_there(pds: Pds, account: Account, tmp_path: Path) -> None:
    data = tmp_path / "blob.txt"
    data.write_bytes(b"some bytes")
    named = reference(b"some bytes")
    change = Write(COLLECTION, "r", None, records.read(COLLECTION, "r", naming(named)))
    with session(pds, account) as owner:
        (refused,) = write(owner, [change])
        assert refused.outcome is Outcome.FAILED and "BlobNotFound" in str(refused.error and refused.error.why)
        blobs.upload(owner, named, data)
        blobs.upload(owner, named, b"some bytes")
        assert [it.outcome for it in write(owner, [change])] == [Outcome.APPLIED]
        assert list(blobs.held(owner)) == [named.cid]
        assert list(blobs.missing(owner)) == []
        # Without the record the server drops the blob, and does not take the record back.
        assert [it.outcome for it in write(owner, [Write(COLLECTION, "r", change.cid, None)])] == [Outcome.APPLIED]
        assert list(blobs.held(owner)) == []
        assert [it.outcome for it in write(owner, [change])] == [Outcome.FAILED]
        blobs.upload(owner, named, data)
        assert [it.outcome for it in write(owner, [change])] == [Outcome.APPLIED]


def test_other_bytes_are_not_uploaded(pds: Pds, account: Account) -> None:
    with session(pds, account) as owner, pytest.raises(ReconcilerError, match="is not the blob"):
        blobs.upload(owner, reference(b"one"), b"two")


def test_a_type_the_server_sees_otherwise_is_told(pds: Pds, account: Account) -> None:
    def treat(call: Call, on: Callable[[], Answer]) -> Answer:
        answer = on()
        return Answer(answer.status, answer.body.replace(b"image/jpeg", b"image/png"), answer.headers)

    with behind(pds, treat) as (_, plc), session(pds, account, plc=plc) as owner:
        blobs.upload(owner, reference(b"png", "image/png"), b"png")
        with pytest.raises(ReconcilerError, match="is there as image/png"):
            blobs.upload(owner, reference(b"jpeg", "image/jpeg"), b"jpeg")


def test_a_blob_that_is_too_large(pds: Pds, account: Account) -> None:
    data = b"\0" * 6_000_000
    with session(pds, account) as owner, pytest.raises(ReconcilerError, match="was not taken") as wrong:
        blobs.upload(owner, reference(data), data)
    assert "413" in wrong.value.render()
