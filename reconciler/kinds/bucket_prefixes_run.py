"""A run of steps on a storage: objects are acted on, signed URLs go into rows.

In: the world, a plan and its steps of one storage. Out: an `Outcome`. What the executors need to know of the spec is looked up here:
where another bucket is, which rows name an object, which rows lack a URL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from reconciler.kinds.bucket_prefixes import signing
from reconciler.kinds.tables import find_table, place_of, proven
from reconciler.kinds.world import World
from reconciler.plan.file import Plan
from reconciler.plan.invert import is_undo
from reconciler.plan.outcome import Outcome
from reconciler.plan.progress import Progress
from reconciler.plan.step import Step, Verb
from reconciler.spec import BucketPrefix
from reconciler.spec.bucket_prefix import bucket_of, pieces
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.rows import alias, relation
from reconciler.systems.postgres.session import Composable, Session, explained, ident, join, lit, q, raw
from reconciler.systems.postgres.signing import BATCH, SignedRows, give, lacking
from reconciler.systems.postgres.spellings import decoded, is_url, read_name, spelled
from reconciler.systems.storage.apply import execute_objects
from reconciler.systems.storage.interface import Signed, Storage


def run_objects(
    world: World, plan: Plan, connection: str, steps: Sequence[Step], progress: Progress, *, rehearse: bool
) -> Outcome:
    """A run of steps on a storage; signing ends in rows, everything else in objects."""
    storage = world.storage(connection, *(step.target for step in steps))
    outcome, undo = Outcome(), is_undo(plan)  # what an undo removes was put there by its plan, and rows named it before
    with progress.task("applying", sum(step.count for step in steps)) as task:
        for step in steps:
            if step.verb is Verb.SIGN:
                _sign(world, plan, step, storage, outcome, task.advance, rehearse=rehearse)
                continue
            done = execute_objects(
                storage, plan, [step], lambda text: _place(world, text), lambda address, names: [] if undo else _named(world, address, names),
                task.advance, rehearse=rehearse,
            )  # fmt: skip
            outcome.applied |= done.applied
            outcome.already |= done.already
    return outcome


def _place(world: World, text: str) -> tuple[Storage, str]:
    connection, bucket = bucket_of(text)
    return world.storage(connection, bucket), bucket


def _resource(world: World, address: str) -> BucketPrefix:
    return world.spec.document.bucket_prefixes[address.partition(".")[2]]


def _rows_of(world: World, address: str) -> tuple[Session, BucketPrefix, Table]:
    it = _resource(world, address)
    connection, name = it.target()
    return world.session(connection), it, find_table(world, connection, name, place_of(world, address, "table"))


def _named(world: World, address: str, names: Sequence[str]) -> list[str]:
    """Of these objects those that some row names, in any spelling; in an address letters may stand as %XX."""
    session, it, table = _rows_of(world, address)
    forms = [pieces(form) for form in (it.form, *it.wrong_forms)]
    bucket = it.place()[1]
    value, here = q("t.{}::text", ident(it.column)), q("{} AS t", relation(table.name))
    spellings: list[Composable] = []
    queries: list[Composable] = []
    for form in forms:
        if not is_url(form) and (True, "host") not in form:
            spellings.append(spelled(form, bucket, raw("w.name")))
            continue
        read = read_name(form, bucket, value)
        meant = decoded(read) if is_url(form) else q("convert_to({}, 'UTF8')", read)
        queries.append(
            q(
                "SELECT w.name FROM w WHERE convert_to(w.name, 'UTF8') IN (SELECT {} FROM {} WHERE {} IS NOT NULL)",
                meant,
                here,
                read,
            )
        )
    if spellings:
        queries.append(q("SELECT DISTINCT w.name FROM w JOIN {} ON {} IN ({})", here, value, join(spellings)))
    found = session.rows(
        q("WITH w AS (SELECT unnest({}::text[]) AS name) {}", lit(list(names)), join(queries, " UNION "))
    )
    return [row[0] for row in found]


def _sign(
    world: World,
    plan: Plan,
    step: Step,
    storage: Storage,
    outcome: Outcome,
    advance: Callable[[int], object],
    *,
    rehearse: bool,
) -> None:
    session, it, table = _rows_of(world, step.address)
    made = signing(it, world.now)
    assert made is not None
    scope = proven(world, session, it.where, table, place_of(world, step.address, "where")) if it.where else raw("true")
    if it.protect:  # nothing that exists is overwritten
        scope = q("({}) AND coalesce({}.{}::text, '') = ''", scope, alias(table.name), ident(made.column))
    rows = SignedRows(table, it.column, tuple(pieces(it.form)), step.target, scope, made)
    outcome.count(step)
    name, changes = f"reconciler/{plan.id}", plan.changes(step)
    waiting: tuple[list[str], Future[Signed]] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="sign") as pool:  # a batch is signed while the one before is written
        while (batch := [change.key[0] for change in islice(changes, BATCH)]) or waiting:
            coming = None
            if batch:
                with (
                    explained(f"reading URLs of {step.id}", session.name),
                    session.writing(name, lock_timeout="10s", statement_timeout="0"),
                ):
                    wanted = lacking(session, rows, batch)
                outcome.count(step, already=len(batch) - len(wanted), applied=len(wanted) if rehearse else 0)
                advance(len(batch) - len(wanted))
                if wanted and not rehearse:
                    coming = wanted, pool.submit(storage.sign, step.target, wanted, made.seconds)
            if waiting:
                signed = waiting[1].result()
                with (
                    explained(f"writing URLs of {step.id}", session.name),
                    session.writing(name, lock_timeout="10s", statement_timeout="0"),
                ):
                    if signed.urls:
                        give(session, rows, signed.urls)
                outcome.unsettled += [f"{step.id}: {it} has no object to sign for" for it in signed.missing]
                outcome.count(step, applied=len(waiting[0]))
                advance(len(waiting[0]))
            waiting = coming
