"""The story, top to bottom: spec → plan → file → (review) → apply → is a new plan empty?

Every command is one function here. They take how the command was called (`Session`) and give back data; views and exit codes are the
command line's. Planning holds one read-only snapshot per database; applying holds one transaction per run of steps.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.kinds.findings import Observed, ResourceStatus
from reconciler.kinds.observe import observed
from reconciler.kinds.pads import digest_pads
from reconciler.kinds.select import choose, graph_of
from reconciler.kinds.world import Tell, World, opened
from reconciler.plan import file as plan_file
from reconciler.plan.errors import Drift, Exit, ReconcilerError, gravest, internal
from reconciler.plan.file import Header, Plan
from reconciler.plan.order import arrange, runs
from reconciler.plan.outcome import Outcome
from reconciler.plan.progress import Progress, Silent
from reconciler.plan.rules import refusal, settled
from reconciler.plan.step import Check, Step, Verb
from reconciler.spec import Spec, from_canonical
from reconciler.spec import load as load_spec
from reconciler.spec.paths import paths_in

if TYPE_CHECKING:
    from reconciler.kinds.carrying import Carrier
    from reconciler.plan.compare import PlanDiff
    from reconciler.systems.postgres.cascade_tree import CascadeNode
    from reconciler.systems.postgres.investigate import Investigation

PATIENCE = 5.0  # seconds


@dataclass(frozen=True)
class Session:
    """How a command was called."""

    paths: tuple[Path, ...]
    variables: Mapping[str, str]
    connections: Path | None
    environ: Mapping[str, str]
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class StepOutcome:
    step_id: str
    applied: int = 0
    already: int = 0
    blocked: int = 0
    failed: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, step: Step, run: Outcome) -> StepOutcome:
        """One step of a run."""
        counts = [them.get(step.id, 0) for them in (run.applied, run.already, run.failed)]
        return cls(step.id, applied=counts[0], already=counts[1], failed=counts[2])


@dataclass(frozen=True)
class Applied:
    """What apply did. `converged` is None where that could not be checked; `remaining` says what is left."""

    steps: tuple[StepOutcome, ...]
    notes: tuple[str, ...]
    converged: bool | None
    remaining: tuple[str, ...]
    code: Exit
    checks: tuple[Check, ...] = ()


def load(session: Session) -> Spec:
    """The spec, checked as far as that goes without a connection."""
    return load_spec(
        session.paths, variables=session.variables, environ=session.environ, connections=session.connections
    )


def plan(
    session: Session,
    *,
    out: Path | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    now: str | None = None,
) -> Plan:
    """Read the world, find what differs, order it, write it down."""
    return _plan(load(session), session, out, only, exclude, now)


def _plan(
    spec: Spec, session: Session, out: Path | None, only: Sequence[str], exclude: Sequence[str], now: str | None = None
) -> Plan:
    with _looking(spec, session, only, exclude, now=now) as (world, seen):
        found = seen.steps()
        by_id = {item.step.id: item for item in found.steps}
        ordered = arrange([item.step for item in found.steps], [*found.must, *seen.needs(by_id)], found.rather)
        checks = seen.checks(created=any(step.verb is Verb.CREATE for step in ordered))
        header = Header(
            spec=spec.canonical(seen.addresses),
            variables=dict(spec.variables),
            connections=world.fingerprints(),
            deferred=tuple(seen.deferred),
            hazards=settled(found.hazards, {name: it.allow for name, it in spec.resources().items()}),
            checks=checks,
        )
        with session.progress.task("writing the plan", sum(step.count for step in ordered)):
            return plan_file.write(out, header, [replace(by_id[step.id], step=step) for step in ordered])


@contextmanager
def _looking(
    spec: Spec,
    session: Session,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    count_extra: bool = False,
    now: str | None = None,
) -> Generator[tuple[World, Observed]]:
    addresses = choose(spec, only, exclude)
    with (
        opened(spec, snapshots=True, tell=_telling(session), now=_moment(now)) as world,
        session.progress.task("comparing", None),
    ):
        yield world, observed(world, addresses, digest_pads(spec, session.environ), count_extra=count_extra)


def _moment(text: str | None) -> int | None:
    """A time as the command line says it, in seconds since 1970; without a zone it is UTC."""
    if text is None or text == "now":
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ReconcilerError(f"{text!r} is no time", todo="write 2026-01-31T04:00:00Z") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def _telling(session: Session) -> Tell:
    """Long pauses are told, so that nobody takes waiting for a limit for a program that hangs."""

    def tell(seconds: float, reason: str) -> None:
        if seconds >= PATIENCE:
            session.progress.say(f"waiting {seconds:,.0f} seconds: {reason}")

    return tell


def open_plan(path: Path) -> Plan:
    """A saved plan; an edited one is refused."""
    return plan_file.read(path)


def discard(plan: Plan) -> None:
    """Remove the file of a plan that was written nowhere in particular."""
    plan.path.unlink(missing_ok=True)


def apply(
    plan: Plan,
    session: Session,
    *,
    rehearse: bool = False,
    lock_timeout: str = "10s",
    statement_timeout: str = "0",
    spec_dir: Path | None = None,
) -> Applied:
    """Carry out exactly this plan, run by run; then plan its resources again and say whether anything is left."""
    from reconciler.kinds.carrying import Carrier, beyond_rehearsal
    from reconciler.kinds.checks import FailedCheckError, Watch

    if not rehearse and (refused := refusal(plan.header.hazards)):
        raise refused
    spec = from_canonical(
        plan.header.spec,
        variables=plan.header.variables,
        base=spec_dir or _base(plan, session),
        environ=session.environ,
        connections=session.connections,
    )
    carrier = Carrier(plan, spec, session.environ, session.progress, _telling(session), lock_timeout, statement_timeout)
    done: list[StepOutcome] = []
    notes: list[str] = []
    unsettled: list[str] = []
    codes: list[Exit] = []
    watch = Watch.of(spec, plan.header.checks)
    with opened(spec, snapshots=False, tell=_telling(session)) as world:
        _check_fingerprints(plan, world, watch.connections())
        parts = runs(plan.steps)
        for at, (connection, steps) in enumerate(parts):
            if rehearse and (reason := beyond_rehearsal(steps)):
                notes.append(reason)
                break
            try:
                outcome = carrier.run(world, connection, steps, rehearse=rehearse, at_end=watch.within(parts, at))
            except ReconcilerError as error:
                if done and error.code is Exit.ERROR and not isinstance(error, FailedCheckError):
                    error.code = Exit.PARTIAL
                raise
            done += [StepOutcome.of(step, outcome) for step in steps]
            codes.append(outcome.code)
            notes += outcome.notes
            unsettled += outcome.unsettled
            if any(step.failed for step in done):  # what follows may need what was refused
                break
        done += [StepOutcome(s.id, skipped=s.count) for s in plan.steps[len(done) :] if any(it.failed for it in done)]
    if rehearse:
        notes += [f"not rehearsed: {address}, which is asked after everything" for address in watch.rest()]
        code = Exit.ERROR if unsettled else Exit.DONE
        return Applied(tuple(done), tuple(notes), None, tuple(unsettled), code, watch.answers())
    if not any(it.failed for it in done):
        watch.found += _now(spec, watch.rest(), session)
    converged, left, aside = _converged(plan, spec, session, carrier) if plan.steps else (True, (), ())
    notes += aside
    wrong = unsettled or not converged or any(it.failed for it in watch.found)
    code = gravest(*codes, Exit.ERROR if wrong else Exit.DONE)
    return Applied(tuple(done), tuple(notes), converged, (*unsettled, *left), code, watch.answers())


def _now(spec: Spec, addresses: Sequence[str], session: Session) -> tuple[Check, ...]:
    """How checks stand that no transaction of the apply could look at."""
    if not addresses:
        return ()
    from reconciler.kinds.checks import stand

    with opened(spec, snapshots=True, tell=_telling(session)) as world:
        return stand(world, addresses)


def _base(plan: Plan, session: Session) -> Path:
    """Where relative paths of the plan's spec stand: with the specs it was made of, else here, in specs/, beside the plan."""
    if session.paths:
        return load(session).base
    named = paths_in(plan.header.spec)
    places = (Path(), Path("specs"), plan.path.parent)
    return next((place for place in places if all((place / text).exists() for text in named)), Path())


