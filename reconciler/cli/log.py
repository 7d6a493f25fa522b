"""Messages as JSON, one object a line, for what gathers logs: `--log-format json`.

In: messages, errors, the end of each task. Out: lines on stderr; data on stdout stays as it is.
Invariant: a line is one object with `time`, `level` and `message`, whatever stands in the message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from datetime import UTC, datetime

import click

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.plan.progress import Silent

_FORMAT = ContextVar("log_format", default="text")


def choose(form: str) -> None:
    """For this run; the command line begins each with text."""
    _FORMAT.set(form)


def is_json() -> bool:
    return _FORMAT.get() == "json"


def write(level: str, message: str, **more: object) -> None:
    """One line."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    given = {name: value for name, value in more.items() if value not in (None, (), [])}
    click.echo(json.dumps({"time": now, "level": level, "message": message, **given}), err=True)


def write_error(error: ReconcilerError, level: str = "error") -> None:
    """Each of the errors, with everything it says."""
    for it in error.errors if isinstance(error, SpecErrors) else (error,):
        where = asdict(it.where) if isinstance(it.where, Location) else it.where
        write(
            level, it.what, code=int(it.code), rule=it.rule or None, where=where, details=list(it.details), why=it.why, todo=it.todo
        )  # fmt: skip


class Tasks(Silent):
    """What took how long, once it is done."""

    def say(self, text: str) -> None:
        write("info", text)

    @contextmanager
    def task(self, label: str, total: int | None) -> Generator[Counter]:
        began, counter = time.monotonic(), Counter()
        yield counter
        write("info", label, done=counter.done, total=total, seconds=round(time.monotonic() - began, 3))


class Counter:
    """What was done of a task; counted from several threads it may be a little less."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, n: int = 1) -> None:
        self.done += n
