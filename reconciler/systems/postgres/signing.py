"""Signed URLs go into the rows of their objects, a batch a transaction; a URL is a secret and stands in no plan, log or error.

In: names of objects, what signs them, and where their rows are. Out: how many rows were given a URL.
Invariant: a row whose URL is for its object and good for long enough is left as it is, however often this runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.described import Signing
from reconciler.systems.postgres.object_values import why_invalid
from reconciler.systems.postgres.rows import alias, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.spellings import Piece, spelled

BATCH = 1000


class SignedRows(NamedTuple):
    """The rows whose URLs are kept."""

    table: Table
    column: str
    form: tuple[Piece, ...]
    bucket: str
    scope: Composable
    signing: Signing

    def name(self) -> Composable:
        return q("{}.{}::text", alias(self.table.name), ident(self.column))


def lacking(session: Session, rows: SignedRows, names: Sequence[str]) -> list[str]:
    """Of these objects those that have a row without a good URL."""
    return [row[0] for row in session.rows(q("SELECT DISTINCT w.name {}", _rows(rows, _names(names))))]


def give(session: Session, rows: SignedRows, urls: Mapping[str, str]) -> int:
    """Write the URLs into their rows."""
    signed = join([q("({}, {})", lit(name), lit(url)) for name, url in urls.items()])
    joined = _rows(rows, q("(VALUES {}) AS w(name, url)", signed))
    key = rows.table.primary_key
    where = q("t.ctid = s.at") if not key else join([q("t.{0} = s.{0}", ident(c)) for c in key], " AND ")
    own = (
        join([q("{}.{}", alias(rows.table.name), ident(c)) for c in key])
        if key
        else q("{}.ctid AS at", alias(rows.table.name))
    )
    column = rows.table.columns[rows.signing.column]
    return session.run(
        q("UPDATE {} t SET {} = s.url::{} FROM (SELECT {}, w.url {} FOR UPDATE OF {}) s WHERE {}", relation(rows.table.name), ident(column.name),
          raw(column.type), own, joined, alias(rows.table.name), where)
    )  # fmt: skip


def _names(names: Sequence[str]) -> Composable:
    return q("(SELECT unnest({}::text[])) AS w(name)", lit(list(names)))


def _rows(rows: SignedRows, wanted: Composable) -> Composable:
    url = q("{}.{}::text", alias(rows.table.name), ident(rows.signing.column))
    path = q("{} || w.name", lit(f"{rows.bucket}/"))
    bad = why_invalid(url, path, rows.signing.now + rows.signing.renew_within)
    return q(
        "FROM {} JOIN {} AS {} ON {} = {} WHERE ({}) AND {} IS NOT NULL", wanted, relation(rows.table.name), alias(rows.table.name),
        rows.name(), spelled(rows.form, rows.bucket, raw("w.name")), rows.scope, bad
    )  # fmt: skip


Sign = Callable[[Sequence[str]], Mapping[str, str]]
