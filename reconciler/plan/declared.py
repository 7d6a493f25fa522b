"""What a CREATE statement says of columns and arguments, as far as its words alone tell.

In: a statement. Out: pieces of its text. The server has the last word: what is read here only helps to compare and to name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reconciler.plan.names import split_dotted
from reconciler.plan.statements import Statement, Token, TokenKind

_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign", "exclude"})
_AFTER_TYPE = frozenset(
    {
        "collate",
        "constraint",
        "not",
        "null",
        "check",
        "default",
        "generated",
        "primary",
        "unique",
        "references",
        "deferrable",
        "initially",
        "storage",
        "compression",
    }
)
_MODES = frozenset({"in", "out", "inout", "variadic"})
_SECOND = {
    "double": {"precision"},
    "character": {"varying"},
    "char": {"varying"},
    "bit": {"varying"},
    "national": {"character", "char"},
    "timestamp": {"with", "without"},
    "time": {"with", "without"},
    "interval": {"year", "month", "day", "hour", "minute", "second"},
}


class Declared(NamedTuple):
    """The columns of a table with their types' text; with `more` there are others that the words do not name."""

    columns: tuple[tuple[str, str], ...]
    more: bool


def columns_of(statement: Statement) -> Declared | None:
    """The columns a CREATE TABLE names; None where it names them in no list."""
    rest = [token for token in statement.tokens if token.start >= statement.span[1]]
    if not rest or rest[0].text != "(":
        return None
    columns: list[tuple[str, str]] = []
    inside, after = _bracketed(rest)
    more = any(token.word == "inherits" for token in after)
    for part in _parted(inside):
        if part[0].word == "like":
            more = True
        elif part[0].word not in _CONSTRAINTS:
            (name,) = split_dotted(part[0].text)
            type_: list[Token] = []
            for token in part[1:]:
                if token.word in _AFTER_TYPE:
                    break
                type_.append(token)
            columns.append((name, _text(statement, type_)))
    return Declared(tuple(columns), more)


def signature(statement: Statement) -> str:
    """A routine's name and the types of its input arguments, as they are written."""
    rest = [token for token in statement.tokens if token.start >= statement.span[1]]
    types: list[str] = []
    for part in _parted(_bracketed(rest)[0]):
        tokens = list(part)
        for at, token in enumerate(tokens):
            if token.word == "default" or token.text == "=":
                tokens = tokens[:at]
                break
        modes: list[str] = []
        while len(tokens) > 1 and tokens[0].word in _MODES:
            modes.append(tokens.pop(0).word)
        if len(tokens) > 1 and _is_name(tokens):
            tokens.pop(0)
            while len(tokens) > 1 and tokens[0].word in _MODES:  # a name may stand before the mode
                modes.append(tokens.pop(0).word)
        if "out" not in modes:
            types.append(_text(statement, tokens))
    return f"{statement.name}({','.join(types)})"


def _is_name(tokens: Sequence[Token]) -> bool:
    """Whether the first token of an argument is its name and not the beginning of its type."""
    first, second = tokens[0], tokens[1]
    if first.kind not in (TokenKind.WORD, TokenKind.NAME) or second.kind not in (TokenKind.WORD, TokenKind.NAME):
        return False
    return second.word not in _SECOND.get(first.word, set())


def _bracketed(tokens: Sequence[Token]) -> tuple[list[Token], list[Token]]:
    """What stands in the brackets that open with the first token, and what follows them."""
    depth = 0
    for at, token in enumerate(tokens):
        if token.kind is TokenKind.OTHER:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        if not depth:
            return list(tokens[1:at]), list(tokens[at + 1 :])
    return list(tokens[1:]), []


def _parted(tokens: Sequence[Token]) -> list[list[Token]]:
    """The parts between commas that stand in no further brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind is TokenKind.OTHER:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        if token.text == "," and not depth and token.kind is TokenKind.OTHER:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _text(statement: Statement, tokens: Sequence[Token]) -> str:
    return statement.text[tokens[0].start : tokens[-1].end] if tokens else ""
