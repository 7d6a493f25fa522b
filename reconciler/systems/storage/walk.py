"""Every file below a bucket's folder, by the bytes of its name. What is neither file nor folder is an error."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage.interface import Object
from reconciler.systems.storage.names import mime_of

PART = ".reconciler-"
"""Names of half-written files begin so; they are nobody's objects."""


def walk(connection: str, folder: Path, bucket: str, prefix: str) -> Iterator[Object]:
    """A folder stands where its name with a slash stands: so the whole comes out in order, holding one folder a level."""
    levels = [_entries(connection, os.fspath(folder), bucket, "", prefix)]
    while levels:
        if (found := next(levels[-1], None)) is None:
            levels.pop()
            continue
        name, entry = found
        if name.endswith("/"):
            levels.append(_entries(connection, entry.path, bucket, name, prefix))
            continue
        try:
            yield described(name, entry.stat(follow_symlinks=False))
        except FileNotFoundError:
            continue  # it went meanwhile
        except OSError as error:
            raise _failed(connection, bucket, name, error) from None


def _entries(
    connection: str, folder: str, bucket: str, above: str, prefix: str
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What one folder holds that can lead to the prefix; names of folders end with a slash."""
    entries: list[tuple[bytes, str, os.DirEntry[str]]] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                name = above + _text(connection, bucket, entry.name)
                if entry.is_symlink():
                    raise _refused(
                        connection, bucket, name, "it is a symbolic link, which can lead out of the directory"
                    )
                if entry.is_dir(follow_symlinks=False):
                    name += "/"
                    if not (name.startswith(prefix) or prefix.startswith(name)):
                        continue
                elif entry.name.startswith(PART) or not name.startswith(prefix):
                    continue
                elif not entry.is_file(follow_symlinks=False):
                    raise _refused(connection, bucket, name, "it is neither a file nor a folder")
                entries.append((name.encode(), name, entry))
    except OSError as error:
        raise _failed(connection, bucket, above or None, error) from None
    entries.sort(key=lambda each: each[0])
    return iter([(name, entry) for _, name, entry in entries])


def described(name: str, found: os.stat_result) -> Object:
    """A file has no etag but its size and time, no type but its name's, and no time but that of its last change."""
    assert stat.S_ISREG(found.st_mode)
    changed = datetime.fromtimestamp(found.st_mtime_ns // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
    changed = changed.replace("+00:00", "Z")
    etag = f'W/"{found.st_size:x}-{found.st_mtime_ns:x}"'
    return Object(name, found.st_size, etag, mime_of(name), changed, changed)


def _text(connection: str, bucket: str, name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _refused(connection, bucket, ascii(name), "its name is no UTF-8") from None
    return name


def _failed(connection: str, bucket: str, where: str | None, error: OSError) -> ReconcilerError:
    return ReconcilerError(f"listing bucket {bucket} failed on {connection}", where=where, why=error.strerror)


def _refused(connection: str, bucket: str, name: str, why: str) -> ReconcilerError:
    return ReconcilerError(
        f"{bucket}/{name} on {connection} cannot be listed", why=why, todo="take it out of the bucket"
    )
