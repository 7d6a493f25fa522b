"""What the terminal wants: colours, questions, and text that cannot act upon it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from reconciler.plan.errors import ReconcilerError

_BLOCK = 1 << 16


def colors(*, no_color: bool) -> bool:
    """Whether colours may be used at all; https://no-color.org asks for any value but the empty one."""
    return not (no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb")


def color_on_stdout() -> bool:
    """Whether what is written to stdout now should be coloured; CLICOLOR_FORCE asks for it where nobody looks."""
    forced = os.environ.get("CLICOLOR_FORCE", "0") not in ("", "0")
    return click.get_current_context().color is not False and (forced or sys.stdout.isatty())


def write(pieces: Iterable[str]) -> None:
    """Data, to stdout; small pieces are gathered, since each echo is flushed."""
    gathered: list[str] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size > _BLOCK:
            click.echo("".join(gathered), nl=False, color=True)
            gathered, size = [], 0
    click.echo("".join(gathered), nl=False, color=True)


def tell(*lines: str) -> None:
    """Messages, to stderr; they may name things of the user's."""
    from reconciler.cli import log
    from reconciler.views.escape import plain

    for line in lines:
        if log.is_json():
            log.write("info", line)
        else:
            click.echo(plain(line), err=True)


def confirm(question: str) -> bool:
    """Ask, where there is somebody to ask."""
    if not somebody_is_there():
        raise ReconcilerError(
            "nothing was applied: there is nobody to ask",
            why="this is not a terminal",
            todo="save the plan with `reconciler plan -o FILE`, have it reviewed and apply FILE; or pass --yes",
        )
    return click.confirm(question, err=True)


def somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
