"""A repo in a CAR file: which records it has, and what they say.

In: a file, local or on its way from a server, whose parts are read while they come; one with what changed since an earlier tree needs
that one beside it. Out: `tree`, and each record's JSON. Every block that is used is checked against its CID, and one that is missing is
an error: a file cut short never looks like a small repo. Memory holds the tree's nodes and what is asked for, never the records.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn, cast

import libipld

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import records, syntax
from reconciler.systems.pds.records import BLOB_CID, CID_BYTES, RECORD_CID
from reconciler.systems.pds.tree import Tree, broken

_NODE = b"\xa2ae"  # a map of two whose first key is "e": how every node of the tree begins, and no record
_PLAIN = (RECORD_CID, BLOB_CID)
_LARGEST = 1 << 22  # no PDS makes a larger block
_BEGINS = CID_BYTES + len(_NODE)
_CHUNK = 1 << 16

Piece = tuple[int, int, bytes]
"""Something with its length before it: its place, its size, and its content or at least how that begins."""


class Car:
    """A CAR file that is open; `place` is what errors call it."""

    def __init__(
        self, file: IO[bytes], place: str, earlier: Tree | None = None, parts: Iterable[bytes] | None = None
    ) -> None:
        """With `parts` the file is still empty: each of them is written to it, and read on its way."""
        self._file = file
        self._place = place
        self._blobs: dict[str, tuple[bytes, int, int]] | None = None
        self.tree = self._index(self._lying() if parts is None else self._coming(parts), earlier)
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
        places = {cid: (at, size) for cid, at, size, _ in self._blocks() if cid in wanted}
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
            raw = (it for it in self._blocks() if it[0][:4] == BLOB_CID)
            self._blobs = {libipld.encode_cid(cid): (cid, at, size) for cid, at, size, _ in raw}
        place = self._blobs.get(cid)
        return self._block(*place) if place else None

    def _index(self, pieces: Iterator[Piece], earlier: Tree | None) -> Tree:
        """Read once through, keeping the nodes."""
        _, _, head = next(pieces, None) or self._broken("it is empty")
        roots = self._map(head).get("roots")
        root = cast(list[object], roots)[0] if isinstance(roots, list) and roots else None
        if not isinstance(root, bytes):
            self._broken("it names no root")
        if earlier is not None and libipld.encode_cid(root) == earlier.commit:
            for _ in self._blocks(pieces):  # to its end, which tells that it is whole
                pass
            return earlier  # nothing changed
        nodes = dict(earlier.nodes) if earlier else {}
        commit: Mapping[str, object] = {}
        for cid, at, size, begins in self._blocks(pieces):
            if cid == root:
                commit = self._map(self._block(cid, at, size, begins))
            elif begins.startswith(_NODE):
                nodes[cid] = self._block(cid, at, size, begins)
        did, data, rev = commit.get("did"), commit.get("data"), commit.get("rev")
        if not isinstance(did, str) or not syntax.is_did(did) or not isinstance(data, bytes):
            self._broken("it has no commit of a repo")
        return Tree(did, libipld.encode_cid(root), str(rev), data, nodes, self._place)

    def _blocks(self, pieces: Iterator[Piece] | None = None) -> Iterator[tuple[bytes, int, int, bytes]]:
        """(CID, place, size, how it begins) of each block, unchecked; of those pieces, or of all that follow the file's head."""
        if pieces is None:
            pieces = self._lying()
            next(pieces, None)
        for at, size, begins in pieces:
            if begins[:4] not in _PLAIN or size < CID_BYTES:
                self._broken("a block is neither a record nor part of the tree")
            yield begins[:CID_BYTES], at + CID_BYTES, size - CID_BYTES, begins[CID_BYTES:]

    def _coming(self, parts: Iterable[bytes]) -> Iterator[Piece]:
        """The head and each block, whole; no more than a part and a block are held."""
        held, begin, at = b"", 0, 0
        for part in parts:
            self._file.write(part)
            held, begin, at = held[at:] + part, begin + at, 0
            while found := self._length(held, at):
                start, size = found
                if start + size > len(held):
                    break
                at = start + size
                yield begin + start, size, held[start:at]
        if at < len(held):
            self._broken("it is cut short")

    def _lying(self) -> Iterator[Piece]:
        """The head and each block of the file; what is long, as blobs are, is passed over but for its beginning."""
        end = self._file.seek(0, os.SEEK_END)
        held, begin, at = b"", 0, 0
        while begin + at < end:
            found = self._length(held, at)
            if found is None or found[0] + min(found[1], _BEGINS) > len(held):
                self._file.seek(begin + len(held))
                part = self._file.read(_CHUNK) or self._broken("it is cut short")
                held, begin, at = held[at:] + part, begin + at, 0
                continue
            start, size = found
            at = start + size
            if begin + at > end:
                self._broken("it is cut short")
            yield begin + start, size, held[start:at]
            if at > len(held):
                held, begin, at = b"", begin + at, 0

    def _length(self, held: bytes, at: int) -> tuple[int, int] | None:
        """Where the next piece begins and how long it is; None where the number is not all there."""
        number = shift = 0
        while at < len(held):
            byte = held[at]
            at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return at, number if 0 < number <= _LARGEST else self._broken("a block is empty, or larger than any")
            shift += 7
            if shift > 35:
                self._broken("a block has no length")
        return None

    def _block(self, cid: bytes, at: int, size: int, begins: bytes = b"") -> bytes:
        """A block's content, of which some may be there already."""
        block = begins
        if len(begins) < size:
            self._file.seek(at)
            block = self._file.read(size)
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
