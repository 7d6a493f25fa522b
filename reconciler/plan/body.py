"""The lines of a plan on their way into its file and out of it: their digest is taken beside whoever makes or reads them.

Invariant: what the digest is of is what is in the file, in order, the very file that is open; no more than two blocks are held, and an
error of writing or reading reaches the one who adds or asks.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from threading import Thread
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


def last_line(file: BufferedReader, begin: int) -> int:
    """Where the last line of what begins there begins; the file stands at the beginning again."""
    size = file.seek(0, os.SEEK_END)
    tail = max(begin, size - BLOCK)
    file.seek(tail)
    found = file.read().rfind(b"\n", 0, -1)
    file.seek(begin)
    return tail + found + 1


class Digest:
    """Of what lies between two places of an open file, taken beside whoever reads it; done, or given up, before the file is closed."""

    def __init__(self, file: BufferedReader, begin: int, end: int) -> None:
        self._file, self._begin, self._end = file, begin, end
        self._sha256 = hashlib.sha256()
        self._error: OSError | None = None
        self._left = False
        self._thread = Thread(target=self._take, daemon=True)  # Ctrl-C waits for nothing

    def __enter__(self) -> Digest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        self._thread.join()

    def whole(self) -> str:
        self._thread.join()
        if self._error:
            raise self._error
        return self._sha256.hexdigest()

    def _take(self) -> None:
        at = self._begin
        try:
            while at < self._end and not self._left:
                # Of the very file that is read, at a place of its own: another may stand under its name by now.
                block = os.pread(self._file.fileno(), min(4 * BLOCK, self._end - at), at)
                if not block:
                    return  # cut meanwhile: the digest does not fit
                self._sha256.update(block)
                at += len(block)
        except OSError as error:
            self._error = error
