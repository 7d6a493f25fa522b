"""A table's rows in a folder or a file, as one JSON object a line (or as CSV), never held whole.

In: a path and a table's name. Out: the exact bytes of each row; nothing is parsed into Python numbers here.
"""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.files.writer import MANIFEST

CHUNK = 1 << 18
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")
_BLANKS = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BETWEEN = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_WORD = re.compile(rb'[^ \t\n\r,:"\[\]{}]++')
_CLOSING = {b"[": b"]", b"{": b"}"}
_CUT = "it ends in the middle: was the file cut short?"
_BLANK = bytes.maketrans(b"\n\r\t", b"   ")


class FileSource(NamedTuple):
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
    start = next((block for block in _blocks(path)), b"").lstrip(BOM_UTF8 + b" \t\n\r")[:1]
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
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(next(csv.reader(file), ()))
    except (UnicodeDecodeError, csv.Error):
        raise ReconcilerError(
            f"the first line of {path.name} is no text in UTF-8", todo="save the file as UTF-8"
        ) from None


class _NoMemberError(Exception):
    pass


def elements(blocks: Iterator[bytes], member: str | None, place: str) -> Iterator[bytes]:
    """The exact bytes of each element of an array: the whole text, or a member of an object. One line an element."""
    text = _Text(blocks, place)
    if member is None:
        yield from text.array()
    else:
        found = False
        for name in text.names():
            if name != member or text.peek() != b"[":
                text.value(keep=False)
            elif found:
                raise text.wrong("the name stands twice in it")
            else:
                found = True
                yield from text.array()
        if not found:
            raise _NoMemberError
    if text.peek():
        raise text.wrong("there is more after its end")


class _Text:
    """A JSON text, read once: its outermost array or object in full, what is within by brackets and strings alone."""

    def __init__(self, blocks: Iterator[bytes], place: str) -> None:
        self.blocks, self.place = blocks, place
        self.text, self.at = b"", 0
        while len(self.text) < len(BOM_UTF8) and self._more():
            pass
        if self.text.startswith(BOM_UTF8):
            self.at = len(BOM_UTF8)

    def wrong(self, why: str) -> ReconcilerError:
        return ReconcilerError(f"{self.place} is not JSON", why=why)

    def _more(self) -> bool:
        """Let go of what was read, and read more than is left: so a long value is looked at few times."""
        left = self.text[self.at :]
        read = [left]
        while sum(map(len, read)) <= 2 * len(left) and (block := next(self.blocks, b"")):
            read.append(block)
        if len(read) == 1:
            return False
        self.text, self.at = b"".join(read), 0
        return True

    def peek(self) -> bytes:
        """The next byte that is not blank; none at the end."""
        while True:
            self.at = _match(_BLANKS, self.text, self.at)
            if self.at < len(self.text) or not self._more():
                return self.text[self.at : self.at + 1]

    def _take(self, expected: bytes) -> bytes:
        found = self.peek()
        if not found:
            raise self.wrong(_CUT)
        if found not in expected:
            raise self.wrong(f"{found.decode(errors='replace')} stands where {' or '.join(expected.decode())} should")
        self.at += 1
        return found

    def array(self) -> Iterator[bytes]:
        self._take(b"[")
        if self.peek() == b"]":
            self._take(b"]")
            return
        yield self.value().translate(_BLANK) + b"\n"
        while self._take(b",]") == b",":
            yield self.value().translate(_BLANK) + b"\n"

    def names(self) -> Iterator[str]:
        """The names of an object's members; who asks for the next has read the value of the one before."""
        self._take(b"{")
        if self.peek() == b"}":
            self._take(b"}")
            return
        yield self._name()
        while self._take(b",}") == b",":
            yield self._name()

    def _name(self) -> str:
        try:
            name = json.loads(self.value())
        except ValueError:
            name = None
        if not isinstance(name, str):
            raise self.wrong("what stands before a colon is no string")
        self._take(b":")
        return name

    def value(self, *, keep: bool = True) -> bytes:
        """The next value; or nothing of it, where it is only passed over."""
        match self.peek():
            case b"{" | b"[":
                return self._nested(keep=keep)
            case b'"':
                whole = _STRING
            case _:
                whole = _WORD
        while (end := _match(whole, self.text, self.at)) in (self.at, len(self.text)):
            if not self._more():
                break
        if end == self.at or (whole is _STRING and self.text[end - 1 : end] != b'"'):
            raise self.wrong("a value is missing" if self.peek() else _CUT)
        begin, self.at = self.at, end
        return self.text[begin:end]

    def _nested(self, *, keep: bool) -> bytes:
        kept, closing = bytearray(), list[bytes]()
        while True:
            begin, self.at = self.at, _match(_BETWEEN, self.text, self.at)
            bracket = self.text[self.at : self.at + 1]
            if closed := bracket not in (b"", b'"'):
                self.at += 1
            if keep:
                kept += self.text[begin : self.at]
            if not closed:  # in the middle of a string, or at the end of what was read
                if not self._more():
                    raise self.wrong(_CUT)
            elif bracket in _CLOSING:
                closing.append(_CLOSING[bracket])
            elif bracket != closing.pop():
                raise self.wrong(f"a {bracket.decode()} closes what it did not open")
            if not closing:
                return bytes(kept)


def _match(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    """How far a pattern goes."""
    found = pattern.match(text, at)
    return found.end() if found else at
