"""The one row differ: two relations in, what differs out — as temporary tables on the target, found inside the database.

Rows of the target's own connection are compared in one query. Of another server only keys and hashes travel (COPY to COPY, never
parsed here); then the rows that differ, and only they, are fetched into a table of the target's own types.

Left behind for each intent: `rc_d_N` (k1…, kind, m, reason) with kind 'm' missing, 'c' changed, 'x' to be deleted, and `rc_s_N`, the
rows as they should be. Scope is symmetric: a row in scope on either side is judged by its key against the whole other side.
Invariant: nothing is written but temporary tables; no row passes through Python's hands unless it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.catalog import Column
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import (
    Intent,
    LinesSource,
    OnChanged,
    OnExtra,
    Scope,
    TableSource,
    alias,
    columns_of,
    differ_sql,
    full_name,
    hash_sql,
    key_names,
    on_keys,
    relation,
)
from reconciler.systems.postgres.session import Composable, Row, Session, explain, ident, join, lit, q, raw

BYTES_A_FETCH = 4 << 20
"""Of keys sent to the source at a time."""
FAR_APART = 0.98
"""As one estimate of rows to the other: nobody hashes twice to learn that such tables differ."""
FEW = 1_000
"""Rows up to which the server's guess at a temporary table is good enough, and asking for one row each is quick."""


def diff(session: Session, found: Found, *, count_extra: bool) -> None:
    """Fill `rc_d_N` and `rc_s_N`."""
    intent = found.intent
    try:
        candidates = _find_candidates(session, found)
        _check_keys(session, found, candidates)
        if candidates:
            _judge_by_key(session, found)
            stage_rows(session, found, candidates)
            _decide(session, found)
        if count_extra or intent.on_extra is OnExtra.DELETE or intent.root:
            _count_extra(session, found)
    except psycopg.Error as error:
        raise explain(error, f"comparing {intent.label} with {intent.source_name}", session.name) from None


def _side(
    intent_key: Sequence[str], from_: Composable, name: Composable, scope: Scope, hashed: Composable
) -> Composable:
    keys = join(
        [
            q("{}.{} AS {}", name, ident(c), ident(k))
            for c, k in zip(intent_key, key_names(len(intent_key)), strict=True)
        ]
    )
    where = q(" WHERE {}", scope.where) if scope.where else raw("")
    return q("{}SELECT {}, {} AS h FROM {} AS {}{}", scope.with_ or raw(""), keys, hashed, from_, name, where)


def source_relation(intent: Intent) -> Composable:
    """Where the source's rows stand, on whichever connection that is."""
    match intent.source:
        case TableSource(table=table):
            return relation(table.name)
        case LinesSource():
            return intent.temp("f")


def is_here(session: Session, intent: Intent) -> bool:
    """Whether the source can be read on the target's own connection."""
    return isinstance(intent.source, LinesSource) or intent.source.session is session


def _find_candidates(session: Session, found: Found) -> int:
    """How many rows may differ."""
    intent, keys = found.intent, found.keys
    types = (
        {n: c.type for n, c in intent.source.table.columns.items()} if isinstance(intent.source, TableSource) else {}
    )
    name = alias(intent.target.name)
    compared = () if intent.on_changed is OnChanged.KEEP else found.compared
    target_hash = hash_sql(compared, types, name)
    target = _side(intent.key, relation(intent.target.name), name, intent.scope, target_hash)
    source_types = {c.name: c.type for c in found.compared}
    columns = compared
    if isinstance(intent.source, TableSource):
        of_source = intent.source.table.columns
        columns = tuple(c._replace(type=of_source[c.name].type) for c in compared)
    source = _side(
        intent.key,
        source_relation(intent),
        name,
        intent.source.scope,
        hash_sql(columns, source_types, name),
    )
    if is_here(session, intent):
        source_rows = q("({})", source)
    elif _identical(session, found, columns, types, source_types):
        return 0
    else:
        assert isinstance(intent.source, TableSource)
        blocks = intent.source.session.copy_out(q("COPY ({}) TO STDOUT", source))
        found.source_rows = session.copy_in(q("COPY {} FROM STDIN", intent.temp("k")), blocks)
        _analyze(session, intent.temp("k"), found.source_rows)
        source_rows = intent.temp("k")
    # Rows only the target has matter where they may be deleted, or may be in the source outside of its scope.
    extras = intent.on_extra is OnExtra.DELETE or intent.source.scope.where is not None
    candidates = session.fill(
        q("{} ({}, kind)", intent.temp("d"), join([ident(k) for k in keys])),
        q(
            "SELECT {values}, CASE WHEN t.h IS NULL THEN 'm' WHEN s.h IS NULL THEN 'x' ELSE 'c' END"
            " FROM {source} s {how} JOIN ({target}) t ON {on} WHERE s.h IS NULL OR t.h IS NULL OR s.h <> t.h",
            values=join([q("coalesce(s.{0}, t.{0})", ident(k)) for k in keys]),
            source=source_rows,
            how=raw("FULL" if extras else "LEFT"),
            target=target,
            on=on_keys("s", keys, "t", keys),
        ),
    )
    _analyze(session, intent.temp("d"), candidates)
    return candidates


