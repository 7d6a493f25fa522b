"""CREATE statements as a user writes them into a file: cut apart, and what each of them creates.

In: the text of a file. Out: one `Statement` for each, with its kind, name and place; or `Malformed` at the character that is wrong.
Invariant: what is no CREATE statement of a kind that is known is refused; nothing is left out and nothing is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from reconciler.plan.lexis import (
    BLANK,
    NUMBER,
    WORD,
    Malformed,
    comment,
    dollar_quoted,
    found,
    quote_within,
    quoted,
)
from reconciler.plan.names import TableName, quote, split_dotted

ROUTINES = frozenset({"function", "procedure"})
KINDS = (
    "function", "procedure", "table", "type", "domain", "index", "view", "materialized view", "trigger", "sequence",
    "schema", "extension",
)  # fmt: skip
_KNOWN = "functions, procedures, tables, types, domains, indexes, views, triggers, sequences, schemas and extensions"
_MODIFIERS = frozenset({"unlogged", "unique", "constraint", "recursive", "materialized"})
_TEMPORARY = frozenset({"temp", "temporary", "local", "global"})
_LOADED = frozenset({"c", "internal"})
_OWN_SCHEMA = re.compile(r"pg_.*|information_schema", re.DOTALL)


class TokenKind(Enum):
    WORD = auto()
    NAME = auto()  # "quoted"
    TEXT = auto()  # 'text', $$text$$ and their like
    NUMBER = auto()
    OTHER = auto()


class Token(NamedTuple):
    kind: TokenKind
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def word(self) -> str:
        """A bare word in lower case; '' for anything else."""
        return self.text.lower() if self.kind is TokenKind.WORD else ""


@dataclass(frozen=True)
class Statement:
    """A CREATE statement; `offset` is its place in the file, spans are places in `text`."""

    text: str
    offset: int
    kind: str
    name: TableName
    """Of an index: in the schema of its table. Of a schema or an extension: without a schema."""
    span: tuple[int, int]
    """The name as it is written."""
    on: TableName | None = None
    """The table of a trigger or an index."""
    or_replace: bool = False
    tokens: tuple[Token, ...] = field(default=(), repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The object's name as SQL spells it; of a trigger behind its table's. A routine's arguments are not part of it."""
        if self.kind == "trigger":
            return f"{self.on}.{quote(self.name.name)}"
        return str(self.name)

    def renamed(self, name: str) -> str:
        """The statement for an object of another name, which replaces what is there if it can."""
        return self.replacing(self.text[: self.span[0]]) + name + self.text[self.span[1] :]

    def replacing(self, text: str | None = None) -> str:
        """The statement, or the head of it, with OR REPLACE."""
        text = self.text if text is None else text
        return text if self.or_replace else f"{text[:6]} OR REPLACE{text[6:]}"


def statements(text: str) -> Iterator[Statement | Malformed]:
    """Every statement of a file, in order; a wrong one as what is wrong with it. Where the text cannot be cut, Malformed is raised."""
    for tokens in _cut(text):
        start, end = tokens[0].start, tokens[-1].end
        inside = tuple(Token(it.kind, it.text, it.start - start) for it in tokens)
        try:
            yield parse(text[start:end], start, inside)
        except Malformed as error:
            yield Malformed(error.what, error.offset + start, error.todo)


def one_statement(text: str) -> Statement:
    """The one CREATE statement that the text is, or Malformed."""
    match list(_cut(text)):
        case [tokens]:
            start, end = tokens[0].start, tokens[-1].end
            return parse(text[start:end], start, tuple(Token(it.kind, it.text, it.start - start) for it in tokens))
        case several:
            raise Malformed(f"one statement is wanted, and {len(several)} stand there", 0)


def tokens_of(text: str) -> Iterator[Token]:
    """The text cut as PostgreSQL's lexer does, without blanks and comments."""
    position = 0
    if "\0" in text:
        raise Malformed("the character NUL cannot stand in SQL", text.index("\0"))
    while position < len(text):
        character, two = text[position], text[position : position + 2]
        if character in " \t\n\r\f\v" or two == "--":
            position += len(found(BLANK, text, position))
            continue
        if two == "/*":
            position += len(comment(text, position))
            continue
        token = _token(text, position)
        yield token
        position = token.end


