"""Objects of a bucket beside the rows of a table that describe them: one inventory in, what is wrong between the two out.

In: a `Described` intent with its `RowsOf`; the inventory as COPY text. Out: two `Found` for rows, and `Objects`. All of it stands in
temporary tables: what `paired.py` left over, and `rc_f_N` the findings (kind, name, …).
Invariant: an object lacks a row only if no row of the table names it in any known spelling; names are compared byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from tempfile import TemporaryFile

import psycopg

from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.limit import most
from reconciler.systems.postgres.catalog import Column
from reconciler.systems.postgres.described import Described, Objects, Signing
from reconciler.systems.postgres.differ import changed_flags
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.object_values import filled, unbound, why_invalid
from reconciler.systems.postgres.paired import (
    LISTED,
    Inventory,
    Lacking,
    Names,
    Pairing,
    listed,
)
from reconciler.systems.postgres.rows import Intent, OnExtra, alias, full_name, key_names, on_keys, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw, scrub
from reconciler.systems.postgres.spellings import loose_stem, meant, nameable, read_name, spelled, stem

_LOST_AT_ONCE = 1000
_HERE = raw("n.mine AND n.form >= 0 AND n.meant AND n.there AND NOT n.lost")
_GONE = raw("n.mine AND n.form >= 0 AND n.meant AND NOT (n.there AND NOT n.lost)")
"""Rows in scope whose object is there, and those whose object should be here and is not."""


class Finding:
    """One resource beside its rows."""

    def __init__(self, session: Session, new: Intent, rows: Intent, source: Described) -> None:
        self.session, self.new, self.rows, self.source = session, new, rows, source
        self.result = Objects(new, Found(rows), Found(new))
        self.u, self.n, self.f = rows.temp("u"), rows.temp("n"), new.temp("f")
        self.keys = key_names(len(rows.key))
        self.table, self.alias = relation(new.target.name), alias(new.target.name)

    def run(self) -> Objects:
        source = self.source
        objects = listed(self.session, source.inventory, self.new.temp("o"))
        names = Names(source.bucket, source.prefix, source.match, source.column, (source.form, *source.wrong_forms))
        self.pairing = Pairing(self.session, self.rows, names, objects)
        self.objects = self.pairing.objects
        lacking = Lacking(source.signing.column, self._no_url) if source.signing else None
        try:
            self.paired = self.pairing.run(self._needed(), source.measured, lacking, all_rows=source.lost is not None)
        except (psycopg.DataError, psycopg.errors.CannotCoerce, psycopg.errors.UndefinedFunction) as error:
            if not source.measured:
                raise
            raise ReconcilerError(
                f"{self.new.address}: what objects say does not fit {', '.join(source.measured)}", where=self.new.place,
                why=scrub(error.diag.message_primary or ""), todo="take the column out of `columns`, or change its type",
            ) from None  # fmt: skip
        self._verify()
        self._count()
        self._missing_rows()
        self._rows()
        if source.spare is not None:
            self._copies(source.spare)
        if source.move:
            self._moves()
        if source.signing is not None:
            self._signatures(source.signing)
        self._limit()
        (self.result.new if self.result.new.missing else self.result.rows).notes += self.result.notes
        self.session.run(q("ANALYZE {}", self.f))
        return self.result

    def _needed(self) -> set[str]:
        """What has to be known of objects besides their names."""
        needed = {"size", "etag"} if self.source.move or self.source.extra != "keep" else set[str]()
        for template in (self.source.insert or {}).values():
            needed |= {text for open_, text in template or () if open_} & {*LISTED}
        return needed

    def _no_url(self, url: Composable, name: Composable) -> Composable:
        assert self.source.signing is not None
        path, until = (
            q("{} || {}", lit(self.source.bucket + "/"), name),
            self.source.signing.now + self.source.signing.renew_within,
        )
        return q("{} IS NOT NULL", why_invalid(url, path, until))

    def _verify(self) -> None:
        """Ask the storage for the bytes of what rows in scope claim."""
        if self.source.lost is None:
            return
        claimed = self.session.copy_out(
            q("COPY (SELECT DISTINCT to_json(name)::text FROM {} WHERE mine AND there AND meant) TO STDOUT (FORMAT csv, DELIMITER E'\\x02',"
              " QUOTE E'\\x01')", self.n)
        )  # fmt: skip
        with TemporaryFile() as file:  # a million names are more than memory is for
            file.writelines(claimed)
            file.seek(0)
            lost = iter(self.source.lost(json.loads(line) for line in file))
            while batch := list(islice(lost, _LOST_AT_ONCE)):
                self.session.run(q("INSERT INTO {} SELECT unnest({}::text[])", self.new.temp("g"), lit(batch)))
        self.session.run(
            q("UPDATE {} n SET lost = true FROM {} g WHERE n.there AND g.name = n.name", self.n, self.new.temp("g"))
        )

    def _note(self, kind: str, rows: Composable) -> int:
        """Put findings aside: name, other, size, etag, why."""
        count = self.session.run(
            q("INSERT INTO {} (kind, name, other, size, etag, why) SELECT {}, x.* FROM ({}) x", self.f, lit(kind), rows)
        )
        self.result.counts[kind] = count
        return count

    def _count(self) -> None:
        nothing, row, n, paired = raw("NULL::int8, NULL"), self._row(), self.n, self.paired
        alone = self.pairing.alone()
        self._note(
            "missing_in_db", q("SELECT u.name, NULL, {}, NULL FROM {} u WHERE {} AND u.meant", nothing, self.u, alone)
        )
        self._note("missing_in_storage", q("SELECT n.name, {}, {}, CASE WHEN n.there THEN 'its bytes are gone' ELSE 'no such object' END"
                   " FROM {} n WHERE {}", row, nothing, n, _GONE))  # fmt: skip
        self._note(
            "wrong_form",
            q(
                "SELECT n.name, {}, {}, NULL FROM {} n WHERE n.mine AND n.form > 0 AND n.there AND n.meant",
                row,
                nothing,
                n,
            ),
        )
        self.result.counts["duplicates"] = 0
        if paired.several:
            self._note(
                "duplicates",
                q("SELECT x.name, NULL, {}, x.number || ' rows' FROM ({}) x", nothing, self.pairing.several()),
            )
        alike = self._alike()
        mark = raw("u.name <> '.emptyFolderPlaceholder' AND right(u.name, 24) <> '/.emptyFolderPlaceholder'")
        self._note(
            "unexpected",
            q("SELECT u.name, NULL, {}, NULL FROM {} u WHERE {} AND NOT u.meant AND {}", nothing, self.u, alone, mark),
        )
        if self.source.stale is not None:
            where = q("({}) IS TRUE AND ({})", self.source.stale, self.rows.scope.where or raw("true"))
            self._note("stale", q("SELECT {}::text, {}, NULL::int8, NULL, NULL FROM {} AS {} WHERE {}", ident(self.source.column),
                       _shown(self.rows.key), self.table, self.alias, where))  # fmt: skip
        unread, outside, wrong = self.session.one(
            q("SELECT count(*) FILTER (WHERE n.mine AND n.form < 0), count(*) FILTER (WHERE n.mine AND n.form >= 0 AND NOT n.meant),"
              " count(*) FILTER (WHERE n.mine AND NOT (n.form = 0 AND n.meant AND n.there AND NOT n.lost)) FROM {} n", n)
        )  # fmt: skip
        self.result.total, self.result.bytes = paired.objects, paired.bytes
        self.result.in_sync = paired.rows - wrong
        claims = paired.rows - unread - outside
        where = f"{self.source.bucket}/{self.source.prefix}"
        if claims and not paired.meant:
            raise ReconcilerError(
                f"{self.new.address}: {where} holds no object, and {claims} rows of {full_name(self.new.target.name)} name one there",
                where=self.new.place, why="an empty listing is more often a wrong bucket, prefix or key than an empty truth",
                todo="check `bucket`, `prefix` and `match`",
            )  # fmt: skip
        lacking = self.result.counts["missing_in_db"]
        if self.source.insert is None and self.source.extra != "keep" and lacking and lacking == paired.meant:
            raise ReconcilerError(
                f"{self.new.address}: no row of {full_name(self.new.target.name)} names any of the {lacking} objects of {where}",
                where=self.new.place, why="every object would go, which is more often a wrong `column`, `form` or table than meant",
                todo="check them, or say on_extra_object: keep",
            )  # fmt: skip
        notes = [f"{paired.objects:,} objects, {_bytes_said(paired.bytes)} under {where}; {paired.meant:,} are meant"]
        for number, said in (
            (unread, "rows in scope are spelled in no known form"), (outside, "rows in scope name objects that are not meant"),
            (self.result.counts["duplicates"], "objects are named by several rows"),
            (alike, "objects differ from another in case or extension alone"),
            (self.result.counts["unexpected"], "objects are there that are neither meant nor named by a row"),
            (self.result.counts.get("stale", 0), "rows in scope are stale"),
        ):  # fmt: skip
            if number:
                notes.append(f"{number:,} {said}")
        self.result.notes = notes

    def _alike(self) -> int:
        """Objects that differ in case or extension alone; their stems are only looked at where two of them share a hash."""
        hashed = q("hashtextextended({}, 0)", loose_stem(raw("o.name")))
        shared = q("SELECT {h} AS h FROM {o} o WHERE o.meant GROUP BY 1 HAVING count(*) > 1", h=hashed, o=self.objects)
        self.result.counts["alike"] = 0
        if not self.session.value(q("SELECT EXISTS ({})", shared)):
            return 0
        return self._note("alike", q(
            "WITH s AS MATERIALIZED (SELECT o.name, {stem} AS stem FROM {o} o WHERE o.meant AND {h} IN ({shared})),"
            " d AS (SELECT stem, min(name COLLATE \"C\") AS first FROM s GROUP BY stem HAVING count(*) > 1)"
            " SELECT s.name, NULL, NULL::int8, NULL, 'like ' || d.first FROM s JOIN d USING (stem)",
            stem=stem(raw("o.name")), o=self.objects, h=hashed, shared=shared))  # fmt: skip

    def _row(self) -> Composable:
        return q("concat_ws(', ', {})", join([q("n.{}::text", ident(k)) for k in self.keys]))

    def _missing_rows(self) -> None:
        source, found = self.source, self.result.new
        lacking = q("{} o WHERE o.meant AND {}", self.u, self.pairing.alone("o"))
        if source.insert is None:
            if source.extra == "remove":
                self._note("remove", q("SELECT o.name, NULL, o.size, o.etag, 'no row' FROM {}", lacking))
            elif source.extra == "move":
                self._set_aside(lacking)
            return
        columns = self.new.target.columns
        values = {source.column: spelled(source.form, source.bucket, raw("o.name"))}
        values |= {column: filled(template) for column, template in source.insert.items()}
        values |= {column: q("o.{}::text", ident(what)) for column, what in source.measured.items()}
        found.written = tuple(columns[name] for name in values)
        cast = join([q("({})::{}", values[c.name], unbound(c.type)) for c in found.written])
        into = q(
            "INSERT INTO {} ({}) SELECT {} FROM {}",
            self.new.temp("s"),
            join([ident(c.name) for c in found.written]),
            cast,
            lacking,
        )
        self._fitting(
            into,
            {c: q("SELECT count(({})::{}) FROM {}", values[c.name], unbound(c.type), lacking) for c in found.written},
        )
        found.missing = self.session.run(
            q("INSERT INTO {} (k1, kind, reason) SELECT {}, 'm', 'object without a row' FROM {}", self.new.temp("d"), ident(source.column),
              self.new.temp("s"))
        )  # fmt: skip
        for letter in "sd":
            self.session.run(q("ANALYZE {}", self.new.temp(letter)))

    def _set_aside(self, lacking: Composable) -> None:
        """Objects that nobody names go where they are not meant; one whose place is taken stays."""
        aside = q("({} || o.name)", lit(self.source.quarantine))
        if not self.new.protect and self.session.value(
            q("SELECT EXISTS (SELECT FROM {} AND {})", lacking, meant(aside, self.source.prefix, self.source.match))
        ):
            raise ReconcilerError(
                f"{self.new.address}: objects under {self.source.quarantine} are meant too, and would be moved aside again and again",
                where=self.new.place, todo="name a place that is not `prefix` itself",
            )  # fmt: skip
        going = self._note(
            "quarantine",
            q("SELECT o.name, {a}, o.size, o.etag, 'no row' FROM {} AND {} AND NOT EXISTS (SELECT FROM {} p WHERE p.name = {a})",
              lacking, nameable(aside), self.objects, a=aside)
        )  # fmt: skip
        if left := self.result.counts["missing_in_db"] - going:
            self.result.notes.append(
                f"{left:,} objects that no row names stay: their place under {self.source.quarantine} is taken, or is no name for an object"
            )

    def _fitting(self, into: Composable, tests: Mapping[Column, Composable]) -> None:
        """Fill a table with the spec's values; the column that one does not fit is named."""
        try:
            with self.session.savepoint():
                self.session.run(into)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            message = error.diag.message_primary or ""
            for column, test in tests.items():
                what = f"{self.new.address}: a value for {column.name}"
                self.session.check(test, what, self.new.place, f"write it as {column.type} has it")
            raise ReconcilerError(
                f"{self.new.address}: a value does not fit its column", where=self.new.place, why=scrub(message),
                todo="shorten it, or change the column",
            ) from None  # fmt: skip

    def _rows(self) -> None:
        """Rows whose spelling or measures are wrong, or whose object is gone."""
        source, found, intent = self.source, self.result.rows, self.rows
        columns = intent.target.columns
        found.compared = tuple(columns[name] for name in dict.fromkeys((source.column, *source.measured, *source.sets)))
        found.source_rows = self.result.in_sync
        left = q("{} t JOIN {} n ON {}", self.table, self.n, on_keys("n", self.keys, "t", intent.key))
        if source.column in intent.key and not source.move and (stay := self.result.counts["wrong_form"]):
            self.result.counts["stuck"] = stay
            self.result.notes.append(
                f"{stay:,} rows stay wrongly spelled: {source.column} is what they are told apart by"
            )

        def value(column: Column) -> Composable:
            now, of = q("t.{}", ident(column.name)), unbound(column.type)
            cases: list[Composable] = []
            if column.name == source.column and not source.move:
                right = spelled(source.form, source.bucket, raw("n.name"))
                cases.append(q("WHEN {} AND n.form > 0 THEN ({})::{}", _HERE, right, of))
            if column.name in source.sets:
                cases.append(q("WHEN {} THEN {}::{}", _GONE, lit(source.sets[column.name]), of))
            if column.name in source.measured:
                cases.append(q("WHEN {} THEN n.{}::{}", _HERE, ident(source.measured[column.name]), of))
            return q("CASE {} ELSE {} END", join(cases, " "), now) if cases else now

        names = [*intent.key, *(c.name for c in found.compared if c.name not in intent.key)]
        values = [q("t.{}", ident(name)) for name in intent.key]
        values += [value(c) for c in found.compared if c.name not in intent.key]
        which = q("({} AND (n.form > 0 OR {}))", _HERE, raw("true" if source.measured else "false"))
        if source.sets:
            which = q("({} OR ({}))", which, _GONE)
        into = q(
            "INSERT INTO {} ({}) SELECT {} FROM {} WHERE {}",
            intent.temp("s"),
            join([ident(n) for n in names]),
            join(values),
            left,
            which,
        )
        self._fitting(
            into,
            {columns[c]: q("SELECT {}::{}", lit(text), unbound(columns[c].type)) for c, text in source.sets.items()},
        )
        self.session.run(q("ANALYZE {}", intent.temp("s")))
        flags = join([flag for _, flag in changed_flags(found, raw("s"), raw("t"))])
        keyed = join([q("s.{}", ident(name)) for name in intent.key])
        self.session.run(
            q("INSERT INTO {d} ({k}, kind, m, reason) SELECT * FROM (SELECT {keyed}, 'c'::\"char\", ARRAY[{flags}]::bool[] AS m,"
              " CASE WHEN {gone} THEN 'object missing' WHEN n.form > 0 THEN 'wrong form' ELSE 'differs from its object' END"
              " FROM {s} s JOIN {t} t ON {same} JOIN {n} n ON {on}) x WHERE true = ANY (m)",
              d=intent.temp("d"), k=join([ident(k) for k in self.keys]), keyed=keyed, flags=flags, gone=_GONE, s=intent.temp("s"), t=self.table,
              same=on_keys("s", intent.key, "t", intent.key), n=self.n, on=on_keys("n", self.keys, "t", intent.key))
        )  # fmt: skip
        found.changed = self.session.value(q("SELECT count(*) FROM {} WHERE kind = 'c'", intent.temp("d")))
        if source.on_missing == "delete":
            found.extra = self.session.run(
                q("INSERT INTO {} ({}, kind, reason) SELECT {}, 'x', 'object missing' FROM {} n WHERE {}", intent.temp("d"),
                  join([ident(k) for k in self.keys]), join([ident("n", k) for k in self.keys]), self.n, _GONE)
            )  # fmt: skip
        self.session.run(q("ANALYZE {}", intent.temp("d")))

    def _copies(self, spare: Inventory) -> None:
        """The other bucket is only listed where something is missing."""
        self.result.counts["copy"] = 0
        if not self.result.counts["missing_in_storage"]:
            return
        there = self._note(
            "copy",
            q("SELECT b.name, {}, b.size, b.etag, CASE WHEN EXISTS (SELECT FROM {} g WHERE g.name = b.name) THEN 'bytes gone'"
              " ELSE 'object missing' END FROM {} b WHERE {} AND b.name IN (SELECT name FROM {} WHERE kind = 'missing_in_storage')",
              lit(self.source.spare_name), self.new.temp("g"), listed(self.session, spare, self.new.temp("b")), nameable(raw("b.name")), self.f),
        )  # fmt: skip
        lost = (
            self.session.value(q("SELECT count(DISTINCT name) FROM {} WHERE kind = 'missing_in_storage'", self.f))
            - there
        )
        if lost:
            self.result.notes.append(
                f"{lost:,} missing objects are not in {self.source.spare_name} either, or have a name that none can be given"
            )

    def _moves(self) -> None:
        """Where `form` reads a wrongly spelled row as a name that is free, the object goes there."""
        wanted = read_name(self.source.form, self.source.bucket, q("t.{}::text", ident(self.source.column)))
        moved = self._note(
            "move",
            q("SELECT name, min(target), size, etag, 'wrong form' FROM (SELECT n.name, {w} AS target, n.size, n.etag"
              " FROM {n} n JOIN {t} t ON {on} WHERE n.mine AND n.form > 0 AND n.there AND n.meant) x"
              " WHERE {ok} AND NOT EXISTS (SELECT FROM {o} p WHERE p.name = x.target)"
              " GROUP BY name, size, etag HAVING count(DISTINCT target) = 1", ok=nameable(raw("target")), w=wanted, n=self.n, t=self.table,
              on=on_keys("n", self.keys, "t", self.rows.key), o=self.objects),
        )  # fmt: skip
        left = self.session.value(q("SELECT count(DISTINCT name) FROM {} WHERE kind = 'wrong_form'", self.f)) - moved
        if left:
            self.result.notes.append(
                f"{left:,} objects of wrongly spelled rows stay: their new name is taken or none that an object can have, or the row says none"
            )

    def _signatures(self, signing: Signing) -> None:
        """Objects whose rows will lack a URL that is theirs and good for long enough, by the names that they will have then.

        A row whose spelling stays wrong is not signed for: nobody would find it by its object's name.
        """
        url = q("t.{}::text", ident(signing.column))
        name, right = raw("n.name"), raw("n.form = 0")
        if not self.new.protect and self.source.move:
            name = q("coalesce((SELECT f.other FROM {} f WHERE f.kind = 'move' AND f.name = n.name), n.name)", self.f)
            right = q("(n.form = 0 OR EXISTS (SELECT FROM {} f WHERE f.kind = 'move' AND f.name = n.name))", self.f)
        elif not self.new.protect and self.source.column not in self.rows.key:
            right = raw("true")
        here = _HERE
        if self.source.spare is not None:  # what is copied is there then; the spelling of its rows stays as it is
            here = q(
                "({} OR ({} AND n.form = 0 AND n.name IN (SELECT name FROM {} f WHERE f.kind = 'copy')))",
                _HERE,
                _GONE,
                self.f,
            )
        bad = why_invalid(url, q("{} || {}", lit(self.source.bucket + "/"), name), signing.now + signing.renew_within)
        rows = q(
            "SELECT * FROM (SELECT {} AS name, n.name AS old, {} AS why FROM {} n JOIN {} t ON {} WHERE {} AND {}) x WHERE why IS NOT NULL",
            name, bad, self.n, self.table, on_keys("n", self.keys, "t", self.rows.key), here,
            q("{} AND coalesce({}, '') = ''", right, url) if self.new.protect else right
        )  # fmt: skip
        if self.source.insert is not None:
            rows = q("{} UNION ALL SELECT name, name, 'no URL' FROM {} WHERE kind = 'missing_in_db'", rows, self.f)
        count = self._note(
            "sign", q("SELECT name, min(old), NULL::int8, NULL, min(why) FROM ({}) x GROUP BY name", rows)
        )
        if count:
            reasons = self.session.rows(
                q("SELECT why, count(*) FROM {} WHERE kind = 'sign' GROUP BY 1 ORDER BY 2 DESC, 1", self.f)
            )
            self.result.notes.append(
                "signed URLs to make: " + ", ".join(f"{why} ({number:,})" for why, number in reasons)
            )

    def _limit(self) -> None:
        if self.rows.protect:
            return  # nothing goes
        removed = self.result.counts.get("remove", 0)
        for going, what, scope in (
            (self.result.rows.extra, "rows", self.paired.rows),
            (removed, "objects", self.result.total),
        ):
            if going > most(self.source.limit, lambda scope=scope: scope):
                self.result.rows.refused = ReconcilerError(
                    f"{self.new.address} would delete {going} {what}; max_delete allows {self.source.limit}", where=self.new.place,
                    why="their objects are not there" if what == "rows" else "no row names them",
                    todo=f"if that is meant, say max_delete: {going}", code=Exit.LIMIT,
                )  # fmt: skip
                return
        if self.result.rows.extra and self.rows.on_extra is not OnExtra.DELETE:
            raise AssertionError("rows go without on_extra")


def _shown(names: Sequence[str]) -> Composable:
    return q("concat_ws(', ', {})", join([q("{}::text", ident(name)) for name in names]))


def _bytes_said(number: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} bytes"
