"""`max_delete`, wherever it is asked: a number, or a share such as "5%", rounded down."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction


def most(limit: str, rows: Callable[[], int]) -> int:
    """How many may go; `rows` counts what a share is of, and is only asked for one."""
    return int(Fraction(limit[:-1]) * rows() / 100) if limit.endswith("%") else int(limit)
