"""Risks of steps of rows: what the catalog tells of triggers and keys, and what is asked of the rows themselves.

In: what was found, with its differences in temporary tables. Out: hazards, each at its step.
Invariant: each question is answered inside the database, and asked only where rows change or go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.plan.names import TableName
from reconciler.plan.step import Hazard, Step, Verb
from reconciler.systems.postgres.catalog import Column
from reconciler.systems.postgres.emit import Emitted
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import OnChanged, OnExtra, full_name, on_keys, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q

LONG_LOCK = 1_000_000
"""Rows from which building an index takes long enough to be asked about."""
_FEW = 2  # a table of one row is emptied without being asked about
_MANY = 1_000  # a table of so many rows is seldom rewritten as a whole
_CLOCKS = frozenset(
    {"updated_at", "modified_at", "changed_at", "edited_at", "indexed_at", "last_updated", "last_modified", "last_updated_at",
     "last_modified_at", "updated_on", "modified_on", "updated", "modified", "updatedat", "modifiedat"}
)  # fmt: skip


def lock_kind(rows: int, *, online: bool) -> str:
    """Whether building an index on so many rows is a pause or an outage."""
    return "long-lock" if rows >= LONG_LOCK and not online else "lock"


def add_risks(
    session: Session, founds: Sequence[Found], of_table: Mapping[tuple[TableName, Verb], list[Step]], out: Emitted
) -> None:
    """Every risk of the steps of rows."""
    _known(founds, of_table, out)
    _asked(session, founds, of_table, out)


def _known(founds: Sequence[Found], of_table: Mapping[tuple[TableName, Verb], list[Step]], out: Emitted) -> None:
    """What the catalog tells already."""
    events = {Verb.INSERT: "INSERT", Verb.UPDATE: "UPDATE", Verb.DELETE: "DELETE"}
    written = {full_name(name) for name, _ in of_table}
    tables = {found.intent.target.name: found.intent.target for found in founds}
    for (name, verb), steps in sorted(of_table.items(), key=lambda item: (item[0][0], item[0][1].value)):
        table = tables[name]
        count = sum(step.count for step in steps)
        if verb is Verb.DELETE:
            out.hazards.append(
                Hazard("delete", steps[0].address, f"{count} rows of {full_name(name)} are deleted", count, steps[0].id)
            )
            for key in table.referenced_by:
                if not key.indexed:
                    text = f"{full_name(key.child)} has no index on {', '.join(key.columns)} ({key.name}): each delete reads it whole"
                    out.hazards.append(Hazard("unindexed-foreign-key", steps[0].address, text, count, steps[0].id))
        if steps[0].triggers == "off":
            continue
        for trigger in table.triggers:
            if trigger.fires and events[verb] in trigger.events:
                out.hazards.append(
                    Hazard(
                        "trigger",
                        steps[0].address,
                        _trigger_text(name, trigger.name, verb, trigger.writes(), written),
                        count,
                        steps[0].id,
                    )
                )
    for found in founds:
        hidden = found.intent.sensitive & {c.name for c in found.written}
        if hidden and (found.changed or found.extra):
            text = f"values of {', '.join(sorted(hidden))} are not in the plan: undo cannot bring them back"
            out.hazards += [
                Hazard("irreversible", found.intent.address, text, count, found.intent.step_id(verb))
                for verb, count in (("update", found.changed), ("delete", found.extra))
                if count
            ]


def _trigger_text(table: TableName, trigger: str, verb: Verb, writes: tuple[str, ...], planned: set[str]) -> str:
    head = f"trigger {trigger} on {full_name(table)}"
    if not writes:
        return f"{head} fires on {verb.value}"
    places = [(full_name(table), w.removeprefix("NEW.")) if w.startswith("NEW.") else _place(w) for w in writes]
    inside = all(where in planned for where, _ in places)
    end = "settled in the same transaction" if inside else "what it writes outside of this plan is reported by apply"
    return f"{head} writes {', '.join('.'.join(part for part in place if part) for place in places)}: {end}"


def _place(written: str) -> tuple[str, str]:
    """`documents.recommend_count`, as a trigger's function spells it, as (public.documents, recommend_count)."""
    table, _, column = written.replace('"', "").partition(" ")
    return (table if "." in table else f"public.{table}"), column


