"""`unique_keys`: at most one row per key, from now on.

In: a unique key of the spec and the catalog. Out: an intent that ranks the table's rows, one for each table that points at it,
and what the database lacks to keep it so (`systems/postgres/structure.py` plans the archive and the constraint).
"""

from __future__ import annotations

from typing import LiteralString

from reconciler.kinds.tables import (
    Compiled,
    bound,
    find_table,
    identity,
    place_of,
    proven,
    sensitive_columns,
    signed_columns,
)
from reconciler.kinds.world import World
from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.plan.step import WHOLE
from reconciler.spec import Rule, RuleSql, UniqueKey
from reconciler.spec.sql import parse_condition
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.proof import prove_expression
from reconciler.systems.postgres.rows import (
    NO_SOURCE,
    Duplicates,
    Intent,
    OnExtra,
    References,
    alias,
    full_name,
    relation,
)
from reconciler.systems.postgres.rows import Rule as RankRule
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.structure import predicate_as_written


def compile_unique_key(world: World, address: str, unique_key: UniqueKey, first: int) -> Compiled:
    """One unique key, its intents numbered from `first`."""
    connection, name = unique_key.target()
    table = find_table(world, connection, name, place_of(world, address, "table"))
    place = place_of(world, address)
    _check_columns(world, address, unique_key, table)
    intent = Intent(
        number=first,
        address=address,
        connection=connection,
        target=table,
        key=_shown_key(world, connection, table, address, place, or_whole=True),
        sensitive=frozenset(sensitive_columns(world, connection, table.name)),
        secret=signed_columns(world, connection, table.name),
        source=NO_SOURCE,
        finds=_duplicates(world, address, unique_key, table),
        on_extra=OnExtra.DELETE,
        lets_go=True,
        protect=unique_key.protect,
        unlimited="R001" in unique_key.allow,
        place=place,
    )
    by_child: dict[TableName, list[int]] = {}
    for position, key in enumerate(table.referenced_by):
        by_child.setdefault(key.child, []).append(position)
    children = [
        Intent(
            number=number,
            address=address,
            connection=connection,
            target=(child := world.catalog(connection).tables[child_name]),
            key=_shown_key(world, connection, child, address, place),
            sensitive=frozenset(sensitive_columns(world, connection, child.name)),
            secret=signed_columns(world, connection, child.name),
            source=NO_SOURCE,
            finds=References(
                of=intent,
                keys=tuple(table.referenced_by[position] for position in positions),
                policy=unique_key.references,
                drop=unique_key.on_collision == "drop_child",
            ),
            on_extra=OnExtra.DELETE,
            protect=unique_key.protect,
            place=place,
        )
        for number, (child_name, positions) in enumerate(sorted(by_child.items()), first + 1)
    ]
    return Compiled([intent, *children])


_KIN: LiteralString = """
SELECT CASE WHEN c.relispartition THEN 'is a partition of another table'
            WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) THEN 'has tables that inherit from it' END
FROM pg_class c WHERE c.oid = %s"""


def _check_columns(world: World, address: str, unique_key: UniqueKey, table: Table) -> None:
    if table.kind not in "rp":
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} is not a table", where=place_of(world, address, "table")
        )
    kin = world.session(unique_key.target()[0]).value(_KIN, (table.oid,)) or ""
    if kin:
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} {kin}", where=place_of(world, address, "table"),
            why="a unique key of this table alone would not hold for all rows that are read or point at it",
            todo="name the partitioned table itself" if "partition" in kin else "keep the key of each table on its own",
        )  # fmt: skip
    named = [(column, ("key", str(n))) for n, column in enumerate(unique_key.key)]
    named += [(rule.column, ("keep", str(n))) for n, rule in enumerate(unique_key.keep) if isinstance(rule, Rule)]
    for column, (word, index) in named:
        if column not in table.columns:
            raise ReconcilerError(
                f"{address}: {full_name(table.name)} has no column {column!r}",
                where=world.spec.locate(*address.split(".", 1), word, int(index)),
                todo=f"its columns are {', '.join(table.columns)}",
            )
        if word == "key":
            place = world.spec.locate(*address.split(".", 1), word, int(index))
            value = q("{}.{}", alias(table.name), ident(column))
            _sorts(world.session(unique_key.target()[0]), table, value, f"{address}: {column} as a key", place)


