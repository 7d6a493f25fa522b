"""Rows that share a key: ranked, all but the best leave, and what points at them is led to the best.

In: an intent that finds `Duplicates`, and one with `References` for each table that points at it. Out: the same `Found`s that
comparing gives (`rc_d_N`, `rc_s_N`), and `rc_r_N`: k1… of each loser, v1… of its survivor, its rank and which rule decided.
Invariant: the order is total, so two runs keep the same rows; every row that points at a loser is listed, or the plan fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.catalog import ForeignKey, Unique
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import (
    Duplicates,
    Intent,
    References,
    alias,
    full_name,
    on_keys,
    relation,
    stored,
    whole,
)
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.structure import kept_unique


def tables_of(intent: Intent) -> list[Composable]:
    """The statements that make the temporary tables of these two sources."""
    table = relation(intent.target.name)
    match intent.finds:
        case Duplicates(key=key):
            return [
                q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA", intent.temp("g"),
                  join([q("{} AS {}", ident(c), ident(f"g{n}")) for n, c in enumerate(key, 1)]), table),
                q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, {}, 0::int8 AS rank, 0 AS rule, ''::text AS ours, ''::text AS theirs"
                  " FROM {} WITH NO DATA", intent.temp("r"), intent.keyed("k"), intent.keyed("v"), table)
            ]  # fmt: skip
        case References():
            new = join([q("{} AS {}", ident(c), ident(f"n{n}")) for n, c in enumerate(moving(intent.finds), 1)])
            return [
                q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, 0::int8 AS rank, null::text AS room, {} FROM {} WITH NO DATA",
                  intent.temp("m"), intent.keyed(), new, table)
            ]  # fmt: skip
        case _:
            return []


def moving(references: References) -> tuple[str, ...]:
    """The columns by which rows point at duplicates."""
    return tuple(dict.fromkeys(column for key in references.keys for column in key.columns))


def find_duplicates(
    session: Session, intents: Sequence[Intent], others: Sequence[Found], *, count_rows: bool = False
) -> list[Found]:
    """Rank each `Duplicates` intent, then deal with what points at its losers, unless another declaration moves these rows."""
    founds: list[Found] = []
    unsettled = {it.intent.target.name: it.intent.address for it in others if it.missing or it.changed or it.extra}
    for intent in intents:
        if not isinstance(intent.finds, Duplicates):
            continue
        found = _rank(session, intent, intent.finds, count_rows)
        tables = [intent.target.name, *(key.child for key in intent.target.referenced_by if found.extra)]
        found.waits = next((unsettled[name] for name in tables if name in unsettled), "")
        founds.append(found)
        if found.extra and not (found.waits or intent.protect):
            children = [
                _lead(session, it, it.finds)
                for it in intents
                if isinstance(it.finds, References) and it.finds.of is intent
            ]
            founds += children
            moved = [it for it in (found, *children) if it.missing or it.changed or it.extra]
            unsettled |= {it.intent.target.name: intent.address for it in moved}
    return founds


def _rank(session: Session, intent: Intent, source: Duplicates, count_rows: bool) -> Found:
    found = Found(intent)
    table, name = relation(intent.target.name), alias(intent.target.name)
    groups = [f"g{n}" for n in range(1, len(source.key) + 1)]
    conditions = [] if source.nulls_equal else [q("{}.{} IS NOT NULL", name, ident(c)) for c in source.key]
    conditions += [source.where] if source.where else []
    where = q(" WHERE {}", join(conditions, " AND ")) if conditions else raw("")
    if kept_unique(session, intent, source):
        if count_rows:
            found.source_rows = session.value(q("SELECT count(*) FROM {} AS {}{}", table, name, where))
        return found
    columns = [q("{}.{} AS {}", name, ident(c), ident(k)) for c, k in zip(intent.key, found.keys, strict=True)]
    ties = [ident(k) for k in found.keys]
    if intent.by_whole:
        digest = whole(stored(intent.target), intent.target.name.name)
        columns = [q("{h} || '/' || row_number() OVER (PARTITION BY {h}) AS k1", h=digest)]
        ties = [q('{} COLLATE "C"', ident(f"w{n}")) for n in range(len(intent.target.columns))] + ties
        columns += [q("{}.{}::text AS {}", name, ident(c), ident(f"w{n}")) for n, c in enumerate(intent.target.columns)]
    columns += [q("{}.{} AS {}", name, ident(c), ident(g)) for c, g in zip(source.key, groups, strict=True)]
    for n, rule in enumerate(source.rules, 1):
        columns += [q("{} AS {}", rule.by, ident(f"r{n}")), q("({}) AS {}", rule.shown, ident(f"q{n}"))]
    order = [q("{} {}", ident(f"r{n}"), raw(rule.order)) for n, rule in enumerate(source.rules, 1)]
    order += ties
    equal = "IS NOT DISTINCT FROM" if source.nulls_equal else "="
    pairs = list(zip(source.key, groups, strict=True))
    doubled = join([q("{}.{} {} rc_dup.{}", name, ident(c), raw(equal), ident("rc_" + g)) for c, g in pairs], " AND ")
    same = join([q("s.{0} {1} l.{0}", ident(g), raw(equal)) for g in groups], " AND ")
    by = [
        q("WHEN l.{0} IS DISTINCT FROM s.{0} THEN {1}", ident(f"r{n}"), lit(n)) for n in range(1, len(source.rules) + 1)
    ]
    rule = q("CASE {} ELSE 0 END", join(by, " ")) if by else raw("0")
    shown = [q("WHEN {} THEN {{}}.{}", lit(n), ident(f"q{n}")) for n in range(1, len(source.rules) + 1)]
    # Which keys are doubled, first and on their own: then the table is read a second time against few of them.
    grouped = join([q("{}.{}", name, ident(c)) for c in source.key])
    session.fill(
        intent.temp("g"),
        q(
            "SELECT {key} FROM {t} AS {a}{where} GROUP BY {key} HAVING count(*) > 1",
            key=grouped,
            t=table,
            a=name,
            where=where,
        ),
    )
    session.run(q("ANALYZE {}", intent.temp("g")))
    session.run(
        q("WITH base AS (SELECT {columns} FROM {t} AS {a} JOIN {dup} rc_dup ({dups}) ON {doubled}{where}),"
          " ranked AS MATERIALIZED (SELECT *, row_number() OVER (PARTITION BY {groups} ORDER BY {order}) AS rank FROM base),"
          " lost AS (SELECT {lk}, {sk}, l.rank, {rule} AS rule, {values} FROM ranked l JOIN ranked s ON s.rank = 1 AND {same}"
          " WHERE l.rank > 1)"
          " INSERT INTO {r} SELECT {out}, rank, rule, {ours}, {theirs} FROM lost",
          dup=intent.temp("g"), dups=join([ident("rc_" + g) for g in groups]), t=table, a=name, where=where, columns=join(columns),
          doubled=doubled, groups=join([ident(g) for g in groups]), order=join(order), same=same, rule=rule, r=intent.temp("r"),
          lk=join([q("l.{0}", ident(k)) for k in found.keys]),
          sk=join([q("s.{} AS {}", ident(k), ident("v" + k[1:])) for k in found.keys]),
          values=join([q("{0}.{1} AS {2}", raw(side), ident(f"q{n}"), ident(f"{side}{n}"))
                       for side in "ls" for n in range(1, len(source.rules) + 1)] or [raw("1 AS none")]),
          out=join([ident(k) for k in (*found.keys, *(f"v{k[1:]}" for k in found.keys))]),
          ours=_deciding("l", len(shown)), theirs=_deciding("s", len(shown)))
    )  # fmt: skip
    session.run(q("ANALYZE {}", intent.temp("r")))
    names = [rule.name for rule in source.rules]
    reason = [q("WHEN {} THEN {}", lit(n), lit(f"duplicate: loses by {rule}")) for n, rule in enumerate(names, 1)]
    tie = "all columns" if intent.by_whole else "primary key" if intent.key == intent.target.primary_key else "key"
    last = lit(f"duplicate: loses by {tie}")
    session.run(
        q("INSERT INTO {d} ({k}, kind, reason) SELECT {k}, 'x'::\"char\", {reason} FROM {r}", d=intent.temp("d"),
          k=join([ident(k) for k in found.keys]), r=intent.temp("r"),
          reason=q("CASE rule {} ELSE {} END", join(reason, " "), last) if reason else last)
    )  # fmt: skip
    session.run(q("ANALYZE {}", intent.temp("d")))
    survivors = join([ident("v" + k[1:]) for k in found.keys])
    count, groups_ = session.one(q("SELECT count(*), count(DISTINCT ({})) FROM {}", survivors, intent.temp("r")))
    found.extra = count
    if count_rows:
        found.source_rows = session.value(q("SELECT count(*) FROM {} AS {}{}", table, name, where)) - count
    if count:
        found.notes.append(
            f"{groups_} keys ({', '.join(source.key)}) stand more than once: {groups_} rows survive, {count} go"
        )
    return found


def _deciding(side: str, rules: int) -> Composable:
    """The value that decided, as text: of all others none is made."""
    if not rules:
        return raw("null")
    cases = [q("WHEN {} THEN {}::text", lit(n), ident(f"{side}{n}")) for n in range(1, rules + 1)]
    return q("CASE rule {} END", join(cases, " "))


def _lead(session: Session, intent: Intent, source: References) -> Found:
    """Rows that point at losers: led to the survivor, deleted, or an error."""
    own = tuple(column for column in intent.target.columns.values() if not column.generated)
    columns = moving(source)
    compared = tuple(intent.target.columns[c] for c in columns if c not in intent.key)
    found = Found(intent, written=own, compared=compared)
    _stage_moves(session, found, source)
    count = session.value(q("SELECT count(*) FROM {}", intent.temp("m")))
    if not count:
        return found
    if source.policy == "fail":
        names = ", ".join(f"{key.name} (ON DELETE {key.action})" for key in source.keys)
        found.refused = ReconcilerError(
            f"{intent.address}: {count} rows of {full_name(intent.target.name)} point at rows that would go",
            where=intent.place, why=f"by {names}", todo="say references: repoint (they follow the survivor) or delete",
        )  # fmt: skip
        return found
    if source.policy == "delete":
        found.extra = _leave(
            session, found, raw("true"), lit(f"points at a duplicate of {full_name(source.of.target.name)}")
        )
        return found
    found.refused = _nowhere(session, found, source) or _make_room(session, found, source)
    if found.refused:
        return found
    found.extra = _leave(session, found, raw("m.room IS NOT NULL"), raw("'no room at the survivor: ' || m.room"))
    staged = join([ident(c.name) for c in own])
    moved = q("FROM {m} m JOIN {t} t ON {on} WHERE m.room IS NULL", m=intent.temp("m"), t=relation(intent.target.name),
              on=on_keys("m", found.keys, "t", intent.key))  # fmt: skip
    session.run(q("INSERT INTO {s} ({names}) SELECT {values} {moved}", s=intent.temp("s"), names=staged,
                  values=_values(found, columns, "t"), moved=moved))  # fmt: skip
    session.run(q("ANALYZE {}", intent.temp("s")))
    keys = join([ident(k) for k in found.keys])
    reason = lit("repointed to the survivor")
    if compared and not set(columns) & set(intent.key):
        flags = join(
            [q("m.{} IS DISTINCT FROM t.{}", ident(f"n{columns.index(c.name) + 1}"), ident(c.name)) for c in compared]
        )
        found.changed = session.run(
            q("INSERT INTO {d} ({k}, kind, m, reason) SELECT {mk}, 'c'::\"char\", ARRAY[{flags}]::bool[], {reason} {moved}",
              d=intent.temp("d"), k=keys, mk=join([ident("m", k) for k in found.keys]), flags=flags, reason=reason, moved=moved)
        )  # fmt: skip
        return found
    # The reference is part of what identifies the row: it leaves under its old key and comes back under the new one.
    found.refused = _followed(session, found)
    if found.refused:
        return found
    new = [q("m.{}", ident(f"n{columns.index(c) + 1}")) if c in columns else q("t.{}", ident(c)) for c in intent.key]
    found.missing = session.run(
        q("INSERT INTO {d} ({k}, kind, reason) SELECT {new}, 'm'::\"char\", {reason} {moved}", d=intent.temp("d"), k=keys,
          new=join(new), reason=reason, moved=moved)
    )  # fmt: skip
    found.extra += _leave(session, found, raw("m.room IS NULL"), reason)
    return found


def _stage_moves(session: Session, found: Found, source: References) -> None:
    """`rc_m_N`: k1… of each row that points at a loser, and n1… its columns as they will be."""
    intent = found.intent
    columns = moving(source)
    joins: list[Composable] = []
    new: dict[str, Composable] = {}
    for number, key in enumerate(source.keys):
        name = ident(f"f{number}")
        on = join([q("{}.{} = c.{}", name, ident(f"o{n}"), ident(c)) for n, c in enumerate(key.columns)], " AND ")
        joins.append(q("LEFT JOIN ({}) {} ON {}", _survivors(source.of, key), name, on))
        for n, column in enumerate(key.columns):
            now = new.get(column, q("c.{}", ident(column)))
            new[column] = q("coalesce({}.{}, {})", name, ident(f"s{n}"), now)
    hit = join([q("{}.rank IS NOT NULL", ident(f"f{n}")) for n in range(len(source.keys))], " OR ")
    ranks = join([q("{}.rank", ident(f"f{n}")) for n in range(len(source.keys))])
    losing = raw("")
    if intent.target.name == source.of.target.name:
        losing = q(" AND NOT EXISTS (SELECT FROM {} l WHERE {})", source.of.temp("r"),
                   on_keys("l", [f"k{n}" for n in range(1, len(source.of.key) + 1)], "c", source.of.key))  # fmt: skip
    session.run(
        q("INSERT INTO {m} SELECT {keys}, least({ranks}), null, {new} FROM {t} c {joins} WHERE ({hit}){losing}", m=intent.temp("m"),
          keys=join([ident("c", c) for c in intent.key]), ranks=ranks, new=join([new[c] for c in columns]),
          t=relation(intent.target.name), joins=join(joins, " "), hit=hit, losing=losing)
    )  # fmt: skip
    session.run(q("ANALYZE {}", intent.temp("m")))


def _survivors(of: Intent, key: ForeignKey) -> Composable:
    """What a foreign key refers to in each loser (o0…) and in its survivor (s0…)."""
    if set(key.parent_columns) <= set(of.key):
        places = [of.key.index(c) + 1 for c in key.parent_columns]
        pairs = join([q("{} AS {}, {} AS {}", ident(f"k{p}"), ident(f"o{n}"), ident(f"v{p}"), ident(f"s{n}"))
                      for n, p in enumerate(places)])  # fmt: skip
        return q("SELECT {}, rank FROM {}", pairs, of.temp("r"))
    pairs = join([q("o.{0} AS {1}, s.{0} AS {2}", ident(c), ident(f"o{n}"), ident(f"s{n}"))
                  for n, c in enumerate(key.parent_columns)])  # fmt: skip
    count = range(1, len(of.key) + 1)
    return q("SELECT {pairs}, r.rank FROM {r} r JOIN {t} o ON {old} JOIN {t} s ON {new}", pairs=pairs, r=of.temp("r"),
             t=relation(of.target.name), old=on_keys("r", [f"k{n}" for n in count], "o", of.key),
             new=on_keys("r", [f"v{n}" for n in count], "s", of.key))  # fmt: skip


def _values(found: Found, columns: Sequence[str], live: str) -> Composable:
    """A row's columns as they will be."""
    return join(
        [
            q("m.{} AS {}", ident(f"n{columns.index(c.name) + 1}"), ident(c.name))
            if c.name in columns
            else q("{}.{}", raw(live), ident(c.name))
            for c in found.written
        ]
    )


