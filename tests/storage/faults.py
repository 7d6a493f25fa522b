"""What goes wrong on the way to a storage server, on demand: at random with a seed, or the next request that fits."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Fault: TypeAlias = Literal[
    "busy",  # 429, no word on when to come back
    "wait",  # 429 with Retry-After
    "500", "502", "503", "504", "544",
    "400/503",  # how the server itself says 503: HTTP 400, the status in the body
    "reset",  # the connection breaks before anything is done
    "lost",  # everything is done, then the connection breaks
    "truncated",  # everything is done, the answer ends in the middle
    "cut",  # the same, yet without a length that would give it away
    "redirect",  # a gateway sends to a page of its own; never at random
]  # fmt: skip
EVERY: tuple[Fault, ...] = (
    "busy", "wait", "500", "502", "503", "504", "544", "400/503", "reset", "lost", "truncated", "cut",
)  # fmt: skip

Tamper: TypeAlias = Callable[[str, object], object]
"""Takes the path and the answer to be, gives the answer that goes out; bytes go out as they are."""


@dataclass
class Faults:
    """Asked once for each request. `retry_after` is what Retry-After says."""

    retry_after: str = "0"
    latency: float = 0.0
    tamper: Tamper | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rate: float = 0.0
    _random: random.Random = field(default_factory=lambda: random.Random(0))
    _kinds: Sequence[Fault] = EVERY
    _only: re.Pattern[str] = re.compile("")
    _next: list[tuple[Fault, re.Pattern[str]]] = field(default_factory=list[tuple[Fault, re.Pattern[str]]])

    def at_random(self, rate: float, seed: int, kinds: Sequence[Fault], only: str) -> None:
        with self._lock:
            self._rate, self._random, self._kinds, self._only = rate, random.Random(seed), kinds, re.compile(only)

    def once(self, fault: Fault, only: str, times: int) -> None:
        with self._lock:
            self._next.extend((fault, re.compile(only)) for _ in range(times))

    def draw(self, request: str) -> Fault | None:
        """What happens to this request (`METHOD /path`)."""
        with self._lock:
            for place, (fault, only) in enumerate(self._next):
                if only.search(request):
                    del self._next[place]
                    return fault
            if self._rate and self._only.search(request) and self._random.random() < self._rate:
                return self._random.choice(self._kinds)
            return None

    def clear(self) -> None:
        with self._lock:
            self._rate, self.latency, self.tamper, self.retry_after = 0.0, 0.0, None, "0"
            self._next.clear()
