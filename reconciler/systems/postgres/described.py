"""What is said of objects in a bucket beside the rows of a table that describe them, and what was found of it.

A `Described` intent has the rows to come, keyed by the column that names the object; its `RowsOf` intent the rows there are, by their
own key. `Objects` counts every finding and what is to be done with objects. `described_find.py` looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.paired import (
    Inventory,
    listing_table,
    pair_tables,
)
from reconciler.systems.postgres.rows import Intent
from reconciler.systems.postgres.session import Composable, q
from reconciler.systems.postgres.spellings import Match, Piece

FINDINGS = ("missing_in_db", "missing_in_storage", "stale", "wrong_form", "duplicates", "unexpected")
"""Each a file of `status --csv`."""


class Signing(NamedTuple):
    """A column with a signed URL, and for how long one must be and is good."""

    column: str
    seconds: int
    renew_within: int
    now: int
    """Seconds since 1970."""


@dataclass(frozen=True)
class Described:
    """What the spec says of objects and rows; the intent's own rows are those to be inserted."""

    bucket: str
    prefix: str
    match: Match
    inventory: Inventory
    column: str
    form: tuple[Piece, ...]
    wrong_forms: tuple[tuple[Piece, ...], ...]
    insert: Mapping[str, tuple[Piece, ...] | None] | None
    """Column → template; None where objects without a row are left so."""
    on_missing: str
    """keep, delete, set or copy."""
    sets: Mapping[str, str | None]
    spare: Inventory | None
    """The bucket that missing objects are copied from."""
    spare_name: str
    measured: Mapping[str, str]
    extra: str
    """keep, remove or move."""
    quarantine: str
    move: bool
    lost: Callable[[Iterator[str]], Iterable[str]] | None
    """Of the names given those whose bytes are gone."""
    signing: Signing | None
    stale: Composable | None
    limit: str


class RowsOf(NamedTuple):
    """The rows that are there, of another intent's objects."""

    of: Intent


@dataclass
class Objects:
    """What was found of one prefix."""

    intent: Intent
    rows: Found
    new: Found
    total: int = 0
    bytes: int = 0
    in_sync: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """Each finding, and each thing to do: copy, move, remove, sign."""
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class SignedNames:
    """Rows that are to be given a signed URL."""

    column: str
    keys: Composable
    count: Composable


def url_column(intent: Intent) -> str | None:
    """The column of an intent's rows that the same plan fills with signed URLs."""
    finds = intent.finds.of.finds if isinstance(intent.finds, RowsOf) else intent.finds
    return finds.signing.column if isinstance(finds, Described) and finds.signing else None


def signed_rows(intent: Intent) -> SignedNames | None:
    """Of the rows there are, after they were compared, those that a plan signs for."""
    column = url_column(intent)
    if not isinstance(intent.finds, RowsOf) or column is None:
        return None
    where = q("FROM {} n WHERE n.mine AND n.there AND n.name IN (SELECT other FROM {} f WHERE f.kind = 'sign')", intent.temp("n"),
              intent.finds.of.temp("f"))  # fmt: skip
    return SignedNames(column, q("SELECT n.* {}", where), q("SELECT count(*) {}", where))


def tables_of_objects(intent: Intent) -> list[Composable]:
    """The statements that make the temporary tables."""
    if isinstance(intent.finds, Described):
        return [
            listing_table(intent.temp("o")),
            listing_table(intent.temp("b")),
            q("CREATE TEMP TABLE {} (name text) ON COMMIT DROP", intent.temp("g")),
            q("CREATE TEMP TABLE {} (kind text, name text, other text, size int8, etag text, why text) ON COMMIT DROP", intent.temp("f")),
        ]  # fmt: skip
    return pair_tables(intent) if isinstance(intent.finds, RowsOf) else []
