"""Where PostgreSQL's words, quotes and comments begin and end: its lexical rules and nothing more.

In: a text and a position. Out: the piece that begins there, or `Malformed`.
Invariant: a quote or comment ends where the server says it ends, with standard_conforming_strings on.
"""

from __future__ import annotations

import re


class Malformed(ValueError):
    """What is wrong with a text, and at which character."""

    def __init__(self, what: str, offset: int, todo: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.offset = offset
        self.todo = todo


# Letters, _ and everything beyond ASCII; said by what they are not, which compiles a hundred times faster.
WORD = re.compile(r"[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*")
NUMBER = re.compile(r"[0-9][A-Za-z0-9_]*(?:\.(?!\.)[A-Za-z0-9_]*)?|\.[0-9][A-Za-z0-9_]*")
BLANK = re.compile(r"(?:[ \t\n\r\f\v]|--[^\n\r]*)+")
DOLLAR = re.compile(r"\$(?:[^\x00-@\[-^`{-\x7f][^\x00-/:-@\[-^`{-\x7f]*)?\$")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
# Possessive throughout: giving a character back would read an unclosed quote as a closed one.
_STRING = re.compile(r"'(?:[^']|'')*+'")
_ESCAPED_STRING = re.compile(r"'(?:[^'\\]|''|\\.)*+'", re.DOTALL)
_IDENTIFIER = re.compile(r'"(?:[^"]|"")*+"')
_CONTINUATION = re.compile(r"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+(?=[\n\r]))*+(?=')")


def quote_within(text: str, position: int) -> int | None:
    """Where the quote opens of a string or name that begins here, behind its prefix (E, B, X, N, U&) if it has one."""
    if text[position : position + 1] in ("'", '"'):
        return position
    letter = text[position : position + 1].lower()
    if letter in ("e", "b", "x", "n") and text[position + 1 : position + 2] == "'":
        return position + 1
    if letter == "u" and text[position + 1 : position + 2] == "&" and text[position + 2 : position + 3] in ("'", '"'):
        return position + 2
    return None


def quoted(text: str, start: int, quote: int) -> str:
    """From a prefix at `start` to the closing quote of what opens at `quote`, with strings continued on later lines."""
    if text[quote] == '"':
        match = _IDENTIFIER.match(text, quote)
        if match is None:
            raise Malformed('this " is never closed', quote, 'a " inside a quoted name is written twice')
        if match[0] == '""':
            raise Malformed("a quoted name is empty", quote, "text stands in single quotes: ''")
        return text[start : match.end()]
    shape = _ESCAPED_STRING if text[start:quote].lower() == "e" else _STRING
    match = shape.match(text, quote)
    if match is None:
        raise Malformed("this ' is never closed", quote, "a ' inside text is written twice")
    while continued := _CONTINUATION.match(text, match.end()):
        following = shape.match(text, continued.end())
        if following is None:
            raise Malformed("this ' is never closed", continued.end(), "a ' inside text is written twice")
        match = following
    return text[start : match.end()]


def dollar_quoted(text: str, position: int) -> str | None:
    """A $tag$ quoted text $tag$, if one begins here."""
    match = DOLLAR.match(text, position)
    if match is None:
        return None
    end = text.find(match[0], match.end())
    if end < 0:
        raise Malformed(f"this {match[0]} quote is never closed", position, f"end it with {match[0]}")
    return text[position : end + len(match[0])]


def comment(text: str, position: int) -> str:
    """A /* comment */, which nests."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return text[position : edge.end()]
    raise Malformed("this comment is never closed", position, "end it with */")


def found(pattern: re.Pattern[str], text: str, position: int) -> str:
    """The piece of that pattern that is known to begin here."""
    match = pattern.match(text, position)
    assert match is not None
    return match[0]
