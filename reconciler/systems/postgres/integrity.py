"""What the database would refuse, found before anything is applied: parents that are gone, unique values that are taken.

In: what the differ found for every intent on one target. Out: `rc_s_N`/`rc_d_N` adjusted as `on_missing_parent` says, or one error that
names every constraint with its count. Also which steps must free a value before another takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.catalog import Column, ForeignKey, Unique
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import Duplicates, Intent, Parent, References, alias, full_name, on_keys, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

KEYS_A_QUESTION = 20
ByTable = Mapping[TableName, Sequence[Found]]


def check_parents(session: Session, founds: Sequence[Found]) -> None:
    """Every foreign key of every new or re-pointed row must lead to a row that is there, or will be."""
    by_table = group(founds)
    problems: list[str] = []
    places: list[Intent] = []
    again = True
    while again:  # a row that is skipped may be the parent of another
        again = False
        for found in founds:
            for key in found.intent.target.references:
                if not _concerned(found, key):
                    continue
                match found.intent.parent_policy(key):
                    case Parent.FAIL:
                        pass
                    case Parent.NULL:
                        _null_out(session, found, key, by_table)
                    case Parent.SKIP:
                        again |= _skip(session, found, key, by_table)
    asked = [
        (found, key)
        for found in founds
        for key in found.intent.target.references
        if _concerned(found, key) and found.intent.parent_policy(key) is not Parent.SKIP
    ]
    for start in range(0, len(asked), KEYS_A_QUESTION):
        batch = asked[start : start + KEYS_A_QUESTION]
        questions = [
            q("SELECT {}, count(*), min(concat_ws(', ', {})) FROM ({}) o", lit(number),
              join([ident("o", c) for c in key.columns]), _orphans(found, key, by_table))
            for number, (found, key) in enumerate(batch)
        ]  # fmt: skip
        for number, count, example in sorted(session.rows(join(questions, " UNION ALL ")), key=lambda row: int(row[0])):
            if count:
                found, key = batch[int(number)]
                shown = "" if set(key.columns) & found.intent.sensitive else f", e.g. {example}"
                problems.append(
                    f"{found.intent.label}: {count} rows, constraint {key.name}: no {full_name(key.parent)}"
                    f" ({', '.join(key.parent_columns)}) for {', '.join(key.columns)}{shown}"
                )
                places.append(found.intent)
    if problems:
        raise ReconcilerError(
            "rows would point at parents that are gone",
            where=places[0].place,
            details=tuple(problems),
            why="their foreign keys lead to rows that neither stand in the target nor come with this plan",
            todo="restore the parents too, or set on_missing_parent to null or skip for these columns",
        )


def group(founds: Sequence[Found]) -> dict[TableName, list[Found]]:
    by_table: dict[TableName, list[Found]] = {}
    for found in founds:
        by_table.setdefault(found.intent.target.name, []).append(found)
    return by_table


def refuse_moved_keys(session: Session, founds: Sequence[Found]) -> None:
    """An update that ON UPDATE CASCADE, SET NULL or SET DEFAULT would carry on into rows that are not listed is refused."""
    for found in founds:
        positions = {c.name: n for n, c in enumerate(found.compared, 1)}
        for key in found.intent.target.referenced_by:
            moved = [column for column in key.parent_columns if column in positions]
            if key.on_update in "ar" or not found.changed or not moved:
                continue
            intent = found.intent
            count = session.value(
                q("SELECT count(*) FROM {child} c JOIN {t} t ON {fk} JOIN {d} d ON {on} WHERE d.kind = 'c' AND ({flags})",
                  child=relation(key.child), t=relation(intent.target.name), fk=on_keys("c", key.columns, "t", key.parent_columns),
                  d=intent.temp("d"), on=on_keys("d", found.keys, "t", intent.key),
                  flags=join([q("d.m[{}]", lit(positions[column])) for column in moved], " OR "))
            )  # fmt: skip
            if count:
                raise ReconcilerError(
                    f"{intent.label}: new values of {', '.join(moved)} would go on into {count} rows of {full_name(key.child)}",
                    where=intent.place,
                    why=f"{key.name} is ON UPDATE {key.update_action}, and a plan lists every row it changes",
                    todo=f"leave {', '.join(moved)} out (columns: {{ except: [{', '.join(moved)}] }}), or change these values by hand",
                )


def refuse_held_values(session: Session, founds: Sequence[Found]) -> None:
    """A referenced value may only change where nothing that stays points at it, or all is looked at in the end."""
    by_table = group(founds)
    for found in founds:
        intent = found.intent
        positions = {c.name: n for n, c in enumerate(found.compared, 1)}
        for key in intent.target.referenced_by:
            moved = [column for column in key.parent_columns if column in positions]
            if key.on_update not in "ar" or not found.changed or not moved or intent.finds:
                continue
            late = key.deferrable and key.on_update == "a"
            going = [
                q(" AND NOT EXISTS (SELECT FROM {} d WHERE {} AND {})", other.intent.temp("d"),
                  leaves(other, key) if late else raw("d.kind = 'x'"), on_keys("d", other.keys, "c", other.intent.key))
                for other in by_table.get(key.child, ())
            ]  # fmt: skip
            count = session.value(
                q("SELECT count(*) FROM {child} c JOIN {t} t ON {fk} JOIN {d} pd ON {on} WHERE pd.kind = 'c' AND ({flags}){going}",
                  child=relation(key.child), t=relation(intent.target.name), fk=on_keys("c", key.columns, "t", key.parent_columns),
                  d=intent.temp("d"), on=on_keys("pd", found.keys, "t", intent.key), going=join(going, ""),
                  flags=join([q("pd.m[{}]", lit(positions[column])) for column in moved], " OR "))
            )  # fmt: skip
            if count:
                raise ReconcilerError(
                    f"{intent.label}: {', '.join(moved)} would change under {count} rows of {full_name(key.child)} that point there",
                    where=intent.place,
                    why=f"{key.name} is ON UPDATE {key.update_action}{'' if late else ' and not looked at in the end only'}",
                    todo=f"leave {', '.join(moved)} out (columns: {{ except: [{', '.join(moved)}] }}), or change these values by hand",
                )


def leaves(found: Found, key: ForeignKey) -> Composable:
    """Whether a listed row (alias d) is deleted, or gets another value in a column of the key."""
    if isinstance(found.intent.finds, Duplicates | References):
        return q("d.kind IN ('x', 'c')")
    flags = [q("d.m[{}]", lit(n)) for n, c in enumerate(found.compared, 1) if c.name in key.columns]
    return q("(d.kind = 'x' OR d.kind = 'c' AND ({}))", join(flags, " OR ")) if flags else q("d.kind = 'x'")


def _concerned(found: Found, key: ForeignKey) -> bool:
    if isinstance(found.intent.finds, Duplicates | References):  # led to rows that stay
        return False
    written = {c.name for c in (*found.written, *found.compared)}
    return bool(found.missing or found.changed) and bool(set(key.columns) & written)


def _orphans(found: Found, key: ForeignKey, by_table: ByTable) -> Composable:
    """SELECT of the staged rows (with their temporary keys) whose parent is neither there nor coming."""
    intent = found.intent
    positions = {c.name: n for n, c in enumerate(found.compared, 1)}
    touched = join([q("d.m[{}]", lit(positions[c])) for c in key.columns if c in positions] or [raw("false")], " OR ")
    # What the row is going to point at: of a key of several columns an update may leave some alone.
    alone = len(key.columns) == 1
    future = [
        q("s.{}", ident(c)) if alone
        else q("CASE WHEN d.kind = 'm' OR d.m[{n}] THEN s.{c} ELSE t.{c} END AS {c}", n=lit(positions[c]), c=ident(c)) if c in positions
        else q("CASE WHEN d.kind = 'm' THEN s.{c} ELSE t.{c} END AS {c}", c=ident(c))
        for c in key.columns
    ]  # fmt: skip
    live = (
        raw("")
        if alone
        else q(" LEFT JOIN {} t ON {}", relation(intent.target.name), on_keys("d", found.keys, "t", intent.key))
    )
    not_null = join([q("f.{} IS NOT NULL", ident(c)) for c in key.columns], " AND ")
    there = [
        q("EXISTS (SELECT FROM {} p WHERE {}{})", relation(key.parent), on_keys("p", key.parent_columns, "f", key.columns),
          _not_leaving(by_table.get(key.parent, ())))
    ]  # fmt: skip
    for parent in by_table.get(key.parent, ()):
        if parent.missing and set(key.parent_columns) <= {c.name for c in parent.written}:
            there.append(
                q("EXISTS (SELECT FROM {s} ps JOIN {d} pd ON {same} WHERE pd.kind = 'm' AND {on})", s=parent.intent.temp("s"),
                  d=parent.intent.temp("d"), same=on_keys("pd", parent.keys, "ps", parent.intent.key),
                  on=on_keys("ps", key.parent_columns, "f", key.columns))
            )  # fmt: skip
        gains = [n for n, c in enumerate(parent.compared, 1) if c.name in key.parent_columns]
        if parent.changed and gains:
            there.append(
                q("EXISTS (SELECT FROM {s} ps JOIN {d} pd ON {same} WHERE pd.kind = 'c' AND ({gained}) AND {on})", s=parent.intent.temp("s"),
                  d=parent.intent.temp("d"), same=on_keys("pd", parent.keys, "ps", parent.intent.key),
                  gained=join([q("pd.m[{}]", lit(n)) for n in gains], " OR "), on=on_keys("ps", key.parent_columns, "f", key.columns))
            )  # fmt: skip
    return q(
        "SELECT f.*, {keys} FROM {s} s JOIN {d} d ON {same}{live}, LATERAL (SELECT {future}) f"
        " WHERE (d.kind = 'm' OR d.kind = 'c' AND ({touched})) AND {not_null} AND NOT ({there})",
        future=join(future),
        live=live,
        keys=join([q("d.{0} AS {1}", ident(k), ident("rc_" + k)) for k in found.keys]),
        s=intent.temp("s"),
        d=intent.temp("d"),
        same=on_keys("d", found.keys, "s", intent.key),
        touched=touched,
        not_null=not_null,
        there=join(there, " OR "),
    )


def _not_leaving(parents: Sequence[Found]) -> Composable:
    """Rows that this plan deletes are no parents."""
    parts = [
        q(" AND NOT EXISTS (SELECT FROM {d} pd WHERE pd.kind = 'x' AND {on})", d=parent.intent.temp("d"),
          on=on_keys("pd", parent.keys, "p", parent.intent.key))
        for parent in parents
        if parent.extra
    ]  # fmt: skip
    return join(parts, "") if parts else raw("")


def _rc_keys(found: Found) -> tuple[str, ...]:
    return tuple("rc_" + key for key in found.keys)


def _null_out(session: Session, found: Found, key: ForeignKey, by_table: ByTable) -> None:
    intent = found.intent
    nullable = [c for c in key.columns if not intent.target.columns[c].not_null]
    policy = [c for c in nullable if intent.missing_parent.get(c) is Parent.NULL] or nullable
    if not policy:
        if not session.value(q("SELECT EXISTS ({})", _orphans(found, key, by_table))):
            return
        raise ReconcilerError(
            f"{intent.address}: on_missing_parent: null cannot work for {key.name}: {', '.join(key.columns)} may not be NULL",
            where=intent.place,
            todo="say skip or fail for this column",
        )
    count = session.run(
        q("UPDATE {s} s SET {sets} FROM ({orphans}) o WHERE {on}", s=intent.temp("s"),
          sets=join([q("{} = NULL", ident(c)) for c in policy]), orphans=_orphans(found, key, by_table),
          on=on_keys("o", _rc_keys(found), "s", intent.key))
    )  # fmt: skip
    if count:
        _forget_unchanged(session, found, policy)
        found.notes.append(
            f"{count} rows get {', '.join(policy)} = NULL: no {full_name(key.parent)} for them ({key.name})"
        )


def _forget_unchanged(session: Session, found: Found, nulled: Sequence[str]) -> None:
    """An update whose new value became NULL may have nothing left to change."""
    intent = found.intent
    if not found.changed:
        return
    for number, column in enumerate(found.compared, 1):
        if column.name in nulled:
            session.run(
                q("UPDATE {d} d SET m[{n}] = false FROM {s} s JOIN {t} t ON {same} WHERE d.kind = 'c' AND d.m[{n}] AND {on}"
                  " AND s.{c} IS NULL AND t.{c} IS NULL", d=intent.temp("d"), n=lit(number), s=intent.temp("s"),
                  t=relation(intent.target.name), same=on_keys("s", intent.key, "t", intent.key),
                  on=on_keys("d", found.keys, "s", intent.key), c=ident(column.name))
            )  # fmt: skip
    found.changed -= session.run(q("DELETE FROM {} WHERE kind = 'c' AND NOT true = ANY (m)", intent.temp("d")))


def _skip(session: Session, found: Found, key: ForeignKey, by_table: ByTable) -> bool:
    intent = found.intent
    gone = session.rows(
        q("DELETE FROM {d} d USING ({orphans}) o WHERE {on} RETURNING d.kind", d=intent.temp("d"),
          orphans=_orphans(found, key, by_table), on=on_keys("o", _rc_keys(found), "d", found.keys))
    )  # fmt: skip
    if gone:
        found.missing -= sum(1 for (kind,) in gone if kind == "m")
        found.changed -= sum(1 for (kind,) in gone if kind == "c")
        found.left_out += len(gone)
        found.notes.append(f"{len(gone)} rows are left out: no {full_name(key.parent)} for them ({key.name})")
    return bool(gone)


def future_rows(found: Found, columns: Sequence[Column]) -> Composable:
    """SELECT of the rows that this plan writes, as they will be: rc:k1…, rc:fresh, and the table's own column names."""
    intent = found.intent
    position = {c.name: n for n, c in enumerate(found.compared, 1)}
    written = {c.name for c in found.written}
    defaults = {c.name: raw(c.default or "NULL") for c in found.defaults}
    keys = join([q("{} AS {}", ident("d", k), ident("rc:" + k)) for k in found.keys])
    new: list[Composable] = []
    kept: list[Composable] = []
    for column in columns:
        name = ident(column.name)
        blank = defaults.get(column.name, raw("NULL"))
        fresh = q("s.{}", name) if column.name in written else q("{}::{}", blank, raw(column.type))
        new.append(q("{} AS {}", fresh, name))
        n = position.get(column.name)
        kept.append(
            q("CASE WHEN d.m[{n}] THEN s.{c} ELSE t.{c} END AS {c}", n=lit(n), c=name) if n else q("t.{}", name)
        )
    same = on_keys("d", found.keys, "s", intent.key)
    inserts = q("SELECT {}, true AS \"rc:fresh\", {} FROM {} d JOIN {} s ON {} WHERE d.kind = 'm'", keys, join(new), intent.temp("d"),
                intent.temp("s"), same)  # fmt: skip
    updates = q("SELECT {}, false, {} FROM {} d JOIN {} s ON {} JOIN {} t ON {} WHERE d.kind = 'c'", keys, join(kept),
                intent.temp("d"), intent.temp("s"), same, relation(intent.target.name),
                on_keys("d", found.keys, "t", intent.key))  # fmt: skip
    return q("{} UNION ALL {}", inserts, updates)


