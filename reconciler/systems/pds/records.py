"""Records as the exact JSON text they are, and the CID a PDS gives them.

In: JSON text, or a block of DAG-CBOR. Out: `Record`, whose text is sent as it is, or JSON text made from the block. A number never
becomes a float. What a PDS would store as something else than the text says (a fraction, an integer past 2^53-1, a key twice, half a
surrogate pair, a `$link` or `$bytes` that is none) is refused by the record's name, before anything is sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn, cast

import libipld

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import cbor, syntax

MAX_BYTES = 1_000_000  # of JSON: the body of one call
MAX_STORED = 1 << 20  # of DAG-CBOR
MAX_DEPTH = 256
_MAX_INTEGER = (1 << 53) - 1
RECORD_CID = b"\x01\x71\x12\x20"  # version 1, dag-cbor, sha-256 of 32 bytes
BLOB_CID = b"\x01\x55\x12\x20"
CID_BYTES = 36


@dataclass(frozen=True)
class Record:
    """A record that a PDS stores exactly as its text says."""

    collection: str
    rkey: str
    text: str
    cid: str

    @property
    def size(self) -> int:
        """Bytes of the text as it is sent."""
        return len(self.text.encode())


class _WrongError(ValueError):
    pass


class _Bytes:
    """A byte string that looks like a link."""

    def __init__(self, value: bytes) -> None:
        self.value = value


def read(collection: str, rkey: str, text: str) -> Record:
    """The record, or an error that names it and what is wrong with it."""
    syntax.nsid(collection)
    syntax.rkey(rkey)
    try:
        block = _block(text, collection)
    except (_WrongError, RecursionError, UnicodeEncodeError) as error:
        raise ReconcilerError(
            f"the record {collection}/{rkey} cannot be stored as it is",
            why=_why(error),
            todo="mend the record in its source, or leave it out",
        ) from None
    return Record(collection, rkey, text, cid_of_block(block))


def cid_of(text: str) -> str | None:
    """The CID of a record that is there, whatever its $type; None where its JSON does not say all of it."""
    try:
        return cid_of_block(_block(text, None))
    except (_WrongError, RecursionError, UnicodeEncodeError):
        return None


def cid_of_block(block: bytes) -> str:
    return libipld.encode_cid(RECORD_CID + hashlib.sha256(block).digest())


def cid_of_blob(digest: bytes) -> str:
    """The CID of bytes with this SHA-256."""
    return libipld.encode_cid(BLOB_CID + digest)


def to_json(block: bytes) -> str:
    """The record in a block as JSON text, keys in the block's order; ValueError where it cannot be said in JSON."""
    value = cast(object, libipld.decode_dag_cbor(block))
    exact = libipld.encode_dag_cbor(value) == block
    plain = _plain(value if exact else cbor.decode(block), linked=exact)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def parse(text: str | bytes) -> object:
    """JSON of an answer: integers exact, and no floats."""
    return json.loads(text, parse_float=_integral, parse_constant=_no_constant)


