"""Where the bytes of blobs are that a PDS lacks: a folder of files, or a CAR file that holds blobs. Buckets are `kinds/bucket_blobs.py`.

In: a blob as a record names it. Out: its file or bytes, or None. Whether they are what the name says is checked when they are uploaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from reconciler.systems.pds.blobs import Reference
from reconciler.systems.pds.car import Car
from reconciler.systems.pds.records import cid_of_blob


class Store(Protocol):
    def find(self, reference: Reference) -> Path | bytes | None: ...

    def has(self, reference: Reference) -> bool:
        """Whether `find` would find it; may know without reading it."""
        ...


class Folder:
    """Files named by their CID, with any ending; a file of another name is known by its size and content."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: dict[str, Path] = {}
        self._sized: dict[int, list[Path]] = {}

    def _look(self) -> None:
        for file in sorted(self._path.rglob("*")):
            if file.is_file():
                self._named.setdefault(file.name.partition(".")[0], file)
                self._sized.setdefault(file.stat().st_size, []).append(file)

    def find(self, reference: Reference) -> Path | bytes | None:
        if not self._sized:
            self._look()
        if reference.cid in self._named:
            return self._named[reference.cid]
        same_size = self._sized.get(reference.size, []) if reference.size is not None else []
        return next((file for file in same_size if _cid(file) == reference.cid), None)

    def has(self, reference: Reference) -> bool:
        return self.find(reference) is not None


class Blocks:
    """A CAR file's."""

    def __init__(self, car: Car) -> None:
        self._car = car

    def find(self, reference: Reference) -> Path | bytes | None:
        return self._car.blob(reference.cid)

    def has(self, reference: Reference) -> bool:
        return self.find(reference) is not None


def _cid(file: Path) -> str:
    with file.open("rb") as content:
        return cid_of_blob(hashlib.file_digest(content, "sha256").digest())