def _analyze(session: Session, table: Composable, rows: int) -> None:
    if rows > FEW:
        session.run(q("ANALYZE {}", table))


def _identical(
    session: Session, found: Found, columns: Sequence[Column], types: Mapping[str, str], source_types: Mapping[str, str]
) -> bool:
    """Whether both sides are the same as a whole: as many rows, and the same checksum of their hashes, asked of both at once.

    The cheap questions first: where estimates are far apart, or the counts differ, hashing twice would be wasted.
    """
    intent = found.intent
    assert isinstance(intent.source, TableSource)
    estimates = sorted((intent.target.rows, intent.source.table.rows))
    if not (intent.scope.where or intent.source.scope.where) and 0 < estimates[0] < FAR_APART * estimates[1]:
        return False
    name = alias(intent.target.name)
    key = [intent.target.columns[c] for c in intent.key]
    of_source = intent.source.table.columns
    source_key = [c._replace(type=of_source[c.name].type) for c in key]
    compared = () if intent.on_changed is OnChanged.KEEP else found.compared
    all_source_types = {**source_types, **{c.name: c.type for c in key}}

    def both(what: LiteralString) -> tuple[Row, Row]:
        hashed = hash_sql([*key, *compared], types, name) if "h)" in what else raw("0")
        source_hash = hash_sql([*source_key, *columns], all_source_types, name) if "h)" in what else raw("0")
        sides = (
            (session, _side(intent.key, relation(intent.target.name), name, intent.scope, hashed)),
            (_other(intent), _side(intent.key, source_relation(intent), name, intent.source.scope, source_hash)),
        )
        with ThreadPoolExecutor(1) as pool:
            there = pool.submit(sides[1][0].one, q("SELECT {} FROM ({}) s", raw(what), sides[1][1]))
            here = sides[0][0].one(q("SELECT {} FROM ({}) t", raw(what), sides[0][1]))
            return here, there.result()

    here, there = both("count(*)")
    if here != there:
        return False
    count = here[0]
    here, there = both("bit_xor(h), sum(h)")
    if here == there:
        found.source_rows = count
    return here == there


def _check_keys(session: Session, found: Found, candidates: int) -> None:
    """A key must be a key on both sides: no NULL in it, nothing twice."""
    intent, keys = found.intent, found.keys
    key_list = join([ident(k) for k in keys])
    where = join([q("{} IS NULL", ident(k)) for k in keys], " OR ")
    of_source: Mapping[str, Column] = intent.source.table.columns if isinstance(intent.source, TableSource) else {}
    not_null = all(c in of_source and of_source[c].not_null and intent.target.columns[c].not_null for c in intent.key)
    if candidates and not not_null:
        nulls, extra = session.one(
            q("SELECT count(*) FILTER (WHERE kind <> 'x'), count(*) FILTER (WHERE kind = 'x') FROM {} WHERE {}", intent.temp("d"), where)
        )  # fmt: skip
        if nulls or (extra and intent.on_extra is OnExtra.DELETE):
            side = intent.source_name if nulls else full_name(intent.target.name)
            raise ReconcilerError(
                f"{intent.address}: {nulls or extra} rows of {side} have NULL in the key ({', '.join(intent.key)})",
                where=intent.place,
                todo="choose a key whose columns are never NULL",
            )
        session.run(q("DELETE FROM {} WHERE {}", intent.temp("d"), where))
    unique_source = isinstance(intent.source, TableSource) and intent.source.table.unique_on(intent.key)
    if unique_source and intent.target.unique_on(intent.key):
        return
    for side, scope, from_ in (
        (intent.source_name, intent.source.scope, source_relation(intent)),
        (full_name(intent.target.name), intent.scope, relation(intent.target.name)),
    ):
        on = session if side != intent.source_name or is_here(session, intent) else _other(intent)
        rows = _side(intent.key, from_, alias(intent.target.name), scope, raw("0"))
        twice, example = on.one(
            q("SELECT count(*), min(e) FROM (SELECT concat_ws(', ', {k}) AS e FROM ({rows}) r GROUP BY {k} HAVING count(*) > 1) g",
              k=key_list, rows=rows)
        )  # fmt: skip
        if twice:
            raise ReconcilerError(
                f"{intent.address}: {twice} keys ({', '.join(intent.key)}) stand more than once in {side}, e.g. {example}",
                where=intent.place,
                todo="choose a key that is unique on both sides",
            )


