"""The environment a spec may read: the process's own, and what a `.env` file adds to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.spec.source import read_text

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)")
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_BARE = re.compile(r"(?P<value>[^'\"].*?|)(?:\s+#.*)?")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True)
class Environment:
    """Values by name, which are never shown."""

    values: Mapping[str, str] = field(repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str], folders: Iterable[Path]) -> Environment:
        """What is set, and below it the `.env` of each folder, the first one winning."""
        values: dict[str, str] = {}
        for folder in reversed(list(dict.fromkeys(folder.resolve() for folder in folders))):
            if (file := folder / ".env").is_file():
                values.update(_assignments(file))
        return cls({**values, **environ})

    def get(self, name: str) -> str | None:
        return self.values.get(name)


def _assignments(file: Path) -> Iterator[tuple[str, str]]:
    """KEY=VALUE of each line; quotes are taken off, nothing is expanded."""
    source = read_text(file)
    for number, line in enumerate(source.lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        value = None if match is None else _value(match["value"])
        if match is None or value is None:
            raise ReconcilerError(  # the line is not shown: it holds a secret, or a part of one
                "this line of .env is not KEY=VALUE",
                where=Location(source.name, number),
                todo="write KEY=value, KEY='value' or KEY=\"value\", each on one line",
            )
        yield match["name"], value


def _value(text: str) -> str | None:
    if match := _SINGLE.fullmatch(text):
        return match[1]
    if match := _DOUBLE.fullmatch(text):
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), match[1])
    if match := _BARE.fullmatch(text):
        return match["value"]
    return None