def _nowhere(session: Session, found: Found, source: References) -> ReconcilerError | None:
    """A survivor may have NULL where its losers were pointed at."""
    parent, intent = source.of.target, found.intent
    for key in source.keys:
        open_ = [
            n for n, c in enumerate(key.parent_columns) if c not in source.of.key and not parent.columns[c].not_null
        ]
        if not open_:
            continue
        count = session.value(
            q("SELECT count(*) FROM {} c JOIN ({}) f ON {} JOIN {} m ON {} WHERE {}", relation(intent.target.name),
              _survivors(source.of, key), join([q("f.{} = c.{}", ident(f"o{n}"), ident(c)) for n, c in enumerate(key.columns)], " AND "),
              intent.temp("m"), on_keys("m", found.keys, "c", intent.key), join([q("f.{} IS NULL", ident(f"s{n}")) for n in open_], " OR "))
        )  # fmt: skip
        if count:
            names = ", ".join(key.parent_columns[n] for n in open_)
            return ReconcilerError(
                f"{intent.address}: {count} rows of {full_name(intent.target.name)} cannot be repointed",
                where=intent.place,
                why=f"they point at {names} of {full_name(parent.name)} by {key.name}, which is NULL in the row that stays",
                todo=f"rank rows that have {names} first ({{ {names}: filled }}), or mend these rows by hand",
            )
    return None


