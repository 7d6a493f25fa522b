"""`bucket_prefixes`: objects under a prefix and the rows that describe them, both ways.

In: a resource of the spec. Out: two intents (rows to come, rows there are) that `systems/postgres/described.py` compares with the
storage's inventory; and at apply what the executors need to know of the spec. It decides nothing about a row or an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from reconciler.kinds.collections import Compiled, find_table, place_of
from reconciler.kinds.unique_keys import identity
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.invert import is_undo
from reconciler.plan.outcome import Outcome
from reconciler.plan.progress import Progress
from reconciler.plan.step import Step, Verb
from reconciler.spec import BucketPrefix, CopyFrom, InsertRow, Quarantine, SetRow
from reconciler.spec.bucket_prefix import bucket_of, pieces, seconds
from reconciler.spec.sql import Parameter, parse_condition
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.described import Described, RowsOf, Signing
from reconciler.systems.postgres.paired import Inventory
from reconciler.systems.postgres.proof import prove_condition
from reconciler.systems.postgres.rows import NO_SOURCE, Intent, OnExtra, Scope, alias, full_name, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.signing import BATCH, SignedRows, give, lacking
from reconciler.systems.postgres.spellings import decoded, is_url, read_name, spelled
from reconciler.systems.storage.apply import execute_objects
from reconciler.systems.storage.interface import Signed, Storage, Verdict


def compile_prefix(world: World, address: str, it: BucketPrefix, first: int) -> Compiled:
    """One prefix, its intents numbered from `first`."""
    connection, name = it.target()
    place = place_of(world, address)
    table = find_table(world, connection, name, place_of(world, address, "table"))
    if table.kind not in "rp":
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} is not a table", where=place_of(world, address, "table")
        )
    _check_columns(world, address, it, table)
    scope = Scope(_condition(world, address, it.where, table, "where")) if it.where else Scope()
    new = Intent(
        first, address, connection, table, (it.column,), NO_SOURCE, scope, finds=_described(world, address, it, table),
        protect=it.protect, source_name=it.bucket, place=place,
    )  # fmt: skip
    rows = Intent(
        first + 1, address, connection, table, identity(table, address, place), NO_SOURCE, scope, finds=RowsOf(new),
        on_extra=OnExtra.DELETE if it.on_missing_object == "delete" else OnExtra.KEEP, max_delete=str(it.max_delete),
        protect=it.protect, source_name=it.bucket, place=place,
        secret=frozenset([it.signed_url.column] if it.signed_url else ()),
    )  # fmt: skip
    return Compiled([new, rows])


def _check_columns(world: World, address: str, it: BucketPrefix, table: Table) -> None:
    named: list[tuple[str, tuple[str, ...]]] = [(it.column, ("column",))]
    named += [(name, ("columns", name)) for name in it.columns]
    if isinstance(it.on_missing_row, InsertRow):
        named += [(name, ("on_missing_row", "insert", name)) for name in it.on_missing_row.insert]
    if isinstance(it.on_missing_object, SetRow):
        named += [(name, ("on_missing_object", "set", name)) for name in it.on_missing_object.set]
    if it.signed_url:
        named.append((it.signed_url.column, ("signed_url", "column")))
    for name, path in named:
        place, column = place_of(world, address, *path), table.columns.get(name)
        if column is None:
            raise ReconcilerError(
                f"{address}: {full_name(table.name)} has no column {name!r}", where=place,
                todo=f"its columns are {', '.join(table.columns)}",
            )  # fmt: skip
        if column.generated:
            raise ReconcilerError(f"{address}: column {name!r} is generated: the database computes it", where=place)


def _described(world: World, address: str, it: BucketPrefix, table: Table) -> Described:
    connection, bucket = it.place()
    storage = world.storage(connection, bucket)
    spare, spare_name = None, ""
    if isinstance(it.on_missing_object, CopyFrom):
        spare_name = it.on_missing_object.copy_from
        other, other_bucket = bucket_of(spare_name)
        spare = _inventory(world, other, other_bucket, it.prefix, it.target()[0])
    insert = it.on_missing_row.insert if isinstance(it.on_missing_row, InsertRow) else None
    action = it.on_missing_object
    return Described(
        bucket=bucket,
        prefix=it.prefix,
        match=tuple(pattern(text) for text in it.match),
        inventory=_inventory(world, connection, bucket, it.prefix, it.target()[0]),
        column=it.column,
        form=tuple(pieces(it.form)),
        wrong_forms=tuple(tuple(pieces(form)) for form in it.wrong_forms),
        insert=None
        if insert is None
        else {c: None if text is None else tuple(pieces(text)) for c, text in insert.items()},
        on_missing="set" if isinstance(action, SetRow) else "copy" if isinstance(action, CopyFrom) else action,
        sets=action.set if isinstance(action, SetRow) else {},
        spare=spare,
        spare_name=spare_name,
        measured={column: "mime" if what == "content_type" else what for column, what in it.columns.items()},
        extra="move" if isinstance(it.on_extra_object, Quarantine) else it.on_extra_object,
        quarantine=it.on_extra_object.quarantine if isinstance(it.on_extra_object, Quarantine) else "",
        move=it.move,
        lost=_lost(storage, bucket) if it.verify == "bytes" else None,
        signing=signing(it, world.now),
        stale=_condition(world, address, it.stale, table, "stale") if it.stale else None,
        limit=str(it.max_delete),
    )


def _inventory(world: World, storage: str, bucket: str, prefix: str, connection: str) -> Inventory:
    opened = world.storage(storage, bucket)

    def blocks() -> Iterator[bytes]:
        listing = opened.inventory_copy(bucket, prefix)
        yield from listing
        _ = listing.totals  # an error unless it was read to its end

    return lambda: world.inventory_query(storage, bucket, prefix, connection) or blocks()


def _lost(storage: Storage, bucket: str) -> Callable[[Iterator[str]], Iterable[str]]:
    def ask(names: Iterator[str]) -> Iterable[str]:
        return (name for name, verdict in storage.verify(bucket, names) if verdict is not Verdict.PRESENT)

    return ask


def signing(it: BucketPrefix, now: int) -> Signing | None:
    """What the spec says of signed URLs."""
    if it.signed_url is None:
        return None
    url = it.signed_url
    return Signing(url.column, seconds(url.expires_in), seconds(url.renew_within), now)


def _condition(world: World, address: str, text: str, table: Table, *path: str) -> Composable:
    connection = world.spec.document.bucket_prefixes[address.partition(".")[2]].target()[0]
    parts = tuple(
        (world.spec.variables[part.name],) if isinstance(part, Parameter) else part for part in parse_condition(text)
    )
    return prove_condition(world.session(connection), parts, table, place_of(world, address, *path))


def pattern(text: str) -> tuple[bool, str]:
    """A line of .gitignore as (includes, regular expression over the name behind the prefix); `*.ext` stays as it is."""
    includes, text = (False, text[1:]) if text.startswith("!") else (True, text)
    if re.fullmatch(r"\*\.\w+", text):
        return includes, text
    anchored, text = "/" in text.rstrip("/"), text.removeprefix("/")
    below = text.endswith("/")
    out = ["^" if anchored else "(^|/)"]
    rest = text.rstrip("/")
    while rest:
        for glob, expression in (("**/", "(.*/)?"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]")):
            if rest.startswith(glob):
                out.append(expression)
                rest = rest[len(glob) :]
                break
        else:
            letters = re.match(r"\[!?[^]\[\\]+\]", rest)
            taken = letters[0] if letters else rest[1] if rest[0] == "\\" and len(rest) > 1 else rest[0]
            out.append(taken.replace("[!", "[^") if letters else re.sub(r"([^\w/ ])", r"\\\1", taken))
            rest = rest[len(taken) + (not letters and rest[0] == "\\" and len(rest) > 1) :]
    return includes, "".join(out) + ("/" if below else "($|/)")


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
    value, here = (
        q("{}.{}::text", alias(table.name), ident(it.column)),
        q("{} AS {}", relation(table.name), alias(table.name)),
    )
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
    scope = _condition(world, step.address, it.where, table, "where") if it.where else raw("true")
    rows = SignedRows(table, it.column, tuple(pieces(it.form)), step.target, scope, made)
    outcome.count(step)
    name, changes = f"reconciler/{plan.id}", plan.changes(step)
    waiting: tuple[list[str], Future[Signed]] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="sign") as pool:  # a batch is signed while the one before is written
        while (batch := [change.key[0] for change in islice(changes, BATCH)]) or waiting:
            coming = None
            if batch:
                with session.writing(name, lock_timeout="10s", statement_timeout="0"):
                    wanted = lacking(session, rows, batch)
                outcome.count(step, already=len(batch) - len(wanted), applied=len(wanted) if rehearse else 0)
                advance(len(batch) - len(wanted))
                if wanted and not rehearse:
                    coming = wanted, pool.submit(storage.sign, step.target, wanted, made.seconds)
            if waiting:
                signed = waiting[1].result()
                with session.writing(name, lock_timeout="10s", statement_timeout="0"):
                    if signed.urls:
                        give(session, rows, signed.urls)
                outcome.unsettled += [f"{step.id}: {it} has no object to sign for" for it in signed.missing]
                outcome.count(step, applied=len(waiting[0]))
                advance(len(waiting[0]))
            waiting = coming
