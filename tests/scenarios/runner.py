"""Carries out the commands of a scenario in a folder and an environment of its own.

- `reconciler …` calls the command line, with PRODUCTION_URL and BACKUP_URL set to the two databases;
  `NAME=value reconciler …` sets more; `<id>` stands for the plan id that was printed last
- `sql production: …` runs SQL and prints the rows of the last statement that has any
- `table production public.documents` prints all rows, in the order of their text
- `cat plans/restore.plan.md` prints a file

A file that begins with `#!` is a program; `#!<python>` is this Python.

Rows are printed exactly: columns are parted by `|`, NULL is `\\N`, and in values `\\`, `|` and line ends are escaped.
What differs from run to run is replaced in what is printed: `<id>`, `<sha256>`, `<fingerprint>`, `<port>` …
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from unittest import mock

import click
import psycopg
from click.testing import CliRunner

from tests.postgres import CANONICAL, Database, all_rows
from tests.scenarios.scenario import Command, Scenario, parse

_ID = re.compile(r"\b[0-9a-f]{16}\b")
_CHANGING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (_ID, "<id>"),
    (re.compile(r"(?<=_)20\d\d_[01]\d\b"), "<month>"),
    (re.compile(r'("fingerprint": ?)"[^"]*"'), r'\1"<fingerprint>"'),
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "RECONCILER_PG_BIN")


@dataclass(frozen=True)
class Outcome:
    """What a command did; of SQL that failed, `exit` is 1."""

    stdout: str
    stderr: str = ""
    exit: int = 0


class Runner:
    """`environment` is set for every command; `named` are texts of this run, and what a scenario says in their place."""

    def __init__(
        self,
        folder: Path,
        databases: Mapping[str, Database],
        main: click.Command,
        environment: Mapping[str, str] = MappingProxyType({}),
        named: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder = folder
        self._databases = databases
        self._main = main
        self._environment = environment
        self._named = named
        self._last_id = "<id>"

    def prepare(self, scenario: Scenario) -> None:
        """Fill the databases, and write the other files."""
        for name, text in scenario.files.items():
            database = self._databases.get(name.removesuffix(".sql")) if "/" not in name else None
            if database:
                database.sql(text)
                continue
            path = self._folder / name
            assert path.resolve().is_relative_to(self._folder.resolve()), f"{name} is outside of the folder"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("<python>", sys.executable, 1) if text.startswith("#!") else text, "utf-8")
            path.chmod(0o755 if text.startswith("#!") else 0o644)

    def run(self, text: str) -> Outcome:
        """Carry out one command; what it printed is as a scenario says it."""
        outcome = self._run(text)
        if ids := _ID.findall(outcome.stdout):
            self._last_id = ids[-1]
        return replace(outcome, stdout=self._normalised(outcome.stdout), stderr=self._normalised(outcome.stderr))

    def _run(self, text: str) -> Outcome:
        if text.startswith("sql "):
            name, colon, statement = text.removeprefix("sql ").partition(":")
            assert colon, "it is written `sql production: SELECT …`"
            return self._sql(name.strip(), statement)
        match shlex.split(text):
            case ["table", name, table]:
                return self._sql(name, all_rows(table))
            case ["cat", path]:
                file = self._folder / path
                return (
                    Outcome(file.read_text("utf-8")) if file.is_file() else Outcome("", f"there is no file {path}", 1)
                )
            case words:
                assigned = next((n for n, word in enumerate(words) if not _ASSIGNMENT.match(word)), len(words))
                assert words[assigned:][:1] == ["reconciler"], f"there is no command {text!r}"
                arguments = [word.replace("<id>", self._last_id) for word in words[assigned + 1 :]]
                return self._reconciler(arguments, dict(word.split("=", 1) for word in words[:assigned]))

    def _reconciler(self, arguments: Sequence[str], assigned: Mapping[str, str]) -> Outcome:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {"HOME": str(self._folder), "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "COLUMNS": "120"}
        environment |= {f"{name.upper()}_URL": database.dsn for name, database in self._databases.items()}
        environment |= {**self._environment, **assigned}
        with mock.patch.dict(os.environ, environment, clear=True), contextlib.chdir(self._folder):
            result = CliRunner().invoke(self._main, list(arguments), catch_exceptions=False, prog_name="reconciler")
        return Outcome(result.stdout, result.stderr, result.exit_code)

    def _sql(self, name: str, statement: str) -> Outcome:
        with contextlib.closing(self._databases[name].connect()) as session:
            session.autocommit = True
            session.execute(CANONICAL)
            try:
                return Outcome("".join(f"{line}\n" for line in _rows(session, statement)))
            except psycopg.Error as error:
                return Outcome("", str(error), 1)

    def _normalised(self, text: str) -> str:
        for name, database in self._databases.items():
            text = text.replace(database.dsn, f"<{name}>").replace(database.name, name)
            text = re.sub(rf"(127\.0\.0\.1:|port[ =:]+){database.server.port}\b", r"\1<port>", text)
        for folder in (self._folder.resolve(), self._folder):
            text = text.replace(str(folder), "<folder>")
        for actual, name in self._named.items():
            text = text.replace(actual, name)
        for pattern, name in _CHANGING:
            text = pattern.sub(name, text)
        return text


def difference(story: Path, runner: Runner, *, update: bool) -> str:
    """How the story went otherwise than it is told, or nothing; with `update` it is told anew."""
    told = parse(story.read_text("utf-8"))
    went, said = perform(told, runner)
    if went == told:
        return ""
    if update:
        story.write_text(str(went), "utf-8")
        return ""
    lines = difflib.unified_diff(str(told).split("\n"), str(went).split("\n"), "told", "went", lineterm="", n=5)
    return "\n".join([*lines, *said, "pytest --update accepts it, if it is right"])


def perform(scenario: Scenario, runner: Runner) -> tuple[Scenario, list[str]]:
    """The scenario as it really went, and what stderr said where the exit code was not the expected one."""
    runner.prepare(scenario)
    done: list[Command] = []
    said: list[str] = []
    for command in scenario.commands:
        outcome = runner.run(command.text)
        if outcome.exit != command.exit:
            said += [f"$ {command.text}", outcome.stderr]
        done.append(_as_went(command, outcome))
    return replace(scenario, commands=tuple(done)), said


def _as_went(command: Command, outcome: Outcome) -> Command:
    stderr = command.stderr
    if not all(part in outcome.stderr for part in stderr):
        stderr = tuple(line for line in outcome.stderr.splitlines() if line.strip())
    printed = outcome.stdout.rstrip("\n")
    stdout = tuple(printed.split("\n")) if printed else ()
    return replace(command, stdout=stdout, exit=outcome.exit, stderr=stderr)


def _rows(session: psycopg.Connection, statement: str) -> list[str]:
    lines: list[str] = []
    with session.cursor() as cursor:
        cursor.execute(statement.encode())
        while True:
            if cursor.description is not None and (result := cursor.pgresult) is not None:
                lines = ["|".join(column.name for column in cursor.description)]
                width = range(result.nfields)
                lines += ["|".join(_value(result.get_value(row, n)) for n in width) for row in range(result.ntuples)]
            if not cursor.nextset():
                return lines


def _value(value: bytes | None) -> str:
    if value is None:
        return "\\N"
    escapes = (("\\", "\\\\"), ("|", "\\|"), ("\n", "\\n"), ("\r", "\\r"))
    text = value.decode()
    for plain, escaped in escapes:
        text = text.replace(plain, escaped)
    return text
