"""Objects and rows brought together by one join, of which only the pairs stay that something may be wrong with.

In: an inventory (lines of COPY, or a SELECT of the same database), a table and how its rows spell names. Out: `rc_u_N`, what the join left
over (objects that no row spells as the form has it, rows that so spell no object, pairs worth a look); `rc_n_N`, of these the rows with
what each names; and `Paired`, what is counted. Everybody else works on these two, which are as small as the differences are.
Invariants: a pair that is not there is right in every way; names are compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import LiteralString, NamedTuple

from reconciler.systems.postgres.catalog import Column
from reconciler.systems.postgres.object_values import unbound
from reconciler.systems.postgres.rows import Compare, Intent, alias, differ_sql, key_names, on_keys, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw
from reconciler.systems.postgres.spellings import Form, Match, decoded, is_url, meant, read_name

Inventory = Callable[[], Iterator[bytes] | Composable]
"""Lines of COPY, or a SELECT where the objects are listed in the same database."""
LISTED = {"size": "int8", "etag": "text", "mime": "text", "created_at": "timestamptz"}
"""What an inventory says of an object besides its name."""


_OF_DOMAIN: LiteralString = """
SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid AND t.typtype = 'd'
               WHERE a.attrelid = %s AND a.attname = ANY(%s))"""


class Names(NamedTuple):
    """Which objects are meant, and how rows name them: the form first, then wrong ones."""

    bucket: str
    prefix: str
    match: Match
    column: str
    forms: Sequence[Form]


class Paired(NamedTuple):
    """What was counted on the way."""

    objects: int
    bytes: int
    meant: int
    rows: int
    """In scope, with a name at all."""
    several: bool
    """Some object is named by several rows."""


def pair_tables(rows: Intent) -> list[Composable]:
    """The statements that make the temporary tables, keyed as the rows are."""
    keys = join([q("{} AS {}", ident(c), ident(k)) for c, k in zip(rows.key, key_names(len(rows.key)), strict=True)])
    listed = join([q("null::{} AS {}", raw(kind), ident(name)) for name, kind in LISTED.items()])
    of = relation(rows.target.name)
    return [
        q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, false AS mine, ''::text AS name, false AS meant, {} FROM {} WITH NO DATA",
          rows.temp("u"), keys, listed, of),
        q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, false AS mine, 0 AS form, ''::text AS name, false AS there, false AS lost,"
          " false AS meant, {} FROM {} WITH NO DATA", rows.temp("n"), keys, listed, of),
    ]  # fmt: skip


def listing_table(table: Composable) -> Composable:
    """Where an inventory of lines goes."""
    listed = join([q("{} {}", ident(name), raw(kind)) for name, kind in LISTED.items()])
    return q("CREATE TEMP TABLE {} (name text, {}) ON COMMIT DROP", table, listed)


def listed(session: Session, inventory: Inventory, table: Composable) -> Composable:
    """The inventory as something to select from: lines go into the table, a SELECT stays one."""
    found = inventory()
    if not isinstance(found, Iterator):
        columns = join([q("{0}::{1}", ident(name), raw(kind)) for name, kind in LISTED.items()])
        return q("(SELECT name, {} FROM ({}) i)", columns, found)
    session.copy_in(q("COPY {} (name, {}) FROM STDIN", table, join([ident(name) for name in LISTED])), found)
    session.run(q("ANALYZE {} (name)", table))
    return table


class Lacking(NamedTuple):
    """A column of rows in scope that may not do: a test of its text and the object's name, true where it does not."""

    column: str
    test: Callable[[Composable, Composable], Composable]


