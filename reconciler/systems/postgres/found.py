"""What is known of an intent: the columns that count on either side, and the temporary tables that hold what differs.

In: an intent and what its source has. Out: `Found`, with every column of either side accounted for, in notes or as an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.catalog import Column
from reconciler.systems.postgres.rows import (
    Intent,
    LinesSource,
    full_name,
    key_names,
    relation,
)
from reconciler.systems.postgres.session import Composable, ident, join, q


@dataclass
class Found:
    """What is known of an intent's rows so far; the rows themselves stand in its temporary tables."""

    intent: Intent
    written: tuple[Column, ...] = ()
    """Columns that the source speaks for."""
    compared: tuple[Column, ...] = ()
    """Of these, the ones an update may change."""
    defaults: tuple[Column, ...] = ()
    """Columns only the target has, whose constant default goes into new rows."""
    source_rows: int | None = None
    missing: int = 0
    changed: int = 0
    extra: int = 0
    """Rows that go: those that the source lacks where these are deleted, and what goes along with them."""
    staying: int = 0
    """Rows that the source lacks and that stay, where somebody counted them."""
    elsewhere: int = 0
    """Rows of the target's scope that the source has outside of its own."""
    left_out: int = 0
    """Rows that differ and are left as they are, for want of a parent."""
    held: tuple[int, int] = (0, 0)
    """Of a protected resource the rows that differ, and those that the source lacks: they stay."""
    let_go: int = 0
    """Rows that a delete of others sets NULL in."""
    waits: str = ""
    """The resource that changes the rows it looks at, so that it can only be planned afterwards."""
    refused: ReconcilerError | None = None
    """Why no plan can be made of it; `status` still counts it."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def keys(self) -> tuple[str, ...]:
        return key_names(len(self.intent.key))

    @property
    def alike(self) -> int:
        """How many rows both sides have, in the scope of either, and nothing is to be changed in."""
        differ = self.missing + self.changed + self.held[0] + self.left_out
        return (self.source_rows or 0) + self.elsewhere - differ


def temporary_tables(intent: Intent) -> list[Composable]:
    """The statements that make an intent's temporary tables; they must run before the transaction is read only."""
    table = intent.target
    keys = intent.keyed()
    rows = join([ident(c.name) for c in table.columns.values() if not c.generated])
    where = relation(table.name)
    made: list[Composable] = [
        q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, ''::\"char\" AS kind, null::bool[] AS m, null::text AS reason"
          " FROM {} WITH NO DATA", intent.temp("d"), keys, where),
        q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA", intent.temp("s"), rows, where),
    ]  # fmt: skip
    if intent.finds:
        return made
    if isinstance(intent.source, LinesSource):
        made.append(
            q("CREATE TEMP TABLE {} (n int8 GENERATED ALWAYS AS IDENTITY, line json) ON COMMIT DROP", intent.temp("l"))
        )
        # A CSV is read whole, column by column: those that the target lacks, or computes, are read as text and left out.
        own = {c.name for c in table.columns.values() if not c.generated}
        foreign = [q("null::text AS {}", ident(name)) for name in intent.source.header if name not in own]
        made.append(
            q(
                "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA",
                intent.temp("f"),
                join([rows, *foreign]),
                where,
            )
        )
    else:
        made.append(
            q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, 0::int8 AS h FROM {} WITH NO DATA",
              intent.temp("k"), keys, where)
        )  # fmt: skip
    return made


def settle_columns(intent: Intent, available: Sequence[str], types: dict[str, str]) -> Found:
    """Account for every column of either side; `types` are the source's where it is a table."""
    found = Found(intent)
    table = intent.target
    own = {name: column for name, column in table.columns.items() if not column.generated}
    for name in intent.columns or ():
        if name not in table.columns:
            raise _column_error(intent, name, f"{full_name(table.name)} has no column {name!r}", table.columns)
        if name not in own:
            raise _column_error(intent, name, f"column {name!r} is generated: the database computes it", ())
        if name not in available:
            raise _column_error(intent, name, f"{intent.source_name} has no column {name!r}", available)
    for name in (*intent.without, *intent.sensitive, *((intent.newer,) if intent.newer else ())):
        if name not in table.columns:
            raise _column_error(intent, name, f"{full_name(table.name)} has no column {name!r}", table.columns)
    if intent.newer and intent.newer not in available:
        raise _column_error(intent, intent.newer, f"{intent.source_name} has no column {intent.newer!r}", available)
    for name in intent.key:
        if name not in own:
            raise _column_error(intent, name, f"key column {name!r} is generated: the database computes it", ())
        if name not in available:
            where = f" ({intent.source.place})" if isinstance(intent.source, LinesSource) else ""
            raise _column_error(intent, name, f"{intent.source_name}{where} has no key column {name!r}", available)
    wanted = set(intent.columns) | set(intent.key) if intent.columns is not None else set(own) - intent.without
    found.written = tuple(column for name, column in own.items() if name in wanted and name in available)
    fixed = set(intent.key) | (set(table.primary_key) - set(intent.columns or ()))
    found.compared = tuple(c for c in found.written if c.name not in fixed and c.identity != "a")
    absent = [column for name, column in own.items() if name not in available]
    found.defaults = tuple(
        c for c in own.values() if c not in found.written and c.default and not c.default_volatile and not c.identity
    )
    if absent:
        found.notes.append(
            f"columns that {intent.source_name} lacks: {_names(c.name for c in absent)}; " + _fallbacks(absent)
        )
    unknown = [name for name in available if name not in table.columns]
    if unknown:
        found.notes.append(f"columns that {full_name(table.name)} lacks, left out: {_names(unknown)}")
    other = [f"{c.name} ({types[c.name]} → {c.type})" for c in found.written if types.get(c.name, c.type) != c.type]
    if other:
        found.notes.append(f"types differ, values are converted: {_names(other)}")
    return found


def _fallbacks(columns: Iterable[Column]) -> str:
    words = [
        f"{c.name} takes the next value" if c.identity
        else f"{c.name} takes its default {c.default}" if c.default
        else f"{c.name} is NULL"
        for c in columns
    ]  # fmt: skip
    return "in new rows " + _names(words)


def _names(names: Iterable[str], most: int = 8) -> str:
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest


def _column_error(intent: Intent, name: str, what: str, known: Iterable[str]) -> ReconcilerError:
    close = difflib.get_close_matches(name, list(known), 1)
    return ReconcilerError(
        f"{intent.address}: {what}", where=intent.place, todo=f"did you mean {close[0]!r}?" if close else None
    )
