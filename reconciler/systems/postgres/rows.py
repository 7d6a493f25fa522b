"""What a kind says of rows, and the SQL words it is made of.

An `Intent` states two relations: what should be (a source under a scope) and what is (a target under a scope), keyed.
Kinds write intents; `differ` turns them into steps. Nothing here touches a database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, LiteralString, NamedTuple

from psycopg import sql

from reconciler.plan.errors import Location
from reconciler.plan.names import TableName
from reconciler.plan.step import WHOLE
from reconciler.systems.postgres.catalog import Column, ForeignKey, Table
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

if TYPE_CHECKING:
    from reconciler.systems.postgres.described import Described, RowsOf


class OnChanged(StrEnum):
    UPDATE = "update"
    FILL = "fill"
    KEEP = "keep"
    NEWER = "newer"


class OnExtra(StrEnum):
    KEEP = "keep"
    DELETE = "delete"


class Parent(StrEnum):
    FAIL = "fail"
    NULL = "null"
    SKIP = "skip"


class Compare(StrEnum):
    VALUE = "value"
    EXACT = "exact"


class ValuesAre(StrEnum):
    """How a file spells values."""

    NATURAL = "natural"
    """JSON as an application writes it: numbers, objects, arrays."""
    TEXT = "text"
    """Every value is PostgreSQL's text form, as `extract` writes it."""
    CSV = "csv"


class Scope(NamedTuple):
    """Which rows are meant: an optional WITH clause and a condition over the table under its own name."""

    where: Composable | None = None
    with_: Composable | None = None


ARCHIVED = {
    "archived_at": "timestamp with time zone",
    "plan_id": "text",
    "survivor_key": "text",
    "rule": "text",
}
"""What an archive holds besides the columns of its table."""


@dataclass(frozen=True)
class TableSource:
    """Rows of a table, on the target's own connection or on another."""

    session: Session
    table: Table
    scope: Scope = field(default_factory=Scope)


@dataclass(frozen=True)
class LinesSource:
    """Rows that come as lines: JSON objects, or CSV with a header."""

    lines: Callable[[], Iterator[bytes]]
    values: ValuesAre
    place: str
    """Where they come from, for errors and notes."""
    scope: Scope = field(default_factory=Scope)
    header: tuple[str, ...] = ()
    """CSV: the columns."""


NO_SOURCE = LinesSource(lambda: iter(()), ValuesAre.NATURAL, "the table itself")


class Rule(NamedTuple):
    """One rule of who survives among duplicates."""

    name: str
    by: Composable
    """What it sorts by; the first row survives, and direction and NULLs are part of `order`."""
    order: LiteralString
    shown: Composable
    """The deciding value as text."""


@dataclass(frozen=True)
class Duplicates:
    """Rows of the target itself that share a key: all but the best of each go."""

    key: tuple[str, ...]
    where: Composable | None
    where_text: str | None
    """As the server writes it in the end; `where_forms` are the forms it goes through, as an index of somebody else's may have it."""
    where_forms: tuple[str, ...]
    nulls_equal: bool
    rules: tuple[Rule, ...]
    archive: TableName | None
    constraint: str
    online: bool
    limit: str | None


@dataclass(frozen=True)
class References:
    """Rows of the target that point at duplicates of another intent, by these foreign keys."""

    of: Intent
    keys: tuple[ForeignKey, ...]
    policy: str
    """repoint, delete or fail."""
    drop: bool
    """Whether a row that has no room once repointed is deleted."""


