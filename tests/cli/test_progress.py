"""Progress is quiet where nobody looks and for what is quick, and counts right where somebody does."""

from __future__ import annotations

import io
import sys
import threading
import time
from typing import Any

import pytest

from reconciler.cli import progress
from reconciler.plan.progress import Silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def look(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in the place of stderr; not a fixture, since pytest puts its own stderr back after those."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    return terminal


def test_silent_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    found = progress.progress()
    assert isinstance(found, Silent)
    with found.task("reading", None) as task:
        task.advance(3)


def test_what_is_quick_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    bars = progress.progress()
    for _ in range(3):
        with bars.task("reading", 10) as task:
            task.advance(10)
    assert terminal.getvalue() == ""


def test_what_takes_long_is_shown_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = look(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    monkeypatch.setattr(progress, "_PAUSE", 0.01)
    bars = progress.progress()
    with bars.task("reading [red]public.t\x1b[2J", 2000) as task:
        task.advance(1234)
        deadline = time.monotonic() + 5
        while "1,234 of 2,000" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    shown = terminal.getvalue()
    assert "reading [red]public.t\\u001b[2J" in shown
    assert "1,234 of 2,000" in shown
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]


def test_tasks_overlap_and_threads_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    look(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    bars: Any = progress.progress()
    with bars.task("one", None) as one, bars.task("two", 400) as two:
        threads = [threading.Thread(target=lambda: [two.advance() for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.advance(7)
        assert (one.done, two.done) == (7, 400)
