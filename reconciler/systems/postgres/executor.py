"""One run of steps, carried out in one transaction: stage, lock and judge, write in order, settle, verify.

In: steps of a plan on one connection, in order. Out: an outcome for each; or an error, and then nothing of the run was kept.
Invariant: it writes what the plan lists and nothing else; what triggers write besides is found and told.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple

import psycopg

from reconciler.plan.errors import Drift, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.names import TableName
from reconciler.plan.outcome import Outcome
from reconciler.plan.step import Step, Verb
from reconciler.systems.postgres.archive import from_archive, hold_survivors, refuse_lone, to_archive
from reconciler.systems.postgres.catalog import read_catalog
from reconciler.systems.postgres.guard import NAMED, judge, take_turn
from reconciler.systems.postgres.guard_limits import SQLSTATE, refused
from reconciler.systems.postgres.locks import locked_out, retriable
from reconciler.systems.postgres.object_run import OBJECT_VERBS, ObjectRun
from reconciler.systems.postgres.rows import full_name, on_keys, relation
from reconciler.systems.postgres.run import ROW_VERBS, Advance, Secrets, Work
from reconciler.systems.postgres.session import Composable, Session, explain, ident, join, lit, q, raw
from reconciler.systems.postgres.settle import settle, writes_elsewhere
from reconciler.systems.postgres.staging import Staged, copy_rows, real
from reconciler.systems.postgres.structure import build_apart
from reconciler.systems.postgres.violations import violated


class Settings(NamedTuple):
    application_name: str
    lock_timeout: str = "10s"
    statement_timeout: str = "0"
    rehearse: bool = False


class _RehearsedError(Exception):
    """Ends a rehearsal's transaction without keeping it."""


def execute(
    session: Session, plan: Plan, steps: Sequence[Step], settings: Settings, pads: tuple[bytes, bytes] | None, secrets: Secrets,
    advance: Advance, at_end: Callable[[Session], None] = lambda session: None
) -> Outcome:  # fmt: skip
    """Carry out a run; raises with nothing kept. `at_end` looks at what has come about, before it is kept, and may raise too."""
    outcome = Outcome()
    try:
        with session.writing(
            settings.application_name, lock_timeout=settings.lock_timeout, statement_timeout=settings.statement_timeout
        ):
            take_turn(session)
            catalog = read_catalog(session)
            if pads:
                session.run("CREATE TEMP TABLE rc_pads (ipad bytea, opad bytea) ON COMMIT DROP")
                session.run("INSERT INTO rc_pads VALUES (%s, %s)", pads)
            objects = ObjectRun(session, plan, steps)
            work = Work(session, plan, steps, catalog, objects, secrets, advance)
            work.stage_rest(advance)
            for name in objects.locked():
                session.run(q("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", relation(name)))
            _judge_first(work)
            for item in work.items:
                if item.step.sensitive:
                    secrets(session, catalog, item)
            session.run("SAVEPOINT rc_before_writes")
            try:
                outcome = _write_all(work)
            except (psycopg.IntegrityError, psycopg.DataError) as error:
                if not isinstance(error, work.may_look_again):
                    raise
                session.run("ROLLBACK TO SAVEPOINT rc_before_writes")
                work.stage_direct()
                session.run("SAVEPOINT rc_before_writes")
                _lock_out_others(session, work.items)
                judge(session, work.items)
                work.looked = True
                outcome = _write_all(work)
            fires = any(trigger.fires for table in catalog.tables.values() for trigger in table.triggers)
            if work.looked or objects.of_step or fires:
                left = [item for item in work.items if full_name(item.table.name) not in work.dropped]
                with _passing(work, steps):
                    notes, outcome.unsettled = settle(session, left)
                for item in left:
                    if fires and item.step.unique and item.step.verb is Verb.DELETE and item.todo:
                        refuse_lone(session, item, gone=True)  # a trigger may have taken those that stay
                outcome.notes += notes + writes_elsewhere(session, _written(steps))
            outcome.notes += objects.notes
            at_end(session)
            if settings.rehearse:
                raise _RehearsedError
    except _RehearsedError:
        outcome.notes.append("rehearsed: everything was done and rolled back")
    except psycopg.Error as error:
        if isinstance(error, psycopg.errors.LockNotAvailable):
            raise locked_out(session, _written(steps), settings.lock_timeout) from None
        if retriable(error):
            raise
        if error.sqlstate == SQLSTATE:
            raise refused(error, session.name) from None
        raise explain(error, "applying", session.name, secret=any(step.sensitive for step in steps)) from None
    return outcome


