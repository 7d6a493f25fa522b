"""One run of steps, carried out in one transaction: stage, lock and judge, write in order, settle, verify.

In: steps of a plan on one connection, in order. Out: an outcome for each; or an error, and then nothing of the run was kept.
Invariant: it writes what the plan lists and nothing else; what triggers write besides is found and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import psycopg

from reconciler.plan.errors import Drift, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.names import TableName
from reconciler.plan.step import Step, Verb
from reconciler.systems.postgres.catalog import ForeignKey, Table, read_catalog
from reconciler.systems.postgres.guard import NAMED, judge, take_turn
from reconciler.systems.postgres.object_run import OBJECT_VERBS, ObjectRun
from reconciler.systems.postgres.rows import full_name, on_keys, relation
from reconciler.systems.postgres.run import Advance, Run, Secrets
from reconciler.systems.postgres.session import Composable, Session, explain, ident, join, lit, q, raw, scrub
from reconciler.systems.postgres.staging import Staged


@dataclass(frozen=True)
class Settings:
    application_name: str
    lock_timeout: str = "10s"
    statement_timeout: str = "0"
    rehearse: bool = False


@dataclass
class Outcome:
    """What became of a run: applied and already by step; sentences about triggers; what triggers kept from converging."""

    applied: dict[str, int] = field(default_factory=dict[str, int])
    already: dict[str, int] = field(default_factory=dict[str, int])
    notes: list[str] = field(default_factory=list[str])
    unsettled: list[str] = field(default_factory=list[str])


class _RehearsedError(Exception):
    """Ends a rehearsal's transaction without keeping it."""


def execute(
    session: Session, plan: Plan, steps: Sequence[Step], settings: Settings, pads: tuple[bytes, bytes] | None, secrets: Secrets,
    advance: Advance
) -> Outcome:  # fmt: skip
    """Carry out a run; raises with nothing kept."""
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
            run = Run(session, plan, steps, ObjectRun(session, plan, steps), secrets, advance)
            staged = run.stage_first(catalog)
            outcome.already |= run.gone_before
            _judge_first(session, list(staged.values()), run.objects)
            for item in staged.values():
                if item.step.sensitive:
                    secrets(session, catalog, item)
            session.run("SAVEPOINT rc_before_writes")
            looked = False
            try:
                written = _write_all(run, staged, outcome)
            except psycopg.errors.UniqueViolation:
                session.run("ROLLBACK TO SAVEPOINT rc_before_writes")
                _lock_out_others(session, list(staged.values()))
                judge(session, list(staged.values()))
                looked, outcome = True, Outcome(already=dict(run.gone_before))
                written = _write_all(run, staged, outcome, looked=True)
            left = [item for item in written.values() if full_name(item.table.name) not in run.dropped]
            if (
                looked
                or run.objects.of_step
                or any(t.fires for table in catalog.tables.values() for t in table.triggers)
            ):
                _settle(session, left, outcome)
                outcome.notes += _writes_elsewhere(session, left)
            if settings.rehearse:
                raise _RehearsedError
    except _RehearsedError:
        outcome.notes.append("rehearsed: everything was done and rolled back")
    except psycopg.Error as error:
        if retriable(error):
            raise
        raise explain(error, "applying", session.name) from None
    return outcome


def retriable(error: BaseException) -> bool:
    """Whether trying the whole run again may help: nothing of it was kept, and it starts by looking."""
    if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
        return True
    return isinstance(error, psycopg.OperationalError) and error.diag.sqlstate in (
        None,
        "57P01",
        "57P02",
        "57P03",
        "08006",
        "08003",
    )


def _judge_first(session: Session, staged: Sequence[Staged], objects: ObjectRun) -> None:
    """Look at what cannot show itself by failing; where that drifts, at everything, so that everything is named."""
    drifted = tuple(objects.judge())
    try:
        judge(session, [item for item in staged if drifted or not item.taken_as_new])
    except Drift as drift:
        if not drifted:
            judge(session, staged)
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


