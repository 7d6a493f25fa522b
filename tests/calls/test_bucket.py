"""The rate holds over every stretch of time, whatever the calls take and however often the program is started again."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.systems.calls.bucket import Bucket

SECONDS = st.integers(0, 200_000).map(lambda n: Fraction(n, 1000))


class Clock:
    """Exact time, that only passes when somebody sleeps or works; a sleep may end early, as a real one does."""

    def __init__(self) -> None:
        self.now = Fraction(0)
        self.hasty = False
        self._early = True

    def __call__(self) -> float:
        return self.now  # pyright: ignore[reportReturnType]

    def sleep(self, seconds: float) -> None:
        early, self._early = self._early, not self._early
        self.now += Fraction(seconds) / (2 if self.hasty and early else 1)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 600),
    st.sampled_from([1, 60, 3600]),
    st.lists(st.lists(SECONDS, min_size=1, max_size=6), min_size=1, max_size=3),
    st.lists(SECONDS, min_size=4, max_size=4),
    st.booleans(),
)
def test_no_stretch_of_time_sees_more_than_its_share(
    count: int, unit: int, runs: list[list[Fraction]], breaks: list[Fraction], hasty: bool
) -> None:
    """`runs`: of each run of the program how long each call takes; between two runs nothing, or a break."""
    interval = Fraction(unit, count)
    rate = 1 / interval
    clock = Clock()
    clock.hasty = hasty
    calls: list[Fraction] = []
    starts: list[Fraction] = []
    for work, pause in zip(runs, breaks, strict=False):
        starts.append(clock.now)
        bucket = Bucket(interval, clock, clock.sleep)  # pyright: ignore[reportArgumentType]
        for seconds in work:
            bucket.take()
            calls.append(clock.now)
            clock.now += seconds
        clock.now += pause
    for first, begin in enumerate([*starts, *calls]):
        # From a start no call is free; from a call, that call itself is the share of the time before it.
        free = 0 if first < len(starts) else 1
        for end in (it for it in calls if it > begin):
            within = sum(begin < call <= end for call in calls) + free
            assert within <= rate * (end - begin) + free
    for begin in calls:
        for length in (Fraction(1), Fraction(60), interval, interval * 7):
            within = sum(begin <= call < begin + length for call in calls)
            assert within <= -(-rate * length // 1)


@given(st.integers(1, 100), st.integers(1, 30))
def test_a_rate_is_used_in_full(count: int, calls: int) -> None:
    clock = Clock()
    bucket = Bucket(Fraction(60, count), clock, clock.sleep)  # pyright: ignore[reportArgumentType]
    for _ in range(calls):
        bucket.take()
    assert clock.now == Fraction(60, count) * calls