def execute_apart(session: Session, plan: Plan, step: Step) -> Outcome:
    """Carry out a step that cannot stand in a transaction; done again, it finds what it did."""
    outcome = Outcome()
    try:
        for change in plan.changes(step):
            counts = (
                outcome.applied
                if build_apart(session, change, secret=any(it.sensitive for it in plan.steps))
                else outcome.already
            )
            counts[step.id] = counts.get(step.id, 0) + 1
    except psycopg.Error as error:
        if retriable(error):
            raise
        raise explain(error, f"applying {step.id}", session.name) from None
    return outcome


def _written(steps: Sequence[Step]) -> set[TableName]:
    rows = [step for step in steps if step.verb in ROW_VERBS]
    archives = {step.archive for step in rows if step.archive}
    return {TableName.parse(name) for name in archives | {step.target for step in rows}}


def _judge_first(work: Work) -> None:
    """Look at what cannot show itself by failing; where that drifts, at everything, so that everything is named."""
    session = work.session
    drifted = tuple(work.objects.judge())
    if drifted:
        work.stage_direct()
    try:
        judge(session, [item for item in work.items if drifted or not item.taken_as_new])
    except Drift as drift:
        if not drifted:
            work.stage_direct()
            judge(session, work.items)
        drift.details = (*drifted, *drift.details)
        raise
    if drifted:
        raise Drift(
            f"{len(drifted)} changes do not fit the world as it is now; nothing was changed on {session.name}",
            details=drifted,
            why="somebody changed these objects after the plan was made",
        )


def _lock_out_others(session: Session, staged: Sequence[Staged]) -> None:
    """From here on, a row that stands where one is to be inserted was made by a trigger of this very transaction."""
    for name in sorted({item.table.name for item in staged if item.step.verb is Verb.INSERT}):
        session.run(q("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", relation(name)))


