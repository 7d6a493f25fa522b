"""What a planned delete takes with it, by the catalog: listed as changes of its own, never left to the database.

In: intents with rows to delete ('x' in `rc_d_N`). Out: more 'x' rows (CASCADE), rows with kind 'n' (SET NULL / SET DEFAULT),
or an error naming every NO ACTION / RESTRICT constraint that would block.
Invariant: when a delete runs, every row that it would take along is already gone or changed by a step of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.catalog import Catalog, ForeignKey
from reconciler.systems.postgres.described import Described
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.integrity import leaves
from reconciler.systems.postgres.rows import (
    Duplicates,
    Intent,
    OnExtra,
    References,
    alias,
    full_name,
    on_keys,
    relation,
)
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q


def reached_by_deletes(catalog: Catalog, intents: Sequence[Intent]) -> list[tuple[Intent, TableName]]:
    """Tables without an intent that a delete of some intent may touch, each with the intent that reaches it first."""
    # What looks for duplicates may have to wait, and lists nothing then.
    known = {intent.target.name for intent in intents if not isinstance(intent.finds, Duplicates | References)}
    result: list[tuple[Intent, TableName]] = []
    queue = [(it, it.target.name) for it in intents if it.on_extra is OnExtra.DELETE and not it.lets_go]
    seen: set[TableName] = set()
    while queue:
        intent, name = queue.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for key in catalog.tables[name].referenced_by:
            if key.on_delete in "cnd":
                if key.child not in known:
                    known.add(key.child)
                    result.append((intent, key.child))
                queue.append((intent, key.child))
    return result


def bystander(intent: Intent, catalog: Catalog, name: TableName, number: int) -> Intent:
    """An intent that declares nothing: a place to list what a delete of another takes along."""
    table = catalog.tables[name]
    key = table.primary_key or next((u.columns for u in table.uniques if u.columns and not u.predicate), ())
    if not key:
        raise ReconcilerError(
            f"{intent.address}: deletes may take rows of {full_name(name)} along, and it has no key to list them by",
            where=intent.place,
            todo=f"give {full_name(name)} a primary key, or delete its rows in a step of your own first",
        )
    return Intent(number, intent.address, intent.connection, table, key, intent.source, place=intent.place)


def follow_deletes(session: Session, catalog: Catalog, founds: Sequence[Found]) -> None:
    """List everything that goes with what goes."""
    by_table: dict[TableName, Found] = {}
    of_table: dict[TableName, list[Found]] = {}
    # Rows are listed by a key of their own: those that a prefix finds new have none but the object's name.
    for found in sorted(
        founds,
        key=lambda found: (isinstance(found.intent.finds, Described), isinstance(found.intent.finds, Duplicates)),
    ):
        by_table.setdefault(found.intent.target.name, found)
        of_table.setdefault(found.intent.target.name, []).append(found)
    waiting = [found for found in founds if found.extra and not found.intent.lets_go]
    while waiting:
        found = waiting.pop(0)
        for key in found.intent.target.referenced_by:
            if key.on_delete == "c":
                child = by_table[key.child]
                more = _cascade(session, found, child, key, of_table[key.child])
                child.extra += more
                if more and child not in waiting:
                    waiting.append(child)
    # Only now is it known which rows stay to be let go of.
    for found in founds:
        if found.let_go:
            session.run(q("DELETE FROM {} WHERE kind = 'n'", found.intent.temp("d")))
            found.let_go = 0
    for found in founds:
        if not found.extra or found.intent.lets_go:
            continue
        for key in found.intent.target.referenced_by:
            if key.on_delete in "nd":
                _set_null(session, found, by_table[key.child], key, of_table[key.child])
    _refuse_protected(session, founds, of_table)
    _refuse_blocked(session, catalog, founds)


def _dealt_with(founds: Sequence[Found], key: ForeignKey) -> Composable:
    """Rows (alias c) that a declaration of their table lists as deleted, or leads away from what this key points at."""
    parts = [
        q(" AND NOT EXISTS (SELECT FROM {} d WHERE {} AND {})", found.intent.temp("d"), leaves(found, key),
          on_keys("d", found.keys, "c", found.intent.key))
        for found in founds
    ]  # fmt: skip
    return join(parts, "")


def _refuse_protected(session: Session, founds: Sequence[Found], of_table: Mapping[TableName, Sequence[Found]]) -> None:
    """What is protected neither goes along with other rows nor loses what it points at."""
    for found in founds:
        intent = found.intent
        if not intent.protect or intent.finds:
            continue
        for other in of_table[intent.target.name]:
            if not (other.extra or other.let_go):
                continue
            on = join([q("d.{} = {}.{}", ident(k), alias(intent.target.name), ident(c))
                       for k, c in zip(other.keys, other.intent.key, strict=True)], " AND ")  # fmt: skip
            count, reason = session.one(
                q("{with_}SELECT count(*), min(l.reason) FROM {t} AS {a}, LATERAL (SELECT reason FROM {d} d WHERE {on} AND (d.kind = 'n'"
                  " OR d.kind = 'x' AND starts_with(d.reason, 'cascade of '))) l WHERE {where}", with_=intent.scope.with_ or q(""),
                  t=relation(intent.target.name), a=alias(intent.target.name), d=other.intent.temp("d"), on=on,
                  where=intent.scope.where or q("true"))
            )  # fmt: skip
            if count:
                raise ReconcilerError(
                    f"{count} rows of {full_name(intent.target.name)} that {intent.address} protects would go, or lose what they point at",
                    where=intent.place,
                    why=f"the rows they point at would be deleted ({reason})",
                    todo="keep those, or protect less",
                )


def _cascade(session: Session, parent: Found, child: Found, key: ForeignKey, of_child: Sequence[Found]) -> int:
    keys = child.keys
    new = q(
        "SELECT {cols}, CASE WHEN starts_with(pd.reason, 'cascade of ') THEN split_part(pd.reason, ' ', 3) ELSE {origin} END AS origin"
        " FROM {c} c JOIN {p} p ON {on} JOIN {pd} pd ON pd.kind = 'x' AND {pon}"
        " WHERE true{others}",
        others=_dealt_with(of_child, key),
        cols=join([q("c.{} AS {}", ident(c), ident(k)) for c, k in zip(child.intent.key, keys, strict=True)]),
        origin=lit(parent.intent.address),
        c=relation(key.child),
        p=relation(key.parent),
        on=on_keys("c", key.columns, "p", key.parent_columns),
        pd=parent.intent.temp("d"),
        pon=on_keys("pd", parent.keys, "p", parent.intent.key),
    )
    for other in (it for it in of_child if it.changed):
        clash = session.value(
            q("SELECT count(*) FROM ({new}) n JOIN {c} c ON {on} JOIN {d} d ON {same} WHERE d.kind = 'c'", new=new, c=relation(key.child),
              on=on_keys("n", keys, "c", child.intent.key), d=other.intent.temp("d"), same=on_keys("c", other.intent.key, "d", other.keys))
        )  # fmt: skip
        if clash:
            raise ReconcilerError(
                f"{parent.intent.address} would delete {clash} rows of {full_name(key.child)} that {other.intent.address} changes",
                where=parent.intent.place,
                why=f"they go by {key.name} (ON DELETE CASCADE)",
                todo="make the two declarations agree: keep the parents, or re-point these rows",
            )
    names = join([ident(k) for k in keys])
    return session.run(
        q("INSERT INTO {d} ({k}, kind, reason) SELECT DISTINCT ON ({k}) {k}, 'x'::\"char\", 'cascade of ' || origin || {via}"
          " FROM ({new}) n ORDER BY {k}, origin", d=child.intent.temp("d"), k=names, via=lit(f" via {key.name}"), new=new)
    )  # fmt: skip


def _set_null(session: Session, parent: Found, child: Found, key: ForeignKey, of_child: Sequence[Found]) -> None:
    """Rows kept but let go of; the columns stand in `reason` with the constraint, so that emitting needs no second query."""
    keys = child.keys
    count = session.run(
        q(
            "INSERT INTO {cd} ({k}, kind, reason) SELECT DISTINCT {cols}, 'n'::\"char\", {why} FROM {c} c JOIN {p} p ON {on}"
            " JOIN {pd} pd ON pd.kind = 'x' AND {pon} WHERE true{others}",
            others=_dealt_with(of_child, key),
            cd=child.intent.temp("d"),
            k=join([ident(k) for k in keys]),
            cols=join([ident("c", c) for c in child.intent.key]),
            why=lit(key.name),
            c=relation(key.child),
            p=relation(key.parent),
            on=on_keys("c", key.columns, "p", key.parent_columns),
            pd=parent.intent.temp("d"),
            pon=on_keys("pd", parent.keys, "p", parent.intent.key),
        )
    )
    child.let_go += count
    held = [c for c in key.set_columns if child.intent.target.columns[c].not_null]
    if count and key.on_delete == "n" and held:
        raise ReconcilerError(
            f"{parent.intent.address} would set {', '.join(held)} to NULL in {count} rows of {full_name(key.child)}, where it may not be",
            where=parent.intent.place,
            why=f"{key.name} is ON DELETE SET NULL",
            todo="re-point or delete these rows in a resource of their own first, or keep the rows they point at",
        )
    if count and key.on_delete == "d":
        raise ReconcilerError(
            f"{parent.intent.address} would change {count} rows of {full_name(key.child)} by {key.name} (ON DELETE SET DEFAULT)",
            where=parent.intent.place,
            todo="re-point these rows in a resource of their own first",
        )


def _refuse_blocked(session: Session, catalog: Catalog, founds: Sequence[Found]) -> None:
    problems: list[str] = []
    for found in founds:
        if not found.extra or found.intent.lets_go:
            continue
        for key in found.intent.target.referenced_by:
            if key.on_delete not in "ar":
                continue
            mine = [other for other in founds if other.intent.target.name == key.child]
            count = session.value(
                q("SELECT count(*) FROM {c} c JOIN {p} p ON {on} JOIN {pd} pd ON pd.kind = 'x' AND {pon} WHERE true{leaving}",
                  c=relation(key.child), p=relation(key.parent), on=on_keys("c", key.columns, "p", key.parent_columns),
                  pd=found.intent.temp("d"), pon=on_keys("pd", found.keys, "p", found.intent.key), leaving=_dealt_with(mine, key))
            )  # fmt: skip
            if count:
                problems.append(f"{full_name(key.child)}: {count} rows, constraint {key.name} (ON DELETE {key.action})")
    if problems:
        raise ReconcilerError(
            "rows to be deleted are still referenced",
            where=next(found.intent.place for found in founds if found.extra),
            details=tuple(problems),
            why="the database would refuse these deletes",
            todo="declare the referencing tables too (on_extra: delete), or keep the rows",
        )
