"""What a record is to us is what it is to the real server: same CID, same text, or refused before it is sent."""

from __future__ import annotations

import hashlib
import json
import re

import libipld
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import cbor, records
from tests.pds.real import Account, Pds

COLLECTION = "org.example.nasty"
LINK = "bafyreibjk2zm52hfizr454i2vrctndr2q2oimlwxu36s3or2icabptr6by"
DAG_PB = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
# A byte string that any reader of CIDs takes for one, and the shortest there is.
CID_LIKE = "AXESIClWss7o5UZjzvEarEU2jjqGnIYu16b9LbpAgBfOPg4H"[:48]


def record(members: str) -> str:
    return f'{{"$type":"{COLLECTION}"{"," if members else ""}{members}}}'


NASTY = {
    "nothing": "",
    "nulls": '"a":null,"b":{"c":null,"d":[null]}',
    "integers": '"a":9007199254740991,"b":-9007199254740991,"c":0,"d":-1,"e":23,"f":24,"g":255,"h":256,"i":65536,"j":4294967296',
    "integral": '"a":1.0,"b":1e3,"c":-0,"d":-0.0,"e":1.50e1,"f":0.0',
    "order": '"zz":1,"a":2,"bbb":3,"aa":4,"":5,"é":6,"éé":7,"😀":8',
    "unicode": '"a":"\\ud83d\\ude00 😀 \\u0000 \\u2028 \\u00e9 e\\u0301 \\/ \\" \\\\"',
    "links": f'"a":{{"$link":"{LINK}"}},"b":[{{"$link":"{DAG_PB}"}}]',
    "bytes": '"a":{"$bytes":""},"b":{"$bytes":"AAE"},"c":{"$bytes":"AAE="},"d":{"$bytes":"+/8"}',
    "bytes like a link": f'"a":{{"$bytes":"{CID_LIKE}"}},"b":{{"$link":"{LINK}"}},"c":{{"$bytes":"AVUAAA"}}',
    "types": '"a":{"$type":1},"b":{"$type":""},"c":{"$foo":true},"d":false',
    "spaces": '\n "a" : [ 1 ,\t2 ] ,\r\n "b" : { } ',
    "deep": f'"a":{"[" * 255}{"]" * 255}',
    "brackets in a text": f'"a":"{"[{" * 500}\\""',
    "long": f'"a":"{"x" * 900_000}"',
}  # fmt: skip


@pytest.fixture(scope="module")
def stored(pds: Pds) -> dict[str, tuple[str, str]]:
    """Of each nasty record the CID and the JSON that the server gives."""
    account: Account = pds.account()
    found: dict[str, tuple[str, str]] = {}
    for number, (name, members) in enumerate(NASTY.items()):
        write = f'{{"$type":"com.atproto.repo.applyWrites#create","collection":"{COLLECTION}","rkey":"r{number}","value":{record(members)}}}'
        pds.send(
            "com.atproto.repo.applyWrites", f'{{"repo":"{account.did}","validate":false,"writes":[{write}]}}', account
        )
        answer = pds.get("com.atproto.repo.getRecord", repo=account.did, collection=COLLECTION, rkey=f"r{number}")
        found[name] = answer["cid"], json.dumps(answer["value"], ensure_ascii=False)
    return found


@pytest.mark.parametrize("name", NASTY)
def test_the_cid_is_the_server_s(stored: dict[str, tuple[str, str]], name: str) -> None:
    sent = records.read(COLLECTION, "r", record(NASTY[name]))
    assert sent.text == record(NASTY[name])
    assert sent.cid == stored[name][0]
    assert records.read(COLLECTION, "r", stored[name][1]).cid == sent.cid


REFUSED = {
    "1.5": '"a":1.5',
    "1e-7": '"a":1e-7',
    "9007199254740992": '"a":9007199254740992',
    "1e400": '"a":1e400',
    "1e99999999999999999999": '"a":1e99999999999999999999',
    "past": f'"a":{"9" * 5000}',
    "NaN": '"a":NaN',
    "twice": '"a":1,"a":2',
    "'\\$type' stands there twice": f'"$type":"{COLLECTION}"',
    "__proto__": '"__proto__":1',
    "surrogate": '"a":"\\ud800"',
    "surrogate ": '"\\udfff":1',
    "no link": '"a":{"$link":"bad"}',
    "no link ": f'"a":{{"$link":"{LINK}","x":1}}',
    "no link  ": f'"a":{{"$link":"{LINK.upper()}"}}',
    "no link   ": '"a":{"$link":1}',
    "no byte string": '"a":{"$bytes":"!!"}',
    "no byte string ": '"a":{"$bytes":"AAF"}',
    "no byte string  ": '"a":{"$bytes":"A A E"}',
    "deep": f'"a":{"[" * 256}{"]" * 256}',
    "deep ": f'"a":{"[" * 100_000}{"]" * 100_000}',
    "bytes of JSON": f'"a":"{"x" * 1_000_000}"',
    "not JSON": '"a":',
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_would_be_stored_otherwise_is_refused_by_name(why: str) -> None:
    with pytest.raises(ReconcilerError, match="nasty/key cannot be stored as it is") as refused:
        records.read(COLLECTION, "key", record(REFUSED[why]))
    assert re.search(why.strip(), refused.value.why or "")
    assert len(refused.value.render()) < 600


@pytest.mark.parametrize(
    ("text", "why"),
    [("[]", "no JSON object"), ('"x"', "no JSON object"), ("{}", "missing"), ('{"$type":"a.b.other"}', "'a.b.other'")],
)
def test_what_is_no_record_of_the_collection_is_refused(text: str, why: str) -> None:
    with pytest.raises(ReconcilerError) as refused:
        records.read(COLLECTION, "key", text)
    assert why in (refused.value.why or "")


keys = st.text().filter(lambda it: not it.startswith(("$", "__proto__")))
cids = st.binary(min_size=32, max_size=32).map(lambda it: b"\x01\x71\x12\x20" + it)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text()
    | st.binary(max_size=80)
    | cids
    | cids.map(cbor.Link),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(keys, values, max_size=5))
def test_a_block_as_json_has_the_block_s_cid(members: dict[str, object]) -> None:
    value = {**members, "$type": COLLECTION}
    block = cbor.encode(value)
    assert cbor.decode(block) == value
    assert records.read(COLLECTION, "key", records.to_json(block)).cid == records.cid_of_block(block)


@settings(max_examples=100, deadline=None)
@given(values)
def test_both_encoders_agree(value: object) -> None:
    block = cbor.encode(value)
    digest = hashlib.sha256(block).digest()
    again = libipld.encode_dag_cbor(libipld.decode_dag_cbor(block))
    # The only difference there is: libipld makes a link of a byte string that looks like one.
    assert hashlib.sha256(again).digest() == digest or len(again) > len(block)


@pytest.mark.parametrize(
    "block",
    [b"", b"\xa1", b"\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00", b"\x01\x01", b"\xd8\x2b\x40", b"\x5f\xff", b"\x62a"],
)
def test_the_slow_decoder_refuses_what_is_no_dag_cbor(block: bytes) -> None:
    with pytest.raises(cbor.CborError):
        cbor.decode(block)
