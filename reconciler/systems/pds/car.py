"""A repo in a CAR file: which records it has, and what they say.

In: a file, local or downloaded. Out: rkey → CID in order of rkey, and each record's JSON. Every block that is used is checked against
its CID, and one that is missing is an error: a file cut short never looks like a small repo. Memory holds the tree's nodes and what is
asked for, never the records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn, cast

import libipld

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import records, syntax

_NODE = b"\xa2ae"  # a map of two whose first key is "e", which is how every node of the tree begins
_PLAIN = (b"\x01\x71\x12\x20", b"\x01\x55\x12\x20")
_DEEPEST = 128
_BLOCK = 1 << 22  # no PDS makes a larger one
_CHUNK = 1 << 20


class Car:
    """A CAR file that is open; `place` is what errors call it."""

    def __init__(self, file: IO[bytes], place: str) -> None:
        self._file = file
        self._place = place
        self._nodes: dict[bytes, bytes] = {}
        root = self._index()
        commit = self._map(self._commit)
        did, data = commit.get("did"), commit.get("data")
        if not isinstance(did, str) or not syntax.is_did(did) or not isinstance(data, bytes):
            self._broken("its first block is no commit of a repo")
        self.did = did
        self.commit = libipld.encode_cid(root)
        self._tree = data

    def cids(self, collection: str) -> dict[str, str]:
        """rkey → CID of the collection's records, in order of rkey."""
        return {rkey: libipld.encode_cid(cid) for rkey, cid in self._entries(syntax.nsid(collection))}

    def collections(self) -> list[str]:
        """The collections that have records."""
        return sorted({key.partition("/")[0] for key, _ in self._walk(self._tree, b"", b"\xff", 0)})

    def records(self, collection: str, rkeys: Iterable[str] | None = None) -> Iterator[tuple[str, str, str]]:
        """(rkey, CID, JSON text) of all records of the collection, or of those named that are there, in order of rkey."""
        chosen = None if rkeys is None else set(rkeys)
        entries = [it for it in self._entries(syntax.nsid(collection)) if chosen is None or it[0] in chosen]
        places = self._places({cid for _, cid in entries})
        for rkey, cid in entries:
            at, size = places.get(cid) or self._broken(f"the record {collection}/{rkey} is not in it")
            self._file.seek(at)
            block = self._checked(cid, self._file.read(size))
            try:
                text = records.to_json(block)
            except (ValueError, RecursionError) as error:
                self._broken(f"the record {collection}/{rkey} cannot be written as JSON: {error}")
            yield rkey, libipld.encode_cid(cid), text

    def _entries(self, collection: str) -> Iterator[tuple[str, bytes]]:
        prefix = f"{collection}/"
        last = ""
        for key, cid in self._walk(self._tree, prefix.encode(), prefix[:-1].encode() + b"0", 0):
            if key.startswith(prefix):
                if key <= last:
                    self._broken("its tree is not in order")
                last = key
                yield key[len(prefix) :], cid

    def _walk(self, cid: bytes, low: bytes, high: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
        """Entries between the bounds; some outside come along, subtrees wholly outside are not entered."""
        node = self._map(self._nodes.get(cid) or self._broken("a node of its tree is missing"))
        entries, left = node.get("e"), node.get("l")
        if depth > _DEEPEST or not isinstance(entries, list):
            self._broken("a node of its tree is malformed")
        key, subtree = b"", left
        for entry in cast(list[Mapping[str, object]], entries):
            prefix, suffix, value, after = entry.get("p"), entry.get("k"), entry.get("v"), entry.get("t")
            if not isinstance(prefix, int) or not isinstance(suffix, bytes) or not isinstance(value, bytes):
                self._broken("a node of its tree is malformed")
            key = key[:prefix] + suffix
            if isinstance(subtree, bytes) and key > low:
                yield from self._walk(subtree, low, high, depth + 1)
            if key >= high:
                return
            yield key.decode("ascii", "replace"), value
            subtree = after
        if isinstance(subtree, bytes):
            yield from self._walk(subtree, low, high, depth + 1)

    def _index(self) -> bytes:
        """Read once through: keeps the nodes and the commit, returns the commit's CID."""
        self._commit = b""
        self._file.seek(0)
        size = self._varint() or self._broken("it is empty")
        roots = self._map(self._take(size)).get("roots")
        root = cast(list[object], roots)[0] if isinstance(roots, list) and roots else None
        if not isinstance(root, bytes):
            self._broken("it names no root")
        self._first = self._file.tell()
        for cid, at, size in self._blocks():
            if cid == root:
                self._file.seek(at)
                self._commit = self._checked(cid, self._file.read(size))
            elif self._file.read(len(_NODE)) == _NODE:
                self._file.seek(at)
                self._nodes[cid] = self._checked(cid, self._file.read(size))
        if not self._commit:
            self._broken("its root is not in it")
        return root

    def _places(self, wanted: set[bytes]) -> dict[bytes, tuple[int, int]]:
        return {cid: (at, size) for cid, at, size in self._blocks() if cid in wanted}

    def _blocks(self) -> Iterator[tuple[bytes, int, int]]:
        """(CID, place, size) of each block; the file stands at the block, and may be moved."""
        self._file.seek(self._first)
        while size := self._varint():
            start = self._file.tell()
            cid = self._take(36)
            if cid[:4] not in _PLAIN or size > _BLOCK:
                self._broken("a block is neither a record nor part of the tree")
            yield cid, start + 36, size - 36
            self._file.seek(start + size)

    def _varint(self) -> int:
        """The next number; 0 at the end."""
        number = shift = 0
        while byte := self._file.read(1):
            number |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                return number or self._broken("a block is empty")
            if shift > 35:
                self._broken("a block has no length")
        return 0 if shift == 0 else self._broken("it is cut short")

    def _take(self, size: int) -> bytes:
        data = self._file.read(size) if size <= _BLOCK else b""
        return data if len(data) == size else self._broken("it is cut short")

    def _checked(self, cid: bytes, block: bytes) -> bytes:
        if hashlib.sha256(block).digest() != cid[4:]:
            self._broken("a block does not fit its CID: it is cut short or damaged")
        return block

    def _map(self, block: bytes) -> Mapping[str, object]:
        try:
            value = cast(object, libipld.decode_dag_cbor(block))
        except (ValueError, RecursionError):
            value = None
        return cast(Mapping[str, object], value) if isinstance(value, dict) else self._broken("a block is malformed")

    def _broken(self, why: str) -> NoReturn:
        raise ReconcilerError(
            f"{self._place} is no complete repo", why=why, todo="fetch it again, or use another backup"
        )


@contextmanager
def opened(path: Path) -> Generator[Car]:
    """A local file."""
    try:
        file = path.open("rb", buffering=_CHUNK)
    except OSError as error:
        raise ReconcilerError(f"cannot read {path.name}: {error.strerror}") from None
    with file:
        yield Car(file, path.name)
