"""`reconciler diff`: what changed between two plans, such as the one that was reviewed and today's."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.plan.errors import Exit

_PLAN = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("diff")
@click.argument("first", metavar="PLAN", type=_PLAN)
@click.argument("second", metavar="PLAN", type=_PLAN)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="In which form.",
)
def command(first: Path, second: Path, form: str) -> Exit:
    """Say what the second plan would do otherwise than the first: exit code 0 if nothing, 2 if something.

    Steps and changes are compared, the spec, variables and systems named; sentences that only tell about them are not.
    """
    from reconciler import app
    from reconciler.cli.terminal import write
    from reconciler.views import plan_diff

    found = app.compare(app.open_plan(first), app.open_plan(second))
    render = {"text": plan_diff.text, "markdown": plan_diff.markdown, "json": plan_diff.as_json}[form]
    write([render(found)])
    return Exit.DONE if found.same else Exit.CHANGES
