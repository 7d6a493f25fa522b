"""`reconciler cascade`: what a delete takes with it, as a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.session import PathType, json_option, make_session, spec_options

if TYPE_CHECKING:
    from reconciler.app import CascadeNode


@click.command("cascade")
@click.argument("table", metavar="CONNECTION.TABLE")
@click.option(
    "--spec", "specs", type=PathType, multiple=True, help="Where the connection is declared; specs/ if not given."
)
@spec_options
@json_option
def command(
    table: str, specs: tuple[Path, ...], variables: Mapping[str, str], connections: Path | None, as_json: bool
) -> None:
    """Show what deleting rows of a table takes with it: constraints, actions, counts."""
    from reconciler import app
    from reconciler.cli.terminal import write

    root = app.cascade(make_session(specs, variables, connections), table)
    if as_json:
        write([json.dumps(asdict(root), ensure_ascii=True) + "\n"])
    else:
        write(f"{line}\n" for line in tree(root))


def tree(root: CascadeNode) -> Iterator[str]:
    """The tree's lines, without recursion: a chain of tables may be long."""
    from reconciler.views.escape import plain

    yield plain(f"{root.table}{_rows(root)}")
    waiting = [(child, "", at == 0) for at, child in enumerate(reversed(root.children))]
    while waiting:
        node, indent, last = waiting.pop()
        yield plain(f"{indent}{'└─' if last else '├─'} {_describe(node)}")
        deeper = indent + ("   " if last else "│  ")
        waiting += [(child, deeper, at == 0) for at, child in enumerate(reversed(node.children))]


def _describe(node: CascadeNode) -> str:
    columns = ", ".join(node.columns)
    words = f"{node.table}{_rows(node)}  ON DELETE {node.action}"
    words += f" by {node.constraint} ({columns})" if node.constraint else f" ({columns})"
    words += "" if node.indexed else f"  ! no index on ({columns}): every deleted row reads the whole table"
    return words + ("  … shown elsewhere in this tree" if node.repeated else "")


def _rows(node: CascadeNode) -> str:
    from reconciler.views.overview import amount

    return "" if node.rows is None else f"  {amount(node.rows, 'row')}"