def _token(text: str, position: int) -> Token:
    if (opened := quote_within(text, position)) is not None:
        kind = TokenKind.NAME if text[opened] == '"' else TokenKind.TEXT
        return Token(kind, quoted(text, position, opened), position)
    if piece := dollar_quoted(text, position):
        return Token(TokenKind.TEXT, piece, position)
    for kind, pattern in ((TokenKind.WORD, WORD), (TokenKind.NUMBER, NUMBER)):
        if match := pattern.match(text, position):
            return Token(kind, match[0], position)
    if text[position] == "\\":
        raise Malformed(
            "a `\\` is psql's, not SQL's", position, "leave psql's commands out; E'…' text may hold backslashes"
        )
    return Token(TokenKind.OTHER, text[position], position)


def _cut(text: str) -> Iterator[list[Token]]:
    """The tokens of each statement; a `;` within brackets or a BEGIN ATOMIC … END body ends none."""
    statement: list[Token] = []
    brackets: list[Token] = []
    bodies = 0  # BEGIN ATOMIC, and CASE within it: each has its END
    for token in tokens_of(text):
        if token.text == ";" and token.kind is TokenKind.OTHER and not brackets and not bodies:
            if statement:
                yield statement
            statement = []
            continue
        before = statement[-1] if statement else None
        statement.append(token)
        if token.kind is TokenKind.OTHER and token.text in "([":
            brackets.append(token)
        elif token.kind is TokenKind.OTHER and token.text in ")]":
            if not brackets or brackets.pop().text != {")": "(", "]": "["}[token.text]:
                raise Malformed(f"this `{token.text}` closes nothing", token.start)
        elif (
            before
            and before.word == "begin"
            and token.word == "atomic"
            and statement[0].word == "create"
            and not brackets
        ):
            bodies += 1
        elif bodies and not brackets and not (before and (before.word == "as" or before.text == ".")):
            bodies += {"case": 1, "end": -1}.get(token.word, 0)
    if brackets:
        raise Malformed(f"this `{brackets[-1].text}` is never closed", brackets[-1].start)
    if bodies:
        raise Malformed("this BEGIN ATOMIC has no END", statement[0].start)
    if statement:
        yield statement