def _asked(
    session: Session, founds: Sequence[Found], of_table: Mapping[tuple[TableName, Verb], list[Step]], out: Emitted
) -> None:
    """What the catalog alone cannot tell."""
    of_step = {found.intent.step_id(verb): found for found in founds for verb in ("update", "delete")}
    for (_, verb), steps in sorted(of_table.items(), key=lambda item: (item[0][0], item[0][1].value)):
        if verb is Verb.INSERT:
            continue
        members = {step.id: of_step[step.id] for step in steps}
        if verb is Verb.DELETE:
            out.hazards += [it for id_, found in members.items() for it in _along(session, found, id_)]
        if verb is Verb.UPDATE:
            out.hazards += [it for id_, found in members.items() for it in _newer(session, found, id_)]
        # What goes along with others, or because it is a duplicate, was asked for otherwise.
        declared = [it for it in members.values() if verb is Verb.UPDATE or it.intent.on_extra is OnExtra.DELETE]
        if not any(it.intent.finds for it in declared):
            out.hazards += _whole(session, verb, declared, steps)


def _along(session: Session, found: Found, step: str) -> list[Hazard]:
    """Rows that only go because others do."""
    count = session.value(
        q("SELECT count(*) FROM {} WHERE kind = 'x' AND starts_with(reason, 'cascade of ')", found.intent.temp("d"))
    )
    text = f"{count} rows of {full_name(found.intent.target.name)} go along by ON DELETE CASCADE"
    return [Hazard("cascade", found.intent.address, text, count, step)] if count else []


def clocks(columns: Sequence[Column]) -> list[Column]:
    """Columns that say, by their name and type, when a row was changed last."""
    return [c for c in columns if c.name.lower() in _CLOCKS and c.type.startswith(("timestamp", "date"))]


def _newer(session: Session, found: Found, step: str) -> list[Hazard]:
    """Rows whose clock is ahead of the source's, and that are overwritten all the same."""
    intent, known = found.intent, clocks(found.compared)
    if not found.changed or not known or intent.finds or intent.on_changed is not OnChanged.UPDATE:
        return []
    ahead = join([q("t.{0} > s.{0}", ident(c.name)) for c in known], " OR ")
    # Only where a clock differs at all, which is known already.
    moved = join([q("d.m[{}]", lit(n)) for n, c in enumerate(found.compared, 1) if c in known], " OR ")
    count = session.value(
        q("SELECT count(*) FROM {d} d JOIN {s} s ON {ds} JOIN {t} t ON {dt} WHERE d.kind = 'c' AND ({moved}) AND ({ahead})",
          moved=moved, d=intent.temp("d"), s=intent.temp("s"), ds=on_keys("d", found.keys, "s", intent.key), t=relation(intent.target.name),
          dt=on_keys("d", found.keys, "t", intent.key), ahead=ahead)
    )  # fmt: skip
    names = " or ".join(c.name for c in known)
    text = (
        f"{count} rows of {full_name(intent.target.name)} are newer than in {intent.source_name} by {names}, and are overwritten: "
        f"on_changed: {{ newer: {known[0].name} }} keeps them"
    )
    return [Hazard("overwrite-newer", intent.address, text, count, step)] if count else []


def _whole(session: Session, verb: Verb, founds: Sequence[Found], steps: Sequence[Step]) -> list[Hazard]:
    """Whether no row of a table stays, or stays as it is; the question ends at the first that does."""
    count = sum(step.count for step in steps)
    deletes = verb is Verb.DELETE
    if not founds or count < (_FEW if deletes else _MANY):
        return []
    table = founds[0].intent.target.name
    kinds = q("('x')") if deletes else q("('c', 'n')")
    listed: list[Composable] = [
        q("NOT EXISTS (SELECT FROM {d} d WHERE d.kind IN {kinds} AND {on})", d=found.intent.temp("d"), kinds=kinds,
          on=on_keys("d", found.keys, "t", found.intent.key))
        for found in founds
    ]  # fmt: skip
    if session.value(q("SELECT EXISTS (SELECT FROM {} t WHERE {})", relation(table), join(listed, " AND "))):
        return []
    if deletes:
        text = f"no row of {full_name(table)} stays: all {count} are deleted"
        return [Hazard("whole-table", steps[0].address, text, count, steps[0].id)]
    text = f"all {count} rows of {full_name(table)} are changed"
    return [Hazard("whole-table-update", steps[0].address, text, count, steps[0].id)]
