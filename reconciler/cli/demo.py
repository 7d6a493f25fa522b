"""`reconciler demo`: a damaged world on this machine, and a walk through it. What is started and made here ends with the command."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import click

from reconciler.plan.errors import Exit, ReconcilerError


@click.command("demo")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--keep", is_flag=True, help="Afterwards leave the world running until Ctrl-C.")
@click.option("--with-pds", is_flag=True, help="A real PDS instead of a folder of records; downloaded once.")
def command(folder: Path | None, keep: bool, with_pds: bool) -> Exit:
    """Walk through a small damaged world with the real commands: status, plan, show, apply, undo.

    A PostgreSQL is started for it, a folder serves as storage and another in place of a PDS; nothing else is touched and nothing is
    downloaded, but by --with-pds: Node and a PDS, once, into the user's cache. Specs and plans are left in DIR; without it they go with
    the rest.
    """
    from reconciler.demo.repo import repo
    from reconciler.demo.reports import REPORTS, overview
    from reconciler.demo.walk import Walk
    from reconciler.demo.world import world

    began = time.monotonic()
    with (
        _place(folder) as place,
        repo(place / "repo", with_pds=with_pds, say=_say, warn=_warn) as records,
        world(place, records) as made,
    ):
        walk = Walk(made, _run, _say)
        _say(f"A damaged world in {place}: {len(made.urls)} databases, media/ as storage, {records.place}.")
        _say(
            "With `reconciler demo --keep` it stays, and each command can be repeated there. Long output is shortened here."
        )
        overview(walk)
        for report in REPORTS:
            report(walk)
        _say("")
        _say(f"The demo did what it says: {walk.checks} checks held, in {time.monotonic() - began:.0f} s.")
        if keep:
            _keep(place, made.urls)
    return Exit.DONE


def _run(words: Sequence[str]) -> int:
    from reconciler.cli import main
    from reconciler.cli.errors import leave

    return leave(lambda: main.main(args=["--no-color", *words], prog_name="reconciler", standalone_mode=False))


def _say(text: str) -> None:
    from reconciler.views.escape import plain

    click.echo(plain(text))


def _warn(text: str) -> None:
    from reconciler.views.escape import plain

    click.echo(plain(text), err=True)


def _keep(place: Path, urls: dict[str, str]) -> None:
    """Wait until someone ends it, which is what ends the world."""
    _say("")
    _say(
        f"Reports 1 to 3 are as damaged as before. The world stays until Ctrl-C. In another terminal: cd {place} && reconciler status"
    )
    for name, url in urls.items():
        _say(f"{name}: psql {url}")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()
    _say("Stopped.")


@contextlib.contextmanager
def _place(folder: Path | None) -> Generator[Path]:
    """The user's folder, new or empty, whose files stay; or one that goes."""
    if folder is None:
        made = Path(tempfile.mkdtemp(prefix="reconciler-demo-"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise ReconcilerError(
            "the folder of the demo is not empty", where=str(folder), todo="name a new or an empty one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    yield folder.absolute()
