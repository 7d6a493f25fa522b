"""The lines of a plan on their way into its file: written, and their digest taken, beside whoever makes them.

Invariant: what the digest is of is what is in the file, in order; no more than two blocks are held, and an error of writing reaches the
one who adds.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

BLOCK = 1 << 19
"""Bytes that are written and digested at a time: threads wait for each other at each, so fewer are better, but all are held."""


class Body:
    def __init__(self, file: IO[bytes], beside: ThreadPoolExecutor) -> None:
        self.size = 0
        self._file = file
        self._beside = beside
        self._digest = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._passed_on = 0
        self._under_way: Future[None] | None = None

    def add(self, data: bytes) -> None:
        self._gathered.append(data)
        self.size += len(data)
        if self.size - self._passed_on >= BLOCK:
            self._pass_on()

    def digest(self) -> str:
        """Of all that was added, which is in the file then."""
        self._pass_on().result()
        return self._digest.hexdigest()

    def _pass_on(self) -> Future[None]:
        if self._under_way:
            self._under_way.result()  # no more than one is waiting: what is held stays small
        self._under_way = self._beside.submit(self._put, self._gathered)
        self._gathered, self._passed_on = [], self.size
        return self._under_way

    def _put(self, blocks: list[bytes]) -> None:
        for block in blocks if len(blocks) == 1 else [b"".join(blocks)]:
            self._digest.update(block)
            self._file.write(block)
