"""Commands as a user types them, each printed before what it prints, and checks of what they did.

In: a `World`. Out: lines on stdout, and how many checks held. Invariants: a command is run through the same entry as on the command
line, in the world's folder, with nothing of the caller's environment that could lead it elsewhere; `✓` is printed for what was compared.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import cast

from reconciler.demo.world import NAMES, World
from reconciler.plan.errors import Exit, ReconcilerError

Command = Callable[[Sequence[str]], int]
"""Runs the command line with these words; its exit code."""

_SUMMARIES = ("Plan: ", "Apply: ")
_FOREIGN = re.compile(r"RECONCILER_VAR_|PG(?!_BIN)")


class Walk:
    """One walk: `run` commands, `expect` facts."""

    def __init__(self, world: World, command: Command, say: Callable[[str], None]) -> None:
        self.world = world
        self.checks = 0
        self._command = command
        self._say = say

    def heading(self, text: str, *told: str) -> None:
        self._say("")
        self._say(f"== {text}")
        for line in told:
            self._say(line)

    def run(self, words: str, *, told: str = "", lines: int = 0, code: Exit = Exit.DONE, says: str = "") -> str:
        """Run `reconciler WORDS`; `lines` bounds what is shown of it, `code` and `says` are what must come of it."""
        self._say("")
        if told:
            self._say(told)
        self._say(f"$ reconciler {words}")
        out = io.StringIO()
        with self._place(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            left = self._command(shlex.split(words))
        text = out.getvalue()
        if left == Exit.INTERRUPTED:
            raise KeyboardInterrupt
        held = left == code and says in text
        for line in _shortened(text.rstrip("\n").split("\n"), 0 if not held else lines):
            self._say(line)
        if left != code:
            raise ReconcilerError(
                f"the demo went wrong: `reconciler {words}` ended with {left}, not {int(code)}", todo="please report it"
            )
        if says not in text:
            raise ReconcilerError(
                f"the demo went wrong: `reconciler {words}` does not say {says!r}", todo="please report it"
            )
        self.checks += 1
        return text

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Compare, and say so only if it holds."""
        if found != wanted:
            raise ReconcilerError(
                f"the demo went wrong: not so: {what}", details=_difference(found, wanted), todo="please report it"
            )
        self.checks += 1
        self._say(f"✓ {what}")

    @contextlib.contextmanager
    def _place(self) -> Generator[None]:
        before = dict(os.environ)
        for name in list(os.environ):
            if name in NAMES.values() or _FOREIGN.match(name):
                del os.environ[name]
        os.environ.update(self.world.environment())
        try:
            with contextlib.chdir(self.world.folder):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _shortened(lines: Sequence[str], most: int) -> list[str]:
    """At most so many lines, the summary that begins the last paragraph among them, and one that counts the others."""
    if not most or len(lines) <= most + 1:
        return list(lines)
    begins = len(lines) - lines[::-1].index("") if "" in lines else len(lines) - 1
    summary = lines[begins] if begins < len(lines) and lines[begins].startswith(_SUMMARIES) else lines[-1]
    return [*lines[: most - 1], f"  … {len(lines) - most} more lines", summary]


def _difference(found: object, wanted: object) -> tuple[str, ...]:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        one, other = cast("Mapping[str, object]", found), cast("Mapping[str, object]", wanted)
        return tuple(sorted(key for key in {*one, *other} if one.get(key) != other.get(key)))[:20]
    return (f"found {found}, wanted {wanted}",)
