"""How many writes a PDS lets an account make, counted by us: its answers say it only now and then.

In: points as they are spent, and what an answer tells of a limit. Out: how many may be spent now, and how long to wait for more. Any
window of an hour or a day holds at most the limit, so the server's own windows, which begin we do not know when, do too. What an
earlier run or another program spent is known where the server tells what is left, which it does once that is less than what the
limit on calls leaves.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

_JITTER = 2.0  # seconds that a server's clock, told in whole ones, and ours may be apart from answer to answer
CREATE, UPDATE, DELETE = 3, 2, 1  # points


@dataclass(frozen=True)
class Limit:
    points: int
    seconds: float


HOUR = Limit(5_000, 3_600)
DAY = Limit(35_000, 86_400)
LIMITS = (HOUR, DAY)
UPLOADS = Limit(1_000, 86_400)  # blobs a day


@dataclass(frozen=True)
class Told:
    """What an answer said of one limit: how much is left of it until it begins anew."""

    limit: Limit
    left: int
    until: float


class Quota:
    """What one account has spent; times are seconds on any clock that does not go back."""

    def __init__(self, limits: tuple[Limit, ...] = LIMITS) -> None:
        self._limits = limits
        self._spent: list[tuple[float, int]] = []
        self.told = False
        """Whether the server has said what is left of any of these limits."""

    def spend(self, points: int, now: float) -> None:
        self._spent.append((now, points))
        longest = max((it.seconds for it in self._limits), default=0.0)
        del self._spent[: bisect_right(self._spent, (now - longest, 1 << 62))]

    def heed(self, told: Told, now: float) -> None:
        """Count what others spent, if the server says that more is gone than we know of; it counts until the limit begins anew."""
        if told.limit.seconds not in {it.seconds for it in self._limits}:
            return
        self.told = True
        self._limits = tuple(told.limit if it.seconds == told.limit.seconds else it for it in self._limits)
        begin = min(told.until, now + told.limit.seconds) - told.limit.seconds
        known = sum(points for at, points in self._spent if at > begin - _JITTER)
        more = told.limit.points - told.left - known
        if more > 0:
            insort(self._spent, (begin, more))

    def left(self, now: float) -> int:
        """Points that may be spent now."""
        return min((max(it.points - self._within(it, now), 0) for it in self._limits), default=1 << 62)

    def wait(self, points: int, now: float) -> float:
        """Seconds until so many may be spent, or as many as a limit allows at all."""
        return max((self._wait(it, min(points, it.points), now) for it in self._limits), default=0.0)

    def _within(self, limit: Limit, now: float) -> int:
        return sum(points for at, points in self._spent if at > now - limit.seconds)

    def _wait(self, limit: Limit, points: int, now: float) -> float:
        over = self._within(limit, now) + points - limit.points
        for at, spent in self._spent:
            if over <= 0:
                break
            if at > now - limit.seconds:
                over -= spent
                if over <= 0:
                    return at + limit.seconds - now
        return 0.0


def seconds_for(creates: int, updates: int, deletes: int, limits: tuple[Limit, ...] = LIMITS) -> float:
    """How long that many writes take at least on a PDS that counts, begun with nothing spent."""
    points = creates * CREATE + updates * UPDATE + deletes * DELETE
    total = 0.0
    for limit in sorted(limits, key=lambda it: -it.seconds):
        whole = max(points - 1, 0) // limit.points
        total += whole * limit.seconds
        points -= whole * limit.points
    return total
