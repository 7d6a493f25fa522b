"""Lines into a space of limited size, saying what was left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_CLOSING = 300  # kept free for the line that says what was left out


def size(text: str) -> int:
    """Characters as GitHub may count them: those outside the basic plane as two."""
    return len(text) + sum(char > "\uffff" for char in text)


def fit(lines: Sequence[str], room: int, left_out: Callable[[int], str]) -> list[str]:
    """As many lines as there is room for, then one for the `n` last ones that are not there."""
    sizes = [size(line) + 1 for line in lines]
    if sum(sizes) <= room:
        return list(lines)
    used = 0
    for at, length in enumerate(sizes):
        used += length
        if used > room - _CLOSING:
            return [*lines[:at], left_out(len(lines) - at)[: _CLOSING - 1]]
    return list(lines)