def _check_fingerprints(plan: Plan, world: World, checked: set[str]) -> None:
    """A plan belongs to the databases it was made on."""
    for name in sorted({step.connection for step in plan.steps} | checked):
        planned = plan.header.connections.get(name, {}).get("fingerprint")
        if not world.is_same(name, planned or ""):
            what, why = "database", "cluster, timeline or database name differ"
            if world.is_pds(name):
                what, why = "repo", "the DIDs differ"
            elif world.is_storage(name):
                what, why = "storage", "project or bucket differ"
            raise Drift(
                f"connections.{name} is another {what} than the one this plan was made on",
                why=why,
                todo=f"point connections.{name} at the {what} of the plan, or plan again for this one",
            )


def _converged(
    plan: Plan, spec: Spec, session: Session, carrier: Carrier
) -> tuple[bool | None, tuple[str, ...], tuple[str, ...]]:
    """Plan the resources of this plan again; of an undo, whose aim is not the spec's, look whether each change holds.

    What is left comes back, and what calls of this plan may have changed after it was done, which is no failure. Whatever goes wrong
    here is part of the report: by now the plan is carried out, and what was done must be told.
    """
    from reconciler.plan.invert import is_undo
    from reconciler.plan.left import told

    if is_undo(plan):
        try:
            with opened(spec, snapshots=False) as world:
                left = [
                    f"{step.id}: {count} changes"
                    for connection, steps in runs(plan.steps)
                    for outcome in [carrier.run(world, connection, steps, rehearse=True)]
                    for step in steps
                    if (count := outcome.applied.get(step.id, 0))
                ]
        except Exception as error:
            return None, (f"could not look again: {_what(error)}",), ()
        return not left, tuple(left), ()
    addresses = sorted({step.address for step in plan.steps})
    if any(plan.header.connections.get(step.connection, {}).get("type") == "atproto" for step in plan.steps):
        addresses = list(choose(spec, addresses, ()))  # an app may have written rows when it saw the records
    try:
        again = _plan(spec, session, None, addresses, ())
    except Exception as error:
        return None, (f"could not plan again: {_what(error)}",), ()
    try:
        called = {(step.connection, step.target): step.address for step in plan.steps if step.verb is Verb.CALL}
        left: list[str] = []
        aside: list[str] = []
        for step in again.steps:
            if step.address not in addresses:
                continue
            if step.verb is Verb.CALL:
                from reconciler.kinds.processes import rows_of

                if count := rows_of(again, step)["pending"]:
                    left.append(f"{step.id}: {count:,} {'row is' if count == 1 else 'rows are'} pending")
            elif by := called.get((step.connection, step.target)):
                aside.append(
                    f"{step.id}: {step.count} changes to rows that {by} works on; plan again if they are meant"
                )
            else:
                left.append(told(again, step))
        left += [f"{it.address} deferred: {it.reason}" for it in again.header.deferred]
        return not left, tuple(left), tuple(aside)
    finally:
        discard(again)


