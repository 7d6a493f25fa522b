"""Objects of a database in a plan: what of their definitions comes and goes, as lines.

In: a change of an object, whose images hold its statement. Out: lines of a unified diff, bounded, not yet escaped for any place.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from reconciler.plan.kept import text_of
from reconciler.plan.step import Change, Image, Verb
from reconciler.views.escape import cut

OBJECT_VERBS = frozenset({Verb.CREATE, Verb.ALTER, Verb.DROP})
_MOST_LINES = 120
_WIDEST = 160


class Definition(NamedTuple):
    """What becomes of one object; `lines` begin with +, - or a blank, `more` of them are left out."""

    name: str
    lines: tuple[str, ...]
    more: int
    added: int
    removed: int

    @property
    def amount(self) -> str:
        """How many lines come and go."""
        parts = [f"+{self.added}" if self.added else "", f"−{self.removed}" if self.removed else ""]
        total = self.added + self.removed
        return f"{' '.join(filter(None, parts))} {'line' if total == 1 else 'lines'}" if total else ""


def definition(change: Change) -> Definition:
    """The object's definition before beside the one after."""
    before, after = _statement(change.before), _statement(change.after)
    lines = list(difflib.unified_diff(before, after, lineterm="", n=3))[2:]
    if change.before is None or change.after is None:
        lines = [line for line in lines if not line.startswith("@@")]  # it is all one piece
    added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    shown = tuple(cut(line.expandtabs(4), _WIDEST) for line in lines[:_MOST_LINES])
    return Definition(" ".join(change.key), shown, max(0, len(lines) - len(shown)), added, removed)


def fence(text: str) -> str:
    """Backticks that no run of backticks in the text can close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(3, longest + 1)


def _statement(image: Image | None) -> list[str]:
    return text_of(image).splitlines() if image and isinstance(image.get("sql"), str) else []
