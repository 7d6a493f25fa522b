"""All intents on one connection become ordered-to-be steps: columns, differences, integrity, cascades, lines, edges, risks.

In parts, because a read-only transaction cannot create even a temporary table: `prepare` makes the tables, `load` and `observe` fill them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.limit import most
from reconciler.plan.names import TableName
from reconciler.plan.step import Hazard, Step, Verb
from reconciler.systems.postgres.cascades import bystander, follow_deletes, reached_by_deletes
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.described import RowsOf, tables_of_objects
from reconciler.systems.postgres.differ import diff, scope_count
from reconciler.systems.postgres.emit import Emitted, emit_rows, emit_sequences
from reconciler.systems.postgres.found import Found, settle_columns, temporary_tables
from reconciler.systems.postgres.integrity import (
    check_parents,
    check_uniques,
    group,
    refuse_held_values,
    refuse_moved_keys,
)
from reconciler.systems.postgres.losers import check_losers, protected
from reconciler.systems.postgres.risks import add_risks, lock_kind
from reconciler.systems.postgres.rows import (
    Duplicates,
    Intent,
    LinesSource,
    OnExtra,
    References,
    alias,
    full_name,
    relation,
)
from reconciler.systems.postgres.session import Composable, Session, join, lit, q, raw

CREATES_A_BATCH = 200


def prepare(
    session: Session, catalog: Catalog, intents: Sequence[Intent], pads: tuple[bytes, bytes] | None
) -> list[Intent]:
    """Make every temporary table that observing may need; the bystanders that deletes may reach come back."""
    number = max((intent.number for intent in intents), default=0)
    extra: list[Intent] = []
    for intent, name in reached_by_deletes(catalog, intents):
        number += 1
        extra.append(bystander(intent, catalog, name, number))
    made = [
        statement
        for intent in (*intents, *extra)
        for statement in (*temporary_tables(intent), *_tables_of_duplicates(intent), *tables_of_objects(intent))
    ]
    for start in range(0, len(made), CREATES_A_BATCH):
        session.run(join(made[start : start + CREATES_A_BATCH], "; "))
    if pads:
        session.run("CREATE TEMP TABLE rc_pads (ipad bytea, opad bytea) ON COMMIT DROP")
        session.run("INSERT INTO rc_pads VALUES (%s, %s)", pads)
    return extra


def _tables_of_duplicates(intent: Intent) -> list[Composable]:
    if not isinstance(intent.finds, Duplicates | References):
        return []
    from reconciler.systems.postgres.duplicates import tables_of

    return tables_of(intent)


def load(session: Session, intents: Sequence[Intent]) -> list[Found]:
    """Bring lines into their temporary tables and account for every column of either side."""
    return [settle_columns(intent, *_available(session, intent)) for intent in intents if not intent.finds]


def observe(
    session: Session,
    catalog: Catalog,
    founds: Sequence[Found],
    intents: Sequence[Intent],
    bystanders: Sequence[Intent],
    describe: Callable[[Sequence[Found]], Sequence[Found]] = lambda _: (),
    *,
    count_extra: bool = False,
) -> list[Found]:
    """Read both sides of every intent and find what differs, what is impossible and what goes along."""
    for found in founds:
        diff(session, found, count_extra=count_extra)
        _refuse_holes(found)
    described = describe(founds)
    for found in described:
        _refuse_holes(found)
    check_overlap(session, founds)
    for found in founds:
        _hold(session, found)
    everyone = [*founds, *described]
    if any(isinstance(intent.finds, Duplicates) for intent in intents):
        from reconciler.systems.postgres.duplicates import find_duplicates

        everyone += find_duplicates(session, intents, everyone.copy(), count_rows=count_extra)
    everyone += [Found(intent) for intent in bystanders]
    refuse_moved_keys(session, founds)
    settled = [found for found in everyone if not found.waits]
    left_out = -1
    # A row that is left as it is may point at one that goes: what goes along with that is looked for again.
    while left_out != _left_out(settled):
        left_out = _left_out(settled)
        follow_deletes(session, catalog, settled)
        check_parents(session, settled)
    refuse_held_values(session, settled)
    return everyone


def _left_out(founds: Sequence[Found]) -> int:
    return sum(found.left_out for found in founds)


def _hold(session: Session, found: Found) -> None:
    """Rows that are protected stay as they are: nothing goes along with them, and nothing of them wants a parent."""
    if found.intent.protect and (found.changed or found.extra):
        session.run(
            q("UPDATE {} SET kind = upper(kind::text)::\"char\" WHERE kind IN ('c', 'x')", found.intent.temp("d"))
        )
        found.held, found.changed, found.extra = (found.changed, found.extra), 0, 0


def _available(session: Session, intent: Intent) -> tuple[tuple[str, ...], dict[str, str]]:
    """The source's columns and, where it is a table, their types; lines are loaded on the way."""
    if isinstance(intent.source, LinesSource):
        from reconciler.systems.postgres.lines import load_lines

        return load_lines(session, intent, intent.source), {}
    types = {name: column.type for name, column in intent.source.table.columns.items()}
    return tuple(types), types


