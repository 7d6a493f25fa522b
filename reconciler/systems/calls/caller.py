"""What can be called, and the ways in which a call fails. A message holds no secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reconciler.plan.errors import ReconcilerError

Clean = Callable[[str], str]
"""Takes secrets out of what a server or a program said."""


class Caller(Protocol):
    """Something that takes a payload."""

    def call(self, payload: str, seconds: float) -> None:
        """Send the payload, JSON text, and wait for the answer, at most so long; or one of the errors below."""
        ...


class FailedError(Exception):
    """This call failed: its rows may be why."""


class BusyError(Exception):
    """Not now: nothing was done, and no row is to blame."""

    def __init__(self, said: str, seconds: float | None = None) -> None:
        super().__init__(said)
        self.seconds = seconds


class DeniedError(ReconcilerError):
    """No call will ever go through."""


def brief(text: str, clean: Clean) -> str:
    """The first line of what was said, short and without secrets."""
    lines = [line.strip() for line in clean(text).splitlines() if line.strip()]
    return lines[0][:200] if lines else ""
