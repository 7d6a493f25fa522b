"""A listing that is cut, wherever that is: the plan is what it is on the whole listing, or there is none; rows and objects stay."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reconciler import app
from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import crawl as by_folders
from reconciler.systems.storage import pages, project
from tests.postgres import Database
from tests.storage.test_cut import HASTY, NAMES, Answer, in_pages, shortened
from tests.storage.worlds import World

LAW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  storage: { supabase: "${env:SUPABASE_URL}", key: "${env:SUPABASE_KEY}" }
bucket_prefixes:
  images: { bucket: storage.BUCKET, table: production.images, column: src, form: "{name}", on_missing_object: delete, max_delete: "100%",
            on_missing_row: { insert: { title: "{stem}" } } }
"""
Planned = Callable[[], dict[str, int]]


def or_refused(plan: Planned) -> dict[str, int] | None:
    try:
        return plan()
    except ReconcilerError as error:
        assert error.todo
        return None


@pytest.fixture
def planned(
    make_world: Callable[[str], World], production: Database, place: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[World, Planned]]:
    """A bucket whose every object but one has its row, and how many rows a plan would write by its verbs."""
    monkeypatch.setattr(pages, "PAGE", 5)
    monkeypatch.setattr(pages, "LINGER", 30.0)  # an answer to one listing is not taken for one to the next
    monkeypatch.setattr(by_folders, "PAGE", 5)
    monkeypatch.setattr(project, "Patience", lambda: replace(HASTY, tries=5, deadline=60))
    made: dict[str, tuple[World, Planned]] = {}

    def get(way: str) -> tuple[World, Planned]:
        if way in made:
            return made[way]
        world = make_world(way)
        world.seed(NAMES)
        production.sql("CREATE TABLE images (src text PRIMARY KEY, title text)")
        for name in NAMES[1:]:
            production.sql("INSERT INTO images VALUES (%s, '')", name)
        (place / "spec.yaml").write_text(SPEC.replace("BUCKET", world.bucket))
        environ = {
            **os.environ,
            "PRODUCTION_URL": production.dsn,
            "SUPABASE_URL": world.double.url,
            "SUPABASE_KEY": world.double.key,
        }
        session = app.Session((place / "spec.yaml",), {}, None, environ)

        def plan() -> dict[str, int]:
            return {step.verb.value: step.count for step in app.plan(session, out=place / "a.plan.jsonl").steps}

        made[way] = world, plan
        return made[way]

    return get


@LAW
@given(
    at=st.integers(0, 12),
    keep=st.integers(0, 5),
    how=st.sampled_from(["shortened", "last", "repeated"]),
    times=st.sampled_from([1, 2, 10_000]),
)
@pytest.mark.parametrize("way", ["list v2", "list v1"])
@pytest.mark.usefixtures("double")
def test_nothing_is_planned_on_part_of_a_listing(
    planned: Callable[[str], tuple[World, Planned]], way: str, at: int, keep: int, how: str, times: int
) -> None:
    assume(not (at == keep == 0 and times > 1 and how != "repeated"))  # that is an empty bucket
    world, plan = planned(way)

    def wrong(answer: Answer, before: Answer) -> object:
        return before if how == "repeated" else shortened(answer, keep, last=how == "last")

    world.double.tamper(in_pages(at, times, wrong))
    try:
        assert or_refused(plan) in ({"insert": 1}, None)
    finally:
        world.double.faults.clear()
    # Where nothing is cut the plan is whole; a machine too busy to answer may need to be asked twice.
    assert (or_refused(plan) or plan()) == {"insert": 1}


@pytest.mark.usefixtures("double")
def test_a_bucket_that_looks_empty_takes_no_row(planned: Callable[[str], tuple[World, Planned]]) -> None:
    world, plan = planned("list v2")
    world.double.tamper(
        lambda path, given: shortened(cast("Answer", given), 0, last=True) if "/object/list" in path else given
    )
    assert or_refused(plan) is None
