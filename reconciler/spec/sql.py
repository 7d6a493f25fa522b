"""SQL fragments of a spec, read by PostgreSQL's lexical rules only: the server's own grammar judges the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from reconciler.plan.lexis import BLANK, DOLLAR, NUMBER, WORD, Malformed, comment, dollar_quoted, found, quote_within
from reconciler.plan.lexis import quoted as quoted_piece


class Parameter(NamedTuple):
    """A `:name` whose value is bound by the driver; `start` is its place in the text."""

    name: str
    start: int


class _Kind(Enum):
    BLANK = auto()  # white space and comments
    QUOTED = auto()  # 'text', E'text', $$text$$ and "name"
    WORD = auto()
    NUMBER = auto()
    PARAMETER = auto()
    COLON = auto()  # between the bounds of a slice
    OTHER = auto()


class _Token(NamedTuple):
    kind: _Kind
    text: str
    start: int


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMMENT = re.compile(r"--[^\n\r]*|/\*.*\*/", re.DOTALL)
_REFERENCE = re.compile(r"\$\{[A-Za-z_][\w:.-]*\}")
_LOOKALIKES = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u00a0": "a space",
    "\u2013": "-",
    "\u2212": "-",
}
_PAIRS = {")": "(", "]": "["}
_CLOSING = {"(": ")", "[": "]"}


def parse(text: str) -> tuple[str | Parameter, ...]:
    """The fragment as literal SQL and parameters; comments become spaces, so that it can be put into a query."""
    parts: list[str | Parameter] = []
    for token in _tokens(text):
        piece: str | Parameter
        match token.kind:
            case _Kind.PARAMETER:
                piece = Parameter(token.text[1:], token.start)
            case _Kind.BLANK if "-" in token.text or "/" in token.text:
                piece = _COMMENT.sub(lambda comment: " " * len(comment[0]), token.text)
            case _:
                piece = token.text
        if isinstance(piece, str) and parts and isinstance(parts[-1], str):
            parts[-1] += piece
        else:
            parts.append(piece)
    return tuple(parts)


def parse_condition(text: str) -> tuple[str | Parameter, ...]:
    """The same for what stands after WHERE."""
    first = next((token for token in _tokens(text) if token.kind is not _Kind.BLANK), None)
    match first and first.text.lower():
        case "where":
            assert first is not None
            raise Malformed("the word WHERE is not part of the condition", first.start, "leave it out")
        case "select" | "with" | "insert" | "update" | "delete":
            assert first is not None
            raise Malformed(
                f"a condition is one expression, not {first.text.upper()} …",
                first.start,
                "write what would stand after WHERE",
            )
        case _:
            return parse(text)


def parse_query(text: str) -> tuple[str | Parameter, ...]:
    """The same for a query that reads."""
    first = next((token for token in _tokens(text) if token.kind is not _Kind.BLANK), None)
    if first is not None and first.text.lower() not in ("select", "with", "values", "table", "("):
        raise Malformed("this is no query", first.start, "write one SELECT that writes nothing")
    return parse(text)


def parameters(text: str) -> tuple[Parameter, ...]:
    """The parameters alone."""
    return tuple(part for part in parse(text) if isinstance(part, Parameter))


def patterns_over_parameters(text: str) -> Iterator[Parameter]:
    """Parameters that LIKE would search for wildcards."""
    depth, within = 0, None
    for token in _tokens(text):
        word = token.text.lower() if token.kind is _Kind.WORD else token.text if token.kind is _Kind.OTHER else ""
        if token.text in _CLOSING and token.kind is _Kind.OTHER:
            depth += 1
        elif word in _PAIRS:
            depth -= 1
        if word in ("like", "ilike", "similar") or (word == "~" and text[token.start : token.start + 2] == "~~"):
            within = depth
        elif within is not None and (depth < within or (depth == within and word in _ENDS)):
            within = None
        elif within is not None and token.kind is _Kind.PARAMETER:
            yield Parameter(token.text[1:], token.start)
            within = None


_ENDS = frozenset({"and", "or", "then", "when", "else", "end", "escape", "is", ","})


def _tokens(text: str) -> Iterator[_Token]:
    """Cut the text as PostgreSQL's lexer does, refusing what no fragment may hold."""
    position = 0
    open_: list[tuple[str, int, bool]] = []  # bracket, where, and whether it is an ARRAY's
    before: _Token | None = None  # the last one that is not blank
    while position < len(text):
        token = _token(text, position, before, slicing=bool(open_) and open_[-1][0] == "[" and not open_[-1][2])
        if token.kind is _Kind.OTHER:
            if token.text in _CLOSING:
                open_.append((token.text, position, _begins_array(token.text, before, open_)))
            elif token.text in _PAIRS:
                if not open_ or open_[-1][0] != _PAIRS[token.text]:
                    raise Malformed(f"this `{token.text}` closes nothing", position, _FLOW)
                open_.pop()
        yield token
        if token.kind is not _Kind.BLANK:
            before = token
        position += len(token.text)
    if open_:
        raise Malformed(f"this `{open_[-1][0]}` is never closed", open_[-1][1], _FLOW)
    if before is None:
        raise Malformed("the SQL is empty", 0, "write an expression; true means every row")


