"""Images of the objects that audits and guards keep: one CREATE statement, and what a statement does not say.

In: an image with `sql`, and `enabled` or `grants` where these are not as they should be. Out: its text, by which two are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from reconciler.plan.step import Image

KEPT = {
    "audit log": "table",
    "audit partition": "table",
    "audit index": "index",
    "audit function": "function",
    "audit trigger": "trigger",
    "guard function": "function",
    "guard trigger": "trigger",
}
"""Each kind, and what kind of statement creates it."""

MODES = {"O": "", "D": "disabled", "A": "always", "R": "replica"}
"""How a trigger is enabled, by the catalog's letter; '' is as it should be."""


def text_of(image: Image) -> str:
    """The statement; then a line of comment for what it does not say."""
    lines = [str(image["sql"])]
    if enabled := image.get("enabled"):
        lines.append(f"-- {enabled}")
    lines += [f"-- GRANT {privilege} TO {role or 'PUBLIC'}" for role, privilege in grants_of(image)]
    return "\n".join(lines)


def grants_of(image: Image) -> list[tuple[str | None, str]]:
    """Rights of others than the owner, as (role, privilege); None is everybody."""
    pairs = cast("Sequence[Sequence[str | None]]", image.get("grants", ()))
    return [(role, privilege or "") for role, privilege in pairs]
