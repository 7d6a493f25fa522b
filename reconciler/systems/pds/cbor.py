"""DAG-CBOR in Python, for the few records libipld cannot tell apart.

libipld gives a link and a byte string the same type, bytes, and writes back as a link whatever looks like one. Here they differ:
a link is `Link`, a byte string is `bytes`. Slow, so only used where libipld's own round trip does not give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True)
class Link:
    """A CID, in its binary form."""

    cid: bytes


class CborError(ValueError):
    """What is wrong with the data."""


def encode(value: object) -> bytes:
    """Canonical bytes: shortest heads, map keys by length and then by bytes."""
    match value:
        case None:
            return b"\xf6"
        case True:
            return b"\xf5"
        case False:
            return b"\xf4"
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            text = value.encode()
            return _head(3, len(text)) + text
        case Link(cid):
            return b"\xd8\x2a" + _head(2, len(cid) + 1) + b"\0" + cid
        case list():
            items = cast(list[object], value)
            return _head(4, len(items)) + b"".join(encode(item) for item in items)
        case dict():
            members = cast(dict[str, object], value)
            keyed = sorted((len(key.encode()), key.encode(), member) for key, member in members.items())
            return _head(5, len(keyed)) + b"".join(_head(3, n) + key + encode(member) for n, key, member in keyed)
        case _:
            raise CborError(f"{type(value).__name__} has no place in a record")


def decode(data: bytes) -> object:
    """The one value the bytes hold; a float, an unknown tag or anything after it is an error."""
    value, at = _item(data, 0)
    if at != len(data):
        raise CborError("something follows the value")
    return value


def _head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for more, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | more]) + number.to_bytes(size, "big")
    raise CborError(f"{number} is too large")


def _item(data: bytes, at: int) -> tuple[object, int]:
    major, number, at = _read_head(data, at)
    match major:
        case 0:
            return number, at
        case 1:
            return -1 - number, at
        case 2 | 3:
            if at + number > len(data):
                raise CborError("it is cut short")
            piece = data[at : at + number]
            return (piece if major == 2 else piece.decode()), at + number
        case 4:
            items: list[object] = []
            for _ in range(number):
                item, at = _item(data, at)
                items.append(item)
            return items, at
        case 5:
            members: dict[str, object] = {}
            for _ in range(number):
                key, at = _item(data, at)
                if not isinstance(key, str) or key in members:
                    raise CborError("a map has a key twice, or one that is no text")
                members[key], at = _item(data, at)
            return members, at
        case 6:
            inner, at = _item(data, at)
            if number != 42 or not isinstance(inner, bytes) or inner[:1] != b"\0":
                raise CborError(f"tag {number} has no place in a record")
            return Link(inner[1:]), at
        case _:
            simple: dict[int, object] = {20: False, 21: True, 22: None}
            if number not in simple:
                raise CborError("a float or an unknown simple value has no place in a record")
            return simple[number], at


def _read_head(data: bytes, at: int) -> tuple[int, int, int]:
    if at >= len(data):
        raise CborError("it is cut short")
    major, small = data[at] >> 5, data[at] & 31
    if small < 24:
        return major, small, at + 1
    if small > 27 or major == 7:
        raise CborError("a float or a value of unknown length has no place in a record")
    size = 1 << (small - 24)
    if at + 1 + size > len(data):
        raise CborError("it is cut short")
    return major, int.from_bytes(data[at + 1 : at + 1 + size], "big"), at + 1 + size
