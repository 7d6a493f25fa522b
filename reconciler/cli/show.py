"""`reconciler show`: a saved plan in another form."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.views import FORMATS


@click.command("show")
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--format", "form", type=click.Choice(list(FORMATS)), default="text", show_default=True)
def command(plan_file: Path, form: str) -> None:
    """Render a saved plan; one that was edited is refused."""
    from reconciler import app
    from reconciler.cli.saved import present
    from reconciler.cli.terminal import write

    plan = app.open_plan(plan_file)
    if form == "text":
        present(plan, None)
    else:
        write(FORMATS[form](plan))
