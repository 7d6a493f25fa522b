"""What lists say of objects, in one vocabulary; and an answer of list v2, read object by object.

In: an answer's text. Out: its members, and an `Entry` of each object. As one tree a page is three times its text in memory, and half of
what it says nobody asks for: only one object's is there at a time. A text that is cut anywhere, or is no such answer, is a ValueError.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple, cast

from reconciler.systems.storage.http import Garbled, Json
from reconciler.systems.storage.interface import Object

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|[+-]00(?::?00)?)")
_SIGN = re.compile(r"[ \t\n\r]*([][{}:,])[ \t\n\r]*")
_value = json.JSONDecoder().raw_decode


class Entry(NamedTuple):
    """Values as the server wrote them."""

    name: str
    size: object
    etag: object
    mime: object
    created_at: object
    updated_at: object

    @classmethod
    def of(cls, name: str, tree: Json) -> Entry:
        given = tree.get("metadata")
        metadata = cast("Json", given) if isinstance(given, dict) else {}
        return cls(
            name, metadata.get("size"), metadata.get("eTag"), metadata.get("mimetype"),
            tree.get("created_at"), tree.get("updated_at"),
        )  # fmt: skip

    def described(self) -> Object:
        """The same in the words of every storage."""
        return Object(
            self.name,
            whole(self.size),
            _text(self.etag),
            _text(self.mime),
            _to_milliseconds(_text(self.created_at)),
            _to_milliseconds(_text(self.updated_at)),
        )


def read(text: str) -> tuple[Json, list[Entry]]:
    """An answer's members but `objects`, and these."""
    try:
        return _members(text)
    except RecursionError:
        raise Garbled("nested too deep") from None


def _members(text: str) -> tuple[Json, list[Entry]]:
    members: Json = {}
    entries: list[Entry] | None = None
    sign, at = _sign(text, 0, "{")
    while sign != "}":
        name, at = _value(text, at)
        if not isinstance(name, str) or name in members or (name == "objects" and entries is not None):
            raise Garbled("a member has no name of its own")
        _, at = _sign(text, at, ":")
        if name == "objects":
            entries, at = _objects(text, at)
        else:
            members[name], at = _value(text, at)
        sign, at = _sign(text, at, ",}")
    if entries is None or at != len(text):
        raise Garbled("not a page, or something follows it")
    return members, entries


def _objects(text: str, at: int) -> tuple[list[Entry], int]:
    entries: list[Entry] = []
    sign, at = _sign(text, at, "[")
    if text.startswith("]", at):
        return entries, at + 1
    while sign != "]":
        tree, at = _value(text, at)
        if not isinstance(tree, dict) or not isinstance(name := cast("Json", tree).get("name"), str):
            raise Garbled("an object has no name")
        if cast("Json", tree).get("id") is None:
            raise Garbled("not an object")
        entries.append(Entry.of(name, cast("Json", tree)))
        sign, at = _sign(text, at, ",]")
    return entries, at


def _sign(text: str, at: int, expected: str) -> tuple[str, int]:
    """The sign that stands there, and where what follows it begins."""
    found = _SIGN.match(text, at)
    if found is None or found[1] not in expected:
        raise Garbled("not a page")
    return found[1], found.end()


def whole(value: object) -> int | None:
    if isinstance(value, bool) or value is None:
        return None
    return value if isinstance(value, int) else int(text) if (text := str(value)).isdecimal() else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _to_milliseconds(time: str | None) -> str | None:
    """Servers write as many digits as they like; SQL and both lists are to say the same."""
    found = _TIME.fullmatch(time) if time else None
    return f"{found[1]}T{found[2]}.{(found[3] or '')[:3]:0<3}Z" if found else time
