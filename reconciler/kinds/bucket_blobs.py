"""Blobs out of a bucket: found as in a folder, by a name that is their CID (with any ending), or by size and content.

In: a storage and one of its buckets. Out: what `systems/pds/store.py` asks for. The bucket is listed once, when first needed.
"""

from __future__ import annotations

import hashlib

from reconciler.systems.pds.blobs import Reference
from reconciler.systems.pds.records import cid_of_blob
from reconciler.systems.storage import Storage


class Bucket:
    """Objects that are blobs. Nothing is downloaded to learn that an object of the right name is there."""

    def __init__(self, storage: Storage, bucket: str) -> None:
        self._storage, self._bucket = storage, bucket
        self._named: dict[str, str] | None = None
        self._sized: dict[int, list[str]] = {}

    def has(self, reference: Reference) -> bool:
        return reference.cid in self._names() or self._by_content(reference) is not None

    def find(self, reference: Reference) -> bytes | None:
        name = self._names().get(reference.cid)
        return self._by_content(reference) if name is None else self._bytes(name)

    def _names(self) -> dict[str, str]:
        if self._named is None:
            self._named = {}
            for found in self._storage.inventory(self._bucket):
                self._named.setdefault(found.name.rpartition("/")[2].partition(".")[0], found.name)
                if found.size is not None:
                    self._sized.setdefault(found.size, []).append(found.name)
        return self._named

    def _by_content(self, reference: Reference) -> bytes | None:
        self._names()
        same_size = self._sized.get(reference.size, []) if reference.size is not None else []
        contents = map(self._bytes, same_size)
        return next((it for it in contents if cid_of_blob(hashlib.sha256(it).digest()) == reference.cid), None)

    def _bytes(self, name: str) -> bytes:
        return b"".join(self._storage.download(self._bucket, name))
