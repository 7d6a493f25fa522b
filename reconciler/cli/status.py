"""`reconciler status`: how far the world is from the specs, in counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.session import json_option, make_session, spec_options, specs_argument
from reconciler.plan.errors import Exit

if TYPE_CHECKING:
    from reconciler.app import ResourceStatus

_COUNTS = ("in_sync", "missing", "changed", "extra", "wrong")


@click.command("status")
@specs_argument
@click.option(
    "--csv", "folder", type=click.Path(path_type=Path, file_okay=False), help="A file per finding, into here."
)
@spec_options
@json_option
def command(
    specs: tuple[Path, ...], folder: Path | None, variables: Mapping[str, str], connections: Path | None, as_json: bool
) -> Exit:
    """Count per resource what is in sync, missing, changed, extra and wrong. Exits with 2 if something differs."""
    from reconciler import app
    from reconciler.cli.terminal import tell, write

    session = make_session(specs, variables, connections)
    found = app.status(session)
    if as_json:
        resources = [{**asdict(it), "differs": it.differs} for it in found]
        write([json.dumps({"resources": resources}, ensure_ascii=True) + "\n"])
    else:
        write(f"{line}\n" for line in table(found))
    if folder is not None:
        tell(*(f"Wrote {path}" for path in app.status_csv(session, folder)))
    if any(it.failed for it in found):
        return Exit.ERROR
    return Exit.CHANGES if any(it.differs for it in found) else Exit.DONE


def table(found: Sequence[ResourceStatus]) -> list[str]:
    """One line for each resource and target, its notes below it."""
    from reconciler.views.escape import cut_middle, plain
    from reconciler.views.overview import amount, in_sync

    names = [(cut_middle(it.address, 60), cut_middle(it.target, 60)) for it in found]
    widths = [max((len(name[at]) for name in names), default=0) for at in (0, 1)]
    heads = [name.replace("_", " ") for name in _COUNTS]
    counts = [[f"{int(getattr(it, name)):,}" for name in _COUNTS] for it in found]
    columns = [max(len(head), *(len(row[at]) for row in counts), 0) for at, head in enumerate(heads)]

    def line(address: str, target: str, cells: Sequence[str]) -> str:
        numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, columns, strict=True))
        return f"{address:<{widths[0]}}  {target:<{widths[1]}}  {numbers}"

    lines = [line("", "", heads)] if found else []
    for it, (address, target), row in zip(found, names, counts, strict=True):
        lines.append(line(address, target, row))
        lines += [f"    {plain(note)}" for note in it.notes]
    differing = {it.address for it in found if it.differs}
    same = len({it.address for it in found} - differing)
    last = (
        f"{amount(len(differing), 'resource')} {'differs' if len(differing) == 1 else 'differ'}, " if differing else ""
    )
    return [*lines, *([""] if found else []), f"{last}{in_sync(same)}."]
