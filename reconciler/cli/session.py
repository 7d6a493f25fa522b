"""Options that several commands share, and the `Session` they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.plan.errors import ReconcilerError

if TYPE_CHECKING:
    from reconciler.app import Session

DEFAULT_SPECS = Path("specs")

Command = TypeVar("Command", bound=Callable[..., Any])
PathType = click.Path(path_type=Path)


def specs_argument(command: Command) -> Command:
    """SPEC…, files or folders."""
    return click.argument("specs", metavar="[SPEC]...", nargs=-1, type=PathType)(command)


def spec_options(command: Command) -> Command:
    """How a spec's variables and connections are given from outside."""
    command = click.option(
        "--connections",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="A YAML file whose connections replace those of the specs.",
    )(command)
    return click.option(
        "--var", "variables", metavar="NAME=VALUE", multiple=True, callback=_variables, help="Set a variable."
    )(command)


def out_option(command: Command) -> Command:
    """-o FILE, the plan."""
    return click.option(
        "-o",
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_out,
        help="Save the plan here (FILE.plan.jsonl), and FILE.plan.md for the pull request beside it.",
    )(command)


def examples_option(command: Command) -> Command:
    """--examples."""
    return click.option(
        "--examples",
        type=click.Choice(["all", "keys", "none"]),
        default="all",
        show_default=True,
        help="How much of the rows text and Markdown show: keys and values, keys alone, or nothing.",
    )(command)


def json_option(command: Command) -> Command:
    """--json, for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout, for machines.")(command)


def _variables(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    del context, parameter
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter("write NAME=VALUE")  # the text is not repeated: a value may be a secret
        if name in found:
            raise click.BadParameter(f"{name} is given twice")
        found[name] = value
    return found


def _out(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    del context, parameter
    if path is not None and path.suffix == ".md":
        raise click.BadParameter("FILE is the plan; the Markdown is written beside it")
    if path is not None and _is_another_page(beside := path.with_suffix(".md")):
        raise click.BadParameter(f"the Markdown goes beside it, and {beside} is there already and is no plan's")
    return path


def _is_another_page(path: Path) -> bool:
    from reconciler.views.markdown import MARKER

    try:
        with path.open("rb") as file:
            return file.read(len(MARKER)) not in (b"", MARKER.encode())
    except OSError:
        return False


def make_session(specs: tuple[Path, ...], variables: Mapping[str, str], connections: Path | None) -> Session:
    """How this command was called; without a SPEC, `specs/` is meant."""
    from reconciler import app
    from reconciler.cli.progress import progress

    if not specs:
        if not DEFAULT_SPECS.exists():
            raise ReconcilerError(
                "there is no specs/ here and no SPEC was named",
                todo="run `reconciler init` to make one, or name a file or folder",
            )
        specs = (DEFAULT_SPECS,)
    return app.Session(specs, variables, connections, dict(os.environ), progress())


def session_without_specs(connections: Path | None) -> Session:
    """For a plan, which carries its spec within."""
    from reconciler import app
    from reconciler.cli.progress import progress

    return app.Session((), {}, connections, dict(os.environ), progress())