def check_uniques(session: Session, founds: Sequence[Found]) -> tuple[set[TableName], set[TableName]]:
    """Every unique value must be free, or freed by this plan; tables come back where an update, or a delete, frees what others take."""
    problems: list[str] = []
    freed: set[TableName] = set()
    emptied: set[TableName] = set()
    where = None
    for found in founds:
        intent = found.intent
        for unique in intent.target.uniques:
            if (unique.columns and set(unique.columns) == set(intent.key)) or not _may_collide(found, unique):
                continue
            count, example, inside, swapped, moved, after_delete = _collisions(session, found, unique)
            shown = "" if unique.uses & intent.sensitive else f", e.g. {example}"
            what = f"{intent.label}: {{}} rows, constraint {unique.name} ({', '.join(unique.expressions)}): {{}}{shown}"
            if count:
                problems.append(what.format(count, f"another row of {full_name(intent.target.name)} holds the value"))
            if inside:
                problems.append(what.format(inside, f"the value stands more than once in {intent.source_name}"))
            parked = [c for c in found.compared if c.name in unique.columns and not c.not_null]
            nullable = bool(parked) and not unique.nulls_equal
            if moved and not (unique.deferrable or nullable):
                problems.append(
                    what.format(
                        moved, "the values change places among updated rows, which only a deferrable constraint allows"
                    )
                )
            if swapped and not unique.deferrable:
                freed.add(intent.target.name)
            if after_delete and not unique.deferrable:
                emptied.add(intent.target.name)
            where = where or (intent.place if count or inside else None)
    if problems:
        raise ReconcilerError(
            "unique values are taken",
            where=where,
            details=tuple(problems),
            why="the database would refuse these rows",
            todo="use these columns as `key`, narrow `where`, or let on_changed: {newer: column} decide",
        )
    return freed, emptied


