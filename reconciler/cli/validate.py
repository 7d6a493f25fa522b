"""`reconciler validate`: are the specs well formed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from reconciler.cli import log
from reconciler.cli.places import errors_of
from reconciler.cli.session import json_option, make_session, spec_options, specs_argument
from reconciler.cli.workflow import annotate_errors, annotations_option, wanted
from reconciler.plan.errors import Exit, Location, ReconcilerError, SpecErrors
from reconciler.views.escape import plain_lines
from reconciler.views.overview import amount


@click.command("validate")
@specs_argument
@spec_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="How findings stand on stdout; sarif is for code scanning.",
)
@json_option
@annotations_option
def command(
    specs: tuple[Path, ...],
    variables: Mapping[str, str],
    connections: Path | None,
    form: str,
    as_json: bool,
    annotations: bool | None,
) -> Exit:
    """Check specs without connecting to anything. Without SPEC, specs/ is read."""
    from reconciler import app

    form = "json" if as_json else form
    session = make_session(specs, variables, connections)
    try:
        spec = app.load(session)
    except ReconcilerError as error:
        if wanted(annotations):
            annotate_errors(error)
        if form == "text":
            raise
        _write(form, 0, errors=errors_of(error))
        return error.code
    if wanted(annotations) and spec.warnings:
        annotate_errors(SpecErrors(spec.warnings), warning=True)
    if form != "text":
        _write(form, len(spec.resources()), warnings=spec.warnings)
        return Exit.DONE
    for warning in spec.warnings:
        if log.is_json():
            log.write_error(warning, "warning")
        else:
            click.echo(plain_lines(warning.render()), err=True)
    click.echo(f"{amount(len(spec.resources()), 'resource')} ok")
    return Exit.DONE


def _write(
    form: str, resources: int, *, errors: Sequence[ReconcilerError] = (), warnings: Sequence[ReconcilerError] = ()
) -> None:
    if form == "sarif":
        from reconciler.views import sarif

        found = [sarif.of_error(it) for it in errors]
        found += [sarif.of_error(it, warning=True) for it in errors_of(SpecErrors(tuple(warnings)))]
        click.echo(sarif.render(found), nl=False)
        return
    tree = {
        "valid": not errors,
        "resources": resources,
        "errors": [_finding(error) for error in errors],
        "warnings": [_finding(warning) for warning in warnings],
    }
    click.echo(json.dumps(tree))


def _finding(error: ReconcilerError) -> dict[str, object]:
    where = error.where
    place = {"file": where.file, "line": where.line, "column": where.column} if isinstance(where, Location) else {}
    return {"what": error.what, "why": error.why, "todo": error.todo, "details": list(error.details), **place}
