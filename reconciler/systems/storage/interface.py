"""What every storage offers, and the words it is said in. Nothing here knows a server or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, TypeAlias, TypeVar

from reconciler.plan.errors import ReconcilerError

T = TypeVar("T")

Content: TypeAlias = bytes | Path | Callable[[], BinaryIO]
"""The bytes of an object; they may be read more than once, so a stream is given by what opens it."""


class Object(NamedTuple):
    """One object as its storage lists it. What the storage does not say is None; times are ISO text under UTC, to the millisecond."""

    name: str
    size: int | None
    etag: str | None
    mime: str | None
    created_at: str | None
    updated_at: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a complete inventory; an object whose size nobody knows counts with 0 bytes."""

    count: int
    bytes: int


class Outcome(Enum):
    APPLIED = "applied"
    ALREADY = "already"


class Verdict(Enum):
    """What is left of an object."""

    PRESENT = "present"
    ABSENT = "absent"  # nothing is known under that name
    BYTES_GONE = "bytes gone"  # it is listed, and cannot be read any more


@dataclass(frozen=True)
class Signed:
    """Signed URLs by name, and the names that have no object. Each URL is a secret."""

    urls: Mapping[str, str]
    missing: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Signed({len(self.urls)} urls, missing={self.missing!r})"


class Removed(NamedTuple):
    """The names that went, and those that were not there."""

    removed: tuple[str, ...]
    absent: tuple[str, ...]


class Listing(Iterator[T]):
    """An inventory on its way: complete once it is exhausted; ended by an error it never looks exhausted.

    `measure` says how many objects and bytes a piece of it stands for.
    """

    def __init__(self, pieces: Iterable[T], measure: Callable[[T], Totals]) -> None:
        self._pieces = iter(pieces)
        self._measure = measure
        self._count = self._bytes = 0
        self._complete = False
        self._error: BaseException | None = None

    def __next__(self) -> T:
        if self._error is not None:
            raise self._error
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._complete = True
            raise
        except BaseException as error:
            self._error = error
            raise
        more = self._measure(piece)
        self._count += more.count
        self._bytes += more.bytes
        return piece

    @property
    def totals(self) -> Totals:
        """Only of a whole inventory: before its end there are none."""
        if not self._complete:
            raise ReconcilerError("an inventory was not read to its end, so it has no totals")
        return Totals(self._count, self._bytes)


def of_one(found: Object) -> Totals:
    return Totals(1, found.size or 0)


class Storage(Protocol):
    """Buckets of objects. May be used from several threads, but an inventory by SQL belongs to its session's thread."""

    name: str

    def fingerprint(self, bucket: str) -> str:
        """Which bucket of which project or folder: 16 hex digits that give neither away."""
        ...

    def inventory(self, bucket: str, prefix: str = "") -> Listing[Object]:
        """Every object whose name begins so, by the bytes of their names; complete or a ReconcilerError."""
        ...

    def inventory_copy(self, bucket: str, prefix: str = "") -> Listing[bytes]:
        """The same in no certain order, as blocks of COPY text, whole lines each: name, size, etag, mime, created_at."""
        ...

    def head(self, bucket: str, name: str) -> Object | None:
        """What the storage knows of one object; says nothing of its bytes."""
        ...

    def upload(
        self, bucket: str, name: str, content: Content, *, mime: str | None = None, overwrite: bool = False
    ) -> Outcome:
        """ALREADY where these very bytes stood there; other bytes under that name are an error unless `overwrite`."""
        ...

    def download(self, bucket: str, name: str) -> Iterator[bytes]:
        """The bytes in blocks: all of them, or an error."""
        ...

    def copy(self, bucket: str, source: str, target: str, *, to_bucket: str | None = None) -> Outcome:
        """ALREADY where the target equals the source; never overwrites."""
        ...

    def move(self, bucket: str, source: str, target: str, *, to_bucket: str | None = None) -> Outcome:
        """ALREADY where only the target is there; never overwrites."""
        ...

    def remove(self, bucket: str, names: Sequence[str]) -> Removed:
        """In batches; what a batch's answer leaves open is looked up."""
        ...

    def sign(self, bucket: str, names: Sequence[str], seconds: int) -> Signed:
        """URLs that let anybody read for so long. Looks at no bytes."""
        ...

    def verify(self, bucket: str, names: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
        """Whether the bytes are there, in the order asked for; any doubt is an error, never a verdict."""
        ...

    def close(self) -> None: ...