def _refuse_holes(found: Found) -> None:
    """A new row needs every column that cannot do without a value."""
    if not found.missing:
        return
    supplied = {c.name for c in (*found.written, *found.defaults)}
    columns = found.intent.target.columns.values()
    holes = [
        c.name
        for c in columns
        if c.not_null and c.name not in supplied and not (c.default or c.identity or c.generated)
    ]
    if holes:
        raise ReconcilerError(
            f"{found.intent.address}: {found.missing} new rows of {full_name(found.intent.target.name)} would lack {', '.join(holes)}",
            where=found.intent.place,
            why=f"the column may not be NULL, has no default, and {found.intent.source_name} does not have it",
            todo="add the column to the source, or give it a default",
        )


def check_overlap(session: Session, founds: Sequence[Found]) -> None:
    """Two resources must not declare the same column of the same rows."""
    for several in group(founds).values():
        for position, one in enumerate(several):
            for other in several[position + 1 :]:
                shared = {c.name for c in one.compared} & {c.name for c in other.compared}
                same_key = one.intent.key == other.intent.key
                if (shared or one.missing or other.missing) and _rows_in_both(session, one, other, same_key):
                    raise ReconcilerError(
                        f"{one.intent.address} and {other.intent.address} declare the same rows of {full_name(one.intent.target.name)}",
                        where=other.intent.place,
                        why=f"both speak for {', '.join(sorted(shared)) or 'whether the rows exist'}",
                        todo="narrow `where` or `columns` of one of them",
                    )


def _rows_in_both(session: Session, one: Found, other: Found, same_key: bool) -> bool:
    scopes = [f.intent.scope for f in (one, other)]
    name = one.intent.target.name
    if isinstance(one.intent.source, LinesSource) or isinstance(other.intent.source, LinesSource):
        return same_key and _staged_in_both(session, one, other)
    if not any(scope.with_ for scope in scopes):
        wheres = [scope.where or raw("true") for scope in scopes]
        there = session.value(
            q("SELECT EXISTS (SELECT FROM {} AS {} WHERE {} AND {})", relation(name), alias(name), *wheres)
        )
        if there:
            return True
    return same_key and _staged_in_both(session, one, other)


def _staged_in_both(session: Session, one: Found, other: Found) -> bool:
    keys = join([raw(k) for k in one.keys])
    return session.value(
        q("SELECT EXISTS (SELECT {k} FROM {a} WHERE kind <> 'x' INTERSECT SELECT {k} FROM {b} WHERE kind <> 'x')", k=keys,
          a=one.intent.temp("d"), b=other.intent.temp("d"))
    )  # fmt: skip


def steps_of(session: Session, catalog: Catalog, founds: Sequence[Found]) -> Emitted:
    """Steps, edges and risks of everything found."""
    out = Emitted()
    over = check_losers(session, founds)
    _protect(founds, out)
    out.hazards += over
    freed, emptied = check_uniques(session, founds)
    of_table: dict[tuple[TableName, Verb], list[Step]] = {}
    for found in founds:
        for item in emit_rows(session, found):
            out.steps.append(item)
            of_table.setdefault((found.intent.target.name, item.step.verb), []).append(item.step)
    for item, after in emit_sequences(session, founds):
        out.steps.append(item)
        out.must.append((after, item.step.id))
        out.hazards.append(
            Hazard(
                "sequence",
                item.step.address,
                f"sequence {item.step.target} is raised; undo leaves it so",
                1,
                item.step.id,
            )
        )
    _structure(session, catalog, founds, of_table, out)
    _edges(founds, of_table, freed, emptied, out)
    add_risks(session, founds, of_table, out)
    check_limits(session, founds, out)
    return out


