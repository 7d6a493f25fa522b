"""`processes`: rows that a function, a request or a command is called for until they are done.

In: the processes of the spec, and what else a plan changes. Out: one step each, whose one change states the ceiling: rows pending now
and those that the plan itself adds. `processes_run.py` carries it out. Nothing is called while planning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from reconciler.kinds.endpoints import fingerprint_of
from reconciler.kinds.tables import find_table, place_of, proven
from reconciler.kinds.world import World
from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.file import Plan, Planned, dumps, planned
from reconciler.plan.names import TableName
from reconciler.plan.order import Edge
from reconciler.plan.step import Change, Deferred, Hazard, Step, Verb
from reconciler.spec import Process, Spec
from reconciler.spec.values import Value, to_canonical
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.emit import Emitted
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.pending import Watched, added, count_both, count_pending, pending_csv
from reconciler.systems.postgres.rows import TableSource, full_name
from reconciler.systems.postgres.session import Composable, q

ROW_CHANGES = (Verb.INSERT, Verb.UPDATE)


@dataclass
class Waiting:
    """A process and its rows."""

    address: str
    process: Process
    connection: str
    watched: Watched
    endpoint: str
    place: Location | None
    now: int = 0
    added: int = 0
    ceiling: int = 0
    notes: list[str] = field(default_factory=list[str])

    @property
    def table(self) -> tuple[str, TableName]:
        return self.connection, self.watched.table.name

    @property
    def step_id(self) -> str:
        return f"{self.address}[{full_name(self.watched.table.name)}]/call"


def compile_process(world: World, address: str, process: Process) -> Waiting:
    """One process, its table found and its SQL proven."""
    connection, name = process.target()
    table = find_table(world, connection, name, place_of(world, address, "table"))
    if table.kind not in "rp":
        where = place_of(world, address, "table")
        raise ReconcilerError(f"{address}: {full_name(table.name)} is not a table", where=where)
    pending = _proven(world, address, process.pending, "pending", table, connection)
    if process.where is not None:
        scope = _proven(world, address, process.where, "where", table, connection)
        pending = q("({} AND {})", scope, pending)
    done = _proven(world, address, process.done, "done", table, connection)
    watched = Watched(table, _key(world, address, process, table), pending, done)
    return Waiting(address, process, connection, watched, fingerprint_of(world, process), place_of(world, address))


def _proven(world: World, address: str, text: str, word: str, table: Table, connection: str) -> Composable:
    return proven(world, world.session(connection), text, table, place_of(world, address, word))


def _key(world: World, address: str, process: Process, table: Table) -> tuple[str, ...]:
    """What tells the rows apart: each has its key, and no other has the same."""
    key = process.key or table.primary_key
    where = place_of(world, address, "key")
    if not key:
        todo = "say which columns identify a row: key: [column]"
        raise ReconcilerError(f"{address}: {full_name(table.name)} has no primary key", where=where, todo=todo)
    for column in key:
        if column not in table.columns:
            todo = f"its columns are {', '.join(table.columns)}"
            raise ReconcilerError(
                f"{address}: {full_name(table.name)} has no column {column!r}", where=where, todo=todo
            )
    if not table.unique_on(key) or not all(table.columns[column].not_null for column in key):
        raise ReconcilerError(
            f"{address}: ({', '.join(key)}) does not tell rows of {full_name(table.name)} apart",
            where=where,
            why="there is no primary key or unique index over exactly these columns, or one of them may be NULL",
            todo="leave `key` out, or name the columns of a unique index that are never NULL",
        )
    return tuple(key)


def count_waiting(world: World, them: Sequence[Waiting]) -> None:
    """How many rows wait already."""
    for it in them:
        it.now = count_pending(world.session(it.connection), it.watched)


def will_run(them: Iterable[Waiting], changing: Mapping[tuple[str, TableName], str]) -> list[Waiting]:
    """Those that may have something to do: rows wait, or the plan changes rows of their tables."""
    return [it for it in them if it.now or it.table in changing]


def dependents(spec: Spec, address: str) -> set[str]:
    """Every resource that comes after this one because it, or what it needs, says so."""
    resources, found = spec.resources(), {address}
    while more := {name for name, it in resources.items() if name not in found and found & set(it.needs)}:
        found |= more
    return found - {address}


def waits_for(spec: Spec, address: str, table: tuple[str, TableName], them: Iterable[Waiting]) -> str | None:
    """The process that comes before a resource and works on the rows it looks at."""
    return next((it.address for it in them if it.table == table and address in dependents(spec, it.address)), None)


def defer_after(spec: Spec, founds: dict[str, list[Found]], running: Sequence[Waiting]) -> list[Deferred]:
    """Take out what comes after a process and looks at the rows that this works on: it can only be planned after."""
    out: dict[str, Deferred] = {}
    for connection, several in founds.items() if running else ():
        for found in several:
            tables = [(connection, found.intent.target.name)]
            if isinstance(source := found.intent.source, TableSource):
                tables.append((source.session.name, source.table.name))
            for table in tables:
                if by := waits_for(spec, found.intent.address, table, running):
                    reason = f"rows of {full_name(table[1])} are worked on by {by}; plan again after apply"
                    out.setdefault(found.intent.address, Deferred(found.intent.address, reason))
    for connection, several in founds.items() if out else ():
        founds[connection] = [found for found in several if found.intent.address not in out]
    return list(out.values())


def write_pending(world: World, them: Sequence[Waiting], folder: Path) -> Path:
    """pending.csv: the keys of rows that wait."""
    path = folder / "pending.csv"
    with path.open("wb") as file:
        file.write(b"resource,table,key\n")
        for it in them:
            for block in pending_csv(world.session(it.connection), it.watched, it.address):
                file.write(block)
    return path


def add_steps(world: World, them: Sequence[Waiting], founds: Mapping[str, Sequence[Found]], out: Emitted) -> None:
    """A step for each process that has something to do, after all that its rows follow from."""
    spec = world.spec
    before = list(out.steps)
    after = {it.address: dependents(spec, it.address) for it in them}
    done: list[Waiting] = []
    for it in sorted(them, key=lambda it: (sum(it.address in after[other.address] for other in them), it.address)):
        _count_added(
            world,
            it,
            [f for f in founds.get(it.connection, ()) if f.intent.address not in after[it.address]],
            before,
            after[it.address],
        )
        for earlier in done:
            if earlier.table == it.table and it.address in after[earlier.address]:
                it.added += earlier.ceiling
                it.notes.append(f"up to {earlier.ceiling:,} more become pending by {earlier.address}")
        it.ceiling = it.now + it.added
        done.append(it)
        if it.ceiling and it.process.protect:
            text = f"{it.ceiling} rows of {full_name(it.watched.table.name)} are protected and not called for"
            out.hazards.append(Hazard("blocked", it.address, text, it.ceiling))
            it.ceiling = 0
        if not it.ceiling:
            continue
        out.steps.append(_step(it))
        out.hazards.append(
            Hazard(
                "irreversible", it.address, f"what {it.process.called()} does is not taken back by an undo", it.ceiling
            )
        )
        same, other = _edges(it, before, after[it.address])
        out.must += same
        out.rather += other


def _count_added(
    world: World, it: Waiting, founds: Sequence[Found], before: Sequence[Planned], after: set[str]
) -> None:
    session = world.session(it.connection)
    it.added, it.notes = added(session, it.watched, founds)
    known = {found.intent.step_id(verb.value) for found in founds for verb in ROW_CHANGES}
    for step in (item.step for item in before):
        if _changes_rows_of(it, step) and step.id not in known and step.address not in after:
            it.added += step.count
            it.notes.append(f"{step.count:,} changes by {step.address} are counted whole")


def _changes_rows_of(it: Waiting, step: Step) -> bool:
    return (step.connection, step.target) == (
        it.connection,
        full_name(it.watched.table.name),
    ) and step.verb in ROW_CHANGES


def _edges(it: Waiting, before: Sequence[Planned], after: set[str]) -> tuple[list[Edge], list[Edge]]:
    """Changes of its own table come first in any case, all others unless something asks for another order."""
    target = (it.connection, full_name(it.watched.table.name))
    must: list[Edge] = []
    rather: list[Edge] = []
    for step in (item.step for item in before):
        if step.address not in after:
            (must if (step.connection, step.target) == target else rather).append((step.id, it.step_id))
    return must, rather


def _step(it: Waiting) -> Planned:
    process = it.process
    calls = process.calls(it.ceiling)
    image: dict[str, object] = {
        "batch": process.batch,
        "call": _call(process),
        "calls": calls,
        "done": process.done,
        "key": list(it.watched.key),
        "pending": process.pending,
        "rate": process.rate,
        "rows": {"added": it.added, "ceiling": it.ceiling, "pending": it.now},
        "seconds": math.ceil(calls * process.interval()),
        "timeout": process.timeout,
    }
    if process.where is not None:
        image["where"] = process.where
    if it.endpoint:
        image["endpoint"] = it.endpoint
    step = Step(
        it.step_id,
        it.connection,
        full_name(it.watched.table.name),
        Verb.CALL,
        ("call",),
        notes=(*_told(it, calls), *it.notes),
        apart=True,
    )
    return planned(step, [Change(step.id, (process.called(),), None, image, _reason(it))])


def _reason(it: Waiting) -> str:
    now = f"{it.now:,} {'row is' if it.now == 1 else 'rows are'} pending"
    return f"{now}, at most {it.added:,} more by this plan" if it.added else now


def _told(it: Waiting, calls: int) -> list[str]:
    process = it.process
    rows = f"at most {it.ceiling:,} rows, {f'{process.batch:,} a call' if process.batch else 'all in one call'}"
    some = f"{calls:,} {'call takes' if calls == 1 else 'calls take'}"
    duration = words(math.ceil(calls * process.interval()))
    limit = f"a call's rows have {process.timeout} to be done"
    sent = dumps(_call(process).get("payload"))
    return [f"{rows}: {some} at least {duration} at {process.rate}; {limit}", f"payload {sent}"]


def _call(process: Process) -> dict[str, object]:
    """The call as the plan states it, with the payload that is sent where the spec leaves it out."""
    tree: dict[str, object] = process.call.model_dump(exclude={"payload"}, exclude_defaults=True)
    tree = {name: list(cast("tuple[str]", it)) if isinstance(it, tuple) else it for name, it in tree.items()}
    return {**tree, "payload": to_canonical(cast("Value", process.payload()))}


def words(seconds: int) -> str:
    """A duration for the eye."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts[:2]) or "0 s"


def rows_of(plan: Plan, step: Step) -> Mapping[str, int]:
    """What a step of calls says of its rows: `pending`, `added`, and their sum, the `ceiling`."""
    (change,) = plan.changes(step)
    return cast("Mapping[str, int]", (change.after or {})["rows"])


def status_of(world: World, it: Waiting) -> dict[str, Any]:
    """The counts that `status` shows: done rows are in sync, pending ones are wrong."""
    pending, done = count_both(world.session(it.connection), it.watched)
    return {
        "address": it.address,
        "target": f"{it.connection} {full_name(it.watched.table.name)}",
        "in_sync": done,
        "missing": 0,
        "changed": 0,
        "extra": 0,
        "notes": (f"{pending:,} rows are pending",) if pending else (),
        "deletes_extra": False,
        "wrong": pending,
    }
