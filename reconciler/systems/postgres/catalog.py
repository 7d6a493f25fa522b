"""What the database says of its tables: read in a handful of queries, whatever their number.

In: a session. Out: `Catalog`, immutable: tables with columns, keys, foreign keys both ways, triggers.
Invariant: expressions and type names in it are the server's own words, so they may stand in SQL as they are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import LiteralString, NamedTuple

from reconciler.plan.names import TableName
from reconciler.systems.postgres.session import Row, Session


class Type(NamedTuple):
    """What can be done with a type's values."""

    equal: bool
    """It has PostgreSQL's own equality (json, xml, point have none)."""
    exact: bool
    """Equal values have the same text form (numeric 1.0 and 1.00 do not)."""
    hashed_by: str
    """How a value goes into a row's hash: '' as it is, by the named function, or 'text'.

    PostgreSQL's own hashes fold 64 bits into 32, and take NaN for infinity, `[0:0]={x}` for `{x}` and `{}` for `[]`; an enum's differs by
    server. What is hashed must tell all these apart, or a difference would be overlooked.
    """


class Column(NamedTuple):
    name: str
    type: str
    not_null: bool
    generated: bool
    identity: str
    """'' | 'a' (always) | 'd' (by default)."""
    default: str | None
    default_volatile: bool
    collation: str | None
    traits: Type


class Unique(NamedTuple):
    """A unique index; `columns` is empty where an expression is part of it."""

    name: str
    columns: tuple[str, ...]
    expressions: tuple[str, ...]
    predicate: str | None
    nulls_equal: bool
    deferrable: bool
    primary: bool
    uses: frozenset[str]
    """Every column that a value, an expression or the predicate reads."""


class ForeignKey(NamedTuple):
    name: str
    child: TableName
    columns: tuple[str, ...]
    parent: TableName
    parent_columns: tuple[str, ...]
    on_delete: str
    """'a' no action, 'r' restrict, 'c' cascade, 'n' set null, 'd' set default."""
    on_update: str
    set_columns: tuple[str, ...]
    """What SET NULL or SET DEFAULT sets: all of `columns` unless the key names some."""
    deferrable: bool
    indexed: bool

    @property
    def action(self) -> str:
        return _ACTIONS[self.on_delete]

    @property
    def update_action(self) -> str:
        return _ACTIONS[self.on_update]


_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


class Trigger(NamedTuple):
    name: str
    mode: str
    """'O' fires in ordinary sessions, 'A' always, 'R' on replicas only, 'D' disabled."""
    events: frozenset[str]
    before: bool
    row: bool
    function: str
    source: str

    @property
    def fires(self) -> bool:
        return self.mode in "OA"

    def writes(self) -> tuple[str, ...]:
        """What the function's text appears to write: `table column` (updates), `table`, `NEW.column`; a hint, not a proof."""
        found: list[str] = []
        for match in re.finditer(
            r"\bupdate\s+(?:only\s+)?([\w.\"]+)(?:\s+(?:as\s+)?\w+)?\s+set\s+\"?(\w+)", self.source, re.I
        ):
            found.append(f"{match[1]} {match[2]}")
        for match in re.finditer(r"\b(?:insert\s+into|delete\s+from)\s+(?:only\s+)?([\w.\"]+)", self.source, re.I):
            found.append(match[1])
        if self.before and self.row:
            found += [f"NEW.{match[1]}" for match in re.finditer(r"\bnew\.\"?(\w+)\"?\s*:?=[^=]", self.source, re.I)]
        return tuple(dict.fromkeys(found))


class Table(NamedTuple):
    oid: int
    name: TableName
    kind: str
    """'r' table, 'p' partitioned, 'v' view, 'm' materialized view, 'f' foreign."""
    columns: Mapping[str, Column]
    rows: int
    """The planner's estimate; -1 unknown."""
    row_security: bool
    rules: bool
    primary_key: tuple[str, ...]
    uniques: tuple[Unique, ...]
    references: tuple[ForeignKey, ...]
    """Foreign keys of this table."""
    referenced_by: tuple[ForeignKey, ...]
    triggers: tuple[Trigger, ...]
    sequences: Mapping[str, str]
    """column -> the sequence behind it, quoted as SQL wants it."""

    def unique_on(self, columns: Iterable[str]) -> bool:
        """Whether an immediate unique index without a predicate covers exactly these columns."""
        wanted = set(columns)
        return any(set(u.columns) == wanted and not u.predicate and not u.deferrable for u in self.uniques)


class Catalog(NamedTuple):
    tables: Mapping[TableName, Table]

    def find(self, name: TableName) -> Table | None:
        """The table of that name; without a schema it stands in `public`."""
        return self.tables.get(name if name.schema else TableName("public", name.name))

    def suggest(self, name: TableName) -> str | None:
        """A table that may have been meant."""
        names = {str(known): known for known in self.tables if known.schema == (name.schema or "public")}
        bare = {known.name: str(known) for known in self.tables}
        close = difflib.get_close_matches(name.name, [known.name for known in names.values()], 1)
        return close[0] if close else bare.get(name.name)


