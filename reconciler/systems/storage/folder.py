"""A folder as a storage: each subfolder is a bucket, each file below it an object.

Nothing outside the folder is read or written: names cannot leave it, and a symbolic link anywhere on the way is an error.
A file appears whole or not at all. A folder that lost its last file goes too, since a storage knows no empty folders.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import copytext
from reconciler.systems.storage.content import BLOCK, blocks_of, digest_of
from reconciler.systems.storage.interface import (
    Content,
    Listing,
    Object,
    Outcome,
    Removed,
    Signed,
    Verdict,
    of_one,
)  # fmt: skip
from reconciler.systems.storage.names import checked, checked_bucket, checked_new, checked_prefix
from reconciler.systems.storage.walk import PART, described, walk


class DirectoryStorage:
    """The stand-in for tests, demos and files that simply lie there."""

    def __init__(self, name: str, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self._clock = clock
        try:
            self._root = path.resolve(strict=True)
        except OSError:
            raise ReconcilerError(
                f"there is no folder {path.name}", todo=f"check connections.{name}.directory"
            ) from None
        if not self._root.is_dir():
            raise ReconcilerError(f"{path.name} is no folder", todo=f"check connections.{name}.directory")

    def close(self) -> None:
        """Nothing is open between calls."""

    def fingerprint(self, bucket: str) -> str:
        return hashlib.sha256(
            f"directory\0{self._root}\0{checked_bucket(bucket)}".encode(errors="surrogateescape")
        ).hexdigest()[:16]

    def inventory(self, bucket: str, prefix: str = "") -> Listing[Object]:
        return Listing(self._walk(bucket, prefix), of_one)

    def inventory_copy(self, bucket: str, prefix: str = "") -> Listing[bytes]:
        return Listing(copytext.blocks(self._walk(bucket, prefix)), copytext.measure)

    def _walk(self, bucket: str, prefix: str) -> Iterator[Object]:
        return walk(self.name, self._bucket(bucket), bucket, checked_prefix(prefix))

    def head(self, bucket: str, name: str) -> Object | None:
        file, found = self._stat(bucket, name)
        del file
        return described(name, found) if found else None

    def upload(
        self, bucket: str, name: str, content: Content, *, mime: str | None = None, overwrite: bool = False
    ) -> Outcome:
        """A file has no type but the one its name says: `mime` is not kept."""
        del mime
        file, found = self._stat(bucket, checked_new(name))
        with self._explained(f"writing {bucket}/{name}"):
            if found and not overwrite:
                if digest_of(blocks_of(content)) != digest_of(blocks_of(file)):
                    raise self._taken(bucket, name)
                return Outcome.ALREADY
            with self._part(bucket, file) as part:
                with part.open("wb") as written:
                    for block in blocks_of(content):
                        written.write(block)
                    written.flush()
                    os.fsync(written.fileno())
                self._put(bucket, name, part, file, overwrite=overwrite)
        return Outcome.APPLIED

    def download(self, bucket: str, name: str) -> Iterator[bytes]:
        file, found = self._stat(bucket, name)
        if found is None:
            raise self._missing(bucket, name)
        return self._blocks(bucket, name, file)

    def _blocks(self, bucket: str, name: str, file: Path) -> Iterator[bytes]:
        with self._explained(f"reading {bucket}/{name}"), file.open("rb") as opened:
            while block := opened.read(BLOCK):
                yield block

    def copy(self, bucket: str, source: str, target: str, *, to_bucket: str | None = None) -> Outcome:
        return self._transfer(bucket, source, to_bucket or bucket, target, move=False)

    def move(self, bucket: str, source: str, target: str, *, to_bucket: str | None = None) -> Outcome:
        return self._transfer(bucket, source, to_bucket or bucket, target, move=True)

    def _transfer(self, bucket: str, source: str, other: str, target: str, *, move: bool) -> Outcome:
        here, found = self._stat(bucket, source)
        there, taken = self._stat(other, checked_new(target))
        if (bucket, source) == (other, target):
            return Outcome.ALREADY
        if found is None:
            if move and taken:
                return Outcome.ALREADY
            raise self._missing(bucket, source)
        with self._explained(f"{'moving' if move else 'copying'} {bucket}/{source} to {other}/{target}"):
            if taken:
                # The same file under both names: a move that ended half way.
                half_way = move and os.path.samestat(found, taken)
                if not half_way and (move or digest_of(blocks_of(here)) != digest_of(blocks_of(there))):
                    raise self._taken(other, target)
                if not half_way:
                    return Outcome.ALREADY
            elif move:
                self._folder(other, there.parent)
                self._put(other, target, here, there, overwrite=False)
            else:
                with self._part(other, there) as part:
                    shutil.copy2(here, part, follow_symlinks=False)
                    self._put(other, target, part, there, overwrite=False)
            if move:
                here.unlink()
                self._prune(bucket, here.parent)
        return Outcome.APPLIED

    def remove(self, bucket: str, names: Sequence[str]) -> Removed:
        removed: list[str] = []
        absent: list[str] = []
        for name in dict.fromkeys(map(checked, list(names))):
            file, found = self._stat(bucket, name)
            if found is None:
                absent.append(name)
                continue
            with self._explained(f"removing {bucket}/{name}"):
                file.unlink(missing_ok=True)
                self._prune(bucket, file.parent)
            removed.append(name)
        return Removed(tuple(removed), tuple(absent))

    def sign(self, bucket: str, names: Sequence[str], seconds: int) -> Signed:
        """URLs of the same shape as a server's, so that all that reads them works; nobody serves them, and their signature keeps nobody out."""
        if seconds < 1:
            raise ReconcilerError("a signed URL lasts at least a second")
        urls: dict[str, str] = {}
        missing: list[str] = []
        now = int(self._clock())
        for name in dict.fromkeys(names):
            if self._stat(bucket, name)[1] is None:
                missing.append(name)
                continue
            claims = {"url": f"{bucket}/{name}", "scope": "download", "iat": now, "exp": now + seconds}
            text = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
            signature = hmac.new(self.fingerprint(bucket).encode(), text.encode(), hashlib.sha256).digest()
            token = f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
            urls[name] = f"/object/sign/{quote(bucket, safe='')}/{quote(name, safe='/')}?token={token}"
        return Signed(urls, tuple(missing))

    def verify(self, bucket: str, names: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
        """A file that is there but cannot be read is an error."""
        for name in names:
            file, found = self._stat(bucket, name)
            if found is None:
                yield name, Verdict.ABSENT
                continue
            with self._explained(f"reading {bucket}/{name}"), file.open("rb") as opened:
                opened.read(1)
            yield name, Verdict.PRESENT

    def _bucket(self, bucket: str) -> Path:
        folder = self._root / checked_bucket(bucket)
        found = self._lstat(folder, bucket)
        if found is None or not stat.S_ISDIR(found.st_mode):
            raise ReconcilerError(
                f"{self.name} has no bucket {bucket}",
                todo="check the bucket's name: each subfolder of the directory is one",
            )
        return folder

    def _stat(self, bucket: str, name: str) -> tuple[Path, os.stat_result | None]:
        """The file of a name and what it is, if it is there; every folder on the way is a folder of ours."""
        place = self._bucket(bucket)
        parts = checked(name).split("/")
        if parts[-1].startswith(PART):
            raise ReconcilerError(f"{name!r} is a name that half-written files have")
        for number, part in enumerate(parts, 1):
            place = place / part
            found = self._lstat(place, f"{bucket}/{name}")
            if found is None:
                return place.joinpath(*parts[number:]), None
            if number < len(parts) and not stat.S_ISDIR(found.st_mode):
                return place.joinpath(*parts[number:]), None  # `a` is a file, so `a/b` is not there
            if number == len(parts) and stat.S_ISREG(found.st_mode):
                return place, found
        return place, None  # a folder is no object

    def _lstat(self, place: Path, shown: str) -> os.stat_result | None:
        with self._explained(f"looking up {shown}"):
            try:
                found = place.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        if stat.S_ISLNK(found.st_mode):
            raise ReconcilerError(
                f"{shown} goes through a symbolic link",
                where=self.name,
                why="a link can lead out of the directory",
                todo="put the files themselves there",
            )
        return found

    @contextmanager
    def _part(self, bucket: str, file: Path) -> Generator[Path]:
        """A file to write beside its place, gone at the end however that comes."""
        self._folder(bucket, file.parent)
        handle, name = tempfile.mkstemp(prefix=PART, dir=file.parent)
        os.close(handle)
        part = Path(name)
        try:
            part.chmod(0o644)
            yield part
        finally:
            part.unlink(missing_ok=True)
            self._prune(bucket, file.parent)

    def _folder(self, bucket: str, folder: Path) -> None:
        del bucket
        folder.mkdir(parents=True, exist_ok=True)

    def _put(self, bucket: str, name: str, part: Path, file: Path, *, overwrite: bool) -> None:
        if overwrite:
            part.replace(file)
            return
        try:
            os.link(part, file, follow_symlinks=False)
        except FileExistsError:
            raise self._taken(bucket, name) from None

    def _prune(self, bucket: str, folder: Path) -> None:
        """Folders that hold nothing any more, up to the bucket."""
        top = self._root / bucket
        while folder != top:
            with contextlib.suppress(FileNotFoundError):
                try:
                    folder.rmdir()
                except OSError:
                    return
            folder = folder.parent

    @contextmanager
    def _explained(self, doing: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise ReconcilerError(
                f"{doing} failed on {self.name}", why=error.strerror or type(error).__name__
            ) from None

    def _missing(self, bucket: str, name: str) -> ReconcilerError:
        return ReconcilerError(f"{bucket}/{name} is not on {self.name}", todo="plan again: it went since")

    def _taken(self, bucket: str, name: str) -> ReconcilerError:
        return ReconcilerError(
            f"{bucket}/{name} on {self.name} holds other bytes already",
            why="an object is not overwritten unless that was asked for",
            todo="plan again: somebody put it there since",
        )


def _encode(claims: Mapping[str, object]) -> str:
    return (
        base64.urlsafe_b64encode(json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode())
        .rstrip(b"=")
        .decode()
    )
