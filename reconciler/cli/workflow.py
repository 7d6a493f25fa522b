"""Errors and risks at their line in a pull request: workflow commands on stderr, and the step's summary.

They are written with `--annotations`, and by themselves where GITHUB_ACTIONS is true. Of many only the first few are shown there, so
what is grave comes first.
Invariant: nothing that stands in somebody's data begins a command or a property of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from reconciler.plan.errors import ReconcilerError

MOST = 10  # of each level, as many as are shown for a step

Command = TypeVar("Command", bound=Callable[..., Any])


def annotations_option(command: Command) -> Command:
    """--annotations."""
    return click.option(
        "--annotations/--no-annotations",
        default=None,
        help="Write workflow commands (::error file=…,line=…) to stderr and a step summary. Default: where GITHUB_ACTIONS is true.",
    )(command)


def wanted(annotations: bool | None) -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true" if annotations is None else annotations


@contextmanager
def annotated(annotations: bool | None) -> Generator[None]:
    """Whatever error ends the block is annotated before it goes on."""
    try:
        yield
    except ReconcilerError as error:
        if wanted(annotations):
            annotate_errors(error)
        raise


def annotate_errors(error: ReconcilerError, *, warning: bool = False) -> None:
    """One command for each error, and a summary of all."""
    from reconciler.cli.places import errors_of
    from reconciler.views import sarif
    from reconciler.views.escape import prose

    findings = [sarif.of_error(it, warning=warning) for it in errors_of(error)]
    annotate(findings)
    if not warning:
        places = [f" ({it.where.file}:{it.where.line})" if it.where else "" for it in findings]
        lines = [f"- {prose(it.text)}{prose(place)}" for it, place in zip(findings, places, strict=True)]
        summarise("## reconciler: errors\n\n" + "\n".join(lines[:50]) + "\n")


def annotate(findings: Iterable[Any]) -> None:
    """Commands, gravest first; `findings` are those of SARIF."""
    counts: dict[str, int] = {}
    for it in sorted(findings, key=lambda it: ("error", "warning", "note").index(it.level)):
        counts[it.level] = counts.get(it.level, 0) + 1
        if counts[it.level] > MOST or it.allowed:
            continue
        word = "notice" if it.level == "note" else it.level
        places = {"file": it.where.file, "line": str(it.where.line), "col": str(it.where.column)} if it.where else {}
        given = ",".join(
            f"{name}={_property(value)}" for name, value in {**places, "title": f"reconciler {it.rule}"}.items()
        )
        click.echo(f"::{word} {given}::{_message(it.text)}", err=True)


def summarise(markdown: str) -> None:
    """Add to the summary of the step, where there is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write(markdown + "\n")


def _message(text: str) -> str:
    from reconciler.views.escape import plain

    return plain(text).replace("%", "%25")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