_USER: LiteralString = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

_TABLES: LiteralString = f"""
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.reltuples::int8, c.relrowsecurity, c.relhasrules
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r','p','v','m','f') AND c.relpersistence <> 't' AND {_USER}"""

_COLUMNS: LiteralString = f"""
SELECT a.attrelid::int8, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated::text,
       a.attidentity::text, pg_get_expr(d.adbin, d.adrelid), a.atttypid::int8,
       CASE WHEN a.attcollation <> t.typcollation AND l.collname IS NOT NULL
            THEN quote_ident(ln.nspname) || '.' || quote_ident(l.collname) END,
       coalesce(l.collisdeterministic, true),
       d.oid IS NOT NULL AND EXISTS (SELECT FROM pg_depend p JOIN pg_proc f ON f.oid = p.refobjid
            WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_proc'::regclass
              AND f.provolatile = 'v')
         OR coalesce(pg_get_expr(d.adbin, d.adrelid) ~* '\\m(now|nextval|random|gen_random_uuid|clock_timestamp|current_\\w+)\\M', false)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation l ON l.oid = a.attcollation LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace
WHERE c.relkind IN ('r','p','v','m','f') AND a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't' AND {_USER}
ORDER BY a.attrelid, a.attnum"""

_TYPES: LiteralString = """
SELECT t.oid::int8, t.typname, n.nspname = 'pg_catalog', t.typtype::text, t.typelem::int8, t.typbasetype::int8,
       t.typcategory::text, coalesce(r.rngsubtype, m.rngsubtype, 0)::int8,
       EXISTS (SELECT FROM pg_opclass o JOIN pg_am a ON a.oid = o.opcmethod
               WHERE o.opcdefault AND o.opcintype = t.oid AND a.amname IN ('btree', 'hash')),
       ARRAY(SELECT x.atttypid::int8 FROM pg_attribute x WHERE x.attrelid = t.typrelid AND t.typrelid <> 0
             AND t.typtype = 'c' AND x.attnum > 0 AND NOT x.attisdropped)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_range m ON m.rngmultitypid = t.oid"""

_UNIQUES: LiteralString = f"""
SELECT i.indrelid::int8, ic.relname,
       ARRAY(SELECT coalesce(a.attname, '') FROM generate_series(0, i.indnkeyatts - 1) k
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] AND i.indkey[k] <> 0 ORDER BY k)::text[],
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k ORDER BY k),
       pg_get_expr(i.indpred, i.indrelid),
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false), NOT i.indimmediate, i.indisprimary,
       ARRAY(SELECT a.attname FROM pg_depend d JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid
               AND d.refobjsubid > 0)::text[]
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indisunique AND i.indisvalid AND {_USER}
ORDER BY i.indrelid, NOT i.indisprimary, ic.relname"""

_FOREIGN_KEYS: LiteralString = f"""
SELECT k.conname, n.nspname, c.relname,
       ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY u(num, ord)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY ord)::text[],
       pn.nspname, p.relname,
       ARRAY(SELECT a.attname FROM unnest(k.confkey) WITH ORDINALITY u(num, ord)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY ord)::text[],
       k.confdeltype::text, k.confupdtype::text,
       ARRAY(SELECT a.attname FROM jsonb_array_elements_text(coalesce(nullif(to_jsonb(k) -> 'confdelsetcols', 'null'), '[]')) s
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = s::int2)::text[],
       k.condeferrable,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL
               AND (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(k.conkey)] @> k.conkey)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND {_USER}
ORDER BY n.nspname, c.relname, k.conname"""

_TRIGGERS: LiteralString = f"""
SELECT t.tgrelid::int8, t.tgname, t.tgenabled::text, t.tgtype::int, f.proname, f.prosrc
FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND NOT (t.tgname ~ '^reconciler_(audit|guard)_' AND f.proname ~ '^reconciler_(audit|guard)_') AND {_USER}
ORDER BY t.tgrelid, t.tgname"""

_SEQUENCES: LiteralString = f"""
SELECT d.refobjid::int8, a.attname, quote_ident(sn.nspname) || '.' || quote_ident(s.relname)
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND {_USER}"""

_AS_IT_IS = frozenset("bool int2 int4 text varchar name char bytea date uuid inet cidr macaddr macaddr8 bpchar".split())  # noqa: SIM905
_BY_FUNCTION = {
    "int8": "int8send",
    "float4": "float4send",
    "float8": "float8send",
    "numeric": "numeric_send",
    "time": "time_send",
    "timetz": "timetz_send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
    "interval": "interval_send",
}
_EXACT = _AS_IT_IS | {"oid", "int8", "time", "timetz", "timestamp", "timestamptz"}


