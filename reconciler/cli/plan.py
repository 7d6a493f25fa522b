"""`reconciler plan`: read the world, print what would change, save it for review."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from reconciler.cli.session import examples_option, json_option, make_session, out_option, spec_options, specs_argument
from reconciler.cli.workflow import annotate, annotated, annotations_option, summarise, wanted
from reconciler.plan.errors import Exit, gravest
from reconciler.plan.rules import refusal


@click.command("plan")
@specs_argument
@out_option
@click.option("--only", metavar="ADDR", multiple=True, help="Only this resource and what it needs.")
@click.option("--exclude", metavar="ADDR", multiple=True, help="Without this resource and what depends on it.")
@spec_options
@click.option("--now", metavar="TIME", help="Plan as if it were this time (ISO 8601).")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there are changes.")
@json_option
@examples_option
@annotations_option
def command(
    specs: tuple[Path, ...],
    out: Path | None,
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    variables: Mapping[str, str],
    connections: Path | None,
    now: str | None,
    detailed_exitcode: bool,
    as_json: bool,
    examples: str,
    annotations: bool | None,
) -> Exit:
    """Read the world and show what would change; nothing is written but FILE.

    Without SPEC, specs/ is read.
    """
    from reconciler import app
    from reconciler.cli.errors import tell_error
    from reconciler.cli.saved import present

    with annotated(annotations):
        session = make_session(specs, variables, connections)
        plan = app.plan(session, out=out, only=only, exclude=exclude, now=now)
    try:
        present(plan, out, as_json=as_json, examples=examples)
        if wanted(annotations):
            from reconciler.cli.places import places
            from reconciler.views import markdown, sarif
            from reconciler.views.overview import Examples

            annotate(sarif.of_plan(plan, places(session)))
            summarise(markdown.render(plan, file=out.name if out else "FILE", examples=Examples(examples)))
    finally:
        if out is None:
            app.discard(plan)
    changes = Exit.CHANGES if detailed_exitcode and not plan.empty else Exit.DONE
    refused = refusal(plan.header.hazards)
    if refused:
        tell_error(refused)
    return gravest(changes, refused.code if refused else Exit.DONE)