class _Reader:
    """The tokens of one statement, read from left to right."""

    def __init__(self, text: str, tokens: tuple[Token, ...]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = 0

    @property
    def here(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    @property
    def word(self) -> str:
        return self.here.word if self.here else ""

    @property
    def place(self) -> int:
        return self.here.start if self.here else self.tokens[-1].start

    def take(self, *words: str) -> bool:
        """Go past these words if they stand here."""
        following = [token.word for token in self.tokens[self.at : self.at + len(words)]]
        if following == list(words):
            self.at += len(words)
            return True
        return False

    def name(self, most: int) -> tuple[tuple[str, ...], tuple[int, int]]:
        """A dotted name of at most so many parts, and where it stands."""
        first = self.at
        while self.here and self.here.kind in (TokenKind.WORD, TokenKind.NAME):
            self.at += 1
            if not (self.here and self.here.text == "."):
                break
            self.at += 1
        read = self.tokens[first : self.at]
        if not read or read[-1].text == ".":
            raise Malformed("a name is missing", self.place, "write the object's name")
        start, end = read[0].start, read[-1].end
        try:
            parts = split_dotted("".join(token.text for token in read))
        except ValueError as error:
            raise Malformed(str(error), start, "write the name plainly or in double quotes") from None
        if len(parts) > most:
            raise Malformed(
                f"`{self.text[start:end]}` has {len(parts)} parts", start,
                "write " + ("name or schema.name" if most > 1 else "the name alone"),
            )  # fmt: skip
        return parts, (start, end)

    def qualified(self) -> tuple[TableName, tuple[int, int]]:
        """A name in a schema of the user's; without one it is public."""
        parts, span = self.name(2)
        name = TableName("public", parts[0]) if len(parts) == 1 else TableName(*parts)
        if _OWN_SCHEMA.fullmatch(name.schema or ""):
            raise Malformed(f"the schema {name.schema} is the server's own", span[0], "choose another schema")
        return name, span

    def outside(self) -> Iterator[Token]:
        """What follows from here, without what stands in brackets."""
        depth = 0
        for token in self.tokens[self.at :]:
            if token.kind is TokenKind.OTHER and token.text in "([":
                depth += 1
            elif token.kind is TokenKind.OTHER and token.text in ")]":
                depth -= 1
            elif not depth:
                yield token


def parse(text: str, offset: int, tokens: tuple[Token, ...]) -> Statement:
    """One statement, its kind and its name; offsets of errors are places in `text`."""
    reader = _Reader(text, tokens)
    if not reader.take("create"):
        head = (tokens[0].word or tokens[0].text).upper()[:20]
        raise Malformed(f"only CREATE statements can stand here, not {head} …", 0, f"leave it out; known are {_KNOWN}")
    or_replace = reader.take("or", "replace")
    if reader.word in _TEMPORARY:
        raise Malformed("what is temporary is gone with its session", reader.place, "leave the statement out")
    modifiers: set[str] = set()
    while reader.word in _MODIFIERS:
        modifiers.add(reader.word)
        reader.at += 1
    kind = "materialized view" if "materialized" in modifiers and reader.word == "view" else reader.word
    if kind not in KINDS or (modifiers and not _fits(kind, modifiers)):
        words = " ".join(token.text.upper()[:20] for token in tokens[: reader.at + 1])
        raise Malformed(f"{words} is not supported", 0, f"leave it out; known are {_KNOWN}")
    reader.at += 1
    if kind == "index" and reader.word == "concurrently":
        raise Malformed(
            "an index cannot be built CONCURRENTLY within a transaction", reader.place, "leave the word out"
        )
    reader.take("if", "not", "exists")
    name, span, on = _named(reader, kind)
    _check(reader, kind)
    return Statement(text, offset, kind, name, span, on, or_replace, tokens)


def _fits(kind: str, modifiers: set[str]) -> bool:
    may = {"table": {"unlogged"}, "sequence": {"unlogged"}, "index": {"unique"}, "trigger": {"constraint"},
           "view": {"recursive"}, "materialized view": {"materialized"}}  # fmt: skip
    return modifiers <= may.get(kind, set())


def _named(reader: _Reader, kind: str) -> tuple[TableName, tuple[int, int], TableName | None]:
    """The object's name, where that stands, and the table it belongs to."""
    match kind:
        case "schema" | "extension":
            if kind == "schema" and reader.word == "authorization":
                raise Malformed("the schema has no name", reader.place, "write CREATE SCHEMA name AUTHORIZATION …")
            (name,), span = reader.name(1)
            if kind == "schema" and _OWN_SCHEMA.fullmatch(name):
                raise Malformed(f"the schema {name} is the server's own", span[0], "choose another name")
            return TableName(None, name), span, None
        case "index" | "trigger":
            if reader.word == "on":
                raise Malformed(f"the {kind} has no name", reader.place, "give it one: it is found again by its name")
            (name,), span = reader.name(1)
            while reader.here and reader.word != "on":
                reader.at += 1
            reader.take("on")
            reader.take("only")
            on, _ = reader.qualified()
            return TableName(on.schema, name), span, on
        case _:
            name, span = reader.qualified()
            return name, span, None


def _check(reader: _Reader, kind: str) -> None:
    """Refuse the forms of a known kind that are something else."""
    match kind:
        case "table":
            if token := next((it for it in reader.outside() if it.word == "as"), None):
                raise Malformed(
                    "CREATE TABLE … AS writes rows", token.start, "create the table, and fill it with a collection"
                )
        case "type" if reader.word != "as":
            raise Malformed("only CREATE TYPE … AS is known", reader.place, "write CREATE TYPE name AS …")
        case "schema":
            if reader.take("authorization"):
                reader.at += 1
            if reader.here:
                raise Malformed(
                    "a schema is created alone", reader.place, "write what belongs into it as further statements"
                )
        case "extension":
            if token := next((it for it in reader.outside() if it.word == "cascade"), None):
                raise Malformed("CASCADE creates what is not named", token.start, "write CREATE EXTENSION for each")
        case "function" | "procedure":
            if reader.here is None or reader.here.text != "(":
                raise Malformed(f"the {kind} has no arguments", reader.place, "write name(…) or name()")
            _check_language(reader)
        case _:
            pass


def _check_language(reader: _Reader) -> None:
    """Code that the server would load from a file is none that a plan can hold, and comparing would load it."""
    before: Token | None = None
    for token in reader.outside():
        if token.word in ("begin", "return"):
            return
        if before and before.word == "language":
            plainly = token.kind is TokenKind.WORD or token.text[0] in "'\""
            language = token.text.strip("'\"").lower()
            if not plainly or language in _LOADED:
                raise Malformed(f"functions of the language {language} are not supported", token.start)
        before = token
