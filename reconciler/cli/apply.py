"""`reconciler apply`: carry out a plan that was reviewed; or plan, show, ask and carry out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.session import (
    PathType,
    examples_option,
    json_option,
    make_session,
    session_without_specs,
    spec_options,
)
from reconciler.plan.errors import Exit, ReconcilerError

if TYPE_CHECKING:
    from reconciler.plan.file import Plan

_DURATION = r"\d+ ?(?:us|ms|s|min|h|d)?"


@click.command("apply")
@click.argument("paths", metavar="PLAN | [SPEC]...", nargs=-1, type=PathType)
@click.option("--yes", is_flag=True, help="With a SPEC: do not ask.")
@click.option("--id", "plan_id", metavar="ID", help="Refuse any plan but this one.")
@click.option("--rehearse", is_flag=True, help="Run the database part in a transaction and roll it back.")
@click.option("--lock-timeout", default="10s", show_default=True, help="How long to wait for a lock.")
@click.option("--statement-timeout", default="0", show_default=True, help="How long a statement may take; 0: any time.")
@spec_options
@click.option(
    "--spec-dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="With a PLAN: the folder that paths in its spec start from.",
)
@json_option
@examples_option
def command(
    paths: tuple[Path, ...],
    yes: bool,
    plan_id: str | None,
    rehearse: bool,
    lock_timeout: str,
    statement_timeout: str,
    variables: Mapping[str, str],
    connections: Path | None,
    spec_dir: Path | None,
    as_json: bool,
    examples: str,
) -> Exit:
    """Carry out a saved PLAN; or with a SPEC plan, show, ask and carry out.

    Nothing is done that the plan does not list. Running the same again is safe: what is done already stays as it is.
    """
    from reconciler.cli.saved import opening

    _check_duration("--lock-timeout", lock_timeout)
    _check_duration("--statement-timeout", statement_timeout)
    saved = opening(paths[0]) if _is_saved(paths, variables) else None
    from reconciler import app
    from reconciler.cli.outcome import present_outcome

    if saved:
        session, plan = session_without_specs(connections), saved()
    else:
        session = make_session(paths, variables, connections)
        plan = app.plan(session, out=None, only=(), exclude=(), now=None)
    try:
        _check_id(plan, plan_id)
        if not saved and not _wanted(plan, examples, sure=yes or rehearse, rehearse=rehearse):
            return Exit.DONE if plan.empty else Exit.ERROR
        applied = app.apply(
            plan,
            session,
            rehearse=rehearse,
            lock_timeout=lock_timeout,
            statement_timeout=statement_timeout,
            spec_dir=spec_dir,
        )
        present_outcome(plan, applied, rehearse=rehearse, as_json=as_json)
        return applied.code
    finally:
        if not saved:
            app.discard(plan)


def _is_saved(paths: tuple[Path, ...], variables: Mapping[str, str]) -> bool:
    """Whether a plan was named rather than specs."""
    from reconciler.cli.saved import is_plan

    plans = [path for path in paths if is_plan(path)]
    if plans and len(paths) > 1:
        raise click.UsageError("Give one PLAN, or SPECs, not both.")
    if plans and variables:
        raise click.UsageError("A plan has its variables within; --var is for SPECs.")
    return bool(plans)


def _wanted(plan: Plan, examples: str, *, sure: bool, rehearse: bool) -> bool:
    """Show a plan that nobody has reviewed, and ask."""
    from reconciler.cli import log
    from reconciler.cli.terminal import confirm, tell
    from reconciler.plan.rules import refusal
    from reconciler.views import text
    from reconciler.views.overview import Examples

    shown = text.render(plan, examples=Examples(examples))
    if log.is_json():
        log.write("info", "the plan", plan=plan.id, text=shown)
    else:
        click.echo(shown, nl=False, err=True)
    if plan.empty:
        return bool(plan.header.checks)
    if not rehearse and (refused := refusal(plan.header.hazards)):
        raise refused
    if sure or confirm("Apply these changes?"):
        return True
    tell("Nothing was applied.")
    return False


def _check_id(plan: Plan, expected: str | None) -> None:
    if expected is not None and plan.id != expected:
        raise ReconcilerError(
            f"this is plan {plan.id}, not {expected}",
            why="--id names the plan that was reviewed, and only that one may run",
            todo="find the plan that was reviewed, or have this one reviewed",
        )


def _check_duration(option: str, text: str) -> None:
    if not re.fullmatch(_DURATION, text):
        raise click.BadParameter(f"write it like 500ms, 10s or 5min, not {text!r}", param_hint=option)
