"""Points: never more in any hour or day than the server allows, whenever its own windows begin."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.systems.pds.quota import DAY, HOUR, Limit, Quota, Told, seconds_for


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


def test_what_others_spent_counts_until_the_limit_begins_anew() -> None:
    quota, limit = Quota((Limit(100, 60), Limit(1_000, 3_600))), Limit(100, 60)
    quota.spend(30, 0)
    quota.heed(Told(limit, 70, 55), 1)  # what we know already
    assert quota.left(1) == 70
    quota.heed(Told(limit, 10, 55), 1)
    assert (quota.left(1), quota.wait(20, 1)) == (10, 54)
    assert quota.left(56) == 70
    quota.heed(Told(Limit(3_000, 300), 0, 290), 56)  # another limit, which is the calls'
    assert quota.left(56) == 70
    quota.heed(Told(Limit(50, 60), 50, 110), 200)  # a server that allows less
    assert (quota.left(200), quota.wait(60, 200)) == (50, 0)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40), st.integers(0, 50)), max_size=60))
def test_a_server_that_tells_never_says_no(spending: list[tuple[int, int, int]]) -> None:
    """Its windows begin with the first point after the last one ended; another program spends too; it tells after each call."""
    limit, quota, now = Limit(100, 600), Quota((Limit(100, 600),)), 0.0
    used, ends = 0, 0.0
    quota.heed(Told(limit, 100, 600), now)
    for points, pause, others in spending:
        now += 10 * pause
        now += quota.wait(points, now)
        if now >= ends:
            used, ends = 0, now + 600
        used += points
        assert used <= 100
        quota.spend(points, now)
        used += min(others, 100 - used)
        quota.heed(Told(limit, 100 - used, ends), now)