def _structure(
    session: Session,
    catalog: Catalog,
    founds: Sequence[Found],
    of_table: Mapping[tuple[TableName, Verb], list[Step]],
    out: Emitted,
) -> None:
    """What a unique key needs besides rows: its archive before the losers go, its constraint after everything."""
    for found in founds:
        source = found.intent.finds
        if not isinstance(source, Duplicates):
            continue
        from reconciler.systems.postgres.structure import lacking

        table, address = full_name(found.intent.target.name), found.intent.address
        if protected(session, found):
            out.hazards.append(
                Hazard("blocked", address, f"{table}: {source.constraint} is not added: protected rows share a key")
            )
            continue
        needed = lacking(session, catalog, found.intent, source, found.extra)
        out.steps += [*needed.before, *needed.after]
        own = [step for steps in of_table.values() for step in steps if step.address == address]
        # Other resources' changes of this table come before its constraint too.
        rows = [*own, *(s for (name, _), steps in of_table.items() if name == found.intent.target.name for s in steps)]
        out.must += [(one.step.id, step.id) for one in needed.before for step in own if step.unique]
        if needed.after:
            out.must += [(name, needed.after[0].step.id) for name in sorted({step.id for step in rows})]
        out.must += [(one.step.id, other.step.id) for one, other in pairwise(needed.after)]
        out.hazards += [Hazard("left-out", address, f"{table}: {note}") for note in needed.notes]
        if needed.after:
            rows_there = max(0, found.intent.target.rows)
            many = f"about {rows_there:,} rows of {table} are" if rows_there else f"{table} is"
            text = f"{many} read to build the index"
            how = (
                "while others go on"
                if source.online
                else "and nobody else writes to it from the look at its rows to the constraint"
            )
            out.hazards.append(
                Hazard(
                    lock_kind(rows_there, online=source.online),
                    address,
                    f"{text}, {how}",
                    rows_there,
                    needed.after[0].step.id,
                )
            )
        if found.extra and not source.archive:
            text = f"{found.extra} rows of {table} go without an archive: this plan alone holds them"
            out.hazards.append(Hazard("missing-archive", address, text, found.extra, found.intent.step_id("delete")))


def _protect(founds: Sequence[Found], out: Emitted) -> None:
    for found in founds:
        changed, extra = (found.changed, found.extra) if found.intent.finds else found.held
        if found.intent.protect and (changed or extra):
            text = f"{full_name(found.intent.target.name)}: {changed} changed and {extra} extra rows are protected and left"
            out.hazards.append(Hazard("blocked", found.intent.address, text, changed + extra))
            if found.intent.finds:  # what goes along outside of a protected scope stands in the plan
                found.changed = found.extra = 0


def _tables(founds: Sequence[Found]) -> dict[TableName, Table]:
    return {found.intent.target.name: found.intent.target for found in founds}


def _edges(
    founds: Sequence[Found],
    of_table: Mapping[tuple[TableName, Verb], list[Step]],
    freed: set[TableName],
    emptied: set[TableName],
    out: Emitted,
) -> None:
    def must(before: list[Step], after: list[Step]) -> None:
        out.must += [(one.id, other.id) for one in before for other in after]

    for name, table in sorted(_tables(founds).items()):
        inserts, updates, deletes = (of_table.get((name, verb), []) for verb in (Verb.INSERT, Verb.UPDATE, Verb.DELETE))
        for before, after in ((deletes, inserts), (deletes, updates), (inserts, updates)):
            if not (name in freed and before is inserts):
                out.rather += [(one.id, other.id) for one in before for other in after]
        if name in freed:
            must(updates, inserts)
        if name in emptied:
            must(deletes, inserts + updates)
        for key in table.references:
            pointing = [step for step in updates if set(key.columns) & set(step.columns)]
            must(of_table.get((key.parent, Verb.INSERT), []), inserts + pointing)
            must(deletes + pointing, of_table.get((key.parent, Verb.DELETE), []))
            moved = [
                s
                for s in of_table.get((key.parent, Verb.UPDATE), [])
                if set(key.parent_columns) & (set(s.columns) - set(s.key))
            ]
            must(moved, inserts + pointing)
            must(deletes, moved)


def check_limits(session: Session, founds: Sequence[Found], out: Emitted) -> None:
    """Deletes stay within `max_delete` of their resource, cascades counted."""
    by_address: dict[str, list[Found]] = {}
    for found in founds:
        by_address.setdefault(found.intent.address, []).append(found)
    for address, members in sorted(by_address.items()):
        deleting = [
            it
            for it in members
            if it.intent.on_extra is OnExtra.DELETE and (not it.intent.finds or isinstance(it.intent.finds, RowsOf))
        ]
        if not deleting:
            continue
        own = sum(
            session.value(
                q(
                    "SELECT count(*) FROM {} WHERE kind = 'x' AND (reason IS NULL OR reason = 'object missing')",
                    found.intent.temp("d"),
                )
            )
            for found in deleting
            if found.extra
        )
        along = sum(
            session.value(
                q(
                    "SELECT count(*) FROM {} WHERE kind = 'x' AND starts_with(reason, {})",
                    found.intent.temp("d"),
                    lit(f"cascade of {address} "),
                )
            )
            for found in founds
            if found.extra
        )
        limit = sum(most(it.intent.max_delete, partial(scope_count, session, it.intent)) for it in deleting)
        if own + along > limit:
            if deleting[0].intent.unlimited:
                text = f"{own + along} rows are deleted, and max_delete allows {limit}"
                out.hazards.append(Hazard("delete-over-limit", address, text, own + along))
                continue
            raise ReconcilerError(
                f"{address} would delete {own + along} rows; max_delete allows {limit}",
                where=deleting[0].intent.place,
                why=f"{own} rows that the source lacks" + (f", {along} more by ON DELETE CASCADE" if along else ""),
                todo=f"if that is meant, say max_delete: {own + along}",
                code=Exit.LIMIT,
                rule="R001",
            )
