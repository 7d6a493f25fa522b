"""A click group that imports a command when it is called, and leaves with the exit code its outcome asks for.

Commands return an `Exit`, or nothing for success.
"""

from __future__ import annotations

import gc
import importlib
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import click

from reconciler.cli import log
from reconciler.cli.errors import ended_like_ctrl_c, leave
from reconciler.plan.errors import EXIT_CODES


class Commands(click.Group):
    """Knows its commands by name and summary alone."""

    def __init__(self, *, modules: str, summaries: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._modules = modules
        self._summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries:
            return None
        return cast("click.Command", importlib.import_module(f"{self._modules}.{cmd_name}").command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._summaries and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self._summaries, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes, the gravest of several"):
            formatter.write_dl([(str(int(code)), text) for code, text in EXIT_CODES.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        log.choose("text")
        # Out of click's own handling: its exit codes and messages are not ours.
        inner = cast("Callable[..., object]", super().main)

        def run() -> object:
            return inner(args, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        gc.set_threshold(20_000)  # looking for circles in what is loaded takes a tenth of a command's start
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # an arrow must not end a run on an old terminal
        with ended_like_ctrl_c():
            code = leave(run)
        gc.freeze()  # nor on the way out, which would take as long again
        sys.exit(code)
