"""A program that takes the payload on its input. It runs in the folder of the specs, in a group of its own, and ends with us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from reconciler.systems.calls.caller import Clean, DeniedError, FailedError, brief

_LONGEST = 16_384


class Command:
    """One program and its arguments."""

    def __init__(
        self, argv: Sequence[str], folder: Path, environ: Mapping[str, str], clean: Clean, *, name: str
    ) -> None:
        self._argv = tuple(argv)
        self._folder = folder
        self._environ = dict(environ)
        self._clean = clean
        self._name = name

    def call(self, payload: str, seconds: float) -> None:
        process: subprocess.Popen[bytes] | None = None
        with tempfile.TemporaryFile() as told:
            try:
                with _uninterrupted():
                    process = self._started(told)
                try:
                    process.communicate(payload.encode(), timeout=seconds)
                except subprocess.TimeoutExpired:
                    raise FailedError(f"it did not end within {seconds:g} seconds") from None
                except BrokenPipeError:
                    process.wait(seconds)
                if process.returncode:
                    told.seek(0)
                    said = brief(told.read(_LONGEST).decode("utf-8", "replace"), self._clean)
                    raise FailedError(f"it ended with {process.returncode}{f': {said}' if said else ''}")
            finally:
                if process:
                    _end(process)

    def _started(self, told: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=told,
                cwd=self._folder,
                env=self._environ,
                start_new_session=True,
            )
        except OSError as error:
            why = error.strerror or type(error).__name__
            todo = "a path is one from the folder of the specs; a bare name is looked for in PATH"
            raise DeniedError(f"the command {self._name} cannot be run", why=why, todo=todo) from None


@contextlib.contextmanager
def _uninterrupted() -> Generator[None]:
    """A signal that would end us waits until what is started is known, and can be ended too."""
    came: list[tuple[int, FrameType | None]] = []
    handlers = {
        it: how for it in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if callable(how := signal.getsignal(it))
    }
    if threading.current_thread() is not threading.main_thread():
        handlers.clear()
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, how in handlers.items():
            signal.signal(number, how)
    for number, frame in came:
        handlers[signal.Signals(number)](number, frame)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program and whatever it started in its group, where it did not end by itself."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # also those who outlived the program
    process.wait()