def _may_collide(found: Found, unique: Unique) -> bool:
    changed = {c.name for c in found.compared}
    given = {c.name for c in (*found.written, *found.defaults)}
    # A key that new rows are not given is made by the database, such as a sequence's; staged, it is NULL, which equals nothing.
    made = unique.columns and not unique.nulls_equal and not unique.uses & given
    return bool(found.missing and not made) or bool(found.changed and unique.uses & changed)


def _collisions(session: Session, found: Found, unique: Unique) -> tuple[int, str | None, int, int, int, int]:
    """(rows whose value another row keeps, an example, values twice among our own, values that an update frees, of these for
    another update, values that a delete frees)."""
    intent = found.intent
    table = intent.target
    columns = [c for c in table.columns.values() if c.name in unique.uses and not c.generated]
    if len(columns) < len(unique.uses):  # an index over a generated column: its value is not ours to foresee
        found.notes.append(f"{unique.name} is over a generated column: not checked before apply")
        return 0, None, 0, 0, 0, 0
    values = join([q("({}) AS {}", raw(e), ident(f"u{n}"))
                   for n, e in enumerate(unique.expressions)])  # fmt: skip
    predicate = q("WHERE {}", raw(unique.predicate)) if unique.predicate else raw("")
    names = [f"u{n}" for n in range(len(unique.expressions))]
    table_alias = alias(table.name)
    future = q("SELECT {k}, \"rc:fresh\" AS fresh, {v} FROM ({rows}) AS {t} {p}",
               k=join([q("{} AS {}", ident("rc:" + k), ident(k)) for k in found.keys]), v=values,
               rows=future_rows(found, columns), t=table_alias, p=predicate)  # fmt: skip
    present = q("SELECT {k}, {v} FROM {r} AS {t} {p}", v=values, r=relation(table.name), t=table_alias, p=predicate,
                k=join([q("{} AS {}", ident(table.name.name, c), ident(k)) for c, k in zip(intent.key, found.keys, strict=True)]))  # fmt: skip
    same = join(
        [q("(f.{0} IS NOT DISTINCT FROM p.{0})" if unique.nulls_equal else "f.{0} = p.{0}", ident(n)) for n in names],
        " AND ",
    )
    uses = [n for n, c in enumerate(found.compared, 1) if c.name in unique.uses]
    moved = join([q("d.m[{}]", lit(n)) for n in uses] or [raw("false")], " OR ")
    leaving = q("(SELECT d.kind FROM {} d WHERE {} AND (d.kind = 'x' OR d.kind = 'c' AND ({})) LIMIT 1)", intent.temp("d"),
                on_keys("d", found.keys, "p", found.keys), moved)  # fmt: skip
    fresh_or_moved = q("(f.fresh OR EXISTS (SELECT FROM {} d WHERE {} AND ({})))", intent.temp("d"),
                       on_keys("d", found.keys, "f", found.keys), moved)  # fmt: skip
    taken, example, swapped, moved_on, after_delete = session.one(
        q("SELECT count(*) FILTER (WHERE leaving IS NULL), min(v) FILTER (WHERE leaving IS NULL),"
            " count(*) FILTER (WHERE leaving = 'c'), count(*) FILTER (WHERE leaving = 'c' AND NOT fresh),"
            " count(*) FILTER (WHERE leaving = 'x')"
          " FROM (SELECT {leaving} AS leaving, f.fresh, concat_ws(', ', {v}) AS v FROM ({future}) f JOIN ({present}) p ON {same}"
          " WHERE NOT ({own}) AND {mine}) c",
          leaving=leaving, v=join([ident("f", n) for n in names]), future=future, present=present, same=same,
          own=on_keys("f", found.keys, "p", found.keys), mine=fresh_or_moved)
    )  # fmt: skip
    nulls = raw("true") if unique.nulls_equal else join([q("{} IS NOT NULL", ident(n)) for n in names], " AND ")
    inside, also = session.one(
        q("SELECT coalesce(sum(n), 0)::int8, min(v) FROM (SELECT count(*) AS n, min(concat_ws(', ', {v})) AS v FROM ({f}) f"
          " WHERE {nulls} GROUP BY {v} HAVING count(*) > 1) g", v=join([ident(n) for n in names]), f=future, nulls=nulls)
    )  # fmt: skip
    return taken, example or also, inside, swapped, moved_on, after_delete
