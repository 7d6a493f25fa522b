"""A program that ends when its last holder does, however the holder ends."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TypedDict

from reconciler.embedded.account import Account, environment

# A pipe and not the kernel's parent-death signal: that one is lost with a change of user id, fires when the thread
# that started the program ends, and exists on Linux only. The shell stays the program's parent until the end, so
# that the id it signals cannot have become another program's.
_SCRIPT = """
signals=$1 remove=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
(
    while read -r _ <&3; do :; done
    trap '' TERM
    for signal in $signals; do kill -s "$signal" "$program"; done
) 2>/dev/null &
watch=$!
exec 3<&-
wait "$program"
code=$?
kill "$watch" 2>/dev/null
if wait "$watch" && [ -n "$remove" ]; then rm -rf -- "$remove"; fi
exit "$code"
"""


class _Start(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[int] | None
    cwd: str
    env: dict[str, str]


def tether(
    command: Sequence[str | Path],
    *,
    until: int,
    signals: str,
    log: IO[bytes],
    account: Account | None,
    inherit: Sequence[int] = (),
    remove: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command`; when the pipe `until` reads its end, the command gets `signals`, and after it `remove` goes.

    The command starts with INT and QUIT ignored, as a shell does it: until it handles them, only others reach it.
    It leads a session of its own: Ctrl-C in our terminal is ours to handle, and must not take the program first.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "tether", signals, str(remove or ""), *map(str, command)],
        stdin=until,
        stdout=log,
        stderr=log,
        pass_fds=inherit,
        start_new_session=True,
        **_started(account),
    )


def _started(account: Account | None) -> _Start:
    # Not in our working folder, which the account may not enter and which the program would keep from being unmounted.
    return _Start(
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
        env=environment(),
    )
