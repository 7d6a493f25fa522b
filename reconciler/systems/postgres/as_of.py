"""A table's rows as they were at a moment, out of an audit log and the table as it is now.

In: a log, a table beside it, a moment. Out: a relation that stands where a table stands as a source, and the `AsOf` that makes and
fills the temporary tables it is made of. For each key the first record after the moment holds the row before it; a key without one
has not changed, and is read from the table itself. An update that gives a row another key is a record of both. Records that keep
changed columns only are put together, the earliest first, down to the row's deletion or to the row as it is now.
Invariant: all of it is set-based in the database; values go from the log's JSON into the table's types by PostgreSQL alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.audit_log import Log, unrecorded
from reconciler.systems.postgres.catalog import Column, Table
from reconciler.systems.postgres.rows import full_name, key_names, on_keys, relation
from reconciler.systems.postgres.session import Composable, Session, explain, ident, join, lit, q, raw, scrub


@dataclass
class AsOf:
    """The temporary tables behind a table's past, on the log's connection."""

    session: Session
    made: list[Composable]
    filled: list[Composable]
    address: str = ""
    place: Location | None = None
    table: Table | None = None
    number: int = 0
    gaps: tuple[str, ...] = ()
    """What the log cannot tell, in sentences."""
    put_together: list[Composable] = field(default_factory=list[Composable])
    """Run where the log holds parts of rows."""
    ended: list[Composable] = field(default_factory=list[Composable])

    def make(self) -> None:
        """What is proven over the past needs it to be there; whoever needs it first makes it."""
        for statement in self.made:
            self.session.run(statement)
        self.made.clear()

    def fill(self) -> None:
        assert self.table is not None
        try:
            for statement in self.filled:
                self.session.run(statement)
            parts = self.session.value(q("SELECT EXISTS (SELECT FROM {} WHERE is_ = 'part')", self._h))
            for statement in (*(self.put_together if parts else ()), *self.ended):
                self.session.run(statement)
        except psycopg.DataError as error:
            raise ReconcilerError(
                f"{self.address}: the log's rows do not fit {full_name(self.table.name)} as it is now", where=self.place,
                why=scrub(error.diag.message_primary or ""), todo="a column's type has changed since: leave it out by columns.except",
            ) from None  # fmt: skip
        except psycopg.Error as error:
            if error.diag.sqlstate is None:
                raise
            raise explain(error, f"reading the log for {self.address}", self.session.name) from None
        self._refuse_lost(self.table)

    @property
    def _h(self) -> Composable:
        return ident(f"rc_h_{self.number}")

    def _refuse_lost(self, table: Table) -> None:
        """A row that changed after the moment and went without a record cannot be known."""
        lost = self.session.value(
            q("SELECT count(*) FROM {h} h WHERE is_ = 'unknown' OR (is_ = 'live' AND NOT EXISTS (SELECT FROM {t} t WHERE {on}))", h=self._h,
              t=relation(table.name), on=on_keys("h", key_names(len(table.primary_key)), "t", table.primary_key))
        )  # fmt: skip
        if lost:
            raise ReconcilerError(
                f"{self.address}: {lost:,} rows of {full_name(table.name)} cannot be put together", where=self.place,
                why="their records do not tell all of their values: columns are left out, or one statement gave keys from row to row",
                todo="choose another source for them, or narrow `where`",
            )  # fmt: skip
        needed = [c for c in _columns(table) if c.not_null and not c.identity]
        if not needed:
            return
        counts = join([q("count(*) FILTER (WHERE {} IS NULL)", ident(c.name)) for c in needed])
        row = self.session.one(q("SELECT {} FROM {}", counts, ident(f"rc_w_{self.number}")))
        for column, count in zip(needed, row, strict=True):
            if count:
                raise ReconcilerError(
                    f"{self.address}: {count:,} rows of the log have no {column.name}", where=self.place,
                    why=f"{full_name(table.name)} takes no NULL there, and there is no constant default",
                    todo="give the column a default, or choose another source",
                )  # fmt: skip


def _columns(table: Table) -> list[Column]:
    return [c for c in table.columns.values() if not c.generated]


def as_of(
    session: Session, log: Log, table: Table, moment: str, number: int, address: str, place: Location | None, *,
    whole: bool = False, natural: Sequence[str] = (),
) -> tuple[Table, AsOf]:  # fmt: skip
    """The table's past as a relation, and what has to be made and filled for it; `whole`: as a table, whose rows have positions.

    Of two rows with the same `natural` key, one brought back by the log and one that the log does not know, the second came later.
    """
    _refuse(session, log, table, moment, address, place)
    h, w, v = (ident(f"rc_{letter}_{number}") for letter in "hwv")
    keys, names = key_names(len(table.primary_key)), _columns(table)
    key_columns = [table.columns[name] for name in table.primary_key]
    typed = join([q("{} {}", ident(k), raw(c.type)) for k, c in zip(keys, key_columns, strict=True)])
    listed = join([ident(c.name) for c in names])
    made: list[Composable] = [
        q("CREATE TEMP TABLE {} ({}, is_ text, old jsonb) ON COMMIT DROP", h, typed),
        q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA", w, listed, relation(table.name)),
    ]  # fmt: skip
    later = (
        q(" AND NOT EXISTS (SELECT FROM {w} w WHERE {on})", w=w, on=on_keys("w", natural, "t", natural))
        if natural
        else raw("")
    )
    untouched = q(
        "SELECT {cols} FROM {w} UNION ALL SELECT {cols} FROM {t} t WHERE NOT EXISTS (SELECT FROM {h} h WHERE {on}){later}",
        cols=listed, w=w, t=relation(table.name), h=h, on=on_keys("h", keys, "t", table.primary_key), later=later,
    )  # fmt: skip
    moves = session.value(
        q("SELECT EXISTS (SELECT FROM {} l WHERE {} AND {})", relation(log.name), _after(log, table, moment),
          _moves(log, key_columns))
    )  # fmt: skip
    about = (log, table, moment, h, w, keys, key_columns, names, moves)
    filled = [_first_records(*about), q("ANALYZE {}", h)]
    ended: list[Composable] = [q("ANALYZE {}", w)]
    if whole:
        made.append(
            q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA", v, listed, relation(table.name))
        )
        ended += [q("INSERT INTO {} {}", v, untouched), q("ANALYZE {}", v)]
    else:
        made.append(q("CREATE TEMP VIEW {} AS {}", v, untouched))
    past = table._replace(
        name=TableName("pg_temp", f"rc_v_{number}"), columns={c.name: c for c in names}, uniques=(), triggers=()
    )
    return past, AsOf(
        session, made, filled, address, place, table, number, _gaps(log, table), _put_together(*about), ended
    )


def _gaps(log: Log, table: Table) -> tuple[str, ...]:
    lacking = unrecorded(log, table)
    if not lacking:
        return ()
    return (f"no trigger records {', '.join(lacking)} of {full_name(table.name)} in {full_name(log.name)} now: rows changed that way"
            " since then are taken as they are",)  # fmt: skip


def _refuse(session: Session, log: Log, table: Table, moment: str, address: str, place: Location | None) -> None:
    """What no log can answer, or this one cannot."""
    name = full_name(log.name)
    if not log.has("old") or not log.has("id"):
        what = "rows as they were before" if not log.has("old") else "an `id` that counts its records"
        raise ReconcilerError(f"{address}: {name} lacks {what}", where=place, todo="choose another source")
    if not table.primary_key:
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} has no primary key", where=place,
            why="the log's records cannot be told apart by their rows",
        )  # fmt: skip
    session.check(
        q("SELECT {}::timestamptz", lit(moment)), f"{address}: as_of", place, 'write it like "2025-12-10T04:24:00Z"'
    )
    future, early, begin = session.one(
        q("SELECT {m}::timestamptz > now(), {m}::timestamptz < min({at}), min({at})::text FROM {log} l", m=lit(moment), at=log.at,
          log=relation(log.name))
    )  # fmt: skip
    if begin is None or early:
        raise ReconcilerError(
            f"{address}: the log does not reach back to {moment}", where=place,
            why=f"{name} begins at {begin}" if begin else f"{name} is empty",
            todo="choose a later moment, or a backup",
        )  # fmt: skip
    if future:
        raise ReconcilerError(
            f"{address}: as_of lies in the future", where=place, todo="choose a moment that has passed"
        )
    truncated = session.rows(
        q("SELECT {at}::text FROM {log} l WHERE {concerns} AND {at} > {m}::timestamptz AND {op} = 'TRUNCATE' AND {old} IS NULL"
          " ORDER BY 1 LIMIT 1", at=log.at, log=relation(log.name), concerns=log.concerns(table.name), m=lit(moment), op=log.operation,
          old=log.image("old"))
    )  # fmt: skip
    if truncated and not _images_of_truncate(session, log, table, moment):
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} was truncated at {truncated[0][0]}, after {moment}", where=place,
            why="the log says that it was, and not which rows it held", todo="choose a backup as the source",
        )  # fmt: skip


def _images_of_truncate(session: Session, log: Log, table: Table, moment: str) -> bool:
    """Whether the rows that a TRUNCATE took were recorded too."""
    return bool(
        session.value(
            q("SELECT EXISTS (SELECT FROM {log} l WHERE {concerns} AND {at} > {m}::timestamptz AND {op} = 'TRUNCATE'"
              " AND {old} IS NOT NULL)", log=relation(log.name), concerns=log.concerns(table.name), at=log.at, m=lit(moment),
              op=log.operation, old=log.image("old"))
        )
    )  # fmt: skip


def _after(log: Log, table: Table, moment: str) -> Composable:
    return q("{} AND {} > {}::timestamptz", log.concerns(table.name), log.at, lit(moment))


def _typed_keys(log: Log, columns: Sequence[Column], keys: Sequence[str]) -> Composable:
    return join(
        [
            q("({})::{} AS {}", log.key(column.name, position), raw(column.type), ident(k))
            for position, (column, k) in enumerate(zip(columns, keys, strict=True))
        ]
    )


def _moves(log: Log, columns: Sequence[Column]) -> Composable:
    """Whether a record is of a row that was given another key."""
    if not log.has("new"):
        return raw("false")
    new = log.image("new")
    other = [
        q("{new} ? {c} AND ({new} ->> {c})::{type} IS DISTINCT FROM ({key})::{type}", new=new, c=lit(c.name), key=log.key(c.name, n),
          type=raw(c.type))
        for n, c in enumerate(columns)
    ]  # fmt: skip
    return q("({} AND ({}))", log.tells("UPDATE"), join(other, " OR "))


def _arrivals(log: Log, table: Table, moment: str, keys: Sequence[str], columns: Sequence[Column]) -> Composable:
    """The keys that rows came to, as records of keys that were free; where a record of the same statement follows, nobody can say."""
    came = join(
        [
            q("(coalesce({} ->> {}, {}))::{} AS {}", log.image("new"), lit(c.name), log.key(c.name, n), raw(c.type), ident(k))
            for n, (c, k) in enumerate(zip(columns, keys, strict=True))
        ]
    )  # fmt: skip
    records = [
        q("SELECT {what}, {id} AS id, {tx} AS tx, {at} AS at FROM {log} l WHERE {after}", what=what, id=log.value("id"), tx=log.value("tx"),
          at=log.at, log=relation(log.name), after=_after(log, table, moment))
        for what in (_typed_keys(log, columns, keys), came)
    ]  # fmt: skip
    return q(
        " UNION ALL SELECT {k}, id, CASE WHEN EXISTS (SELECT FROM ({every}) r WHERE {same} AND r.at = a.at AND r.id > a.id"
        " AND r.tx IS NOT DISTINCT FROM a.tx) THEN 'MOVE' ELSE 'INSERT' END, NULL FROM ({arrived} AND {moves}) a",
        k=join([ident(k) for k in keys]), every=records[0], same=on_keys("r", keys, "a", keys), arrived=records[1],
        moves=_moves(log, columns),
    )  # fmt: skip


def _base(table: Table, names: Sequence[Column]) -> Composable:
    """The row that images are laid over: a column that came later has its constant default."""
    defaults = [c for c in names if c.default and not c.default_volatile and not c.identity]
    if not defaults:
        return q("NULL::{}", relation(table.name))
    pairs = join([q("{}, ({})::{}", lit(c.name), raw(c.default or ""), raw(c.type)) for c in defaults])
    return q("jsonb_populate_record(NULL::{}, jsonb_build_object({}))", relation(table.name), pairs)


def _values(names: Sequence[Column]) -> Composable:
    """The columns of a populated row. One that cannot be NULL holds JSON's null where its image does."""
    return join(
        [
            q("coalesce(p.{}, 'null')", ident(c.name))
            if c.type in ("json", "jsonb") and c.not_null
            else ident("p", c.name)
            for c in names
        ]
    )


