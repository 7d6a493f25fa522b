"""`${name}` and `${env:NAME:-default}` in the plain strings of a spec; `$${` stands for the characters themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

NAME = r"[a-z][a-z0-9_]*"  # of variables, connections and resources


@dataclass(frozen=True, slots=True)
class VariableReference:
    name: str
    start: int


@dataclass(frozen=True, slots=True)
class EnvironmentReference:
    name: str
    default: str | None
    start: int


@dataclass(frozen=True, slots=True)
class BrokenReference:
    """A `${…}` that is neither; `todo` says what to write."""

    text: str
    todo: str
    start: int


Part: TypeAlias = "str | VariableReference | EnvironmentReference | BrokenReference"

_START = re.compile(r"\$\$\{|\$\{")
_VARIABLE = re.compile(NAME)
_ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_LITERALLY = "$${ for the characters themselves"


def parts(text: str) -> Iterator[Part]:
    """The text cut into literal pieces and references."""
    position = 0
    while match := _START.search(text, position):
        if match.start() > position:
            yield text[position : match.start()]
        position = match.end()
        if match[0] == "$${":
            yield "${"
            continue
        end = text.find("}", position)
        if end < 0:
            yield BrokenReference(text[match.start() :], f"close it with }}, or write {_LITERALLY}", match.start())
            return
        yield _reference(text[position:end], match.start())
        position = end + 1
    if position < len(text):
        yield text[position:]


def _reference(body: str, start: int) -> Part:
    if _VARIABLE.fullmatch(body):
        return VariableReference(body, start)
    if match := _ENVIRONMENT.fullmatch(body):
        return EnvironmentReference(match[1], match[2], start)
    plain = re.sub(r"[\s-]+", "_", body.split(":")[0].strip()).lower()
    if ":" in body and not body.startswith("env:") and _VARIABLE.fullmatch(plain):
        todo = f"write ${{{plain}}} and the default under `variables`; only ${{env:NAME:-default}} has its default here"
    elif body.lower().startswith("env"):
        todo = "write ${env:NAME} or ${env:NAME:-default}"
    elif _VARIABLE.fullmatch(plain):
        todo = f"write ${{{plain}}}, or {_LITERALLY}"
    else:
        todo = f"write ${{name}}, or {_LITERALLY}"
    return BrokenReference("${" + body + "}", todo, start)


def substitute(text: str, values: Mapping[str, str], *, keep_environment: bool) -> str:
    """The text with its variables' values; where the environment is read later, everything else stays as written."""
    if "${" not in text:
        return text
    pieces: list[str] = []
    for part in parts(text):
        match part:
            case str():
                pieces.append(part.replace("${", "$${") if keep_environment else part)
            case VariableReference():
                value = values.get(part.name, "")
                pieces.append(value.replace("${", "$${") if keep_environment else value)
            case EnvironmentReference():
                pieces.append(
                    f"${{env:{part.name}}}" if part.default is None else f"${{env:{part.name}:-{part.default}}}"
                )
            case BrokenReference():
                pieces.append(part.text)
    return "".join(pieces)
