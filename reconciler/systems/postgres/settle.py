"""After the writes: rows that triggers have rewritten are put right once, and what triggers wrote elsewhere is told."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.plan.names import TableName
from reconciler.plan.step import Verb
from reconciler.systems.postgres.guard import NAMED
from reconciler.systems.postgres.rows import full_name, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q
from reconciler.systems.postgres.staging import Staged, number_rows, real


def settle(session: Session, staged: Sequence[Staged]) -> tuple[list[str], list[str]]:
    """Where a trigger has rewritten a listed row, put the listed columns back once; then say what still differs: (notes, what is left)."""
    notes: list[str] = []
    unsettled: list[str] = []
    written = [
        item
        for item in staged
        if (item.step.verb in (Verb.INSERT, Verb.UPDATE) and item.step.triggers != "off") or item.todo
    ]
    for item in staged:
        if item.numbered:
            number_rows(session, item)
    rewritten = [
        item for item in written if item.step.verb is not Verb.DELETE and not item.numbered and _off(session, item)
    ]
    for item in rewritten:
        count = _rewrite(session, item)
        notes.append(f"{item.step.target}: {count} rows had been rewritten by triggers and were settled")
    for item in staged:
        left = _off(session, item) if rewritten or item.numbered or item.step.verb is Verb.DELETE else []
        unsettled += [f"{item.step.target} ({key}): a trigger keeps it from being as planned" for key in left]
    return notes, unsettled


def _off(session: Session, item: Staged) -> list[str]:
    key = join([q("p.{}", ident(temp)) for _, temp in item.key])
    if item.step.verb is Verb.DELETE:
        query = q("SELECT concat_ws(', ', {k}) FROM {p} p JOIN {t} t ON {on} LIMIT {n}", k=key, p=item.temp,
                  t=item.live, on=item.on_key("p", "t"), n=lit(NAMED))  # fmt: skip
    else:
        query = q("SELECT concat_ws(', ', {k}) FROM {p} p LEFT JOIN {t} t ON {on} WHERE ({after}) IS NOT TRUE LIMIT {n}", k=key, p=item.temp,
                  t=item.live, on=item.on_key("p", "t"), after=item.after, n=lit(NAMED))  # fmt: skip
    return [str(row[0]) for row in session.rows(query)]


def _rewrite(session: Session, item: Staged) -> int:
    letter, mask = ("a", "ma") if item.step.verb is Verb.UPDATE else ("c", None)
    fixed = set(item.step.key) | {c.name for c in item.columns if c.identity == "a"}
    sets: list[Composable] = []
    for n, column in enumerate(item.columns, 1):
        if column.name in fixed:
            continue
        value = real(item, column.name, f"{letter}{n}")
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


def writes_elsewhere(session: Session, own: set[TableName]) -> list[str]:
    """Tables outside of the plan that this transaction wrote all the same: triggers did."""
    rows = session.rows(
        "SELECT schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables"
        " WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 AND schemaname !~ '^pg_' ORDER BY 1, 2"
    )
    return [
        f"triggers wrote {full_name(TableName(schema, name))}: {ins} inserted, {upd} updated, {dele} deleted (not part of the plan)"
        for schema, name, ins, upd, dele in rows
        if TableName(schema, name) not in own
    ]
