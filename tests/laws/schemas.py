"""Whole small worlds for laws: a schema, the backup's rows, and damage to a production that began as the backup's copy.

Out: values only; `sql.py` writes them as SQL. Every world can be repaired: rows that are out of the plan's reach are never damaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Literal

from hypothesis import strategies as st

TABLES = ("Order", "user", "a b", 'it\'s "q"', "100%", "t", "s", "rc_d_0", "{0}", "a.b", "ünï📦", "d", "$1", ":x")
COLUMNS = ("v", "user id", "from", "%d", '"', "k9", "kind", "m", "p", "null", "%(x)s", "c1", "a1", "é", "reason", ":y")

KEY_COLUMNS = ("id", "User Id", 'the "key"', "user", "x", "%s", "h", "Ключ")

KEYS = {
    "text": ("", "a", "A", "it's", 'say "x"', "NULL", "ü😀", r"a\b", "x\ny", "%s", " ", r"\N", "{a,b}", "a\tb"),
    "int4": ("0", "1", "2", "3", "-1", "2147483647", "-2147483648", "7", "8", "9"),
    "uuid": tuple(f"{n:08x}-0000-4000-8000-00000000000{n}" for n in range(9)),
}
VALUES = {
    "text": ("", "a", "b", "it's", 'q"q', "l1\nl2\r\n", "😀 \u202e e\u0301", r"\N", "NULL", "\x01", "%s %(x)s {}", "\\.", " p "),
    "int8": ("0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9007199254740993"),
    "numeric": ("0", "1.0", "1.00", "NaN", "Infinity", "-Infinity", "123456789012345678901234567890.123456789", "-0.10"),
    "jsonb": ("null", "{}", '{"a": 1.0}', '{"a": 1.00}', '[1e400, null, "\\""]', '"x"', '{"ü": {"b": []}}'),
    "json": ("null", '{"a":1,  "a":2}', "[]", '{"a": "\\u00e9"}', '{ "a" : 1.0 }'),
    "timestamptz": ("infinity", "-infinity", "2026-03-29 01:30:00.123456+00", "4714-11-24 00:00:00+00 BC", "epoch"),
    "bytea": (r"\x", r"\x00", r"\x00ff0a5c27", r"\x5c"),
    "text[]": ("{}", "{NULL}", '{""}', '{a,"b,c","\\"","NULL",NULL}', "[2:3]={a,b}", "{{a},{b}}"),
    "bool": ("t", "f"),
    "float8": ("0", "-0", "NaN", "Infinity", "-Infinity", "0.1", "1e-320", "1.7976931348623157e+308"),
    "interval": ("30 days", "1 mon", "00:00:00.000001", "-1 years", "1 mon -3 days 04:05:06.000007", "0"),
}  # fmt: skip
SAME = {
    ("numeric", "1.00"): "1.0",
    ("jsonb", '{"a": 1.00}'): '{"a": 1.0}',
    ("float8", "-0"): "0",
    ("interval", "1 mon"): "30 days",
}
"""Of values that PostgreSQL holds equal, all but one lead to that one."""
ABLE_TO_BE_UNIQUE = ("text", "int8", "numeric", "timestamptz", "bytea", "text[]")

Row = dict[str, str | None]
Kind = Literal["delete", "with all", "change", "null", "repoint", "swap", "add"]
DAMAGES: tuple[Kind, ...] = ("delete", "with all", "change", "null", "repoint", "swap", "add")


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    nullable: bool = False


@dataclass(frozen=True)
class ForeignKey:
    columns: tuple[str, ...]
    parent: int
    action: str
    deferrable: str


@dataclass(frozen=True)
class Unique:
    columns: tuple[str, ...]
    nulls_distinct: bool
    deferrable: bool


@dataclass(frozen=True)
class Table:
    name: str
    own: tuple[str, ...]
    """The columns of the key that lead nowhere; the others lead to a table before this one."""
    key: tuple[str, ...]
    columns: dict[str, Column]
    keys: tuple[ForeignKey, ...] = ()
    uniques: tuple[Unique, ...] = ()


@dataclass(frozen=True)
class Damage:
    """Something done to a row; numbers are taken modulo what there is to choose from."""

    kind: Kind
    table: int
    row: int
    column: int = 0
    value: int = 0


@dataclass(frozen=True, repr=False)  # a failing example is noted as SQL
class World:
    tables: tuple[Table, ...]
    rows: tuple[tuple[Row, ...], ...]
    damages: tuple[Damage, ...]
    compare: Literal["value", "exact"]


def same(type_: str, value: str | None) -> str | None:
    """The one value that stands for all that PostgreSQL holds equal to this one."""
    return value if value is None else SAME.get((type_, value), value)


ACTIONS = ("CASCADE", "SET NULL", "NO ACTION", "RESTRICT")
NO_NULL = ("CASCADE", "NO ACTION", "RESTRICT")
DEFERRABLE = ("", "", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED")


def worlds() -> st.SearchStrategy[World]:
    """One to five tables, up to six rows in each, damage. Only the sizes and the damage shrink: all else is of one seed."""
    number = st.integers(0, 11)
    damage = st.builds(Damage, st.sampled_from(DAMAGES), number, number, number, number)
    return st.builds(
        _world, st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32), st.lists(damage, min_size=1, max_size=9)
    )


def _world(count: int, most: int, seed: int, damages: list[Damage]) -> World:
    rng = Random(seed)
    tables: list[Table] = []
    for name in rng.sample(TABLES, count):
        tables.append(_with_key(rng, name, tables))
    tables = [_with_columns(rng, table, tables) for table in tables]
    keys: list[list[Row]] = []
    for number, table in enumerate(tables):
        empty = rng.random() < 0.1 and not _needed(tables, number)
        keys.append(_keys(rng, table, 0 if empty else rng.randint((most + 1) // 2, most), keys))
    rows = [tuple(_row(rng, table, key, tables, keys) for key in keys[n]) for n, table in enumerate(tables)]
    tables = [replace(table, uniques=_uniques(rng, table, mine)) for table, mine in zip(tables, rows, strict=True)]
    return World(tuple(tables), tuple(rows), tuple(damages), rng.choice(("value", "exact")))


def _with_key(rng: Random, name: str, before: Sequence[Table]) -> Table:
    """A key of its own, of one or two columns; of a table before it as well, sometimes."""
    types = rng.choice((("text",), ("int4",), ("uuid",), ("text", "int4"), ("uuid", "text")))
    own = tuple(rng.sample(KEY_COLUMNS, len(types)))
    columns = {name: Column(name, type_) for name, type_ in zip(own, types, strict=True)}
    keys: tuple[ForeignKey, ...] = ()
    if before and rng.random() < 0.25:
        parent = rng.randrange(len(before))
        led = {f"{c} of": Column(f"{c} of", before[parent].columns[c].type) for c in before[parent].key}
        columns |= led
        keys = (ForeignKey(tuple(led), parent, rng.choice(NO_NULL), rng.choice(DEFERRABLE)),)
    return Table(name, own, tuple(columns), columns, keys)


def _with_columns(rng: Random, table: Table, tables: Sequence[Table]) -> Table:
    columns, keys = dict(table.columns), list(table.keys)
    for name in rng.sample(COLUMNS, rng.randint(0, 5)):
        columns[name] = Column(name, rng.choice(list(VALUES)), rng.random() < 0.6)
    for n in range(rng.choice((0, 1, 1, 2))):
        parent = rng.randrange(len(tables))
        nullable = rng.random() < 0.6
        led = {f"{c}→{n}": tables[parent].columns[c].type for c in tables[parent].key}
        columns |= {name: Column(name, type_, nullable) for name, type_ in led.items()}
        action = rng.choice(ACTIONS if nullable else NO_NULL)
        keys.append(ForeignKey(tuple(led), parent, action, rng.choice(DEFERRABLE)))
    order = rng.sample(list(columns), len(columns))
    return replace(table, columns={name: columns[name] for name in order}, keys=tuple(keys))


def _needed(tables: Sequence[Table], number: int) -> bool:
    """Whether a row may have to point at one of this table."""
    return any(
        key.parent == number and not table.columns[key.columns[0]].nullable for table in tables for key in table.keys
    )


def _keys(rng: Random, table: Table, count: int, before: Sequence[Sequence[Row]]) -> list[Row]:
    pools = [KEYS[table.columns[name].type] for name in table.own]
    result: list[Row] = []
    for values in rng.sample(list(product(*pools)), count):
        key: Row = dict(zip(table.own, values, strict=True))
        if len(table.key) > len(table.own):
            parent = rng.choice(before[table.keys[0].parent])
            key |= dict(zip(table.keys[0].columns, parent.values(), strict=True))
        result.append(key)
    return result


def _row(rng: Random, table: Table, key: Row, tables: Sequence[Table], keys: Sequence[Sequence[Row]]) -> Row:
    row = dict(key)
    for foreign in table.keys:
        if foreign.columns[0] in row:
            continue
        parents = keys[foreign.parent]
        nullable = table.columns[foreign.columns[0]].nullable
        if nullable and (not parents or rng.random() < 0.25):
            loose = {c: rng.choice((None, KEYS[table.columns[c].type][0])) for c in foreign.columns}
            row |= loose | {foreign.columns[0]: None}  # one NULL and the key leads nowhere
        else:
            row |= dict(zip(foreign.columns, rng.choice(parents).values(), strict=True))
    for column in table.columns.values():
        if column.name not in row:
            empty = column.nullable and rng.random() < 0.3
            row[column.name] = None if empty else rng.choice(VALUES[column.type])
    return {name: row[name] for name in table.columns}


def _uniques(rng: Random, table: Table, rows: Sequence[Row]) -> tuple[Unique, ...]:
    """Some of the constraints that the rows happen to satisfy."""
    result: list[Unique] = []
    able = [name for name, column in table.columns.items() if column.type in ABLE_TO_BE_UNIQUE or name not in COLUMNS]
    for _ in range(rng.choice((0, 0, 1, 3))):
        names = rng.sample(able, min(len(able), rng.choice((1, 1, 2))))
        distinct, deferrable = rng.random() < 0.7, rng.random() < 0.3
        values = [tuple(same(table.columns[c].type, row[c]) for c in names) for row in rows]
        held = [value for value in values if not (distinct and None in value)]
        if len(set(held)) == len(held):
            result.append(Unique(tuple(names), distinct, deferrable))
    return tuple(result)
