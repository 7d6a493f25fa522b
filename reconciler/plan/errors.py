"""How anything that goes wrong reaches the user: what, where, why, what to do — and an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """The command line's exit codes."""

    DONE = 0
    ERROR = 1
    CHANGES = 2
    DRIFT = 3
    LIMIT = 4
    PARTIAL = 5
    INTERRUPTED = 130


EXIT_CODES = {
    Exit.INTERRUPTED: "interrupted",
    Exit.DRIFT: "drift: the world is not what the plan saw, a wrong database included",
    Exit.LIMIT: "over a limit (max_delete), or a risk that the spec does not allow",
    Exit.PARTIAL: "partly applied; running the same plan again can finish",
    Exit.ERROR: "error, wrong usage, or not converged",
    Exit.CHANGES: "changes are planned (plan --detailed-exitcode, status), or plans differ (diff)",
    Exit.DONE: "done, or nothing to do",
}
"""What each means, the gravest first."""

_GRAVITY = tuple(EXIT_CODES)


def gravest(*codes: Exit) -> Exit:
    """Of several exit codes the one to leave with."""
    return next(code for code in _GRAVITY if code in codes or code is Exit.DONE)


@dataclass(frozen=True)
class Location:
    """A place in a file the user wrote; `text` is the line itself."""

    file: str
    line: int
    column: int = 1
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ReconcilerError(Exception):
    """An error for the user's eyes. `what` is one line; `details` may name things, one a line; never holds a secret."""

    def __init__(
        self,
        what: str,
        *,
        where: Location | str | None = None,
        why: str | None = None,
        todo: str | None = None,
        details: tuple[str, ...] = (),
        code: Exit = Exit.ERROR,
        rule: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.todo = todo
        self.details = details
        self.code = code
        self.rule = rule
        """The number of the rule of `plan/rules.py` that this is about, if it is about one."""

    def render(self) -> str:
        """The few lines printed on stderr."""
        lines = [f"error: {self.what}"]
        if isinstance(self.where, Location):
            lines.append(f"  --> {self.where}")
            if self.where.text:
                lines.append(f"   |  {self.where.text}")
                lines.append(f"   |  {' ' * (self.where.column - 1)}^")
        elif self.where:
            lines.append(f"  --> {self.where}")
        lines += [f"  {detail}" for detail in self.details]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.todo:
            lines.append(f"  do:  {self.todo}")
        return "\n".join(lines)


class Drift(ReconcilerError):
    """The world is not what the plan saw. `details` holds one line for each drifted thing: planned-before beside actual."""

    def __init__(
        self, what: str, *, details: tuple[str, ...] = (), why: str | None = None, todo: str | None = None
    ) -> None:
        super().__init__(
            what, details=details, why=why, todo=todo or "plan again and have the new plan reviewed", code=Exit.DRIFT
        )


class SpecErrors(ReconcilerError):
    """Several errors found in one reading of the specs; each is rendered."""

    def __init__(self, errors: tuple[ReconcilerError, ...]) -> None:
        super().__init__(f"{len(errors)} errors in the spec")
        self.errors = errors

    def render(self) -> str:
        return "\n\n".join(error.render() for error in self.errors)


def internal(error: Exception) -> str:
    """Of an error that nobody foresaw its type, and where in this package it happened, whatever library it went through.

    Its message may hold values, even secrets.
    """
    import traceback
    from pathlib import Path

    package, place = Path(__file__).parent.parent, "an unknown place"
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(package):
            place = f"{package.name}/{path.relative_to(package).as_posix()}:{frame.lineno}"
    return f"internal error: {type(error).__qualname__} at {place}"