def _make_room(session: Session, found: Found, source: References) -> ReconcilerError | None:
    """Mark rows that a unique key of their table has no room for once they point at the survivor."""
    columns = moving(source)
    for unique in found.intent.target.uniques:
        if not unique.uses & set(columns):
            continue
        count = session.run(_crowded(found, columns, unique, source))
        if count and not source.drop:
            intent = found.intent
            return ReconcilerError(
                f"{intent.address}: {count} rows of {full_name(intent.target.name)} have no room at the survivor",
                where=intent.place,
                why=f"{unique.name} ({', '.join(unique.expressions)}) holds the same value already",
                todo="say on_collision: drop_child to delete them, or mend these rows first",
            )
    return None


def _crowded(found: Found, columns: Sequence[str], unique: Unique, source: References) -> Composable:
    intent = found.intent
    name = alias(intent.target.name)
    values = join([q("({}) AS {}", raw(e), ident(f"u{n}")) for n, e in enumerate(unique.expressions)])
    names = [ident(f"u{n}") for n in range(len(unique.expressions))]
    predicate = q(" WHERE {}", raw(unique.predicate)) if unique.predicate else raw("")
    rows = q("SELECT {mk}, m.rank AS rc_rank, {v} FROM {m} m JOIN {t} t ON {on} WHERE m.room IS NULL",
             mk=join([q("m.{0} AS {1}", ident(k), ident("rc_" + k)) for k in found.keys]), v=_values(found, columns, "t"),
             m=intent.temp("m"), t=relation(intent.target.name), on=on_keys("m", found.keys, "t", intent.key))  # fmt: skip
    keys = [ident("rc_" + k) for k in found.keys]
    future = q(
        "SELECT {k}, rc_rank, {v} FROM ({rows}) AS {a}{p}", k=join(keys), v=values, rows=rows, a=name, p=predicate
    )
    gone = [q("NOT EXISTS (SELECT FROM {} m WHERE {})", intent.temp("m"), join([q("m.{} = {}.{}", ident(k), name, ident(c))
            for k, c in zip(found.keys, intent.key, strict=True)], " AND "))]  # fmt: skip
    if intent.target.name == source.of.target.name:
        of = source.of
        gone.append(q("NOT EXISTS (SELECT FROM {} r WHERE {})", of.temp("r"), join(
            [q("r.{} = {}.{}", ident(f"k{n}"), name, ident(c)) for n, c in enumerate(of.key, 1)], " AND ")))  # fmt: skip
    present = q("SELECT {v} FROM {t} AS {a} WHERE {gone}{p}", v=values, t=relation(intent.target.name), a=name,
                gone=join(gone, " AND "), p=q(" AND ({})", raw(unique.predicate)) if unique.predicate else raw(""))  # fmt: skip
    equal = raw("IS NOT DISTINCT FROM") if unique.nulls_equal else raw("=")
    filled = raw("true") if unique.nulls_equal else join([q("f.{} IS NOT NULL", u) for u in names], " AND ")
    taken = q(
        "EXISTS (SELECT FROM ({}) p WHERE {})", present, join([q("p.{0} {1} f.{0}", u, equal) for u in names], " AND ")
    )
    return q(
        "UPDATE {m} m SET room = {why} FROM (SELECT {k}, row_number() OVER (PARTITION BY {u} ORDER BY rc_rank, {k}) AS n, {taken} AS taken"
        " FROM ({future}) f WHERE {filled}) x WHERE {on} AND (x.n > 1 OR x.taken)", m=intent.temp("m"), why=lit(unique.name), k=join(keys),
        u=join(names), taken=taken, future=future, filled=filled,
        on=join([q("x.{} = m.{}", key, ident(k)) for key, k in zip(keys, found.keys, strict=True)], " AND ")
    )  # fmt: skip


