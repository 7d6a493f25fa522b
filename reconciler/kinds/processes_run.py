"""A process carried out: its rows behind a database, its calls behind an endpoint.

In: a step of a plan. Out: an `Outcome`. The database is read in short transactions, so that hours of waiting hold no snapshot; a lost
connection is opened again. One run of a process at a time: the lock is a transaction of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TypeVar, cast

from reconciler.kinds.endpoints import opened_caller
from reconciler.kinds.processes import Waiting, compile_process, rows_of
from reconciler.kinds.world import Tell, World, opened
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.outcome import Outcome
from reconciler.plan.progress import Progress
from reconciler.plan.step import Step
from reconciler.spec import Spec
from reconciler.spec.process import filled
from reconciler.spec.values import Value
from reconciler.systems.calls.bucket import Bucket
from reconciler.systems.calls.run import Order, Patience, Report, Row, Run, State
from reconciler.systems.postgres.executor import retriable
from reconciler.systems.postgres.pending import Watched, count_pending, hold, next_pending, states
from reconciler.systems.postgres.session import Session, explained

_T = TypeVar("_T")
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds
PATIENCE = Patience()


class Table:
    """The rows of a process; opens its connections itself, and again when they are lost."""

    def __init__(self, spec: Spec, connection: str, watched: Watched, name: str, attribution: str) -> None:
        self._open = partial(opened, spec, snapshots=False)
        self._connection, self._watched, self._name, self._attribution = connection, watched, name, attribution
        self._stack = ExitStack()
        self._session: Session | None = None

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def pending(self, after: tuple[str, ...] | None, most: int) -> list[Row]:
        found = self._read(lambda session: next_pending(session, self._watched, after, most))
        return [Row(key, json) for key, json in found]

    def count_pending(self, most: int) -> int:
        return self._read(lambda session: count_pending(session, self._watched, most))

    def states(self, rows: Sequence[Row]) -> list[State]:
        if not rows:
            return []
        found = self._read(lambda session: states(session, self._watched, [row.key for row in rows]))
        return [_STATES[word] for word in found]

    def _read(self, read: Callable[[Session], _T]) -> _T:
        """Look at the rows in a transaction of its own; where the connection is lost, again on a new one."""
        with explained(f"reading the rows of {self._name}", self._connection):
            for pause in (*_PAUSES, None):
                try:
                    session = self._opened()
                    with session.writing(self._attribution, lock_timeout="10s", statement_timeout="0"):
                        session.forbid_writes()
                        return read(session)
                except Exception as error:
                    self._close()
                    if pause is None or not retriable(error):
                        raise
                    time.sleep(pause)
        raise AssertionError

    def _opened(self) -> Session:
        if self._session is None:
            with ExitStack() as stack:
                holder = stack.enter_context(self._open()).session(self._connection)
                stack.enter_context(holder.writing(self._attribution, lock_timeout="10s", statement_timeout="0"))
                hold(holder, self._name)
                self._session = stack.enter_context(self._open()).session(self._connection)
                self._stack = stack.pop_all()
        return self._session

    def _close(self) -> None:
        """Leave both connections; what the lock's transaction says on its end matters to nobody."""
        self._session = None
        stack, self._stack = self._stack, ExitStack()
        try:
            stack.close()
        except Exception as error:
            if not retriable(error):
                raise


_STATES = {"pending": State.PENDING, "done": State.DONE, "gone": State.GONE, "neither": State.NEITHER}


def call_for(world: World, plan: Plan, step: Step, progress: Progress, tell: Tell) -> Outcome:
    """Carry out one step."""
    process = world.spec.document.processes[step.address.partition(".")[2]]
    with world.session(step.connection).snapshot():
        waiting = compile_process(world, step.address, process)
    _check_endpoint(plan, step, waiting)
    ceiling = rows_of(plan, step)["ceiling"]
    order = Order(
        name=step.address,
        payload=partial(filled, cast("Value", process.payload())),
        ceiling=ceiling,
        batch=process.batch,
        names_keys=process.names_keys(),
        timeout=float(process.seconds()),
        patience=PATIENCE,
    )
    with Table(world.spec, waiting.connection, waiting.watched, step.address, f"reconciler/{plan.id}") as rows:
        due = rows.count_pending(ceiling + 1)
        if not due:
            return Outcome(already={step.id: 1})
        with (
            opened_caller(world, process) as caller,
            progress.task(f"calling {process.called()}", min(due, ceiling)) as task,
        ):
            run = Run(rows, caller, Bucket(float(process.interval())), order, advance=task.advance, tell=tell)
            try:
                report = run.go()
            except BaseException as error:
                if not isinstance(error, Exception):
                    progress.say(f"{step.address}: {_so_far(run.report)}; run the same plan again to go on")
                elif isinstance(error, ReconcilerError):
                    error.details = (*error.details, _so_far(run.report))
                raise
        return _outcome(step, report, ceiling, rows.count_pending(ceiling + 1))


def _outcome(step: Step, report: Report, ceiling: int, still: int) -> Outcome:
    left = report.pending + report.stuck
    out = Outcome(failed={step.id: 1}) if left else Outcome(applied={step.id: 1})
    out.notes.append(f"{step.address}: {_so_far(report)}")
    if left:
        more = left - len(report.left)
        out.unsettled += [f"{step.address}: row {line}" for line in report.left]
        out.unsettled += [f"{step.address}: and {more:,} rows more"] if more > 0 else []
        out.code = Exit.PARTIAL if report.pending else Exit.ERROR
    if over := max(0, still - report.pending):
        many = f"{over:,}" if still <= ceiling else f"{ceiling + 1 - report.pending:,} or more"
        out.notes.append(f"{step.address}: {many} more rows are pending that this run did not call for: plan again")
    return out


def _so_far(report: Report) -> str:
    return f"{report.done:,} row{'' if report.done == 1 else 's'} done in {report.calls:,} call{'' if report.calls == 1 else 's'}"


def _check_endpoint(plan: Plan, step: Step, waiting: Waiting) -> None:
    """A plan belongs to the project or server it was made for."""
    planned = (next(iter(plan.changes(step))).after or {}).get("endpoint", "")
    if planned != waiting.endpoint:
        through = waiting.process.connection()
        raise Drift(
            f"{step.address} would call another server than the plan was made for",
            why=f"the address of connections.{through[0] if through else ''} differs",
            todo="point it at that of the plan, or plan again for this one",
        )
