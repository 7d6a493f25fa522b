"""`reconciler investigate`: what an audit log tells, and what it cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

from reconciler.cli.session import PathType, json_option, make_session, spec_options


def _columns(context: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, str]:
    del context, parameter
    found: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        word, equals, column = pair.partition("=")
        if not equals or not column:
            raise click.BadParameter("write at=column,table=column,operation=column,old=column …")
        found[word.strip()] = column.strip()
    return found


@click.command("investigate")
@click.argument("connection", metavar="CONNECTION")
@click.option("--log", metavar="TABLE", help="The log; by default the one table that is one.")
@click.option("--since", metavar="TIME", help="Only records from then on.")
@click.option("--columns", metavar="WORD=COLUMN,...", callback=_columns, help="What the log's columns mean.")
@click.option("--rows", default=1000, show_default=True, help="A statement or transaction of so many rows is a mass.")
@click.option("--percent", default=10, show_default=True, help="So is one of this share of its table.")
@click.option(
    "--spec", "specs", type=PathType, multiple=True, help="Where the connection is declared; specs/ if not given."
)
@click.option("--markdown", is_flag=True, help="Write Markdown, for an incident's report.")
@spec_options
@json_option
def command(
    connection: str,
    log: str | None,
    since: str | None,
    columns: Mapping[str, str],
    rows: int,
    percent: int,
    specs: tuple[Path, ...],
    markdown: bool,
    variables: Mapping[str, str],
    connections: Path | None,
    as_json: bool,
) -> None:
    """Tell what an audit log knows: gaps, mass operations, what they took."""
    from reconciler import app
    from reconciler.cli.story import tell
    from reconciler.cli.terminal import write

    if markdown and as_json:
        raise click.UsageError("Give --markdown or --json, not both.")
    session = make_session(specs, variables, connections)
    found = app.investigate(session, connection, log=log, since=since, columns=columns, rows=rows, percent=percent)
    if as_json:
        write([json.dumps(asdict(found), ensure_ascii=True) + "\n"])
    else:
        write(f"{line}\n" for line in tell(found, markdown=markdown))
