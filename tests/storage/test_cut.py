"""A listing that is cut, wherever that is, is complete in the end or an error; it never has totals of a part."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import Storage, pages, supabase
from reconciler.systems.storage import crawl as by_folders
from reconciler.systems.storage.http import Patience
from tests.storage.double import Double
from tests.storage.faults import Tamper
from tests.storage.worlds import World

HASTY = Patience(first=0.0005, longest=0.001, tries=3, deadline=5)
NAMES = sorted(
    [*(f"{folder}/{number:02d}" for folder in "abc" for number in range(9)), *(f"z{number}" for number in range(12))]
)
LAW = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
Answer = dict[str, Any] | list[dict[str, Any]]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pages of few objects: the points where a listing can be cut are those of a large one."""
    monkeypatch.setattr(pages, "PAGE", 5)
    monkeypatch.setattr(pages, "LINGER", 30.0)  # an answer to one listing is not taken for one to the next
    monkeypatch.setattr(by_folders, "PAGE", 5)


def listed(storage: Storage, bucket: str) -> list[str] | None:
    """The whole, or None where it was refused; totals only with the whole."""
    inventory = storage.inventory(bucket)
    try:
        found = [each.name for each in inventory]
    except ReconcilerError as error:
        assert error.todo
        with pytest.raises(ReconcilerError, match="not read to its end"):
            _ = inventory.totals
        with pytest.raises(ReconcilerError):  # and it never looks exhausted afterwards
            next(inventory)
        return None
    assert inventory.totals.count == len(found)
    return found


def shortened(answer: Answer, keep: int, *, last: bool) -> Answer:
    """A page without its tail; `last`: it says that nothing follows."""
    if isinstance(answer, list):
        return answer[:keep]
    cut = {**answer, "objects": answer["objects"][:keep]}
    return (
        {**{key: value for key, value in cut.items() if not key.startswith("nextCursor")}, "hasNext": False}
        if last
        else cut
    )


def in_pages(at: int, times: int, wrong: Callable[[Answer, Answer], object]) -> Tamper:
    """From the `at`-th page on so many answers are what is made of them and of the ones before."""
    seen: list[Answer] = []

    def tamper(path: str, given: object) -> object:
        if "/object/list" not in path:
            return given
        seen.append(answer := cast("Answer", given))
        number = len(seen) - 1
        return wrong(answer, seen[max(0, number - 1)]) if at <= number < at + times else answer

    return tamper


@LAW
@given(
    at=st.integers(0, 16),
    keep=st.integers(0, 5),
    how=st.sampled_from(["shortened", "last", "bytes", "swapped", "repeated", "other"]),
    times=st.sampled_from([1, 2, 10_000]),
    share=st.floats(0, 1),
)
@example(at=1, keep=1, how="shortened", times=2, share=0.0)  # the end of the folders is not the end of the objects
@pytest.mark.parametrize("way", ["list v2", "list v1"])
@pytest.mark.usefixtures("small_pages")
def test_a_page_that_lacks_something(
    shared: Callable[[str], tuple[World, Storage]], way: str, at: int, keep: int, how: str, times: int, share: float
) -> None:
    """From the `at`-th page on, so many answers are not what they should be; but a server that says over and over that there is
    nothing at all cannot be told from an empty bucket."""
    assume(not (at == keep == 0 and times > 1 and how in ("shortened", "last")))
    world, storage = shared(way)

    def wrong(answer: Answer, before: Answer) -> object:
        match how:
            case "shortened" | "last":
                return shortened(answer, keep, last=how == "last")
            case "bytes":
                whole = json.dumps(answer).encode()
                return whole[: int(share * (len(whole) - 1))]
            case "swapped":
                objects = answer if isinstance(answer, list) else answer["objects"]
                return [*reversed(objects)] if isinstance(answer, list) else {**answer, "objects": [*reversed(objects)]}
            case "repeated":
                return before
            case _:
                return {"message": "maintenance"}

    world.double.tamper(in_pages(at, times, wrong))
    try:
        assert listed(storage, world.bucket) in (NAMES, None)
    finally:
        world.double.faults.clear()


@settings(LAW, max_examples=20)
@given(at=st.integers(0, 40), drop=st.sampled_from(["first", "last"]))
@pytest.mark.parametrize("way", ["list v2", "list v1"])
@pytest.mark.usefixtures("small_pages")
def test_objects_that_come_and_go_meanwhile(
    shared: Callable[[str], tuple[World, Storage]], way: str, at: int, drop: str
) -> None:
    """Whatever is there all the time is listed, or nothing is."""
    world, storage = shared(way)
    count = 0

    def tamper(path: str, answer: object) -> object:
        nonlocal count
        if "/object/list" in path:
            count += 1
            if count == at:
                world.seed(["zz", "a/zz", "0"])
            if count == at + 2:
                gone = "zz" if drop == "last" else "0"
                world.sql(f"SET storage.can_delete = 'true'; DELETE FROM storage.objects WHERE name = '{gone}'")
        return answer

    world.double.tamper(tamper)
    try:
        found = listed(storage, world.bucket)
        assert found is None or [name for name in found if name in NAMES] == NAMES
    finally:
        world.double.faults.clear()
        world.sql("SET storage.can_delete = 'true'; DELETE FROM storage.objects WHERE name IN ('zz', 'a/zz', '0')")


@pytest.fixture
def shared(make_world: Callable[[str], World], double: Double) -> Generator[Callable[[str], tuple[World, Storage]]]:
    """One bucket and one hasty client for all examples of a law."""
    made: dict[str, tuple[World, Storage]] = {}

    def get(way: str) -> tuple[World, Storage]:
        if way not in made:
            world = make_world(way)
            world.seed(NAMES)
            made[way] = world, supabase("storage", double.url, double.key, patience=HASTY)
        return made[way]

    yield get
    for _, storage in made.values():
        storage.close()


@pytest.mark.parametrize("kind", ["inventory", "inventory_copy"])
def test_a_copy_that_breaks_off_is_an_error(make_world: Callable[[str], World], kind: str) -> None:
    world = make_world("sql")
    world.seed(f"{number:06d}-{'x' * 100}" for number in range(20_000))
    inventory = getattr(world.storage, kind)(world.bucket)
    next(inventory)
    world.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE 'COPY%' AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(ReconcilerError):
        for _ in inventory:
            pass
    with pytest.raises(ReconcilerError, match="not read to its end"):
        _ = inventory.totals


def test_a_listing_that_nobody_finishes_has_no_totals(doubled: World) -> None:
    doubled.seed(["a", "b", "c"])
    inventory = doubled.storage.inventory(doubled.bucket)
    for _ in range(3):
        next(inventory)
        with pytest.raises(ReconcilerError, match="not read to its end"):
            _ = inventory.totals
