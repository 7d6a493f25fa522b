"""Every story in this folder goes as it is told; `pytest --update` tells it as it goes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click
import pytest

from tests.postgres import Database
from tests.scenarios.runner import Runner, difference

STORIES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=[story.stem for story in STORIES])
def test_scenario(
    story: Path, place: Path, production: Database, backup: Database, request: pytest.FixtureRequest
) -> None:
    main: object = import_module("reconciler.cli").main
    assert isinstance(main, click.Command)
    runner = Runner(place, {"production": production, "backup": backup}, main)
    if found := difference(story, runner, update=bool(request.config.getoption("--update"))):
        pytest.fail(found, pytrace=False)
