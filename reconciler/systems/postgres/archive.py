"""Rows that leave for good are kept beside their table: losers of a unique key go to an archive, and an undo brings them back from it.

Invariant: a loser goes only while the row that stays for it is there and shares its key; what is archived is what is deleted.
"""

from __future__ import annotations

from typing import LiteralString

from reconciler.plan.errors import Drift
from reconciler.plan.names import TableName
from reconciler.systems.postgres.guard import NAMED
from reconciler.systems.postgres.proof import prove_condition
from reconciler.systems.postgres.rows import ARCHIVED, alias, relation, whole
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.staging import Staged


def hold_survivors(session: Session, item: Staged) -> None:
    """Lock the rows that stay, one by one."""
    session.run(q("SELECT FROM {} s JOIN {} p ON {} WHERE {} FOR KEY SHARE OF s", item.live, item.temp,
                  join(_survivor(item), " AND "), item.open_only))  # fmt: skip


def refuse_lone(session: Session, item: Staged, *, gone: bool = False) -> None:
    """Where a row that is to stay is gone or has another key now, its loser is no duplicate any more.

    `gone`: the losers are, and what their images do not tell cannot be compared again.
    """
    columns = [column.name for column in item.columns]
    staged = {
        name: ident("p", f"c{columns.index(name) + 1}")
        for name in item.step.unique
        if name in columns and name not in item.step.sensitive
    }
    shared = [
        q("s.{0} IS NOT DISTINCT FROM {1}", ident(name), staged.get(name, ident("o", name)))
        for name in item.step.unique
        if not gone or name in staged
    ]
    table = item.live
    of_key = table
    if item.step.where:
        proven = prove_condition(session, (item.step.where,), item.table, None)
        of_key = q("(SELECT * FROM {} AS {} WHERE {})", table, alias(item.table.name), proven)
    stays = q("FROM {} s WHERE {}", of_key, join([*_survivor(item), *shared], " AND "))
    if len(staged) < len(shared):  # what is generated stands in no image, what is sensitive as a digest
        stays = q(
            "FROM {} s JOIN {} o ON {} WHERE {}",
            of_key,
            table,
            item.on_key("p", "o"),
            join([*_survivor(item), *shared], " AND "),
        )
    rows = session.rows(
        q("SELECT {keys}, {kept} FROM {p} p WHERE {open} AND NOT EXISTS (SELECT {stays}) ORDER BY 1 LIMIT {n}",
          keys=_text([ident("p", temp) for _, temp in item.key]), kept=_text([ident("p", f"s{n}") for n in _numbers(item)]),
          p=item.temp, open=item.open_only, stays=stays, n=lit(NAMED))
    )  # fmt: skip
    if rows:
        raise Drift(
            "rows that were to stay are gone, or do not share the key any more",
            details=tuple(
                f"{item.step.target} ({kept}): planned to stay for ({key}), found no such duplicate"
                for key, kept in rows
            ),
        )


def _numbers(item: Staged) -> range:
    return range(1, len(item.key) + 1)


def _survivor(item: Staged) -> list[Composable]:
    return [q("s.{} = p.{}", ident(name), ident(f"s{n}")) for n, (name, _) in enumerate(item.key, 1)]


def _text(values: list[Composable]) -> Composable:
    """One value as its text, several as a JSON array of texts."""
    if len(values) == 1:
        return q("{}::text", values[0])
    return q("json_build_array({})::text", join([q("{}::text", value) for value in values]))


_COLUMNS: LiteralString = (
    "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
)


def to_archive(session: Session, item: Staged, plan_id: str) -> int:
    """Copy the rows that are about to go, whole."""
    names, archive = list(item.table.columns), relation(TableName.parse(item.step.archive))
    there = session.rows(_COLUMNS, (archive.as_string(session.connection),))
    if lacking := [name for name in names if (name,) not in there]:
        raise Drift(
            f"{item.step.archive} lacks {', '.join(lacking)}",
            why=f"{item.step.target} has gained it since the plan was made, and what goes is archived whole",
        )
    return session.run(
        q("INSERT INTO {archive} ({names}, {more}) SELECT {values}, now(), {plan}, {survivor}, p.rule FROM {p} p JOIN {t} t ON {on}"
          " WHERE {open}", archive=archive, names=join([ident(name) for name in names]),
          more=join([ident(name) for name in ARCHIVED]), values=join([ident("t", name) for name in names]), plan=lit(plan_id),
          survivor=_text([ident("p", f"s{n}") for n in _numbers(item)]), p=item.temp, t=item.live,
          on=item.on_key("p", "t"), open=item.open_only)
    )  # fmt: skip


def from_archive(session: Session, item: Staged) -> None:
    """Rows that have come back are no longer archived."""
    archive = TableName.parse(item.step.archive)
    if session.value(q("SELECT to_regclass({})", lit(relation(archive).as_string(session.connection)))) is None:
        raise Drift(f"{item.step.archive} is not there", why="the rows that come back were archived in it")
    if item.numbered:
        session.run(
            q("DELETE FROM {a} WHERE ctid IN (SELECT at FROM (SELECT a.ctid AS at, {h} AS h, row_number() OVER (PARTITION BY {h}) AS n"
              " FROM {a} a WHERE a.plan_id = {plan}) x JOIN (SELECT split_part(k1, '/', 1) AS h, count(*) AS most FROM {p} p WHERE {open}"
              " GROUP BY 1) y USING (h) WHERE n <= most)", a=relation(archive), h=whole(item.step.columns, "a"),
              plan=lit(item.step.archived_by), p=item.temp, open=item.open_only if item.already else raw("true"))
        )  # fmt: skip
        return
    session.run(
        q("DELETE FROM {a} a USING {p} p WHERE {on} AND {open} AND a.plan_id = {plan}", a=relation(archive), p=item.temp,
          on=item.on_key("p", "a"), open=item.open_only if item.already else raw("true"), plan=lit(item.step.archived_by))
    )  # fmt: skip
