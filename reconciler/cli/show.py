"""`reconciler show`: a saved plan in another form."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.session import DEFAULT_SPECS, PathType, examples_option
from reconciler.plan.errors import Location
from reconciler.views.formats import FORMATS


@click.command("show")
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="In which form; sql is a psql script with the same guards.",
)
@click.option(
    "--spec",
    "specs",
    multiple=True,
    type=PathType,
    help="With sarif: the specs that risks are shown in. Default: specs/, where it is.",
)
@examples_option
def command(plan_file: Path, form: str, specs: tuple[Path, ...], examples: str) -> None:
    """Render a saved plan; one that was edited is refused."""
    from reconciler import app
    from reconciler.cli.saved import present
    from reconciler.cli.terminal import write

    plan = app.open_plan(plan_file)
    if form == "text":
        present(plan, None, examples=examples)
    elif form == "markdown":
        from reconciler.views import markdown
        from reconciler.views.overview import Examples

        write([markdown.render(plan, examples=Examples(examples))])
    elif form == "sarif":
        from reconciler.cli.places import places, relative
        from reconciler.cli.session import make_session
        from reconciler.views import sarif

        there = specs or DEFAULT_SPECS.exists()
        found = places(make_session(specs, plan.header.variables, None)) if there else None
        write([sarif.render(sarif.of_plan(plan, found or {}, relative(Location(str(plan_file), 1))))])
    else:
        write(FORMATS[form](plan))
