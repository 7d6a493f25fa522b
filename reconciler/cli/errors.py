"""The one place where whatever went wrong becomes a few lines on stderr and an exit code.

Invariant: of an error we did not foresee only type and place are printed: its message may hold values, even secrets.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import click

from reconciler.cli import log
from reconciler.plan.errors import Exit, ReconcilerError, internal

INTERRUPTED = "interrupted: nothing of an open transaction was kept; running the same again is safe"

_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE)
"""What a write says without naming its file: the disk is full, or the like."""


@contextmanager
def ended_like_ctrl_c() -> Generator[None]:
    """SIGTERM and SIGHUP clean up as Ctrl-C does; one that is ignored, as under nohup, stays so."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    numbers = [it for it in (signal.SIGTERM, signal.SIGHUP) if ours and signal.getsignal(it) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def leave(run: Callable[[], object]) -> int:
    """Run a command; its exit code."""
    try:
        code = run()
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        exec("")  # else `python -m` takes one that came within an exec, as of a dataclass, for one that nobody caught
        _say(INTERRUPTED, Exit.INTERRUPTED)
        return Exit.INTERRUPTED
    except click.ClickException as error:
        if log.is_json():
            log.write("error", error.format_message(), code=int(Exit.ERROR))
        else:
            error.show()
        return Exit.ERROR  # click says 2, which here means that changes are planned
    except ReconcilerError as error:
        tell_error(error)
        return error.code
    except BrokenPipeError:
        # Whoever read our output has enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    except OSError as error:
        if error.filename is None:
            if error.errno not in _OF_THE_MACHINE:
                return _internal(error)
            _say(f"error: {error.strerror}")
            return Exit.ERROR
        _say(f"error: {error.strerror or type(error).__name__}\n  --> {error.filename}")
        return Exit.ERROR
    except Exception as error:
        return _internal(error)
    return int(code) if isinstance(code, int) else Exit.DONE


def tell_error(error: ReconcilerError) -> None:
    """An error that does not end the command."""
    if log.is_json():
        log.write_error(error)
    else:
        _say(error.render())


def _internal(error: Exception) -> int:
    import traceback

    if os.environ.get("RECONCILER_DEBUG") == "1":
        traceback.print_exception(error)
        return Exit.ERROR
    _say(
        f"error: {internal(error)}\n"
        "  why: this is a mistake in reconciler, not in your specs\n"
        "  do:  report it with these lines; RECONCILER_DEBUG=1 shows the whole traceback, which may hold data of yours"
    )
    return Exit.ERROR


def _say(text: str, code: Exit = Exit.ERROR) -> None:
    from reconciler.views.escape import plain_lines

    if log.is_json():
        log.write("error", text.removeprefix("error: "), code=int(code))
        return
    lines = plain_lines(text).split("\n")
    # No line of somebody's data may be a command to the workflow that runs this.
    click.echo("\n".join(f"| {line}" if line.lstrip().startswith("::") else line for line in lines), err=True)
