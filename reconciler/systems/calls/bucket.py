"""A rate that is never exceeded, by no program that was started again either.

A token bucket that holds one token and starts empty. Invariant: two calls never begin closer to each other than `interval`, and none
within `interval` of the start; so any stretch of time that begins at the start or with a call sees at most its share of calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Bucket:
    """Gives leave to call, one call each `interval` seconds."""

    def __init__(
        self,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._sleep = sleep
        self._full_at = clock() + interval

    def take(self) -> None:
        """Wait for the token and take it."""
        while (now := self._clock()) < self._full_at:
            self._sleep(self._full_at - now)
        self._full_at = now + self._interval