def _first_records(
    log: Log, table: Table, moment: str, h: Composable, w: Composable, keys: Sequence[str], key_columns: Sequence[Column],
    names: Sequence[Column], moves: bool,
) -> Composable:  # fmt: skip
    """The first record of each key after the moment, in one scan; whole images become rows at once.

    By id: of one row, ids are in the order in which it changed.
    """
    k = join([ident(key) for key in keys])
    return q(
        "WITH firsts AS MATERIALIZED (SELECT DISTINCT ON ({k}) {k}, op, old, CASE WHEN op = 'INSERT' THEN 'absent'"
        " WHEN old IS NULL AND op <> 'UPDATE' THEN 'unknown' WHEN op = 'UPDATE' AND NOT coalesce(old ?& {all}, false) THEN 'part'"
        " ELSE 'whole' END AS state FROM (SELECT {typed}, {id} AS id, {op} AS op, {old} AS old FROM {log} l WHERE {after}{arrivals}) r"
        " WHERE {k1} IS NOT NULL ORDER BY {k}, id),"
        " noted AS (INSERT INTO {h} ({k}, is_, old) SELECT {k}, state, CASE WHEN state = 'part' THEN old END FROM firsts)"
        " INSERT INTO {w} ({c}) SELECT {v} FROM firsts f, (SELECT {base} AS r OFFSET 0) b, jsonb_populate_record(b.r, f.old) p"
        " WHERE f.state = 'whole'",
        k=k, all=lit([c.name for c in names]), typed=_typed_keys(log, key_columns, keys), id=log.value("id"), op=log.operation,
        old=log.image("old"), log=relation(log.name), after=_after(log, table, moment), k1=ident(keys[0]), h=h, w=w,
        arrivals=_arrivals(log, table, moment, keys, key_columns) if moves else raw(""),
        c=join([ident(c.name) for c in names]), v=_values(names), base=_base(table, names),
    )  # fmt: skip


