"""`reconciler graph`: which resource comes before which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from reconciler.cli.session import make_session, spec_options, specs_argument


@click.command("graph")
@specs_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "dot"]),
    default="mermaid",
    show_default=True,
    help="In which form.",
)
@spec_options
def command(specs: tuple[Path, ...], form: str, variables: Mapping[str, str], connections: Path | None) -> None:
    """Draw the resources of the specs, an arrow from what comes before to what comes after."""
    from reconciler import app
    from reconciler.cli.terminal import write
    from reconciler.views import dot, mermaid

    nodes, edges = app.graph(make_session(specs, variables, connections))
    write([dot.resources(nodes, edges) if form == "dot" else mermaid.resources(nodes, edges)])
