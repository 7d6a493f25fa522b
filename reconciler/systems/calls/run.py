"""Rows are called for, batch by batch, until they are done.

In: rows that are pending, something to call, the ceiling of the plan. Out: how many are done, and every row that is not, with the reason.
A batch that fails, or whose rows do not become done in time, is called for again in halves, so that one bad row stops no other; a row
that fails alone, twice, is left. Invariants: no row is called for that is not pending at that moment; no more rows than the ceiling are ever
called for; every call, also a repeated one, waits for the bucket. There is no state: what was done shows in the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from reconciler.plan.errors import Exit, ReconcilerError, gravest
from reconciler.systems.calls.bucket import Bucket
from reconciler.systems.calls.caller import BusyError, Caller, FailedError

NAMED = 20
TRIES = 2
"""How often a row is called for alone before it is left."""
WATCHED = 10_000
"""Of the rows that one call takes, so many are looked at one by one."""
HOPELESS_BATCHES = 3
HOPELESS_CALLS = 10
"""After so many batches and calls in a row that brought nothing, it is not the rows."""


class State(Enum):
    PENDING = "pending"
    DONE = "done"
    GONE = "gone"
    NEITHER = "neither pending nor done"


@dataclass(frozen=True)
class Row:
    """A row by its key: the texts of its columns, and what stands for it in a payload, as JSON."""

    key: tuple[str, ...]
    json: str

    @property
    def name(self) -> str:
        return self.key[0] if len(self.key) == 1 else f"({', '.join(self.key)})"


class Rows(Protocol):
    """The table."""

    def pending(self, after: tuple[str, ...] | None, most: int) -> list[Row]:
        """The next rows that are pending, in the order of their keys."""
        ...

    def count_pending(self, most: int) -> int:
        """How many are pending; counts no further than `most`."""
        ...

    def states(self, rows: Sequence[Row]) -> list[State]:
        """What each row is now."""
        ...


@dataclass(frozen=True)
class Patience:
    """Seconds between two looks at the rows, at first and at most; tries of a call that nobody answers, and the first pause."""

    first: float = 0.1
    longest: float = 5.0
    tries: int = 6
    pause: float = 1.0


@dataclass(frozen=True)
class Order:
    """What the plan says."""

    name: str
    payload: Callable[[str], str]
    """The payload for a JSON list of keys."""
    ceiling: int
    batch: int
    """0: all in one call."""
    names_keys: bool
    timeout: float
    patience: Patience = field(default_factory=Patience)


@dataclass
class Report:
    """What became of it; `left` names the first rows that are not done, and why."""

    done: int = 0
    calls: int = 0
    pending: int = 0
    """Rows that are left and still pending."""
    stuck: int = 0
    """Rows that are left and neither pending nor done."""
    left: list[str] = field(default_factory=list[str])

    def leave(self, row: Row, state: State, why: str) -> None:
        if state is State.PENDING:
            self.pending += 1
        else:
            self.stuck += 1
        if len(self.left) < NAMED:
            self.left.append(f"{row.name}: {why}")


class Run:
    """One process, once through its rows."""

    def __init__(
        self,
        rows: Rows,
        caller: Caller,
        bucket: Bucket,
        order: Order,
        *,
        advance: Callable[[int], object],
        tell: Callable[[float, str], object],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.report = Report()
        self._rows, self._caller, self._bucket, self._order = rows, caller, bucket, order
        self._advance, self._tell, self._clock, self._sleep = advance, tell, clock, sleep
        self._why: dict[tuple[str, ...], str] = {}
        self._alone: dict[tuple[str, ...], int] = {}
        self._vain_calls = self._vain_batches = 0

    def go(self) -> Report:
        """Call for every pending row, within the ceiling."""
        order = self._order
        if not order.names_keys:
            return self._drain()
        room, after = order.ceiling, None
        while room > 0 and (batch := self._rows.pending(after, min(room, order.batch or room))):
            room -= len(batch)
            after = batch[-1].key
            before = self.report.done
            self._batch(batch)
            self._vain_batches = 0 if self.report.done > before else self._vain_batches + 1
            if self._vain_batches >= HOPELESS_BATCHES and self._vain_calls >= HOPELESS_CALLS:
                raise ReconcilerError(
                    f"{order.name}: {self._vain_calls} calls in a row brought nothing",
                    why=next(iter(self._why.values()), "no row became done"),
                    details=tuple(self.report.left[:5]),
                    todo="see what is wrong with what is called, then run the same plan again",
                    code=self._code,
                )
        return self.report

    @property
    def _code(self) -> Exit:
        return Exit.PARTIAL if self.report.done else Exit.ERROR

    def _drain(self) -> Report:
        """What is called finds its rows itself, so it is called only where they are within the ceiling."""
        order = self._order
        if (count := self._rows.count_pending(order.ceiling + 1)) > order.ceiling:
            raise ReconcilerError(
                f"{order.name}: more rows are pending than the plan allows, which is {order.ceiling}",
                why="a call takes every pending row",
                todo="plan again and have the new plan reviewed",
                code=Exit.DRIFT,
            )
        for _ in range(TRIES):
            rows = self._rows.pending(None, min(order.ceiling, WATCHED))
            if not rows:
                break
            waiting: list[Row] = []
            if self._call(rows, waiting)[1]:
                waiting = rows
            self._wait(waiting, drained=True)
        self.report.pending = self._rows.count_pending(order.ceiling)
        self.report.done = max(0, count - self.report.pending - self.report.stuck)
        for row in self._rows.pending(None, NAMED):
            self.report.left.append(f"{row.name}: {self._why.get(row.key, 'it is pending after the call')}")
        return self.report

    def _batch(self, batch: list[Row]) -> None:
        """Call for the batch, then for halves of what is left of it, until every row is done or left."""
        self._why.clear()
        self._alone.clear()
        chunks = [batch]
        while chunks:
            waiting: list[Row] = []
            taken: list[list[Row]] = []
            again: list[list[Row]] = []
            for chunk in chunks:
                due = self._still_pending(chunk, waiting)
                due, understood = self._call(due, waiting) if due else ([], True)
                if understood:
                    taken.append(due)
                    waiting += due
                else:
                    again += self._halves(self._still_pending(due, waiting))
            pending = self._wait(waiting)
            again += [half for due in taken for half in self._halves([row for row in due if row in pending])]
            loose = pending.difference(*taken)
            again += self._halves([row for row in waiting if row in loose])
            chunks = again

    def _still_pending(self, chunk: list[Row], waiting: list[Row]) -> list[Row]:
        """Those of the rows that are still to be called for; those that something happens to are waited for."""
        due: list[Row] = []
        for row, state in zip(chunk, self._rows.states(chunk), strict=True):
            if state is State.PENDING:
                due.append(row)
            elif state is State.NEITHER:
                waiting.append(row)
            else:
                self._settled(state)
        return due

    def _settled(self, state: State) -> None:
        self.report.done += state is State.DONE
        self._vain_calls = 0
        self._advance(1)

    def _halves(self, rows: list[Row]) -> list[list[Row]]:
        """How rows are called for once more; one that had its tries is left."""
        if len(rows) > 1:
            middle = (len(rows) + 1) // 2
            return [rows[:middle], rows[middle:]]
        for row in rows:
            count = self._alone[row.key] = self._alone.get(row.key, 0) + 1
            if count < TRIES:
                return [rows]
            self.report.leave(row, State.PENDING, self._why[row.key])
        return []

    def _call(self, chunk: list[Row], waiting: list[Row]) -> tuple[list[Row], bool]:
        """One call, for those that are still pending when it may be made; for which rows, and whether it was understood."""
        order, tries = self._order, 0
        while True:
            self._bucket.take()
            chunk = self._still_pending(chunk, waiting)
            if not chunk:
                return [], True
            self.report.calls += 1
            self._vain_calls += 1
            try:
                self._caller.call(order.payload(f"[{','.join(row.json for row in chunk)}]"), order.timeout)
            except FailedError as error:
                self._why |= {row.key: str(error) for row in chunk}
                return chunk, False
            except BusyError as error:
                tries += 1
                if tries >= order.patience.tries:
                    raise ReconcilerError(
                        f"{order.name}: {tries} calls in a row were not taken", why=str(error),
                        todo="run the same plan again when it can be called: what is done stays done", code=self._code,
                    ) from None  # fmt: skip
                pause = order.patience.pause * 2 ** (tries - 1) if error.seconds is None else error.seconds
                pause = min(pause, order.timeout)
                self._tell(pause, str(error))
                self._sleep(pause)
            except ReconcilerError as error:
                error.code = gravest(error.code, self._code)
                raise
            else:
                return chunk, True

    def _wait(self, rows: list[Row], *, drained: bool = False) -> set[Row]:
        """Until every row is done or the time is over; those come back that are pending then, what is stuck is left."""
        until, pause = self._clock() + self._order.timeout, self._order.patience.first
        pending = dict.fromkeys(rows)
        states: dict[Row, State] = {}
        while pending:
            known = list(pending)
            states = dict(zip(known, self._rows.states(known), strict=True))
            for row, state in states.items():
                if state in (State.DONE, State.GONE):
                    self._settled(state)
                    del pending[row]
                    pause = self._order.patience.first
            if drained and not pending:  # those that are not looked at one by one
                pending = dict.fromkeys(self._rows.pending(None, WATCHED))
            left = until - self._clock()
            if not pending or left <= 0:
                break
            self._sleep(min(pause, left))
            pause = min(pause * 1.5, self._order.patience.longest)
        still: set[Row] = set()
        for row in pending:
            if states.get(row, State.PENDING) is State.PENDING:
                self._why.setdefault(row.key, f"it is pending {self._order.timeout:g} seconds after the call")
                still.add(row)
            else:
                self.report.leave(row, State.NEITHER, "it is neither pending nor done")
        return still
