"""The text of one file a user wrote, and places in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.spec.credentials import MASK, SHOWN_SECTIONS, mask_line

LARGEST = 4 * 1024 * 1024  # bytes; rows in such numbers belong into a `files` connection
_WIDEST = 200  # characters of a line that an error shows
_TOP_LEVEL = re.compile(r"([\w-]+)\s*:")
_COMMENT = re.compile("#.*")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as YAML counts lines
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a source; lines and columns count from 0."""

    source: Source
    line: int
    column: int

    def location(self) -> Location:
        """The place as an error shows it, with its line freed from secrets."""
        return Location(self.source.name, self.line + 1, self.column + 1, self.source.shown(self.line, self.column))


@dataclass(eq=False)
class Source:
    """One file.

    `hidden` holds the spans (line, column, line, column) that no error may show. A file that is `broken` was not read
    to its end: what its connections hold was not told apart, and none of it is shown.
    """

    name: str
    text: str
    lines: list[str] = field(init=False, repr=False)
    hidden: set[tuple[int, int, int, int]] = field(default_factory=set[tuple[int, int, int, int]], repr=False)
    broken: bool = False

    def __post_init__(self) -> None:
        self.lines = _BREAK.split(self.text)

    def hide(self, first: int, left: int, last: int, right: int) -> None:
        """Keep a span from being shown by any error."""
        if right == 0 and last > first:  # a block of text ends where the next line begins
            last, right = last - 1, len(self.lines[last - 1])
        self.hidden.add((first, left, last, right))

    def offset(self, line: int, column: int) -> int:
        """Where in the text a line and column are."""
        breaks = [match.end() for _, match in zip(range(line), _BREAK.finditer(self.text), strict=False)]
        return (breaks[-1] if breaks else 0) + column

    def place(self, offset: int) -> Place:
        """The place of a character of the text."""
        before = _BREAK.split(self.text[:offset])
        return Place(self, len(before) - 1, len(before[-1]))

    def shown(self, line: int, column: int) -> str:
        """The line for an error at `column`, or nothing where the caret would stand wrong after masking."""
        if line >= len(self.lines):
            return ""
        whole = text = self.lines[line]
        for first, left, last, right in sorted(self.hidden, reverse=True):  # from the right: columns stay true
            if first <= line <= last:
                text = text[: left if line == first else 0] + MASK + (text[right:] if line == last else "")
        if not self._in_shown_section(line):
            text = "" if self.broken else _COMMENT.sub("", text)
        text = mask_line(text)
        if text[:column] != whole[:column]:
            return ""
        text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\t", "→"))
        if len(text) > _WIDEST:
            return text[:_WIDEST] + " …" if column < _WIDEST else ""
        return text

    def _in_shown_section(self, line: int) -> bool:
        """Whether the line stands in a section that holds no credentials, as far as its text tells."""
        for text in reversed(self.lines[: line + 1]):
            if match := _TOP_LEVEL.match(text):
                return match[1] in SHOWN_SECTIONS
            if text[:1] not in ("", " ", "\t", "#", "-"):
                return False
        return True


def read(path: Path) -> Source:
    """The text of a spec; what is no readable UTF-8 text of a sane size is an error."""
    source = read_text(path)
    if match := _UNPRINTABLE.search(source.text):
        place = source.place(match.start())
        raise ReconcilerError(  # the line is not shown: it has not been searched for secrets
            f"the character U+{ord(match[0]):04X} is not allowed in YAML",
            where=Location(source.name, place.line + 1, place.column + 1),
            todo='remove it, or write it with an escape inside double quotes, such as "\\u001b"',
        )
    return source


def read_text(path: Path) -> Source:
    """Any text file a user wrote for a spec."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ReconcilerError(f"cannot read {path}: {error.strerror or 'unknown reason'}") from None
    if len(data) > LARGEST:
        raise ReconcilerError(
            f"{path} is larger than {LARGEST // 1024 // 1024} MiB",
            why="a spec is read by people",
            todo="put rows into files and use a connection such as extract: { files: backup-data }",
        )
    try:
        source = Source(str(path), data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = Source(str(path), data[: error.start].decode("utf-8", "replace"))
        raise ReconcilerError(
            f"{path} is not UTF-8 text",
            where=Location(str(path), len(before.lines), len(before.lines[-1]) + 1),
            todo="save it with the encoding UTF-8",
        ) from None
    return source
