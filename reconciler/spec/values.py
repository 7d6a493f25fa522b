"""The values a spec holds: those of JSON, with numbers kept as they were written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

Value: TypeAlias = "bool | int | str | Number | list[Value] | dict[str, Value] | None"
Path: TypeAlias = "tuple[str | int, ...]"

_INTEGER = re.compile(r"0|[-+]?[1-9][0-9]{0,999}")  # longer ones stay text: Python refuses to print them
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>0|[1-9][0-9]*|(?=\.[0-9]))(?P<fraction>\.[0-9]*)?(?P<power>[eE][-+]?[0-9]+)?"
)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
DEEPEST = 100  # levels of nesting in a spec
NUMBER_KEY = "!number"  # how canonical JSON marks a number whose digits a float would not keep


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is no plain integer, as the digits written: 1.10 stays 1.10."""

    text: str

    def __str__(self) -> str:
        return self.text


def scalar(text: str) -> Value:
    """What a plain YAML scalar means: null, true, false, a decimal number, or text (dates, 0123, 1:30, yes, .inf)."""
    match text:
        case "" | "~" | "null" | "Null" | "NULL":
            return None
        case "true":
            return True
        case "false":
            return False
        case _ if text[0] not in "+-.0123456789":
            return text
        case _ if _INTEGER.fullmatch(text):
            return int(text)
        case _:
            return _number(text) or text


def _number(text: str) -> Number | None:
    """The number in JSON's spelling, without touching its digits: .5 is 0.5 and 5. is 5."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign = "-" if match["sign"] == "-" else ""
    fraction = match["fraction"] or ""
    return Number(f"{sign}{match['whole'] or '0'}{'' if fraction == '.' else fraction}{match['power'] or ''}")


def json_text(value: Value | Mapping[str, Value]) -> str:
    """The value as JSON, compact, with every number's digits as written and keys in the order they stand."""
    match value:
        case Number():
            return value.text
        case dict():
            return "{" + ",".join(f"{json_text(key)}:{json_text(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(json_text(item) for item in value) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def ordered(value: Value) -> Value:
    """The same with the keys of every map sorted, so that files and their order leave no trace."""
    match value:
        case dict():
            return {key: ordered(value[key]) for key in sorted(value)}
        case list():
            return [ordered(item) for item in value]
        case _:
            return value


def to_canonical(value: Value) -> object:
    """What JSON can hold without loss."""
    match value:
        case Number():
            return {NUMBER_KEY: value.text}
        case dict():
            return {key: to_canonical(item) for key, item in value.items()}
        case list():
            return [to_canonical(item) for item in value]
        case _:
            return value


def from_canonical(value: object, depth: int = 0) -> Value:
    """The way back from `to_canonical`; a ValueError names what JSON of a spec cannot hold."""
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    match value:
        case None | bool() | int() | str() | Number():
            return value
        case float():
            return _number(repr(value)) or str(value)
        case dict():
            items = cast("dict[object, object]", value)
            text = items.get(NUMBER_KEY)
            if len(items) == 1 and isinstance(text, str) and _JSON_NUMBER.fullmatch(text):
                return Number(text)
            if not all(isinstance(key, str) for key in items):
                raise ValueError("a key is not text")
            return {str(key): from_canonical(item, depth + 1) for key, item in items.items()}
        case list() | tuple():
            return [from_canonical(item, depth + 1) for item in cast("list[object]", value)]
        case _:
            raise ValueError(f"it holds a {type(value).__name__}")


def describe(value: object) -> str:
    """What kind of value it is, for a sentence that says what stands there; its content is never shown."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true" if value else "false"
        case int() | Number() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return "something else"
