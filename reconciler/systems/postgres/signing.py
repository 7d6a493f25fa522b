"""Signed URLs go into the rows of their objects, a batch a transaction; a URL is a secret and stands in no plan, log or error.

In: names of objects, what signs them, and where their rows are. Out: how many rows were given a URL.
Invariant: a row whose URL is for its object and good for long enough is left as it is, however often this runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.described import Signing
from reconciler.systems.postgres.object_values import unbound, why_invalid
from reconciler.systems.postgres.rows import alias, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q
from reconciler.systems.postgres.spellings import Piece, decoded, is_url, read_name, spelled

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
    wanted = q("(SELECT unnest({}::text[])) AS {}({})", lit(list(names)), _WANTED, _NAME)
    return [row[0] for row in session.rows(q("SELECT DISTINCT {}.{} {}", _WANTED, _NAME, _rows(rows, wanted)))]


def give(session: Session, rows: SignedRows, urls: Mapping[str, str]) -> int:
    """Write the URLs into their rows."""
    signed = join([q("({}, {})", lit(name), lit(url)) for name, url in urls.items()])
    joined = _rows(rows, q("(VALUES {}) AS {}({}, {})", signed, _WANTED, _NAME, _URL))
    key, table = rows.table.primary_key, alias(rows.table.name)
    # A row's place is its own within one partition only.
    where = (
        join([q("t.{0} = s.{0}", ident(c)) for c in key], " AND ")
        if key
        else q("t.ctid = s.at AND t.tableoid = s.part")
    )
    own = join([q("{}.{}", table, ident(c)) for c in key]) if key else q("{0}.ctid AS at, {0}.tableoid AS part", table)
    column = rows.table.columns[rows.signing.column]
    return session.run(
        q("UPDATE {} t SET {} = s.{}::{} FROM (SELECT {}, {}.{} {} FOR UPDATE OF {}) s WHERE {}", relation(rows.table.name), ident(column.name),
          _URL, unbound(column.type), own, _WANTED, _URL, joined, table, where)
    )  # fmt: skip


# A condition of the user's stands beside these: no column or table of theirs has such a name.
_WANTED, _NAME, _URL = ident("rc:wanted"), ident("rc:name"), ident("rc:url")


def _rows(rows: SignedRows, wanted: Composable) -> Composable:
    url = q("{}.{}::text", alias(rows.table.name), ident(rows.signing.column))
    name = q("{}.{}", _WANTED, _NAME)
    path = q("{} || {}", lit(f"{rows.bucket}/"), name)
    bad = why_invalid(url, path, rows.signing.now + rows.signing.renew_within)
    same = q("{} = {}", rows.name(), spelled(rows.form, rows.bucket, name))
    if is_url(rows.form):  # letters may stand as %XX
        same = q("{} = convert_to({}, 'UTF8')", decoded(read_name(rows.form, rows.bucket, rows.name())), name)
    return q(
        "FROM {} JOIN {} AS {} ON {} WHERE ({}) AND {} IS NOT NULL", wanted, relation(rows.table.name), alias(rows.table.name),
        same, rows.scope, bad
    )  # fmt: skip


Sign = Callable[[Sequence[str]], Mapping[str, str]]
