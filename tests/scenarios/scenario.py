r"""The format of a scenario: a story told in commands, what they are to print, and the files they need.

    # Comments and blank lines stand before a command.
    $ reconciler plan -o plans/restore.plan.jsonl
    what it prints on stdout, line by line
    [exit 2]
    stderr: a part of some line on stderr

    $ table production public.documents
    uri|title
    at://a|A

    -- production.sql --
    CREATE TABLE documents (uri text PRIMARY KEY, title text);
    -- specs/restore.yaml --
    version: 1

Exit code 0 is not written. What is on stderr is compared only where the scenario says so. Blank lines at the end of
the output are not compared. A line of output that would read as something else has a `\` before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SECTION = re.compile(r"-- (\S+) --")
_EXIT = re.compile(r"\[exit (\d+)\]")
_SPECIAL = re.compile(r"\$ |#|stderr: |\[exit \d+\]$|-- \S+ --$")


@dataclass(frozen=True)
class Command:
    """One command and its outcome; `before` are the lines above it, kept as they are."""

    text: str
    before: tuple[str, ...] = ()
    stdout: tuple[str, ...] = ()
    exit: int = 0
    stderr: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        return [
            *self.before,
            f"$ {self.text}",
            *(f"\\{line}" if _SPECIAL.match(line.lstrip("\\")) else line for line in self.stdout),
            *([f"[exit {self.exit}]"] if self.exit else []),
            *(f"stderr: {line}" for line in self.stderr),
        ]


@dataclass(frozen=True)
class Scenario:
    """The story; `after` are the lines that follow its last command."""

    commands: tuple[Command, ...]
    after: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        story = [line for command in self.commands for line in command.lines()]
        told = "".join(f"{line}\n" for line in (*story, *self.after))
        return told + "".join(f"-- {name} --\n{text}" for name, text in self.files.items())


def parse(text: str) -> Scenario:
    """Read a scenario; `str` of it is the text again."""
    story: list[str] = []
    files: dict[str, list[str]] = {}
    lines = story
    for line in text.removesuffix("\n").split("\n"):
        if section := _SECTION.fullmatch(line):
            lines = files.setdefault(section[1], [])
        else:
            lines.append(line)
    commands, after = _commands(story)
    return Scenario(commands, after, {name: "".join(f"{line}\n" for line in lines) for name, lines in files.items()})


def _commands(story: Sequence[str]) -> tuple[tuple[Command, ...], tuple[str, ...]]:
    starts = [number for number, line in enumerate(story) if line.startswith("$ ")]
    commands: list[Command] = []
    before = tuple(story[: starts[0]] if starts else story)
    for start, end in zip(starts, [*starts[1:], len(story)], strict=True):
        command, before = _command(story[start][2:], before, story[start + 1 : end])
        commands.append(command)
    return tuple(commands), before


def _command(text: str, before: tuple[str, ...], below: Sequence[str]) -> tuple[Command, tuple[str, ...]]:
    """The command, and the lines below it that are no longer its own."""
    own = next((number for number, line in enumerate(below) if line.startswith("#")), len(below))
    while own and not below[own - 1]:
        own -= 1
    stdout: list[str] = []
    stderr: list[str] = []
    code = 0
    for line in below[:own]:
        if found := _EXIT.fullmatch(line):
            code = int(found[1])
        elif line.startswith("stderr: "):
            stderr.append(line.removeprefix("stderr: "))
        else:
            escaped = line.startswith("\\") and _SPECIAL.match(line.lstrip("\\"))
            stdout.append(line[1:] if escaped else line)
    return Command(text, before, tuple(stdout), code, tuple(stderr)), tuple(below[own:])