@dataclass(frozen=True)
class Intent:
    """One table's declared rows."""

    number: int
    address: str
    connection: str
    target: Table
    key: tuple[str, ...]
    source: TableSource | LinesSource
    scope: Scope = field(default_factory=Scope)
    columns: tuple[str, ...] | None = None
    """None: all both sides have."""
    without: frozenset[str] = frozenset()
    sensitive: frozenset[str] = frozenset()
    secret: frozenset[str] = frozenset()
    """Columns whose values stand in no plan, for they are made anew: what is taken back is without them."""
    compare: Compare = Compare.VALUE
    on_changed: OnChanged = OnChanged.UPDATE
    newer: str | None = None
    on_extra: OnExtra = OnExtra.KEEP
    missing_parent: Mapping[str, Parent] = field(default_factory=dict[str, Parent])
    """By column; '' for every other column."""
    triggers: str = "fire"
    max_delete: str = "0"
    unlimited: bool = False
    """The spec allows more deletes than `max_delete` (R001)."""
    finds: Duplicates | References | Described | RowsOf | None = None
    """What is looked for in the target itself, instead of comparing with a source."""
    protect: bool = False
    lets_go: bool = False
    """What points at its deleted rows is dealt with by intents of its own."""
    root: bool = False
    source_name: str = "source"
    place: Location | None = None

    @property
    def label(self) -> str:
        """The head of its steps' ids."""
        return f"{self.address}[{full_name(self.target.name)}]"

    def step_id(self, verb: str) -> str:
        """The id of its step of this verb; duplicates and rows of the same table that go with them are two deletes."""
        again = isinstance(self.finds, References) and self.finds.of.target.name == self.target.name
        return f"{self.label}/{verb}{'#2' if again and verb == 'delete' else ''}"

    def parent_policy(self, key: ForeignKey) -> Parent:
        """What to do where this foreign key's parent is gone."""
        named = [self.missing_parent[column] for column in key.columns if column in self.missing_parent]
        return named[0] if named else self.missing_parent.get("", Parent.FAIL)

    @property
    def by_whole(self) -> bool:
        """Whether its rows have no key but all they hold."""
        return self.key == (WHOLE,) and WHOLE not in self.target.columns

    @property
    def live(self) -> Composable:
        """The target's rows as a relation that has the key; of rows without one those that were found to go."""
        if not self.by_whole:
            return relation(self.target.name)
        return q("(SELECT x.*, {h} || '/' || row_number() OVER (PARTITION BY {h}) AS {key} FROM {t} x WHERE {h} IN"
                 " (SELECT split_part(k1, '/', 1) FROM {d}))", h=whole(stored(self.target), "x"), key=ident(WHOLE),
                 t=relation(self.target.name), d=self.temp("d"))  # fmt: skip

    def keyed(self, letter: str = "k") -> Composable:
        """Columns for its keys, to make a temporary table of, selected from the target."""
        if self.by_whole:
            return q("''::text AS {}", ident(f"{letter}1"))
        return join([q("{} AS {}", ident(c), ident(f"{letter}{n}")) for n, c in enumerate(self.key, 1)])

    def temp(self, letter: str) -> sql.Identifier:
        """One of its temporary tables: k (keys and hashes of the source), d (differences), s (rows as they should be), …"""
        return ident(f"rc_{letter}_{self.number}")


def full_name(name: TableName) -> str:
    """schema.table, quoted where SQL needs it."""
    return str(name if name.schema else TableName("public", name.name))


def relation(name: TableName) -> Composable:
    """A table in SQL."""
    return ident(name.schema or "public", name.name)


def alias(name: TableName) -> Composable:
    return ident(name.name)


def stored(table: Table) -> list[str]:
    """The columns that are not generated from others."""
    return [column.name for column in table.columns.values() if not column.generated]


def whole(columns: Iterable[str], rows: str) -> Composable:
    """What tells a row of a table without a key from others: all that is stored of it. Equal rows are numbered."""
    return q("md5(ROW({})::text)", join([ident(rows, column) for column in sorted(columns)]))


def key_names(count: int) -> tuple[str, ...]:
    """The names a key's columns have in temporary tables, whatever they are called in the user's."""
    return tuple(f"k{n}" for n in range(1, count + 1))


def on_keys(
    left: LiteralString, left_names: Sequence[str], right: LiteralString, right_names: Sequence[str]
) -> Composable:
    """Equality of keys between two aliases."""
    pairs = zip(left_names, right_names, strict=True)
    return join([q("{} = {}", ident(left, a), ident(right, b)) for a, b in pairs], " AND ")


