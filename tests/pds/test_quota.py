"""Points: never more in any hour or day than the server allows, whenever its own windows begin."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.systems.pds.quota import DAY, HOUR, Limit, Quota, seconds_for


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), max_size=80))
def test_no_window_holds_more_than_its_limit(spending: list[tuple[int, int]]) -> None:
    limits = (Limit(100, 60), Limit(250, 300))
    quota, now, spent = Quota(limits), 0.0, list[tuple[float, int]]()
    for points, pause in spending:
        now += pause
        wait = quota.wait(points, now)
        assert (wait == 0) == (points <= quota.left(now))
        now += wait
        assert quota.wait(points, now) == 0
        quota.spend(points, now)
        spent.append((now, points))
    for limit in limits:
        for end, _ in spent:
            assert sum(points for at, points in spent if end - limit.seconds < at <= end) <= limit.points


def test_without_limits_nothing_waits() -> None:
    quota = Quota(())
    quota.spend(1_000_000, 0)
    assert quota.left(0) > 1_000_000 and quota.wait(1_000_000, 0) == 0


def test_how_long_many_writes_take() -> None:
    assert seconds_for(1666, 0, 0) == 0
    assert seconds_for(1667, 0, 0) == HOUR.seconds
    assert seconds_for(0, 17_500, 0) == 6 * HOUR.seconds
    assert seconds_for(0, 17_501, 0) == DAY.seconds
    assert seconds_for(37_000, 0, 0) == 3 * DAY.seconds + HOUR.seconds