def _shown_key(
    world: World, connection: str, table: Table, address: str, place: Location | None, *, or_whole: bool = False
) -> tuple[str, ...]:
    """The same, if no collection calls it sensitive: it stands in the plan."""
    key = identity(table, address, place, or_whole=or_whole)
    held = set(table.columns) if key == (WHOLE,) else set(key)
    if hidden := sorted(sensitive_columns(world, connection, table.name) & held):
        raise ReconcilerError(
            f"{address}: {hidden[0]} is sensitive and tells rows of {full_name(table.name)} apart", where=place,
            why="keys stand in the plan, and values of sensitive columns must not",
        )  # fmt: skip
    return key


def _duplicates(world: World, address: str, unique_key: UniqueKey, table: Table) -> Duplicates:
    connection, _ = unique_key.target()
    session = world.session(connection)
    hidden = sensitive_columns(world, connection, table.name)
    where, forms = None, ()
    if unique_key.where:
        where = proven(world, session, unique_key.where, table, place_of(world, address, "where"))
        forms = predicate_as_written(session, table, unique_key.key, where, place_of(world, address, "where"))
    archive = unique_key.archive_table()
    return Duplicates(
        key=tuple(unique_key.key),
        where=where,
        where_text=forms[-1] if forms else None,
        where_forms=forms,
        nulls_equal=unique_key.nulls == "not_distinct",
        rules=tuple(
            it._replace(shown=lit("(sensitive)")) if hidden else it
            for it in (_rule(world, address, session, table, n, rule) for n, rule in enumerate(unique_key.keep))
        ),
        archive=TableName(archive.schema or table.name.schema or "public", archive.name) if archive else None,
        constraint=unique_key.constraint or _default_name(table, unique_key),
        online=unique_key.lock == "online",
        limit=None if unique_key.max_delete is None else str(unique_key.max_delete),
    )


def _sorts(session: Session, table: Table, value: Composable, what: str, place: Location | None) -> None:
    """A value of each row on its own, of a type that can be compared."""
    query = q("SELECT FROM {} AS {} WHERE ({}) IS NULL AND false GROUP BY {} ORDER BY {}", relation(table.name), alias(table.name),
              value, value, value)  # fmt: skip
    session.check(query, what, place, "use columns and functions of the row alone, of a type that sorts")


def _default_name(table: Table, unique_key: UniqueKey) -> str:
    ending = "idx" if unique_key.where else "key"
    return "_".join((table.name.name, *unique_key.key, ending)).encode()[:63].decode(errors="ignore")


def _rule(world: World, address: str, session: Session, table: Table, number: int, rule: Rule | RuleSql) -> RankRule:
    place = world.spec.locate(*address.split(".", 1), "keep", number)
    if isinstance(rule, RuleSql):
        value = prove_expression(session, bound(world.spec, parse_condition(rule.expression)), table, place)
        _sorts(session, table, value, f"{address}: a rule", place)
        return RankRule(rule.expression, value, "DESC NULLS LAST", value)
    column = table.columns[rule.column]
    value = q("{}.{}", alias(table.name), ident(rule.column))
    _sorts(
        session,
        table,
        q("length({}::text)", value) if rule.order in ("filled", "longest") else value,
        f"{address}: {rule.column}",
        place,
    )
    if rule.values:
        listed = join([q("{}::{}", lit(text), raw(column.type)) for text in rule.values])
        count = len(rule.values)
        by = q(
            "CASE WHEN {v} IS NULL THEN {last} ELSE coalesce(array_position(ARRAY[{listed}], {v}), {unlisted}) END",
            v=value, listed=listed, last=lit(count + 2), unlisted=lit(count + 1)
        )  # fmt: skip
        session.check(
            q("SELECT {} FROM (SELECT null::{} AS v) x", listed, raw(column.type)),
            f"{address}: a value of {rule.column}",
            place,
        )
        return RankRule(rule.column, by, "ASC", value)
    match rule.order:
        case "newest" | "highest":
            return RankRule(rule.column, value, "DESC NULLS LAST", value)
        case "oldest" | "lowest":
            return RankRule(rule.column, value, "ASC NULLS LAST", value)
        case "filled":
            return RankRule(rule.column, q("({} IS NULL)", value), "ASC", value)
        case _:
            return RankRule(rule.column, q("length({}::text)", value), "DESC NULLS LAST", q("length({}::text)", value))