def _leave(session: Session, found: Found, which: Composable, reason: Composable) -> int:
    keys = join([ident(k) for k in found.keys])
    return session.run(
        q("INSERT INTO {d} ({k}, kind, reason) SELECT {k}, 'x'::\"char\", {reason} FROM {m} m WHERE {which}", d=found.intent.temp("d"),
          k=keys, reason=reason, m=found.intent.temp("m"), which=which)
    )  # fmt: skip


def _followed(session: Session, found: Found) -> ReconcilerError | None:
    """A row that changes its key must not be pointed at itself."""
    intent = found.intent
    for key in intent.target.referenced_by:
        count = session.value(
            q("SELECT count(*) FROM {c} c JOIN {t} t ON {fk} JOIN {m} m ON {on} WHERE m.room IS NULL", c=relation(key.child),
              t=relation(intent.target.name), fk=on_keys("c", key.columns, "t", key.parent_columns), m=intent.temp("m"),
              on=on_keys("m", found.keys, "t", intent.key))
        )  # fmt: skip
        if count:
            return ReconcilerError(
                f"{intent.address}: rows of {full_name(intent.target.name)} cannot be repointed",
                where=intent.place,
                why=f"the reference is part of their key, and {count} rows of {full_name(key.child)} point at them by {key.name}",
                todo="say references: delete, or repoint these rows by hand first",
            )
    return None
