"""`reconciler undo`: the reverse plan, for review like any other."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.session import examples_option, out_option


@click.command("undo")
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--only-key",
    metavar="KEY",
    help="Of a plan of unique_keys, bring back this one duplicate: its key as text, or a JSON array of texts. What had pointed at "
    "it points at it again, and the constraint goes, for two rows share the key then.",
)
@out_option
@examples_option
def command(plan_file: Path, only_key: str | None, out: Path | None, examples: str) -> None:
    """Write the plan that takes PLAN back; what cannot be undone is named in it. Apply it like any other plan."""
    from reconciler import app
    from reconciler.cli.saved import present

    plan = app.undo(app.open_plan(plan_file), out, only_key=only_key)
    try:
        present(plan, out, examples=examples)
    finally:
        if out is None:
            app.discard(plan)