class Pairing:
    """One inventory and one table."""

    def __init__(self, session: Session, rows: Intent, names: Names, objects: Composable) -> None:
        self.session, self.rows, self.names = session, rows, names
        self.u, self.n = rows.temp("u"), rows.temp("n")
        self.keys = key_names(len(rows.key))
        self.table, self.alias = relation(rows.target.name), alias(rows.target.name)
        self.objects = q(
            "(SELECT l.*, {} AS meant FROM {} l)", meant(raw("l.name"), names.prefix, names.match), objects
        )
        self.as_bytes = any(is_url(form) for form in names.forms)
        """Addresses may spell bytes as %XX, which need not be text: then bytes are compared."""

    def run(
        self, needed: Collection[str], measured: Mapping[str, str], lacking: Lacking | None, *, all_rows: bool
    ) -> Paired:
        """`needed` of what is listed; `measured` columns are as their object is; `all_rows`: leave every pair in scope."""
        objects, size, meant_ones = self.session.one(
            q("SELECT count(*), coalesce(sum(size), 0)::int8, count(*) FILTER (WHERE meant) FROM {} o", self.objects)
        )
        columns = [(self.rows.target.columns[name], what) for name, what in measured.items()]
        # Sorting names by the rules of a language takes many times as long as hashing them.
        self.session.run("SET LOCAL enable_mergejoin = off")
        self._join({*needed, *measured.values()}, columns, lacking, all_rows=all_rows)
        found = self._name()
        self.session.run("SET LOCAL enable_mergejoin = on")
        rows, mine, astray = self.session.one(
            q("SELECT count(*), count(*) FILTER (WHERE ({}) IS TRUE), (SELECT count(*) FROM {} u WHERE u.name IS NULL)"
              " FROM {} AS {} WHERE {} IS NOT NULL",
              self.rows.scope.where or raw("true"), self.u, self.table, self.alias, self._value(self.alias))
        )  # fmt: skip
        alone = self.session.value(q("SELECT count(*) FROM {} u WHERE {}", self.u, self.alone()))
        if alone:
            self._named_otherwise()
        return Paired(objects, size, meant_ones, mine, rows - astray + found > objects - alone)

    def _value(self, table: Composable) -> Composable:
        return q("{}.{}::text", table, ident(self.names.column))

    def alone(self, name: str = "u") -> Composable:
        """Of what is left over, under this name, the objects that no row names in any spelling."""
        return q(
            "{0}.mine IS NULL AND NOT EXISTS (SELECT FROM {1} p WHERE p.there AND p.name = {0}.name)",
            ident(name),
            self.n,
        )

    def several(self) -> Composable:
        """Objects that rows in scope name several times: name, number."""
        read = self._read(0, self.alias)
        named = q("SELECT {} AS c FROM {} AS {} WHERE ({}) IS TRUE AND {} IS NOT NULL UNION ALL SELECT {} FROM {} n WHERE n.mine AND n.there"
                  " AND n.form > 0", self._comparable(0, read), self.table, self.alias, self.rows.scope.where or raw("true"), read,
                  self._of_object("n"), self.n)  # fmt: skip
        return q("SELECT o.name, r.number FROM (SELECT c, count(*) AS number FROM ({}) x GROUP BY c HAVING count(*) > 1) r JOIN {} o ON {} = r.c",
                 named, self.objects, self._of_object("o"))  # fmt: skip

    def _read(self, form: int, table: Composable) -> Composable:
        return read_name(self.names.forms[form], self.names.bucket, self._value(table))

    def _comparable(self, form: int, read: Composable) -> Composable:
        if not self.as_bytes:
            return q('{} COLLATE "C"', read)
        return decoded(read) if is_url(self.names.forms[form]) else q("convert_to({}, 'UTF8')", read)

    def _of_object(self, name: str) -> Composable:
        return q("convert_to({}.name, 'UTF8')" if self.as_bytes else '{}.name COLLATE "C"', ident(name))

    def _join(
        self,
        needed: Collection[str],
        measured: Sequence[tuple[Column, str]],
        lacking: Lacking | None,
        *,
        all_rows: bool,
    ) -> None:
        """Both sides in one pass; what stays out is right. A user's condition stands where no name but the table's can be meant."""
        own = [q("{} AS {}", ident(c), ident(k)) for c, k in zip(self.rows.key, self.keys, strict=True)]
        kept: list[Composable] = [ident(k) for k in self.keys]
        worth: list[Composable] = [raw("NOT o.meant")]
        for n, (column, what) in enumerate(measured):
            own.append(q("{} AS {}", ident(column.name), ident(f"m{n}")))
            kept.append(ident(f"m{n}"))
            should = q("o.{}::{}", ident(what), unbound(column.type))
            worth.append(differ_sql(column, Compare.VALUE, should, ident("v", f"m{n}")))
        if lacking is not None:
            own.append(q("{}::text AS url", ident(lacking.column)))
            # What an address leads to is only known when its object is found.
            test = raw("true") if is_url(self.names.forms[0]) else lacking.test(raw("r.url"), raw("r.name"))
            kept.append(q("r.mine AND {} AS lacks", test))
            worth.append(raw("v.lacks"))
        said = [
            q("{} AS {}", ident(name) if name in needed else q("null::{}", raw(kind)), ident(name))
            for name, kind in LISTED.items()
        ]
        rows = q("(SELECT {}, r.mine, {} AS c FROM (SELECT {}, ({}) IS TRUE AS mine, {} AS name FROM {} AS {} WHERE {} IS NOT NULL) r) v",
                 join(kept), self._comparable(0, raw("r.name")), join(own), self.rows.scope.where or raw("true"), self._read(0, self.alias),
                 self.table, self.alias, self._value(self.alias))  # fmt: skip
        # OFFSET 0: what is needed of an object is taken out before the join, not carried through it with all the rest.
        first = raw("OFFSET 0" if needed else "")
        objects = q("(SELECT name, meant, {} FROM {} o {}) o", join(said), self.objects, first)
        keys, told = join([ident(k) for k in self.keys]), join([ident(name) for name in LISTED])
        into = q("{} ({}, mine, name, meant, {})", self.u, keys, told)
        left = q(
            "SELECT {k}, v.mine, o.name, o.meant, {l} FROM {rows} FULL JOIN {objects} ON {name} = v.c"
            " WHERE o.name IS NULL OR v.mine IS NULL OR (v.mine AND ({worth}))", rows=rows, objects=objects,
            name=self._of_object("o"), k=keys, l=told, worth=raw("true") if all_rows else join(worth, " OR ")
        )  # fmt: skip
        # What little is left over may come here and go back. But COPY checks what a domain says, and of some objects there is no key.
        if all_rows or self.session.value(_OF_DOMAIN, (self.rows.target.oid, list(self.rows.key))):
            self.session.run(q("INSERT INTO {} {}", into, left))
        else:
            self.session.fill(into, left)

    def _named_otherwise(self) -> None:
        """An object is named, too, by a row whose text another form reads as another object: such a one goes to nobody."""
        for form in range(1, len(self.names.forms)):
            if not self.session.value(q("SELECT EXISTS (SELECT FROM {} u WHERE {})", self.u, self.alone())):
                return
            keys = join([ident("t", c) for c in self.rows.key])
            self.session.run(
                q("INSERT INTO {n} ({k}, mine, form, name, there, lost, meant) SELECT {t}, false, {f}, u.name, true, false, u.meant"
                  " FROM {u} u JOIN {of} t ON {read} = {name} WHERE {alone}", n=self.n, k=join([ident(k) for k in self.keys]), t=keys,
                  f=lit(form), u=self.u, of=self.table, read=self._comparable(form, self._read(form, raw("t"))),
                  name=self._of_object("u"), alone=self.alone())
            )  # fmt: skip

    def _name(self) -> int:
        """What each row left over names: by the first wrong form that leads to an object, else the first that fits, the form last.

        How many are led to an object comes back.
        """
        listed = join([ident(name) for name in LISTED])
        into = q(
            "INSERT INTO {} ({}, mine, form, name, there, lost, meant, {})",
            self.n,
            join([ident(k) for k in self.keys]),
            listed,
        )
        keys = join([ident("u", k) for k in self.keys])
        self.session.run(
            q("{} SELECT {}, u.mine, 0, u.name, true, false, u.meant, {} FROM {} u WHERE u.mine AND u.name IS NOT NULL", into, keys, listed, self.u)
        )  # fmt: skip
        if not self.session.value(q("SELECT EXISTS (SELECT FROM {} WHERE name IS NULL)", self.u)):
            return 0
        order = [*range(1, len(self.names.forms)), 0]
        spelled = [
            q(
                "({}, {}, {}, {})",
                lit(at),
                lit(form),
                self._read(form, raw("t")),
                self._comparable(form, self._read(form, raw("t"))),
            )
            for at, form in enumerate(order)
        ]
        unread = q("({}, -1, null, null)", lit(len(order)))
        mean = meant(raw("w.name"), self.names.prefix, self.names.match)
        return self.session.value(
            q("WITH i AS ({} SELECT {}, mine, form, name, there, false, meant, {} FROM (SELECT DISTINCT ON (u.ctid) {}, u.mine, w.form,"
              " coalesce(o.name, w.name) AS name, o.name IS NOT NULL AS there, coalesce(o.meant, {}) AS meant, {} FROM {} u JOIN {} t ON {}"
              " CROSS JOIN LATERAL (VALUES {}) w(at, form, name, c) LEFT JOIN {} o ON {} = w.c WHERE u.name IS NULL AND (w.name IS NOT NULL OR"
              " w.form < 0) ORDER BY u.ctid, o.name IS NULL, w.at) f WHERE f.form >= 0 OR f.mine RETURNING there)"
              " SELECT count(*) FILTER (WHERE there) FROM i", into, join([ident(k) for k in self.keys]), listed, keys, mean,
              join([ident("o", name) for name in LISTED]), self.u, self.table,
              on_keys("u", self.keys, "t", self.rows.key), join([*spelled, unread]), self.objects, self._of_object("o"))
        )  # fmt: skip