def _other(intent: Intent) -> Session:
    assert isinstance(intent.source, TableSource)
    return intent.source.session


def _judge_by_key(session: Session, found: Found) -> None:
    """What one side's scope lacks may stand in the other side all the same, outside of the scope."""
    intent, keys = found.intent, found.keys
    if intent.scope.where is not None:
        session.run(
            q("UPDATE {d} d SET kind = 'c' FROM {t} t WHERE d.kind = 'm' AND {on}", d=intent.temp("d"),
              t=relation(intent.target.name), on=on_keys("d", keys, "t", intent.key))
        )  # fmt: skip
    if intent.source.scope.where is None:
        return
    if is_here(session, intent):
        found.elsewhere = session.run(
            q("UPDATE {d} d SET kind = 'c' FROM {s} s WHERE d.kind = 'x' AND {on}", d=intent.temp("d"),
              s=source_relation(intent), on=on_keys("d", keys, "s", intent.key))
        )  # fmt: skip


def stage_rows(session: Session, found: Found, candidates: int) -> None:
    """Bring the rows that may differ, whole, into the target's types."""
    intent, keys = found.intent, found.keys
    clock = [intent.target.columns[intent.newer]] if intent.newer and intent.newer not in intent.key else []
    staged = list(dict.fromkeys((*found.written, *clock)))  # what decides is read also where it is not written
    names = [c.name for c in staged]
    into = q("{} ({})", intent.temp("s"), join([ident(n) for n in names]))
    if is_here(session, intent):
        values = join([q("s.{}::{}", ident(c.name), raw(c.type)) for c in staged])
        session.run(
            q("INSERT INTO {into} SELECT {values} FROM {source} s JOIN {d} d ON {on} WHERE d.kind IN ('m', 'c')", into=into,
              values=values, source=source_relation(intent), d=intent.temp("d"), on=on_keys("d", keys, "s", intent.key))
        )  # fmt: skip
    else:
        assert isinstance(intent.source, TableSource)
        there = intent.source.session
        # Looked up one by one where there is an index: a merge would read the whole table once for every batch of keys.
        one_by_one = candidates > FEW and intent.source.table.unique_on(intent.key)
        if one_by_one:
            there.run("SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off")
        for arrays in _batches(session, found, candidates):
            session.copy_in(q("COPY {} FROM STDIN", into), _fetch(found, names, arrays))
        if one_by_one:
            there.run("SET LOCAL enable_mergejoin = on; SET LOCAL enable_hashjoin = on")
        if intent.source.scope.where is not None:
            found.elsewhere = session.run(
                q("UPDATE {d} d SET kind = 'c' FROM {s} s WHERE d.kind = 'x' AND {on}", d=intent.temp("d"), s=intent.temp("s"),
                  on=on_keys("d", keys, "s", intent.key))
            )  # fmt: skip
    _analyze(session, intent.temp("s"), candidates)
    if intent.on_extra is OnExtra.KEEP:
        found.staying = session.run(q("DELETE FROM {} WHERE kind = 'x'", intent.temp("d")))


def _batches(session: Session, found: Found, candidates: int) -> Iterator[Sequence[str]]:
    """The keys to fetch as array literals, one for each key column, so many at a time."""
    intent = found.intent
    scoped = raw("true") if intent.source.scope.where is not None else raw("kind <> 'x'")
    rows, keys_a_fetch = candidates, FEW
    if candidates > FEW:
        size = join([q("octet_length({}::text) + 3", ident(k)) for k in found.keys], " + ")
        rows, keys_a_fetch = session.one(
            q("SELECT count(*), {most} / greatest(ceil(avg({size}))::int, 1) FROM {d} WHERE {scoped}", most=lit(BYTES_A_FETCH),
              size=size, d=intent.temp("d"), scoped=scoped)
        )  # fmt: skip
    for skip in range(0, rows, keys_a_fetch or 1):
        yield session.one(
            q("SELECT {arrays} FROM (SELECT * FROM {d} WHERE {scoped} LIMIT {n} OFFSET {skip}) d",
              arrays=join([q("array_agg({}::text)::text", ident(k)) for k in found.keys]), d=intent.temp("d"), scoped=scoped,
              n=lit(keys_a_fetch), skip=lit(skip))
        )  # fmt: skip


