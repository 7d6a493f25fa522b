"""Objects as lines of COPY's text format, and back. A value is text all the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reconciler.systems.storage.interface import Object, Totals

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"})
_BACK = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
BLOCK = 500
_COLUMNS = 5
_SIZE = 1  # the column that bytes are counted by


def line(found: Object) -> bytes:
    """name, size, etag, mime, created_at."""
    size = None if found.size is None else str(found.size)
    return "\t".join(map(_field, (found.name, size, found.etag, found.mime, found.created_at))).encode() + b"\n"


def _field(value: str | None) -> str:
    return "\\N" if value is None else value.translate(_ESCAPES)


def blocks(objects: Iterable[Object]) -> Iterator[bytes]:
    """Lines, gathered so that nobody handles them one by one."""
    gathered: list[bytes] = []
    for found in objects:
        gathered.append(line(found))
        if len(gathered) == BLOCK:
            yield b"".join(gathered)
            gathered.clear()
    if gathered:
        yield b"".join(gathered)


def fields(text: bytes) -> Sequence[str | None]:
    """The values of one line, without its end."""
    return [
        None if raw == b"\\N" else _ESCAPED.sub(lambda found: _BACK.get(found[1], found[1]), raw).decode()
        for raw in text.split(b"\t")
    ]


def measure(block: bytes) -> Totals:
    """How many objects and bytes the lines of a block stand for."""
    fields = block.replace(b"\n", b"\t").split(b"\t")
    sizes = fields[_SIZE::_COLUMNS]
    return Totals(len(fields) // _COLUMNS, sum(map(int, sizes)) if b"\\N" not in sizes else sum(map(_number, sizes)))


def _number(size: bytes) -> int:
    return 0 if size == b"\\N" else int(size)


def is_plain(text: str, lines: int) -> bool:
    """Whether so many lines hold nothing that has to be escaped."""
    return (
        text.count("\t") == lines * (_COLUMNS - 1)
        and text.count("\n") == lines
        and not any(letter in text for letter in "\\\r\b\f\v")
    )