def read_catalog(session: Session) -> Catalog:
    """All user tables of the database."""
    types = _types(session.rows(_TYPES))
    columns = _by_first(session.rows(_COLUMNS))
    uniques = _by_first(session.rows(_UNIQUES))
    triggers = _by_first(session.rows(_TRIGGERS))
    sequences = _by_first(session.rows(_SEQUENCES))
    keys = [_foreign_key(row) for row in session.rows(_FOREIGN_KEYS)]
    children: dict[TableName, list[ForeignKey]] = {}
    parents: dict[TableName, list[ForeignKey]] = {}
    for key in keys:
        parents.setdefault(key.child, []).append(key)
        children.setdefault(key.parent, []).append(key)
    tables: dict[TableName, Table] = {}
    for oid, schema, relname, kind, rows, row_security, rules in sorted(
        session.rows(_TABLES), key=lambda row: (row[1], row[2])
    ):
        name = TableName(schema, relname)
        indexes = tuple(_unique(row) for row in uniques.get(oid, ()))
        tables[name] = Table(
            oid=oid,
            name=name,
            kind=kind,
            columns={row[1]: _column(row, types) for row in columns.get(oid, ())},
            rows=rows,
            row_security=row_security,
            rules=rules,
            primary_key=next((index.columns for index in indexes if index.primary), ()),
            uniques=indexes,
            references=tuple(parents.get(name, ())),
            referenced_by=tuple(children.get(name, ())),
            triggers=tuple(_trigger(row) for row in triggers.get(oid, ())),
            sequences={row[1]: row[2] for row in sequences.get(oid, ())},
        )
    return Catalog(tables)


def _by_first(rows: list[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[0], []).append(row)
    return grouped


def _column(row: Row, types: Mapping[int, Type]) -> Column:
    _, name, type_, not_null, generated, identity, default, type_oid, collation, deterministic, volatile = row
    traits = types[type_oid]
    if not deterministic:
        traits = Type(traits.equal, exact=False, hashed_by="text")
    return Column(
        name=name,
        type=type_,
        not_null=not_null,
        generated=bool(generated),
        identity=identity,
        default=None if generated else default,
        default_volatile=volatile,
        collation=collation,
        traits=traits,
    )


def _types(rows: list[Row]) -> dict[int, Type]:
    by_oid = {row[0]: row for row in rows}
    known: dict[int, Type] = {}

    def judge(oid: int) -> Type:
        if oid not in known:
            _, name, builtin, kind, element, base, category, subtype, opclass, attributes = by_oid[oid]
            match kind:
                case "d":
                    known[oid] = judge(base)
                case "e":
                    known[oid] = Type(equal=True, exact=True, hashed_by="text")
                case "r" | "m":
                    inner = judge(subtype)
                    known[oid] = Type(inner.equal, exact=False, hashed_by="text")
                case "c":
                    parts = [judge(part) for part in attributes]
                    known[oid] = Type(all(part.equal for part in parts), exact=False, hashed_by="text")
                case _ if element and category == "A":
                    inner = judge(element)
                    known[oid] = Type(inner.equal, exact=False, hashed_by="text")
                case _:
                    equal = opclass or (builtin and name in {"varchar", "cidr"})
                    how = "" if name in _AS_IT_IS else _BY_FUNCTION.get(name, "text")
                    known[oid] = Type(equal, exact=builtin and name in _EXACT, hashed_by=how if builtin else "text")
        return known[oid]

    return {oid: judge(oid) for oid in by_oid}


def _unique(row: Row) -> Unique:
    _, name, columns, expressions, predicate, nulls_equal, deferrable, primary, uses = row
    plain = tuple(columns) if all(columns) else ()
    return Unique(
        name, plain, tuple(expressions), predicate, nulls_equal, deferrable, primary, frozenset(uses) | frozenset(plain)
    )


def _foreign_key(row: Row) -> ForeignKey:
    name, schema, table, columns, pschema, ptable, pcolumns, on_delete, on_update, only, deferrable, indexed = row
    return ForeignKey(
        name=name,
        child=TableName(schema, table),
        columns=tuple(columns),
        parent=TableName(pschema, ptable),
        parent_columns=tuple(pcolumns),
        on_delete=on_delete,
        on_update=on_update,
        set_columns=tuple(only) or tuple(columns),
        deferrable=deferrable,
        indexed=indexed,
    )


def _trigger(row: Row) -> Trigger:
    _, name, mode, bits, function, source = row
    events = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}
    return Trigger(
        name=name,
        mode=mode,
        events=frozenset(event for bit, event in events.items() if bits & bit),
        before=bool(bits & 2),
        row=bool(bits & 1),
        function=function,
        source=source,
    )
