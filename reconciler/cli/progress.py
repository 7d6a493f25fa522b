"""Progress on stderr: nothing for what is done within a second, and nothing where nobody looks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from reconciler.cli import log
from reconciler.cli.terminal import tell
from reconciler.plan.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PATIENCE = 1.0  # seconds
_PAUSE = 0.2  # between later tasks, so that many short ones do not flicker


def progress() -> Progress:
    """What suits stderr."""
    if log.is_json():
        return log.Tasks()
    if not sys.stderr.isatty():
        return Plain()
    context = click.get_current_context(silent=True)
    return Bars(color=context is None or context.color is not False)


class Plain(Silent):
    """Nobody looks, but what takes long stands in the log."""

    def say(self, text: str) -> None:
        tell(text)


class Row:
    """One task; counts from the start, has a bar once there are bars."""

    def __init__(self, owner: Bars, label: str, total: int | None) -> None:
        self._owner = owner
        self.label = label
        self.total = total
        self.done = 0
        self.bar: TaskID | None = None

    def advance(self, n: int = 1) -> None:
        self._owner.advance(self, n)


class Bars:
    """A bar for each task under way; safe to use from several threads."""

    def __init__(self, *, color: bool = True) -> None:
        self._color = color
        self._lock = threading.RLock()
        self._rows: list[Row] = []
        self._bars: RichProgress | None = None
        self._timer: threading.Timer | None = None
        self._since: float | None = None

    @contextmanager
    def task(self, label: str, total: int | None) -> Generator[Row]:
        row = Row(self, label, total)
        with self._lock:
            self._rows.append(row)
            if self._bars is not None:
                self._draw(self._bars, row)
            elif self._timer is None:
                self._wait()
        try:
            yield row
        finally:
            with self._lock:
                self._rows.remove(row)
                if self._bars is not None and row.bar is not None:
                    self._bars.remove_task(row.bar)
                if not self._rows:
                    self._hide()

    def say(self, text: str) -> None:
        from reconciler.views.escape import plain

        with self._lock:
            if self._bars is None:
                tell(text)
            else:
                self._bars.console.print(plain(text), markup=False, highlight=False)

    def advance(self, row: Row, n: int) -> None:
        with self._lock:
            row.done += n
            if self._bars is not None and row.bar is not None:
                self._bars.update(row.bar, completed=row.done)

    def _wait(self) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._timer = threading.Timer(max(_PAUSE, self._since + PATIENCE - now), self._show)
        self._timer.daemon = True
        self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self._bars is None and self._rows:
                self._bars = _rich(self._color)
                for row in self._rows:
                    self._draw(self._bars, row)
                self._bars.start()

    def _draw(self, bars: RichProgress, row: Row) -> None:
        from reconciler.views.escape import cut

        row.bar = bars.add_task(cut(row.label, 60), total=row.total, completed=row.done)

    def _hide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def _rich(color: bool) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Counts(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = "" if task.total is None else f" of {int(task.total):,}"
            speed = f", {task.speed:,.0f}/s" if task.speed else ""
            return Text(f"{int(task.completed):,}{total}{speed}")

    console = Console(stderr=True, no_color=True if not color else None)
    label = TextColumn("{task.description}", markup=False)
    columns = (label, BarColumn(), Counts(), TimeRemainingColumn())
    # What the command writes must reach stdout untouched, so neither stream is redirected.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
