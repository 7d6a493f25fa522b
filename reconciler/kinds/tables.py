"""Tables that resources name: found, told apart, their conditions proven; what every kind of rows starts with.

In: the world and what a resource says. Out: what the catalog has, or an error that stands at the place of the word.
What only one kind needs stands with it, for a kind is loaded when a spec has one of it and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reconciler.kinds.world import World
from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.plan.step import WHOLE
from reconciler.spec import Spec
from reconciler.spec.sql import Parameter, parse_condition
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.proof import Part, prove_condition
from reconciler.systems.postgres.rows import Intent, full_name
from reconciler.systems.postgres.session import Composable, Session

if TYPE_CHECKING:
    from reconciler.systems.postgres.as_of import AsOf
    from reconciler.systems.postgres.exchange import Reached


class NoTableError(ReconcilerError):
    """A table that the target does not have, or not yet."""

    def __init__(self, connection: str, name: TableName, where: Location | None, close: str | None) -> None:
        todo = f"did you mean {close}?" if close else None
        super().__init__(f"{connection} has no table {full_name(name)}", where=where, todo=todo)
        self.connection = connection
        self.table = name


class Compiled(NamedTuple):
    """A resource's intents; what must be said of tables the source lacks; what its scopes stand on."""

    intents: Sequence[Intent]
    notes: Sequence[str] = ()
    reaches: Sequence[AsOf | Reached] = ()


def place_of(world: World, address: str, *path: str) -> Location | None:
    return world.spec.locate(*address.split(".", 1), *path)


def find_table(world: World, connection: str, name: TableName, place: Location | None) -> Table:
    """A table of a database, or an error that suggests one."""
    catalog = world.catalog(connection)
    table = catalog.find(name)
    if table is None:
        raise NoTableError(connection, name, place, catalog.suggest(name))
    return table


def bound(spec: Spec, parts: Sequence[str | Parameter]) -> tuple[Part, ...]:
    """SQL of the spec, with the values of its variables."""
    return tuple((spec.variables[part.name],) if isinstance(part, Parameter) else part for part in parts)


def proven(world: World, session: Session, text: str, table: Table, place: Location | None) -> Composable:
    """A condition of the spec over rows of a table."""
    return prove_condition(session, bound(world.spec, parse_condition(text)), table, place)


def identity(table: Table, address: str, place: Location | None, *, or_whole: bool = False) -> tuple[str, ...]:
    """What tells rows of a table apart: its primary key, or a unique index whose columns are never NULL; else perhaps all they hold."""
    if table.primary_key:
        return table.primary_key
    for unique in table.uniques:
        if unique.columns and not unique.predicate and all(table.columns[c].not_null for c in unique.columns):
            return unique.columns
    if or_whole and table.kind == "r" and not table.referenced_by and WHOLE not in table.columns:
        return (WHOLE,)
    raise ReconcilerError(
        f"{address}: rows of {full_name(table.name)} cannot be told apart",
        where=place,
        why="it has no primary key and no unique index over columns that are never NULL",
        todo=f"ALTER TABLE {full_name(table.name)} ADD COLUMN … bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    )


def sensitive_columns(world: World, connection: str, table: TableName) -> set[str]:
    """What collections of the same table call sensitive."""
    found: set[str] = set()
    for collection in world.spec.document.collections.values():
        if collection.table is not None:
            of, name = collection.target()
            if of == connection and TableName(name.schema or "public", name.name) == table:
                found |= set(collection.sensitive)
        elif collection.into == connection:
            for name, options in (collection.tables or {}).items():
                one = TableName.parse(name)
                if TableName(one.schema or "public", one.name) == table:
                    found |= set(options.sensitive)
    return found


def signed_columns(world: World, connection: str, table: TableName) -> frozenset[str]:
    """Where prefixes of the spec, chosen or not, keep signed URLs: they stand in no plan, whoever takes their rows along."""
    found: set[str] = set()
    for prefix in world.spec.document.bucket_prefixes.values():
        of, name = prefix.target()
        if prefix.signed_url and of == connection and TableName(name.schema or "public", name.name) == table:
            found.add(prefix.signed_url.column)
    return frozenset(found)
