"""A world as SQL: its schema and rows on either side, its damage in production; and which rows a scope reaches, counted in Python.

Invariant: what the laws are judged by is computed here and owes nothing to the code under test.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import psycopg
from hypothesis import note

from tests.laws.schemas import VALUES, Damage, ForeignKey, Kind, Row, Table, World, same
from tests.postgres import CANONICAL, Database

Rows = list[Row]
Key = tuple[str | None, ...]
Scope = list[set[Key]]
"""The keys of the rows that are meant, for each table."""
Roots = Mapping[int, set[Key] | None]
"""The keys of the rows to start from, by table; None for all of them."""


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def idents(names: Sequence[str]) -> str:
    return ", ".join(ident(name) for name in names)


def lit(value: str | None) -> str:
    if value is None:
        return "NULL"
    return ("E" if "\\" in value else "") + "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def build(world: World, *databases: Database) -> None:
    """Schema and rows of the backup on each of the databases, emptied first."""
    parts = ["DROP SCHEMA public CASCADE; CREATE SCHEMA public"]
    parts += [_create(table) for table in world.tables]
    parts += [insert(table, row) for table, rows in zip(world.tables, world.rows, strict=True) for row in rows]
    parts += [_reference(table, key, world) for table in world.tables for key in table.keys]
    text = ";\n".join(parts)
    note(text)
    for database in databases:
        database.sql(text)


def _create(table: Table) -> str:
    parts = [f"{ident(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in table.columns.values()]
    parts.append(f"PRIMARY KEY ({idents(table.key)})")
    for unique in table.uniques:
        nulls = "" if unique.nulls_distinct else " NULLS NOT DISTINCT"
        parts.append(f"UNIQUE{nulls} ({idents(unique.columns)}){' DEFERRABLE' if unique.deferrable else ''}")
    return f"CREATE TABLE {ident(table.name)} ({', '.join(parts)})"


def _reference(table: Table, key: ForeignKey, world: World) -> str:
    parent = world.tables[key.parent]
    return (
        f"ALTER TABLE {ident(table.name)} ADD FOREIGN KEY ({idents(key.columns)})"
        f" REFERENCES {ident(parent.name)} ({idents(parent.key)}) ON DELETE {key.action} {key.deferrable}"
    )


def insert(table: Table, row: Row) -> str:
    return f"INSERT INTO {ident(table.name)} ({idents(list(row))}) VALUES ({', '.join(map(lit, row.values()))})"


def where(table: Table, row: Row) -> str:
    return " AND ".join(f"{ident(name)} = {lit(row[name])}::{table.columns[name].type}" for name in table.key)


def read(session: psycopg.Connection, world: World) -> list[Rows]:
    """Every row of every table as text."""
    result: list[Rows] = []
    for table in world.tables:
        texts = ", ".join(f"{ident(name)}::text" for name in table.columns)
        found = session.execute(f"SELECT {texts} FROM {ident(table.name)}".encode())
        result.append([dict(zip(table.columns, row, strict=True)) for row in found])
    return result


@contextmanager
def looking(database: Database) -> Generator[psycopg.Connection]:
    with psycopg.connect(database.dsn, autocommit=True) as session:
        session.execute(CANONICAL)
        yield session


def key_of(table: Table, row: Row) -> Key:
    return tuple(row[name] for name in table.key)


def reached(world: World, rows: Sequence[Rows], start: Roots) -> Scope:
    """The keys in `start` and of every row whose foreign keys lead to one of them."""
    scope = [
        every if start.get(n, set()) is None else (start.get(n) or set()) & every
        for n, every in enumerate(everything(world, rows))
    ]
    grown = True
    while grown:
        grown = False
        for number, table in enumerate(world.tables):
            for row in rows[number]:
                key = key_of(table, row)
                if key not in scope[number] and any(
                    tuple(row[c] for c in foreign.columns) in scope[foreign.parent] for foreign in table.keys
                ):
                    scope[number].add(key)
                    grown = True
    return scope


def everything(world: World, rows: Sequence[Rows]) -> Scope:
    return [{key_of(table, row) for row in mine} for table, mine in zip(world.tables, rows, strict=True)]


def within(world: World, rows: Sequence[Rows], scope: Scope, *, exact: bool) -> list[dict[Key, Row]]:
    """The rows of a scope by key; unless `exact`, values that PostgreSQL holds equal are made the same."""
    return [
        {
            key_of(table, row): row if exact else {c: same(table.columns[c].type, value) for c, value in row.items()}
            for row in rows[number]
            if key_of(table, row) in scope[number]
        }
        for number, table in enumerate(world.tables)
    ]


def damage(database: Database, world: World, scope: Scope) -> set[Kind]:
    """Do to rows of the scope what the constraints allow; which kinds of damage were done?"""
    done: set[Kind] = set()
    with looking(database) as session:
        for item in world.damages:
            number = item.table % len(world.tables)
            mine = [row for row in world.rows[number] if key_of(world.tables[number], row) in scope[number]]
            text = _damage(session, world, number, mine[item.row % len(mine)], item) if mine else None
            if text is None:
                continue
            try:
                with session.transaction():
                    session.execute(text.encode())
                    session.execute("SET CONSTRAINTS ALL IMMEDIATE")
                note(f"-- damage\n{text};")
                done.add(item.kind)
            except psycopg.IntegrityError:
                pass
    return done


def _damage(session: psycopg.Connection, world: World, number: int, row: Row, item: Damage) -> str | None:
    table = world.tables[number]
    name, at = ident(table.name), where(table, row)
    match item.kind:
        case "delete":
            return f"DELETE FROM {name} WHERE {at}"
        case "with all":
            scope = reached(world, read(session, world), {number: {key_of(table, row)}})
            return "SET LOCAL session_replication_role = replica" + "".join(
                f"; DELETE FROM {ident(other.name)} WHERE {where(other, dict(zip(other.key, key, strict=True)))}"
                for other, keys in zip(world.tables, scope, strict=True)
                for key in keys
            )
        case "change":
            free = [c for c in table.columns if c not in table.key and not _leads(table, c)]
            column = free[item.column % len(free)] if free else None
            return column and f"UPDATE {name} SET {ident(column)} = {lit(_value(table, column, item))} WHERE {at}"
        case "null":
            free = [c.name for c in table.columns.values() if c.nullable]
            column = free[item.column % len(free)] if free else None
            return column and f"UPDATE {name} SET {ident(column)} = NULL WHERE {at}"
        case "repoint":
            free = [key for key in table.keys if key.columns[0] not in table.key]
            foreign = free[item.column % len(free)] if free else None
            to = _parent(world, foreign, item) if foreign else None
            sets = ", ".join(f"{ident(c)} = {lit(value)}" for c, value in (to or {}).items())
            return sets and f"UPDATE {name} SET {sets} WHERE {at}"
        case "swap":
            other = world.rows[number][item.value % len(world.rows[number])]
            return _swap(table, row, other, item)
        case "add":
            return insert(table, _extra(world, table, row, item))


def _swap(table: Table, one: Row, other: Row, item: Damage) -> str | None:
    """Two rows take each other's unique value."""
    free = [
        unique.columns
        for unique in table.uniques
        if not any(column in table.key or _leads(table, column) for column in unique.columns)
        and (
            unique.deferrable
            or (len(unique.columns) == 1 and table.columns[unique.columns[0]].nullable and unique.nulls_distinct)
        )
    ]
    if not free or one is other:
        return None
    columns = free[item.column % len(free)]
    name, here, there = ident(table.name), where(table, one), where(table, other)
    names = [ident(c) for c in columns]
    nulls = ", ".join(f"{ident(c)} = NULL" for c in columns if table.columns[c].nullable)
    park = f"UPDATE {name} SET {nulls} WHERE {here} OR {there};" if nulls else ""
    sets = ", ".join(
        f"{n} = CASE WHEN {here} THEN {lit(other[c])}::{table.columns[c].type} ELSE {lit(one[c])}::{table.columns[c].type} END"
        for n, c in zip(names, columns, strict=True)
    )
    return f"SET CONSTRAINTS ALL DEFERRED; {park} UPDATE {name} SET {sets} WHERE {here} OR {there}"


