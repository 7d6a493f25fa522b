"""A program that takes the payload on its input. It runs in the folder of the specs, in a group of its own, and ends with us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

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
        with tempfile.TemporaryFile() as told:
            try:
                process = subprocess.Popen(
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
            try:
                process.communicate(payload.encode(), timeout=seconds)
            except subprocess.TimeoutExpired:
                raise FailedError(f"it did not end within {seconds:g} seconds") from None
            except BrokenPipeError:
                process.wait(seconds)
            finally:
                _end(process)
            if process.returncode:
                told.seek(0)
                said = brief(told.read(_LONGEST).decode("utf-8", "replace"), self._clean)
                raise FailedError(f"it ended with {process.returncode}{f': {said}' if said else ''}")


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