def _fetch(found: Found, names: Sequence[str], arrays: Sequence[str]) -> Iterator[bytes]:
    """COPY blocks of the source's rows for some keys."""
    intent = found.intent
    assert isinstance(intent.source, TableSource)
    source = intent.source
    # As text and cast one by one: an array of arrays would be unnested to its innermost elements.
    texts = join([q("{}::text[]", lit(array)) for array in arrays])
    keys = zip(found.keys, intent.key, strict=True)
    typed = join([q("u.{0}::{1} AS {0}", ident(k), raw(source.table.columns[column].type)) for k, column in keys])
    return source.session.copy_out(
        q("COPY (SELECT {columns} FROM (SELECT {typed} FROM unnest({texts}) AS u ({names})) w JOIN {source} s ON {on}) TO STDOUT",
          columns=columns_of("s", names), typed=typed, texts=texts, names=join([ident(k) for k in found.keys]),
          source=relation(source.table.name), on=on_keys("w", found.keys, "s", intent.key))
    )  # fmt: skip


def _decide(session: Session, found: Found) -> None:
    """Compare candidates column by column and keep what the spec wants changed."""
    intent, keys = found.intent, found.keys
    found.missing, in_both = session.one(
        q("SELECT count(*) FILTER (WHERE kind = 'm'), count(*) FILTER (WHERE kind = 'c') FROM {}", intent.temp("d"))
    )
    if not in_both:
        return
    flags = changed_flags(found, raw("s"), raw("t"))
    session.run(
        q("UPDATE {d} d SET m = ARRAY[{flags}]::bool[] FROM {s} s JOIN {t} t ON {same} WHERE d.kind = 'c' AND {on}",
          d=intent.temp("d"), flags=join([f for _, f in flags]), s=intent.temp("s"), t=relation(intent.target.name),
          same=on_keys("s", intent.key, "t", intent.key), on=on_keys("d", keys, "s", intent.key))
    )  # fmt: skip
    session.run(q("DELETE FROM {} WHERE kind = 'c' AND (m IS NULL OR NOT true = ANY (m))", intent.temp("d")))
    found.changed = session.value(q("SELECT count(*) FROM {} WHERE kind = 'c'", intent.temp("d")))


def changed_flags(found: Found, s: Composable, t: Composable) -> list[tuple[Column, Composable]]:
    """For each compared column the condition under which an update changes it."""
    intent = found.intent
    result: list[tuple[Column, Composable]] = []
    for column in found.compared:
        should, is_ = q("{}.{}", s, ident(column.name)), q("{}.{}", t, ident(column.name))
        differs = differ_sql(column, intent.compare, should, is_)
        match intent.on_changed:
            case OnChanged.UPDATE:
                flag = differs
            case OnChanged.FILL:
                flag = q("({} IS NULL AND {} IS NOT NULL)", is_, should)
            case OnChanged.NEWER:
                clock = ident(intent.newer or "")
                flag = q("({} AND ({t}.{c} IS NULL OR {s}.{c} > {t}.{c}) IS TRUE)", differs, s=s, t=t, c=clock)
            case OnChanged.KEEP:
                flag = raw("false")
        result.append((column, flag))
    return result


def _count_extra(session: Session, found: Found) -> None:
    """Rows of the target's scope that the source lacks; and the guard against a source that is empty by mistake."""
    intent = found.intent
    there = scope_count(session, intent)
    here = found.source_rows
    if here is None:
        rows = _side(intent.key, source_relation(intent), alias(intent.target.name), intent.source.scope, raw("0"))
        here = int(session.value(q("SELECT count(*) FROM ({}) s", rows)))
        found.source_rows = here
    if there and not here and (intent.root or intent.on_extra is OnExtra.DELETE):
        raise ReconcilerError(
            f"{intent.address}: {intent.source_name} has no rows in scope, {full_name(intent.target.name)} has {there}",
            where=intent.place,
            why="an empty source is more often a wrong source than an empty truth",
            todo="check `source` and `where`; to empty a table on purpose, delete its rows by hand",
        )
    if intent.on_extra is OnExtra.DELETE:
        found.extra = session.value(q("SELECT count(*) FROM {} WHERE kind = 'x'", intent.temp("d")))
    elif intent.source.scope.where is None:  # else rows beyond the source were among those that may differ
        found.staying = max(0, there - (here - found.missing))


def scope_count(session: Session, intent: Intent) -> int:
    """How many rows the target has in scope."""
    rows = _side(intent.key, relation(intent.target.name), alias(intent.target.name), intent.scope, raw("0"))
    return session.value(q("SELECT count(*) FROM ({}) t", rows))