def _leads(table: Table, column: str) -> bool:
    return any(column in key.columns for key in table.keys)


def _parent(world: World, foreign: ForeignKey, item: Damage) -> Row:
    parents = world.rows[foreign.parent]
    if not parents:
        return {}
    parent = parents[item.value % len(parents)]
    key = world.tables[foreign.parent].key
    return {column: parent[name] for column, name in zip(foreign.columns, key, strict=True)}


def _value(table: Table, column: str, item: Damage) -> str:
    """Another value; of a row that stays, one that the backup does not have where taking it back would need a third place."""
    type_ = table.columns[column].type
    held = any(
        column in unique.columns
        and not unique.deferrable
        and not any(table.columns[c].nullable for c in unique.columns)
        for unique in table.uniques
    )
    if held and (item.kind == "change" or item.value % 2):
        return FRESH[type_].format(item.value)
    return VALUES[type_][item.value % len(VALUES[type_])]


FRESH = {
    "text": "fresh {}", "int4": "10{}", "int8": "10{}", "numeric": "10{}.5", "bytea": "\\x10{:02}", "text[]": "{{fresh,{}}}",
    "timestamptz": "2001-02-03 04:05:{:02}+00", "uuid": "ffffffff-0000-4000-8000-0000000000{:02}",
}  # fmt: skip


def _extra(world: World, table: Table, row: Row, item: Damage) -> Row:
    """A row that the backup does not have, pointing at rows that it has, or at nothing."""
    extra = dict(row) | {name: FRESH[table.columns[name].type].format(item.row) for name in table.own}
    for foreign in table.keys:
        if table.columns[foreign.columns[0]].nullable and item.column % 3 == 0:
            extra |= dict.fromkeys(foreign.columns)
        elif world.tables[foreign.parent] is table and item.column % 3 == 1:
            extra |= {column: extra[name] for column, name in zip(foreign.columns, table.key, strict=True)}
        else:
            extra |= _parent(world, foreign, item)
    for name in table.columns:
        if name not in table.key and not _leads(table, name):
            extra[name] = _value(table, name, item)
    return extra
