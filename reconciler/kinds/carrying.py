"""One run of a plan's steps, carried out on the system it belongs to: rows, objects, records or calls.

In: the plan, how apply was called, the world as apply has opened it, a connection and its steps. Out: an `Outcome`; or an error.
Invariant: a run of rows is one transaction, kept whole or not at all; whatever else is cut short is recognised by what it left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.kinds.pads import digest_pads
from reconciler.kinds.reread import rereading
from reconciler.kinds.world import Tell, World, opened
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.invert import is_undo
from reconciler.plan.outcome import Outcome
from reconciler.plan.progress import Progress
from reconciler.plan.step import Step, Verb
from reconciler.spec import Spec
from reconciler.systems.postgres.executor import Settings, execute, execute_apart
from reconciler.systems.postgres.locks import LockedOutError, retriable
from reconciler.systems.postgres.session import Session

ATTEMPTS = 3

AtEnd = Callable[[Session], None]


def nothing(session: Session) -> None:
    del session


def beyond_rehearsal(steps: Sequence[Step]) -> str:
    """Why a run cannot be tried out, if it cannot."""
    step = steps[0]
    if step.verb is Verb.CALL:
        return f"not rehearsed: {step.id}, whose calls cannot be taken back, and what follows it"
    if step.apart:
        return f"not rehearsed: {step.id}, which is built outside of a transaction, and what follows it"
    return ""


@dataclass(frozen=True)
class Carrier:
    """Carries out the runs of a plan; `rehearse`: does everything that can be taken back, and takes it back."""

    plan: Plan
    spec: Spec
    environ: Mapping[str, str]
    progress: Progress
    tell: Tell
    lock_timeout: str
    statement_timeout: str

    def run(
        self, world: World, connection: str, steps: Sequence[Step], *, rehearse: bool, at_end: AtEnd = nothing
    ) -> Outcome:
        """`at_end` looks at a transaction before it is kept, and may refuse it."""
        if steps[0].verb is Verb.CALL:
            from reconciler.kinds.processes_run import call_for

            return call_for(world, self.plan, steps[0], self.progress, self.tell)
        if world.is_pds(connection):
            return self._records(world, connection, steps, rehearse)
        if world.is_storage(connection):
            from reconciler.kinds.bucket_prefixes_run import run_objects

            return run_objects(world, self.plan, connection, steps, self.progress, rehearse=rehearse)
        return self._rows(connection, steps, rehearse, at_end)

    def _records(self, world: World, connection: str, steps: Sequence[Step], rehearse: bool) -> Outcome:
        """In calls that each are kept whole or not at all; a rehearsal looks whether they can be written."""
        from reconciler.kinds.pds_records import how
        from reconciler.systems.pds.apply import execute as execute_records

        undo = is_undo(self.plan)
        with self.progress.task("applying", sum(s.count for s in steps)) as task:
            outcome = execute_records(
                world.pds(connection), self.plan, steps, lambda address: how(world, address, undo=undo), task.advance,
                rehearse=rehearse,
            )  # fmt: skip
        if rehearse:
            outcome.notes.append(f"not rehearsed: records on {connection}, which were only compared")
        return outcome

    def _rows(self, connection: str, steps: Sequence[Step], rehearse: bool, at_end: AtEnd) -> Outcome:
        """One transaction; tried again, on a new connection, where nothing of it was kept and trying again may help."""
        settings = Settings(f"reconciler/{self.plan.id}", self.lock_timeout, self.statement_timeout, rehearse)
        # A transaction sets its name itself and leaves none to a pooler's session; what is built apart has no transaction.
        name = settings.application_name if steps[0].apart else "reconciler"
        attempt = 0
        while True:
            attempt += 1
            try:
                with (
                    opened(self.spec, snapshots=False, application_name=name) as world,
                    self.progress.task("applying", sum(s.count for s in steps)) as task,
                ):
                    if steps[0].apart:
                        return execute_apart(world.session(connection), self.plan, steps[0])
                    pads = digest_pads(self.spec, self.environ, needed=any(step.sensitive for step in steps))
                    database = world.session(connection)
                    return execute(database, self.plan, steps, settings, pads, rereading(world), task.advance, at_end)
            except Exception as error:
                if not retriable(error):
                    raise
                if attempt >= ATTEMPTS and isinstance(error, LockedOutError):
                    raise
                if attempt >= ATTEMPTS:
                    raise ReconcilerError(
                        f"applying to {connection} failed {attempt} times",
                        why="the connection was lost, or other transactions collided with this one each time",
                        todo="run the same plan again: what is done stays done",
                        code=Exit.PARTIAL,
                    ) from None
                time.sleep(0.2 * 2**attempt)