def _write_all(work: Work) -> Outcome:
    session, outcome = work.session, Outcome(already=dict(work.gone))
    quiet = _quiet([item for item in work.items if item.step.triggers == "off"])
    for table, name, _ in quiet:
        session.run(q("ALTER TABLE {} DISABLE TRIGGER {}", relation(table), ident(name)))
    session.run("SET CONSTRAINTS ALL DEFERRED")
    try:
        for _, node in groupby(work.steps, key=lambda step: step.together or step.id):
            if members := [step for step in node if step.id not in work.gone]:
                _write_node(work, members, outcome)
        session.run("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.IntegrityError as error:
        if isinstance(error, work.may_look_again):
            raise
        raise violated(session, error, work.items) from None
    for table, name, mode in quiet:
        if full_name(table) not in work.dropped:
            how = raw("ENABLE ALWAYS") if mode == "A" else raw("ENABLE")
            session.run(q("ALTER TABLE {} {} TRIGGER {}", relation(table), how, ident(name)))
    return outcome


def _quiet(items: Sequence[Staged]) -> list[tuple[TableName, str, str]]:
    """The triggers to silence, each with the mode it goes back to."""
    found = {(item.table.name, t.name, t.mode) for item in items for t in item.table.triggers if t.fires}
    return sorted(found)


def _write_node(work: Work, node: Sequence[Step], outcome: Outcome) -> None:
    with _passing(work, node):
        _carry_out(work, node, outcome)


@contextmanager
def _passing(work: Work, steps: Sequence[Step]) -> Generator[None]:
    """Guards that would refuse these steps are passed for as long as they take, if the plan says so."""
    passes = sorted({guard for step in steps for guard in step.passes})
    if passes:
        reason = f"reconciler plan {work.plan.id} passes {', '.join(passes)}"
        work.session.run("SELECT set_config('reconciler.allow', %s, true)", (reason,))
    yield
    if passes:
        work.session.run("SELECT set_config('reconciler.allow', '', true)")


def _carry_out(work: Work, node: Sequence[Step], outcome: Outcome) -> None:
    first = node[0]
    if first.verb is Verb.SETVAL:
        _raise_sequence(work.session, work.plan, first, outcome)
    elif first.id in work.direct:
        outcome.applied[first.id] = copy_rows(work.session, work.direct[first.id], work.plan, first, work.advance)
        _expect(first, first.count, outcome.applied[first.id])
    elif first.verb in OBJECT_VERBS:
        # No object can be altered while checks of its rows are still open.
        work.session.run("SET CONSTRAINTS ALL IMMEDIATE")
        for step in node:
            outcome.applied[step.id], outcome.already[step.id] = work.objects.carry_out(step)
            work.advance(step.count)
        work.session.run("SET CONSTRAINTS ALL DEFERRED")
    else:
        for step in node:
            if step.id not in work.staged:
                work.stage_late(step)
        _write_staged(work, [work.staged[step.id] for step in node], outcome)


def _write_staged(work: Work, members: Sequence[Staged], outcome: Outcome) -> None:
    session = work.session
    for item in members:
        outcome.already[item.step.id] = item.already
        outcome.applied[item.step.id] = item.todo
    todo = [item for item in members if item.todo]
    if not todo:
        return
    verb = todo[0].step.verb
    if verb is Verb.UPDATE:
        for item in todo:
            _expect(item.step, item.todo, _update(session, item))
        return
    if verb is Verb.DELETE:
        for item in todo:
            if item.step.unique:
                if item.table.name not in work.objects.locked() and not item.numbered:
                    hold_survivors(session, item)
                refuse_lone(session, item)
            if item.step.archive:
                _expect(item.step, item.todo, to_archive(session, item, work.plan.id))
        _refuse_unlisted(session, todo, work.items)
    statements = [_insert(item, looked=work.looked) if verb is Verb.INSERT else _delete(item) for item in todo]
    fewer = work.looked and verb is Verb.INSERT
    if len(statements) == 1:
        _expect(todo[0].step, todo[0].todo, session.run(statements[0]), or_fewer=fewer)
        _take_from_archive(session, todo)
        return
    parts = [q("{} AS ({} RETURNING 1)", ident(f"w{n}"), statement) for n, statement in enumerate(statements)]
    counts = [q("(SELECT count(*) FROM {})", ident(f"w{n}")) for n in range(len(statements))]
    for item, count in zip(todo, session.one(q("WITH {} SELECT {}", join(parts), join(counts))), strict=True):
        _expect(item.step, item.todo, count, or_fewer=fewer)
    _take_from_archive(session, todo)


def _take_from_archive(session: Session, items: Sequence[Staged]) -> None:
    for item in items:
        if item.step.archived_by:
            from_archive(session, item)


def _expect(step: Step, wanted: int, count: int, *, or_fewer: bool = False) -> None:
    if count != wanted and not or_fewer:
        raise ReconcilerError(
            f"{step.id}: the database did {count} of {wanted} changes; nothing was kept",
            why="rows with the same key have come since they were looked at"
            if count > wanted
            else "a BEFORE trigger or a rule on the table swallows rows",
            todo="plan again" if count > wanted else "say triggers: off for this resource, or change the trigger",
        )


def _insert(item: Staged, *, looked: bool) -> Composable:
    """After looking, under lock, a row in the way is a trigger's: it is left to be settled to what the plan says."""
    names = join([ident(column.name) for column in item.columns])
    values = join([real(item, column.name, f"c{n}") for n, column in enumerate(item.columns, 1)])
    skip = item.table.unique_on(item.step.key) and looked
    conflict = q(" ON CONFLICT ({}) DO NOTHING", join([ident(c) for c in item.step.key])) if skip else raw("")
    return q("INSERT INTO {t} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {p} p WHERE {open}{conflict}",
             t=relation(item.table.name), names=names, values=values, p=item.temp, open=item.open_only, conflict=conflict)  # fmt: skip


def _update(session: Session, item: Staged) -> int:
    """One statement for each set of columns that changes, so that no other column is touched."""
    _park(session, item)
    total = 0
    for (mask,) in session.rows(q("SELECT DISTINCT ma FROM {} p WHERE {} ORDER BY 1", item.temp, item.open_only)):
        chosen = [n for n, bit in enumerate(mask, 1) if bit == "1"]
        sets = [
            q("{} = {}", ident(item.columns[n - 1].name), real(item, item.columns[n - 1].name, f"a{n}")) for n in chosen
        ]
        total += session.run(
            q("UPDATE {t} t SET {sets} FROM {p} p WHERE {on} AND p.ma = {mask} AND {open}", t=relation(item.table.name), sets=join(sets),
              p=item.temp, on=item.on_key("p", "t"), mask=lit(mask), open=item.open_only)
        )  # fmt: skip
    return total


def _park(session: Session, item: Staged) -> None:
    """Where updated rows hand each other a unique value, it is let go of first; one UPDATE would trip over itself."""
    numbers = {column.name: n for n, column in enumerate(item.columns, 1)}
    pairs = q("{p} p JOIN {t} l1 ON {one}, {p} other JOIN {t} l2 ON {two}", p=item.temp, t=relation(item.table.name),
              one=item.on_key("p", "l1"), two=item.on_key("other", "l2"))  # fmt: skip
    apart = join([q("p.{0} IS DISTINCT FROM other.{0}", ident(temp)) for _, temp in item.key], " OR ")
    for unique in item.table.uniques:
        written = [name for name in unique.columns if name in numbers]
        parking = [name for name in written if not item.table.columns[name].not_null]
        if unique.deferrable or unique.nulls_equal or not parking:
            continue
        handed = [
            q("CASE WHEN {} THEN p.{} ELSE l1.{c} END = l2.{c}", item.given("ma", numbers[name]), ident(f"a{numbers[name]}"), c=ident(name))
            if name in numbers
            else q("l1.{c} = l2.{c}", c=ident(name))
            for name in unique.columns
        ]  # fmt: skip
        if session.value(q("SELECT EXISTS (SELECT FROM {} WHERE {} AND ({}))", pairs, join(handed, " AND "), apart)):
            for name in parking:
                session.run(
                    q("UPDATE {t} t SET {c} = NULL FROM {p} p WHERE {on} AND {given} AND {open}", t=relation(item.table.name),
                      c=ident(name), p=item.temp, on=item.on_key("p", "t"), given=item.given("ma", numbers[name]), open=item.open_only)
                )  # fmt: skip


def _delete(item: Staged) -> Composable:
    if item.numbered:
        return q("DELETE FROM {t} t USING {p} p JOIN {w} w ON w.whole = p.k1 WHERE t.ctid = w.at AND {open}",
                 t=relation(item.table.name), p=item.temp, w=item.numbered, open=item.open_only)  # fmt: skip
    return q("DELETE FROM {t} t USING {p} p WHERE {on} AND {open}", t=relation(item.table.name), p=item.temp,
             on=item.on_key("p", "t"), open=item.open_only)  # fmt: skip


def _refuse_unlisted(session: Session, work: Sequence[Staged], everyone: Sequence[Staged]) -> None:
    """A row that would go or change by a foreign key without standing in the plan is drift."""
    details: list[str] = []
    for item in work:
        for key in item.table.referenced_by:
            if key.on_delete not in "cnd":
                continue
            listed = [
                q(" AND NOT EXISTS (SELECT FROM {p} l WHERE {on})", p=other.temp, on=other.on_key("l", "c"))
                for other in everyone
                if other.table.name == key.child and other.step.verb is Verb.DELETE
            ]
            rows = session.rows(
                q("SELECT concat_ws(', ', {cols}) FROM {c} c JOIN {t} t ON {fk} JOIN {p} p ON {on} WHERE {open}{listed} ORDER BY 1 LIMIT {n}",
                  cols=join([q("c.{}", ident(c)) for c in key.columns]), c=relation(key.child), t=item.live,
                  fk=on_keys("c", key.columns, "t", key.parent_columns), p=item.temp, on=item.on_key("p", "t"), open=item.open_only,
                  listed=join(listed, "") if listed else raw(""), n=lit(NAMED))
            )  # fmt: skip
            details += [
                f"{full_name(key.child)} ({row[0]}) would change by {key.name} (ON DELETE {key.action})" for row in rows
            ]
    if details:
        raise Drift("rows that the plan does not list would go or change with its deletes", details=tuple(details))


def _raise_sequence(session: Session, plan: Plan, step: Step, outcome: Outcome) -> None:
    for change in plan.changes(step):
        assert change.after is not None
        sequence = TableName.parse(change.key[0])
        name, target = relation(sequence), int(str(change.after["last_value"]))
        increment = session.value(
            "SELECT seqincrement FROM pg_sequence WHERE seqrelid = %s::regclass", (change.key[0],)
        )
        # Rewriting the increment as it is locks the sequence against nextval until the end of the transaction.
        session.run(q("ALTER SEQUENCE {} INCREMENT BY {}", name, lit(increment)))
        done = session.rows(
            q("SELECT setval({}, {}) FROM {} WHERE CASE WHEN is_called THEN last_value ELSE last_value - 1 END < {}",
              lit(change.key[0]), lit(target), name, lit(target))
        )  # fmt: skip
        counts = outcome.applied if done else outcome.already
        counts[step.id] = counts.get(step.id, 0) + 1