def _what(error: Exception) -> str:
    return error.what if isinstance(error, ReconcilerError) else internal(error)


def undo(plan: Plan, out: Path | None = None, *, only_key: str | None = None) -> Plan:
    """The plan that takes this one back, or one duplicate of it, for review like any other."""
    from reconciler.plan.invert import invert
    from reconciler.plan.invert_one import invert_one

    header, steps = invert(plan) if only_key is None else invert_one(plan, only_key)
    return plan_file.write(out, header, steps)


def compare(first: Plan, second: Plan) -> PlanDiff:
    """What the second plan would do otherwise than the first."""
    from reconciler.plan.compare import compare as compared

    return compared(first, second)


def status(session: Session) -> tuple[ResourceStatus, ...]:
    """How far each resource is from what is declared."""
    spec = load(session)
    with _looking(spec, session, count_extra=True) as (_, seen):
        return tuple(seen.status())


def status_csv(session: Session, folder: Path) -> tuple[Path, ...]:
    """The keys of what differs, one file a kind of finding."""
    spec = load(session)
    with _looking(spec, session, count_extra=True) as (_, seen):
        return seen.write_findings(folder)


def extract(session: Session, out: Path) -> tuple[str, ...]:
    """Save what the sources hold now, in scope, as files that can be a source themselves."""
    spec = load(session)
    with _looking(spec, session, count_extra=True) as (_, seen):
        return seen.extract(out)


def cascade(session: Session, connection_table: str) -> CascadeNode:
    """What a delete of that table's rows takes along."""
    from reconciler.kinds.tables import find_table
    from reconciler.spec.collection import connection_and_table
    from reconciler.systems.postgres.cascade_tree import cascade_tree

    connection, name = connection_and_table(connection_table)
    if name is None:
        raise ReconcilerError(
            f"{connection_table} lacks a table", todo="write connection.table or connection.schema.table"
        )
    with opened(load(session), snapshots=True) as world:
        table = find_table(world, connection, name, None)
        world.session(connection).forbid_writes()
        return cascade_tree(world.session(connection), world.catalog(connection), table)


def investigate(
    session: Session,
    connection: str,
    *,
    log: str | None = None,
    since: str | None = None,
    columns: Mapping[str, str] | None = None,
    rows: int = 1000,
    percent: int = 10,
) -> Investigation:
    """What an audit log tells of mass operations, and what it cannot tell."""
    from reconciler.kinds.audit_logs import look_into
    from reconciler.systems.postgres.investigate import Limits

    with opened(load(session), snapshots=True) as world, session.progress.task("reading the log", None):
        return look_into(world, connection, log, since, columns or {}, Limits(rows, percent))


def graph(session: Session) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Resources and which comes before which."""
    return graph_of(load(session))
