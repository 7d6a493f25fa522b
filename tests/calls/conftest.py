"""A table of images, and a server that makes them ready."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from reconciler.kinds import processes_run
from reconciler.spec import Process
from reconciler.systems.calls.run import Patience
from tests.calls.hook import Hook, serving
from tests.kinds.bench import Bench
from tests.postgres import Database

TABLE = """
CREATE TABLE images (id int PRIMARY KEY, src text NOT NULL DEFAULT '', metadata_status text NOT NULL DEFAULT 'pending');
"""


@pytest.fixture
def bench(place: Path, production: Database, backup: Database, hook: Hook) -> Bench:
    bench = Bench(place, production, backup)
    bench.both(TABLE)
    bench.environ |= {
        "HOOK_URL": hook.url,
        "HOOK_TOKEN": "canary-of-hooks",
        "SUPABASE_URL": hook.url,
        "SUPABASE_KEY": "sb_secret_canary-of-functions",
    }
    return bench


@pytest.fixture
def hook(production: Database) -> Generator[Hook]:
    with serving(production.dsn) as hook:
        yield hook


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a test are short."""
    monkeypatch.setattr(processes_run, "PATIENCE", Patience(first=0.02, longest=0.1, tries=4, pause=0.05))
    seconds = Process.seconds

    def shorter(self: Process) -> float:
        return 0.4 if self.timeout == "1s" else seconds(self)

    monkeypatch.setattr(Process, "seconds", shorter)
