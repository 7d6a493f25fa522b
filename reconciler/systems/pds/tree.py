"""A repo's tree at one commit: key → CID of every record, and any single one in a few steps.

In: nodes, each of which was checked against its CID, and the root. A node that is missing is an error, never an absence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn, TypedDict, cast

import libipld

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds.records import CID_BYTES, RECORD_CID

_DEEPEST = 128
_REMEMBERED = 10_000


_Entry = tuple[bytes | None, bytes, bytes]
"""The subtree before a record, the record's key and its CID. No class: a tree has as many as there are records."""


class _Given(TypedDict):
    """An entry as a node has it, its key without what it shares with the key before."""

    p: int
    k: bytes
    v: bytes
    t: bytes | None


class _Node(NamedTuple):
    entries: list[_Entry]
    after: bytes | None


@dataclass(frozen=True)
class Tree:
    """`nodes` may hold more than this tree's own; `place` is what errors call it."""

    did: str
    commit: str
    rev: str
    root: bytes
    nodes: Mapping[bytes, bytes] = field(repr=False)
    place: str
    _read: dict[bytes, _Node] = field(default_factory=dict[bytes, _Node], repr=False, compare=False)

    def cid(self, collection: str, rkey: str) -> str | None:
        """Of one record; None where there is none."""
        wanted = f"{collection}/{rkey}".encode()
        at: bytes | None = self.root
        for _ in range(_DEEPEST):
            if at is None:
                return None
            node = self._node(at)
            at = node.after
            for before, key, cid in node.entries:
                if key == wanted:
                    return libipld.encode_cid(cid)
                if key > wanted:
                    at = before
                    break
        return self._broken("its tree is too deep")

    def entries(self, collection: str) -> Iterator[tuple[str, bytes]]:
        """(rkey, CID in binary) of the collection, in order of rkey."""
        prefix = f"{collection}/".encode()
        last = b""
        for key, cid in self._walk(self.root, prefix, prefix[:-1] + b"0", 0):
            if key.startswith(prefix):
                if key <= last:
                    self._broken("its tree is not in order")
                last = key
                yield key[len(prefix) :].decode("ascii", "replace"), cid

    def collections(self) -> list[str]:
        """The collections that have records."""
        keys = (key.partition(b"/")[0] for key, _ in self._walk(self.root, b"", b"\xff", 0))
        return sorted({key.decode("ascii", "replace") for key in keys})

    def _walk(self, cid: bytes, low: bytes, high: bytes, depth: int) -> Iterator[tuple[bytes, bytes]]:
        """Entries between the bounds; some outside come along, subtrees wholly outside are not entered."""
        if depth > _DEEPEST:
            self._broken("its tree is too deep")
        node = self._parsed(cid)
        for before, key, record in node.entries:
            if before is not None and key > low:
                yield from self._walk(before, low, high, depth + 1)
            if key >= high:
                return
            yield key, record
        if node.after is not None:
            yield from self._walk(node.after, low, high, depth + 1)

    def _node(self, cid: bytes) -> _Node:
        found = self._read.get(cid)
        if found is None:
            if len(self._read) >= _REMEMBERED:
                self._read.clear()
            found = self._read[cid] = self._parsed(cid)
        return found

    def _parsed(self, cid: bytes) -> _Node:
        block = self.nodes.get(cid) or self._broken("a node of its tree is missing")
        try:
            node = cast(Mapping[str, object], libipld.decode_dag_cbor(block))
            key, before, entries = b"", _link(node["l"]), list[_Entry]()
            for entry in cast(list[_Given], node["e"]):
                key = key[: entry["p"]] + entry["k"]
                record = _link(entry["v"]) or b""
                if len(record) != CID_BYTES or not record.startswith(RECORD_CID):
                    raise ValueError
                entries.append((before, key, record))
                before = _link(entry["t"])
        except (ValueError, TypeError, KeyError, RecursionError):
            self._broken("a node of its tree is malformed")
        return _Node(entries, before)

    def _broken(self, why: str) -> NoReturn:
        raise broken(self.place, why)


def broken(place: str, why: str) -> ReconcilerError:
    return ReconcilerError(f"{place} is no complete repo", why=why, todo="fetch it again, or use another backup")


def _link(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    raise TypeError