def _write_all(run: Run, first: dict[str, Staged], outcome: Outcome, *, looked: bool = False) -> dict[str, Staged]:
    """Everything in the plan's order; what was staged, before and on the way, comes back."""
    session, staged = run.session, dict(first)
    blind = not looked and any(item.taken_as_new for item in staged.values())

    def refused(error: psycopg.IntegrityError) -> Exception:
        if blind and isinstance(error, psycopg.errors.UniqueViolation):
            return error
        return _violated(session, error, list(first.values()))

    quiet = _quiet([item for item in staged.values() if item.step.triggers == "off"])
    for table, name, _ in quiet:
        session.run(q("ALTER TABLE {} DISABLE TRIGGER {}", relation(table), ident(name)))
    session.run("SET CONSTRAINTS ALL DEFERRED")
    try:
        for _, node in groupby(run.steps, key=lambda step: step.together or step.id):
            members = [step for step in node if step.id not in run.gone_before]
            match members[0].verb if members else None:
                case None:
                    pass
                case Verb.SETVAL:
                    _raise_sequence(session, run.plan, members[0], outcome)
                case verb if verb in OBJECT_VERBS:
                    # No object can be altered while checks of its rows are still open.
                    session.run("SET CONSTRAINTS ALL IMMEDIATE")
                    for step in members:
                        outcome.applied[step.id], outcome.already[step.id] = run.objects.carry_out(step)
                        run.advance(step.count)
                    session.run("SET CONSTRAINTS ALL DEFERRED")
                case _:
                    staged |= {step.id: run.stage_late(step) for step in members if step.id not in staged}
                    items = [staged[step.id] for step in members]
                    _write_node(session, items, list(staged.values()), outcome, looked=looked)
        session.run("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.IntegrityError as error:
        raise refused(error) from None
    for table, name, mode in quiet:
        if full_name(table) not in run.dropped:
            how = raw("ENABLE ALWAYS") if mode == "A" else raw("ENABLE")
            session.run(q("ALTER TABLE {} {} TRIGGER {}", relation(table), how, ident(name)))
    return staged


def _quiet(items: Sequence[Staged]) -> list[tuple[TableName, str, str]]:
    """The triggers to silence, each with the mode it goes back to."""
    found = {(item.table.name, t.name, t.mode) for item in items for t in item.table.triggers if t.fires}
    return sorted(found)


def _write_node(
    session: Session, members: Sequence[Staged], everyone: Sequence[Staged], outcome: Outcome, *, looked: bool
) -> None:
    for item in members:
        outcome.already[item.step.id] = item.already
        outcome.applied[item.step.id] = item.todo
    work = [item for item in members if item.todo]
    if not work:
        return
    if work[0].step.verb is Verb.UPDATE:
        for item in work:
            _expect(item, _update(session, item))
        return
    if work[0].step.verb is Verb.DELETE:
        _refuse_unlisted(session, work, everyone)
    statements = [_insert(item, looked=looked) if item.step.verb is Verb.INSERT else _delete(item) for item in work]
    if len(statements) == 1:
        _expect(work[0], session.run(statements[0]), or_fewer=looked)
        return
    parts = [q("{} AS ({} RETURNING 1)", ident(f"w{n}"), statement) for n, statement in enumerate(statements)]
    counts = [q("(SELECT count(*) FROM {})", ident(f"w{n}")) for n in range(len(statements))]
    for item, count in zip(work, session.one(q("WITH {} SELECT {}", join(parts), join(counts))), strict=True):
        _expect(item, count, or_fewer=looked)


def _expect(item: Staged, count: int, *, or_fewer: bool = False) -> None:
    if count != item.todo and not (or_fewer and item.step.verb is Verb.INSERT):
        raise ReconcilerError(
            f"{item.step.id}: the database did {count} of {item.todo} changes; nothing was kept",
            why="a BEFORE trigger or a rule on the table swallows rows",
            todo="say triggers: off for this resource, or change the trigger",
        )


def _insert(item: Staged, *, looked: bool) -> Composable:
    """After looking, under lock, a row in the way is a trigger's: it is left to be settled to what the plan says."""
    names = join([ident(column.name) for column in item.columns])
    values = join([_real(item, column.name, f"c{n}") for n, column in enumerate(item.columns, 1)])
    skip = item.table.unique_on(item.step.key) and looked
    conflict = q(" ON CONFLICT ({}) DO NOTHING", join([ident(c) for c in item.step.key])) if skip else raw("")
    return q("INSERT INTO {t} ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {p} p WHERE {open}{conflict}",
             t=relation(item.table.name), names=names, values=values, p=item.temp, open=item.open_only, conflict=conflict)  # fmt: skip


def _real(item: Staged, name: str, staged: str) -> Composable:
    """The value to write: of a sensitive column the one read again from the source."""
    if name in item.step.sensitive:
        return q("p.{}::{}", ident("v_" + staged), raw(item.table.columns[name].type))
    return ident("p", staged)


def _update(session: Session, item: Staged) -> int:
    """One statement for each set of columns that changes, so that no other column is touched."""
    _park(session, item)
    total = 0
    for (mask,) in session.rows(q("SELECT DISTINCT ma FROM {} p WHERE {} ORDER BY 1", item.temp, item.open_only)):
        chosen = [n for n, bit in enumerate(mask, 1) if bit == "1"]
        sets = [
            q("{} = {}", ident(item.columns[n - 1].name), _real(item, item.columns[n - 1].name, f"a{n}"))
            for n in chosen
        ]
        total += session.run(
            q("UPDATE {t} t SET {sets} FROM {p} p WHERE {on} AND p.ma = {mask} AND {open}", t=relation(item.table.name), sets=join(sets),
              p=item.temp, on=item.on_key("p", "t"), mask=lit(mask), open=item.open_only)
        )  # fmt: skip
    return total


def _park(session: Session, item: Staged) -> None:
    """Where updated rows hand each other a unique value, it is let go of first; one UPDATE would trip over itself."""
    names = [column.name for column in item.columns]
    for unique in item.table.uniques:
        if unique.deferrable or not unique.columns or not set(unique.columns) <= set(names):
            continue
        places = [names.index(name) + 1 for name in unique.columns]
        handed = join([q("one.{} = other.{}", ident(f"a{n}"), ident(f"b{n}")) for n in places], " AND ")
        apart = join([q("one.{0} IS DISTINCT FROM other.{0}", ident(temp)) for _, temp in item.key], " OR ")
        if not session.value(
            q("SELECT EXISTS (SELECT FROM {0} one JOIN {0} other ON {1} AND ({2}))", item.temp, handed, apart)
        ):
            continue
        for n in places:
            column = item.columns[n - 1]
            if not column.not_null:
                session.run(
                    q("UPDATE {t} t SET {c} = NULL FROM {p} p WHERE {on} AND {given} AND {open}", t=relation(item.table.name),
                      c=ident(column.name), p=item.temp, on=item.on_key("p", "t"), given=item.given("ma", n), open=item.open_only)
                )  # fmt: skip
                break


def _delete(item: Staged) -> Composable:
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
                  cols=join([q("c.{}", ident(c)) for c in key.columns]), c=relation(key.child), t=relation(item.table.name),
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


def _violated(session: Session, error: psycopg.IntegrityError, staged: Sequence[Staged]) -> ReconcilerError:
    """Name what a constraint refused, by asking the database again with the rows still staged."""
    name = error.diag.constraint_name or "a constraint"
    table = f"{error.diag.schema_name}.{error.diag.table_name}"
    session.run("ROLLBACK TO SAVEPOINT rc_before_writes")
    hidden = any(item.step.sensitive for item in staged)
    match error:
        case psycopg.errors.ForeignKeyViolation():
            return Drift(
                f"a parent that the plan counts on is gone, or a child that it does not know has come ({name} on {table})",
                details=tuple(_missing_parents(session, name, staged))
                or (() if hidden else (error.diag.message_detail or "",)),
            )
        case psycopg.errors.UniqueViolation():
            detail = () if hidden else (error.diag.message_detail or "",)
            return Drift(f"a unique value is taken ({name} on {table})", details=detail)
        case _:
            return ReconcilerError(
                f"the database refuses a row ({name} on {table}); nothing was kept",
                why=scrub(error.diag.message_primary or ""),
                todo="correct the source's rows, or leave them out with `where`",
            )


def _missing_parents(session: Session, constraint: str, staged: Sequence[Staged]) -> list[str]:
    details: list[str] = []
    for item in staged:
        for key in item.table.references:
            places = _places(item, key)
            if key.name != constraint or places is None or item.step.verb is Verb.DELETE:
                continue
            coming = [
                q(" AND NOT EXISTS (SELECT FROM {} n WHERE {})", other.temp, on_keys("n", other_places, "p", places))
                for other in staged
                if other.table.name == key.parent and other.step.verb is Verb.INSERT
                for other_places in [[f"c{[c.name for c in other.columns].index(c) + 1}" for c in key.parent_columns]]
            ]
            rows = session.rows(
                q("SELECT DISTINCT concat_ws(', ', {v}) FROM {p} p WHERE {nn} AND NOT EXISTS (SELECT FROM {t} t WHERE {on}){coming} LIMIT {n}",
                  v=join([ident("p", c) for c in places]), p=item.temp, nn=join([q("p.{} IS NOT NULL", ident(c)) for c in places], " AND "),
                  t=relation(key.parent), on=on_keys("t", key.parent_columns, "p", places),
                  coming=join(coming, "") if coming else raw(""), n=lit(NAMED))
            )  # fmt: skip
            details += [
                f"{full_name(key.parent)} ({', '.join(key.parent_columns)}) = ({row[0]}): planned as there, found no such row"
                for row in rows
            ]
    return sorted(details)


def _places(item: Staged, key: ForeignKey) -> list[str] | None:
    names = [column.name for column in item.columns]
    if not set(key.columns) <= set(names):
        return None
    letter = "a" if item.step.verb is Verb.UPDATE else "c"
    return [f"{letter}{names.index(column) + 1}" for column in key.columns]


def _settle(session: Session, staged: Sequence[Staged], outcome: Outcome) -> None:
    """Where a trigger has rewritten a listed row, put the listed columns back once; then say what still differs."""
    written = [
        item
        for item in staged
        if (item.step.verb in (Verb.INSERT, Verb.UPDATE) and item.step.triggers != "off") or item.todo
    ]
    rewritten = [item for item in written if item.step.verb is not Verb.DELETE and _off(session, item)]
    for item in rewritten:
        count = _rewrite(session, item)
        outcome.notes.append(f"{item.step.target}: {count} rows had been rewritten by triggers and were settled")
    for item in staged:
        left = _off(session, item) if rewritten or item.step.verb is Verb.DELETE else []
        outcome.unsettled += [f"{item.step.target} ({key}): a trigger keeps it from being as planned" for key in left]


def _off(session: Session, item: Staged) -> list[str]:
    key = join([q("p.{}", ident(temp)) for _, temp in item.key])
    if item.step.verb is Verb.DELETE:
        query = q("SELECT concat_ws(', ', {k}) FROM {p} p JOIN {t} t ON {on} LIMIT {n}", k=key, p=item.temp,
                  t=relation(item.table.name), on=item.on_key("p", "t"), n=lit(NAMED))  # fmt: skip
    else:
        query = q("SELECT concat_ws(', ', {k}) FROM {p} p LEFT JOIN {t} t ON {on} WHERE ({after}) IS NOT TRUE LIMIT {n}", k=key, p=item.temp,
                  t=relation(item.table.name), on=item.on_key("p", "t"), after=item.after, n=lit(NAMED))  # fmt: skip
    return [str(row[0]) for row in session.rows(query)]


def _rewrite(session: Session, item: Staged) -> int:
    letter, mask = ("a", "ma") if item.step.verb is Verb.UPDATE else ("c", None)
    fixed = set(item.step.key) | {c.name for c in item.columns if c.identity == "a"}
    sets: list[Composable] = []
    for n, column in enumerate(item.columns, 1):
        if column.name in fixed:
            continue
        value = _real(item, column.name, f"{letter}{n}")
        name = ident(column.name)
        sets.append(
            q("{} = CASE WHEN {} THEN {} ELSE t.{} END", name, item.given("ma", n), value, name)
            if mask
            else q("{} = {}", name, value)
        )
    if not sets:
        return 0
    return session.run(
        q("UPDATE {t} t SET {sets} FROM {p} p WHERE {on} AND ({after}) IS NOT TRUE", t=relation(item.table.name), sets=join(sets),
          p=item.temp, on=item.on_key("p", "t"), after=item.after)
    )  # fmt: skip


def _writes_elsewhere(session: Session, staged: Sequence[Staged]) -> list[str]:
    """Tables outside of the plan that this transaction wrote all the same: triggers did."""
    own: set[Table | TableName] = {item.table.name for item in staged}
    rows = session.rows(
        "SELECT schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables"
        " WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname !~ '^pg_' ORDER BY 1, 2"
    )
    return [
        f"triggers wrote {full_name(TableName(schema, name))}: {ins} inserted, {upd} updated, {dele} deleted (not part of the plan)"
        for schema, name, ins, upd, dele in rows
        if TableName(schema, name) not in own
    ]
