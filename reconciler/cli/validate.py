"""`reconciler validate`: are the specs well formed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from reconciler.cli.session import json_option, make_session, spec_options, specs_argument
from reconciler.plan.errors import Exit, Location, ReconcilerError, SpecErrors
from reconciler.views.escape import plain_lines
from reconciler.views.overview import amount


@click.command("validate")
@specs_argument
@spec_options
@json_option
def command(specs: tuple[Path, ...], variables: Mapping[str, str], connections: Path | None, as_json: bool) -> Exit:
    """Check specs without connecting to anything. Without SPEC, specs/ is read."""
    from reconciler import app

    session = make_session(specs, variables, connections)
    try:
        spec = app.load(session)
    except ReconcilerError as error:
        if not as_json:
            raise
        _write_json(False, 0, errors=error.errors if isinstance(error, SpecErrors) else (error,))
        return error.code
    if as_json:
        _write_json(True, len(spec.resources()), warnings=spec.warnings)
        return Exit.DONE
    for warning in spec.warnings:
        click.echo(plain_lines(warning.render()), err=True)
    click.echo(f"{amount(len(spec.resources()), 'resource')} ok")
    return Exit.DONE


def _write_json(
    valid: bool, resources: int, *, errors: Iterable[ReconcilerError] = (), warnings: Iterable[ReconcilerError] = ()
) -> None:
    tree = {
        "valid": valid,
        "resources": resources,
        "errors": [_finding(error) for error in errors],
        "warnings": [_finding(warning) for warning in warnings],
    }
    click.echo(json.dumps(tree))


def _finding(error: ReconcilerError) -> dict[str, object]:
    where = error.where
    place = {"file": where.file, "line": where.line, "column": where.column} if isinstance(where, Location) else {}
    return {"what": error.what, "why": error.why, "todo": error.todo, "details": list(error.details), **place}
