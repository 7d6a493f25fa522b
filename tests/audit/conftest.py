"""A production and a backup to try collections on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kinds.bench import Bench
from tests.postgres import Database


@pytest.fixture
def bench(place: Path, production: Database, backup: Database) -> Bench:
    return Bench(place, production, backup)
