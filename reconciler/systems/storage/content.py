"""The bytes of an object: opened anew for every try, measured as a storage measures them, carried from one to another."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage.interface import Content, Outcome, Storage

BLOCK = 1 << 18
_IN_MEMORY = 1 << 22


class Digest(NamedTuple):
    size: int
    md5: str


@contextmanager
def opened(content: Content) -> Generator[io.BufferedReader[io.RawIOBase]]:
    """From its first byte; closed with the context."""
    match content:
        case bytes():
            stream = io.BytesIO(content)
        case Path():
            try:
                stream = content.open("rb")
            except OSError as error:
                raise ReconcilerError(f"cannot read {content.name}: {error.strerror}") from None
        case _:
            stream = content()
    with _buffered(stream) as file:
        yield file


def _buffered(stream: object) -> io.BufferedReader[io.RawIOBase]:
    """The one type that the client library takes for a stream; anything else would be the name of a file."""
    if isinstance(stream, io.BufferedReader):
        return cast("io.BufferedReader[io.RawIOBase]", stream)
    return io.BufferedReader(cast("io.RawIOBase", stream))


def blocks_of(content: Content) -> Iterator[bytes]:
    with opened(content) as file:
        while block := file.read(BLOCK):
            yield block


def digest_of(blocks: Iterator[bytes]) -> Digest:
    """MD5 since that is what a storage's etag is; it proves nothing to an adversary."""
    size, found = 0, hashlib.md5(usedforsecurity=False)
    for block in blocks:
        size += len(block)
        found.update(block)
    return Digest(size, found.hexdigest())


def transfer(
    source: Storage, bucket: str, name: str, target: Storage, to_bucket: str, to_name: str, *, overwrite: bool = False
) -> Outcome:
    """An object of one storage, put into another: read to its end before anything is written."""
    found = source.head(bucket, name)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        for block in source.download(bucket, name):
            spool.write(block)

        def again() -> BinaryIO:
            spool.seek(0)
            return cast("BinaryIO", _Kept(spool))

        return target.upload(to_bucket, to_name, again, mime=found.mime if found else None, overwrite=overwrite)


class _Kept(io.RawIOBase):
    """A file that outlives whoever closes this view of it."""

    def __init__(self, file: tempfile.SpooledTemporaryFile[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