def _put_together(
    log: Log, table: Table, moment: str, h: Composable, w: Composable, keys: Sequence[str], key_columns: Sequence[Column],
    names: Sequence[Column], moves: bool,
) -> list[Composable]:  # fmt: skip
    """Where a first record holds some columns only, the others stand in later ones, up to the row's deletion; or in the row."""
    k, rk = join([ident(k) for k in keys]), join([ident("r", k) for k in keys])
    c, v, t = join([ident(c.name) for c in names]), _values(names), relation(table.name)
    return [
        q("WITH records AS MATERIALIZED (SELECT r.* FROM (SELECT {typed}, {id} AS id, {op} AS op, {old} AS old, {moved} AS moved"
          " FROM {log} l WHERE {after}) r"
          " JOIN {h} h ON {on_h} WHERE h.is_ = 'part'),"
          " stops AS (SELECT {k}, min(id) FILTER (WHERE op IN ('DELETE', 'TRUNCATE') AND old IS NOT NULL) AS stop, bool_or(moved) AS moved"
          " FROM records GROUP BY {k}),"
          " ones AS (SELECT DISTINCT ON ({rk}, e.key) {rk}, e.key AS name, e.value FROM records r JOIN stops s ON {on_s},"
          " jsonb_each(r.old) e WHERE s.stop IS NULL OR r.id <= s.stop ORDER BY {rk}, e.key, r.id),"
          " folded AS (SELECT {k}, jsonb_object_agg(name, value) AS old FROM ones GROUP BY {k})"
          " UPDATE {h} h SET old = coalesce(f.old, '{{}}'), is_ = CASE WHEN s.moved THEN 'unknown' WHEN s.stop IS NULL THEN 'live'"
          " ELSE 'put together' END"
          " FROM stops s LEFT JOIN folded f ON {on_f} WHERE {on_u}",
          typed=_typed_keys(log, key_columns, keys), id=log.value("id"), op=log.operation, old=log.image("old"), log=relation(log.name),
          after=_after(log, table, moment), moved=_moves(log, key_columns) if moves else raw("false"),
          h=h, on_h=on_keys("h", keys, "r", keys), k=k, rk=rk, on_s=on_keys("s", keys, "r", keys),
          on_f=on_keys("f", keys, "s", keys), on_u=on_keys("h", keys, "s", keys)),
        q("INSERT INTO {w} ({c}) SELECT {v} FROM {h} h, (SELECT {base} AS r OFFSET 0) b, jsonb_populate_record(b.r, h.old) p"
          " WHERE h.is_ = 'put together'", w=w, c=c, v=v, h=h, base=_base(table, names)),
        q("INSERT INTO {w} ({c}) SELECT {v} FROM {h} h JOIN {t} t ON {on}, jsonb_populate_record(t, h.old) p WHERE h.is_ = 'live'",
          w=w, c=c, v=v, h=h, t=t, on=on_keys("h", keys, "t", table.primary_key)),
    ]  # fmt: skip