_FLOW = "balance the brackets; inside a YAML { } or [ ] SQL needs quotes, or it ends at the first comma"


def _begins_array(bracket: str, before: _Token | None, open_: list[tuple[str, int, bool]]) -> bool:
    """Whether a [ begins ARRAY[…] or a row of it, in which a colon cannot be a slice's."""
    if bracket != "[" or before is None:
        return False
    return before.text.lower() == "array" or (before.text in "[," and bool(open_) and open_[-1][2])


def _token(text: str, position: int, before: _Token | None, *, slicing: bool) -> _Token:
    character = text[position]
    two = text[position : position + 2]
    if character in " \t\n\r\f\v" or two == "--":
        return _Token(_Kind.BLANK, found(BLANK, text, position), position)
    if two == "/*":
        return _Token(_Kind.BLANK, comment(text, position), position)
    if (quote := quote_within(text, position)) is not None:
        return _Token(_Kind.QUOTED, _quoted(text, position, quote), position)
    if character == "$":
        return _dollar(text, position)
    if character == ":":
        return _colon(text, position, before, slicing=slicing)
    if meant := _LOOKALIKES.get(character):
        raise Malformed(f"the character U+{ord(character):04X} is not SQL's", position, f"write {meant}")
    if match := WORD.match(text, position):
        word = match[0]
        for lookalike in _LOOKALIKES:  # PostgreSQL would take them for letters
            if lookalike in word:
                return _token(text, position + word.index(lookalike), before, slicing=slicing)
        return _Token(_Kind.WORD, word, position)
    if match := NUMBER.match(text, position):
        return _Token(_Kind.NUMBER, match[0], position)
    if character == ";":
        raise Malformed("a `;` cannot stand in an expression", position, "write one expression and no `;`")
    if character == "\\":
        raise Malformed("a `\\` is psql's, not SQL's", position, "remove it; E'…' text may hold backslashes")
    return _Token(_Kind.OTHER, character, position)


def _colon(text: str, position: int, before: _Token | None, *, slicing: bool) -> _Token:
    if text.startswith(("::", ":="), position):
        return _Token(_Kind.OTHER, text[position : position + 2], position)
    if slicing and (before is None or _ends_operand(before)):
        return _Token(_Kind.COLON, ":", position)
    if match := _NAME.match(text, position + 1):
        return _Token(_Kind.PARAMETER, ":" + match[0], position)
    if slicing:
        return _Token(_Kind.COLON, ":", position)
    if text[position + 1 : position + 2] in ("'", '"'):
        raise Malformed("a parameter takes no quotes", position, "write :name; its value is bound, never pasted")
    raise Malformed("this `:` begins no parameter and no cast", position, "write :name, or a cast as value::type")


def _ends_operand(token: _Token) -> bool:
    """Whether a colon after it, within [ ], parts the bounds of a slice."""
    if token.kind is _Kind.OTHER:
        return token.text in (")", "]")
    return token.kind is not _Kind.COLON


def _dollar(text: str, position: int) -> _Token:
    if piece := dollar_quoted(text, position):
        start = found(DOLLAR, piece, 0)
        _refuse_references(piece[len(start) : -len(start)], position + len(start))
        return _Token(_Kind.QUOTED, piece, position)
    if text.startswith("${", position):
        raise Malformed("SQL takes no `${…}`", position, _BIND)
    if text[position + 1 : position + 2].isdigit():
        raise Malformed("numbered parameters are not known here", position, "declare a variable and write :name")
    raise Malformed("a `$` cannot stand here", position, "declare a variable and write :name")


_BIND = "write :name outside of quotes, as in 'at://' || :did || '/'; its value is bound, never pasted"


def _quoted(text: str, start: int, quote: int) -> str:
    piece = quoted_piece(text, start, quote)
    _refuse_references(piece, start)
    return piece


def _refuse_references(piece: str, start: int) -> None:
    if reference := _REFERENCE.search(piece):
        raise Malformed("SQL takes no `${…}`", start + reference.start(), _BIND)
