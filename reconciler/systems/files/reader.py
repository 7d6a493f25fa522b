"""A table's rows in a folder or a file, as one JSON object a line (or as CSV), never held whole.

In: a path and a table's name. Out: the exact bytes of each row; nothing is parsed into Python numbers here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.files.writer import MANIFEST

CHUNK = 1 << 18
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")
_OUTSIDE = re.compile(rb'["\[\]{},:]')
_INSIDE = re.compile(rb'["\\]')
_BLANK = bytes.maketrans(b"\n\r\t", b"   ")


@dataclass(frozen=True)
class FileSource:
    """Where a table's rows are. `header` holds a CSV's columns."""

    lines: Callable[[], Iterator[bytes]]
    values: Literal["natural", "text", "csv"]
    place: str
    header: tuple[str, ...] = ()


def find(path: Path, tables: Mapping[str, str], table: str) -> FileSource | None:
    """The rows of a table; None where there is no file, or no member, of that name."""
    name = tables.get(table, table)
    if path.is_dir():
        return _in_folder(path, name)
    if not path.exists():
        raise ReconcilerError(f"there is no file or folder {path.name}", todo="check the connection's `files`")
    return _in_file(path, name)


def _in_folder(folder: Path, name: str) -> FileSource | None:
    found = [folder / f"{name}{suffix}" for suffix in _SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if len(found) > 1:
        raise ReconcilerError(
            f"{folder.name} has more than one file for {name}", details=tuple(it.name for it in found)
        )
    if not found:
        return None
    path = found[0]
    match path.suffix:
        case ".csv":
            return FileSource(lambda: _blocks(path), "csv", path.name, _header(path))
        case ".json":
            return FileSource(lambda: elements(_blocks(path), None, path.name), "natural", path.name)
        case _:
            values = "text" if (folder / MANIFEST).is_file() else "natural"
            return FileSource(lambda: _lines(path), values, path.name)


def _in_file(path: Path, name: str) -> FileSource | None:
    start = next((block for block in _blocks(path)), b"").lstrip()[:1]
    if start == b"[":
        return FileSource(lambda: elements(_blocks(path), None, path.name), "natural", path.name)
    place = f"{path.name}: {name}"
    try:
        next(elements(_blocks(path), name, place), None)
    except _NoMemberError:
        return None
    return FileSource(lambda: elements(_blocks(path), name, place), "natural", place)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                yield block
    except OSError as error:
        raise ReconcilerError(f"cannot read {path.name}: {error.strerror}") from None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for line in file:
                yield line.strip() + b"\n"
    except OSError as error:
        raise ReconcilerError(f"cannot read {path.name}: {error.strerror}") from None


def _header(path: Path) -> tuple[str, ...]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return tuple(next(csv.reader(file), ()))


class _NoMemberError(Exception):
    pass


def elements(blocks: Iterator[bytes], member: str | None, place: str) -> Iterator[bytes]:
    """The exact bytes of each element of an array: the whole text, or a member of an object. One line an element."""
    depth, level = 0, 1 if member is None else 2
    inside = escaped = False
    active, seen = member is None, member is None
    text = bytearray()
    key = bytearray()
    for block in blocks:
        at = 0
        while at < len(block):
            if escaped:
                match, end = None, at + 1
                escaped = False
            else:
                match = (_INSIDE if inside else _OUTSIDE).search(block, at)
                end = match.end() if match else len(block)
            piece = block[at:end]
            at = end
            token = match.group() if match else b""
            if inside:
                escaped, inside = token == b"\\", token != b'"'
            elif token == b'"':
                inside = True
                if depth == 1 and member is not None:
                    key.clear()
            elif token in (b"[", b"{") and token:
                depth += 1
                if depth == level and token == b"[" and member is not None:
                    active = bytes(key).strip().strip(b'":, ').decode(errors="replace") == member
                    seen = seen or active
                if depth == level:
                    text.clear()
                    continue
            elif token in (b"]", b"}") and token:
                depth -= 1
                if depth == level - 1:
                    if active and (row := (text + piece[:-1]).strip()):
                        yield bytes(row).translate(_BLANK) + b"\n"
                    text.clear()
                    active = active and member is None
                    continue
            elif token == b"," and depth == level:
                if active:
                    yield bytes((text + piece[:-1]).strip()).translate(_BLANK) + b"\n"
                text.clear()
                continue
            if depth >= level and active:
                text += piece
            elif depth == 1 and member is not None:
                key += piece
                if token == b",":
                    key.clear()
    if depth or inside:
        raise ReconcilerError(f"{place} ends in the middle of a value", why="the file was cut short, or is not JSON")
    if not seen:
        raise _NoMemberError
