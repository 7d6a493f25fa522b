"""How long work tells how far it is, to whoever wants to know."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, n: int = 1) -> None:
        """So many more rows, objects or records are done."""
        ...


class Progress(Protocol):
    """Somebody who listens; tasks may overlap and may be advanced from other threads."""

    def task(self, label: str, total: int | None) -> AbstractContextManager[Task]:
        """Work that begins here and ends with the context; `total` is None where nobody knows."""
        ...

    def say(self, text: str) -> None:
        """A sentence that whoever waits should read now."""
        ...


class Silent:
    """Nobody listens."""

    def say(self, text: str) -> None:
        del text

    @contextmanager
    def task(self, label: str, total: int | None) -> Generator[Task]:
        del label, total
        yield self

    def advance(self, n: int = 1) -> None:
        del n
