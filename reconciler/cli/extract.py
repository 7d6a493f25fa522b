"""`reconciler extract`: keep what the sources hold now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from reconciler.cli.session import make_session, spec_options, specs_argument


@click.command("extract")
@specs_argument
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Into this folder.")
@spec_options
def command(specs: tuple[Path, ...], out: Path, variables: Mapping[str, str], connections: Path | None) -> None:
    """Save what the sources hold now as files, usable as a `files:` connection."""
    from reconciler import app
    from reconciler.cli.terminal import write
    from reconciler.views.escape import plain

    written = app.extract(make_session(specs, variables, connections), out)
    write(f"{plain(sentence)}\n" for sentence in written)