def dump(value: object) -> str:
    """Compact JSON of what `parse` gave."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _block(text: str, collection: str | None) -> bytes:
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_BYTES:
        raise _WrongError(f"it has {size:,} bytes of JSON, and a call takes {MAX_BYTES:,}")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise _WrongError(f"it is nested more than {MAX_DEPTH} deep")
    try:
        value = cast(object, _JSON.decode(text))
    except json.JSONDecodeError as error:
        raise _WrongError(f"it is not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise _WrongError("it is no JSON object")
    type_ = cast(dict[str, object], value).get("$type")
    if collection is not None and type_ != collection:
        said = syntax.shown(type_) if isinstance(type_, str) else "missing" if type_ is None else "no text"
        raise _WrongError(f"its $type is {said}, and must be the collection, {collection}")
    try:
        block = libipld.encode_dag_cbor(value)
    except ValueError:  # a byte string that looks like a link, or half a surrogate pair: the slow way tells
        block = cbor.encode(_told(cast(object, value)))
    if len(block) > MAX_STORED:
        raise _WrongError(f"it takes {len(block):,} bytes when stored, and a PDS takes {MAX_STORED:,}")
    return block


def _object(pairs: list[tuple[str, object]]) -> object:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _WrongError(
            f"the key {syntax.shown(next(key for key in keys if keys.count(key) > 1))} stands there twice"
        )
    if "$link" in value:
        return _link(value)
    if "$bytes" in value:
        return _bytes(value)
    if "__proto__" in value:
        raise _WrongError("a PDS refuses the key __proto__")
    return value


def _link(value: dict[str, object]) -> bytes:
    text = value["$link"]
    if len(value) == 1 and isinstance(text, str) and text[:1] == "b" and len(text) <= 256:
        try:
            cid = base64.b32decode(text[1:].upper() + "=" * (-(len(text) - 1) % 8))
            if libipld.encode_cid(cid) == text:
                return cid
        except (ValueError, binascii.Error):
            pass
    raise _WrongError(f"{syntax.shown(json.dumps(value))} is no link: $link stands alone and names a CID, in base32")


def _bytes(value: dict[str, object]) -> object:
    text = value["$bytes"]
    if len(value) == 1 and isinstance(text, str):
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            if base64.b64encode(data).rstrip(b"=").decode() == text.rstrip("="):
                return _Bytes(data) if libipld.encode_dag_cbor(data)[:1] == b"\xd8" else data
        except (ValueError, binascii.Error):
            pass
    raise _WrongError(f"{syntax.shown(json.dumps(value))} is no byte string: $bytes stands alone and holds base64")


def _integer(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > _MAX_INTEGER:
        raise _WrongError(f"{syntax.shown(text)} is past ±{_MAX_INTEGER}, which a PDS cannot keep")
    return number


def _integral(text: str) -> int:
    try:
        number = Decimal(text)
    except ArithmeticError:  # an exponent past what even Decimal takes
        raise _WrongError(f"{syntax.shown(text)} is past ±{_MAX_INTEGER}, which a PDS cannot keep") from None
    if number.adjusted() > 17:
        raise _WrongError(f"{syntax.shown(text)} is past ±{_MAX_INTEGER}, which a PDS cannot keep")
    if number.adjusted() < -400 or number != number.to_integral_value():
        raise _WrongError(f"{syntax.shown(text)} is a fraction, and records hold integers only")
    return _integer(str(int(number)))


def _no_constant(text: str) -> NoReturn:
    raise _WrongError(f"{text} is no number")


def _depth(text: str) -> int:
    deepest = depth = 0
    inside = escaped = False
    for letter in text:
        if inside:
            inside, escaped = escaped or letter != '"', not escaped and letter == "\\"
        elif letter == '"':
            inside = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest


def _told(value: object) -> object:
    """The same with links and byte strings told apart."""
    if isinstance(value, bytes):
        looks = libipld.encode_dag_cbor(value)[:1] == b"\xd8"
        return cbor.Link(value) if looks else value
    if isinstance(value, _Bytes):
        return value.value
    if isinstance(value, list):
        return [_told(item) for item in cast(list[object], value)]
    if isinstance(value, dict):
        return {key: _told(member) for key, member in cast(dict[str, object], value).items()}
    return value


def _plain(value: object, *, linked: bool) -> object:
    match value:
        case dict():
            return {key: _plain(member, linked=linked) for key, member in cast(dict[str, object], value).items()}
        case list():
            return [_plain(item, linked=linked) for item in cast(list[object], value)]
        case bytes() if linked and libipld.encode_dag_cbor(value)[:1] == b"\xd8":
            return {"$link": libipld.encode_cid(value)}
        case bytes():
            return {"$bytes": base64.b64encode(value).rstrip(b"=").decode()}
        case cbor.Link(cid):
            return {"$link": libipld.encode_cid(cid)}
        case float():
            raise ValueError(f"it holds {value}, and JSON has no exact word for a float")
        case _:
            return value


_JSON = json.JSONDecoder(
    parse_int=_integer, parse_float=_integral, parse_constant=_no_constant, object_pairs_hook=_object
)


def _why(error: Exception) -> str:
    match error:
        case RecursionError():
            return f"it is nested more than {MAX_DEPTH} deep"
        case UnicodeEncodeError():
            return "a text in it holds half of a surrogate pair, which a PDS replaces"
        case _:
            return str(error)