def columns_of(prefix: LiteralString, names: Iterable[str]) -> Composable:
    return join([ident(prefix, name) for name in names])


def text(expression: Composable) -> Composable:
    return q("({})::text", expression)


def differ_sql(column: Column, compare: Compare, left: Composable, right: Composable) -> Composable:
    """Whether two values of a column differ, in the sense the spec asks for."""
    plain = column.traits.equal if compare is Compare.VALUE else column.traits.exact
    if plain:
        return q("({} IS DISTINCT FROM {})", left, right)
    return q("({} IS DISTINCT FROM {})", text(left), text(right))


def hash_sql(columns: Sequence[Column], other: Mapping[str, str], prefix: Composable) -> Composable:
    """A row's hash, equal on both sides where the text forms of its columns are.

    It may say "differs" too often (1.0 and 1.00), never by design too rarely: what it names is compared for real.
    """
    if not columns:
        return raw("0::int8")
    parts: list[Composable] = []
    for column in columns:
        value = q("{}.{}", prefix, ident(column.name))
        how = column.traits.hashed_by if other.get(column.name, column.type) == column.type else "text"
        parts.append(value if not how else text(value) if how == "text" else q("{}({})", raw(how), value))
        if not column.not_null:
            parts.append(q("({} IS NULL)", value))  # NULL hashes to 0, which other values may do too
    return q("hash_record_extended(ROW({}), 0)", join(parts))


_PLAIN = re.compile(
    r"(smallint|integer|bigint|numeric|real|double precision|oid|uuid|boolean|date|timestamp)\b[^\[\]]*"
)
"""Types whose text form has nothing that JSON would escape."""


def json_text(expression: Composable, type_: str = "") -> Composable:
    """A value as the plan writes it: a JSON string of its text form, or null."""
    if _PLAIN.fullmatch(type_):
        return q("coalesce('\"' || ({})::text || '\"', 'null')", expression)
    return q("coalesce(to_json(({})::text)::text, 'null')", expression)


def json_key(expressions: Sequence[Composable], types: Sequence[str] = ()) -> Composable:
    """A change's key as the plan writes it."""
    parts = [json_text(part, types[n] if types else "") for n, part in enumerate(expressions)]
    return q("'[' || {} || ']'", join(parts, " || ',' || "))


Pair = tuple[str, Composable, Composable | None]
"""A column, its value, and the condition under which it stands in an image; None for always."""


def json_object(pairs: Sequence[Pair], types: Mapping[str, str] = MappingProxyType({})) -> Composable:
    """A row's image, sorted by column; its members' values are texts or null. `types` of those that are known."""
    # As text: PostgreSQL's JSON builders do not leave members out, and look each value's type up again for each row.
    parts: list[Composable] = []
    for name, value, condition in sorted(pairs, key=lambda pair: pair[0]):
        member = q("{} || {}", lit(_json_string(name) + ":"), json_text(value, types.get(name, "")))
        parts.append(member if condition is None else q("CASE WHEN {} THEN {} END", condition, member))
    return q("'{{' || array_to_string(ARRAY[{}], ',') || '}}'", join(parts)) if parts else raw("'{}'")


def _json_string(name: str) -> str:
    from reconciler.plan.file import dumps

    return dumps(name)


def hmac_sql(expression: Composable) -> Composable:
    """HMAC-SHA-256 of a value's text form, as hex; the key's two pads stand in the temporary table rc_pads."""
    inner = q("sha256((SELECT ipad FROM rc_pads) || convert_to(({})::text, 'UTF8'))", expression)
    return q("encode(sha256((SELECT opad FROM rc_pads) || {}), 'hex')", inner)


def order_by_key(expressions: Sequence[Composable]) -> Composable:
    """Plans are sorted by key text in C collation."""
    return join([q('({})::text COLLATE "C"', part) for part in expressions])
