"""A repo in a CAR file: which records it has, and what they say.

In: a file, local or downloaded; one with what changed since an earlier tree needs that one beside it. Out: `tree`, and each record's
JSON. Every block that is used is checked against its CID, and one that is missing is an error: a file cut short never looks like a
small repo. Memory holds the tree's nodes and what is asked for, never the records.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn, cast

import libipld

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import records, syntax
from reconciler.systems.pds.tree import Tree, broken

_NODE = b"\xa2ae"  # a map of two whose first key is "e": how every node of the tree begins, and no record
_PLAIN = (b"\x01\x71\x12\x20", b"\x01\x55\x12\x20")
_LARGEST = 1 << 22  # no PDS makes a larger block
_CHUNK = 1 << 20


class Car:
    """A CAR file that is open; `place` is what errors call it."""

    def __init__(self, file: IO[bytes], place: str, earlier: Tree | None = None) -> None:
        self._file = file
        self._place = place
        self._blobs: dict[str, tuple[bytes, int, int]] | None = None
        self.tree = self._index(earlier)
        self.did, self.commit = self.tree.did, self.tree.commit

    def cids(self, collection: str) -> dict[str, str]:
        """rkey → CID of the collection's records, in order of rkey."""
        return {rkey: libipld.encode_cid(cid) for rkey, cid in self.tree.entries(syntax.nsid(collection))}

    def collections(self) -> list[str]:
        """The collections that have records."""
        return self.tree.collections()

    def records(self, collection: str, rkeys: Iterable[str] | None = None) -> Iterator[tuple[str, str, str]]:
        """(rkey, CID, JSON text) of all records of the collection, or of those named that are there, in order of rkey."""
        chosen = None if rkeys is None else set(rkeys)
        entries = [it for it in self.tree.entries(syntax.nsid(collection)) if chosen is None or it[0] in chosen]
        wanted = {cid for _, cid in entries}
        places = {cid: (at, size) for cid, at, size in self._blocks() if cid in wanted}
        for rkey, cid in entries:
            at, size = places.get(cid) or self._broken(f"the record {collection}/{rkey} is not in it")
            block = self._block(cid, at, size)
            try:
                text = records.to_json(block)
            except (ValueError, RecursionError) as error:
                self._broken(f"the record {collection}/{rkey} cannot be written as JSON: {error}")
            yield rkey, libipld.encode_cid(cid), text

    def save(self, path: Path) -> None:
        """The file as it is, under another name, there as a whole or not at all."""
        part = path.with_name(f"{path.name}.part")
        self._file.seek(0)
        try:
            with part.open("wb") as out:
                shutil.copyfileobj(self._file, out, _CHUNK)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def blob(self, cid: str) -> bytes | None:
        """The bytes of a blob, where the file holds them beside the records."""
        if self._blobs is None:
            raw = ((libipld.encode_cid(it), it, at, size) for it, at, size in self._blocks() if it[:4] == _PLAIN[1])
            self._blobs = {text: (it, at, size) for text, it, at, size in raw}
        place = self._blobs.get(cid)
        return self._block(*place) if place else None

    def _index(self, earlier: Tree | None) -> Tree:
        """Read once through, keeping the nodes."""
        self._file.seek(0)
        size = self._varint() or self._broken("it is empty")
        roots = self._map(self._take(size)).get("roots")
        root = cast(list[object], roots)[0] if isinstance(roots, list) and roots else None
        if not isinstance(root, bytes):
            self._broken("it names no root")
        self._first = self._file.tell()
        if earlier is not None and libipld.encode_cid(root) == earlier.commit:
            return earlier  # nothing changed
        nodes = dict(earlier.nodes) if earlier else {}
        commit: Mapping[str, object] = {}
        for cid, at, size in self._blocks():
            if cid == root:
                commit = self._map(self._block(cid, at, size))
            elif self._file.read(len(_NODE)) == _NODE:
                nodes[cid] = self._block(cid, at, size)
        did, data, rev = commit.get("did"), commit.get("data"), commit.get("rev")
        if not isinstance(did, str) or not syntax.is_did(did) or not isinstance(data, bytes):
            self._broken("it has no commit of a repo")
        return Tree(did, libipld.encode_cid(root), str(rev), data, nodes, self._place)

    def _blocks(self) -> Iterator[tuple[bytes, int, int]]:
        """(CID, place, size) of each block; the file stands at the block, and may be moved."""
        self._file.seek(self._first)
        while size := self._varint():
            start = self._file.tell()
            cid = self._take(36)
            if cid[:4] not in _PLAIN or size > _LARGEST:
                self._broken("a block is neither a record nor part of the tree")
            yield cid, start + 36, size - 36
            self._file.seek(start + size)

    def _block(self, cid: bytes, at: int, size: int) -> bytes:
        self._file.seek(at)
        block = self._file.read(size)
        if hashlib.sha256(block).digest() != cid[4:]:
            self._broken("a block does not fit its CID: it is cut short or damaged")
        return block

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
        data = self._file.read(size) if size <= _LARGEST else b""
        return data if len(data) == size else self._broken("it is cut short")

    def _map(self, block: bytes) -> Mapping[str, object]:
        try:
            value = cast(object, libipld.decode_dag_cbor(block))
        except (ValueError, RecursionError):
            value = None
        return cast(Mapping[str, object], value) if isinstance(value, dict) else self._broken("a block is malformed")

    def _broken(self, why: str) -> NoReturn:
        raise broken(self._place, why)


@contextmanager
def opened(path: Path) -> Generator[Car]:
    """A local file."""
    try:
        file = path.open("rb", buffering=_CHUNK)
    except OSError as error:
        raise ReconcilerError(f"cannot read {path.name}: {error.strerror}") from None
    with file:
        yield Car(file, path.name)
