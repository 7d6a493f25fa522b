"""Rows come back exactly as the source has them, and every plan can be applied again and taken back."""

from __future__ import annotations

import json

import psycopg
import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from tests.kinds.bench import Bench, changes, counts, images, summary

WHOLE = """
t:
  table: production.t
  source: backup
"""


def refused(bench: Bench, collections: str) -> ReconcilerError:
    """Planning this is an error, and writes nothing."""
    before = bench.production.dump()
    with pytest.raises(ReconcilerError) as caught:
        bench.plan(collections)
    assert bench.production.dump() == before
    return caught.value


def said(error: ReconcilerError) -> str:
    return error.render()


# Values

VALUES = {
    "bytea": (r"'\x00ff0a5c27'::bytea", "''::bytea"),
    "text": (
        "''",
        r"E'\\N'",
        r"E'tab\there\nline\r\n\\ back \\. '' \" quote'",
        "'😀 \u202e combining e\u0301'",
        "'NULL'",
        "' padded '",
        "repeat('x', 100000)",
        r"E'\x01\x02'",
        "'{a,b}'",
        "'%s %(x)s {} {x}'",
    ),
    "text[]": (r"""ARRAY['a', NULL, 'NULL', '', E'"\\{},']""", "'{}'", "'[2:3]={a,b}'", "ARRAY[['a','b'],['c','d']]"),
    "int4range": ("'[1,5)'", "'empty'", "'(,)'"),
    "tstzrange": ("'[2026-01-01 00:00:00.000001+00,infinity)'",),
    "nummultirange": ("'{[1.00,2.0),[3,)}'", "'{}'"),
    "mood": ("'ok'", "'a b''c'"),
    "pair": ("ROW(1, 'a,b')::pair", "ROW(NULL, '')::pair", "ROW(NULL, NULL)::pair", r"""ROW(1, E'"(\\)')::pair"""),
    "pair[]": ("ARRAY[ROW(1, 'a')::pair, NULL]",),
    "positive": ("1", "2147483647"),
    "numeric": ("'NaN'", "'Infinity'", "1234567890123456789012345678901234567890.0123456789", "1.0", "1.00", "-0.000"),
    "numeric(12,2)": ("1.5", "-9999999999.99"),
    "float8": ("'NaN'", "'-Infinity'", "0.1", "1e-320::float8", "'-0'", "1.7976931348623157e308"),
    "float4": ("0.1", "16777217"),
    "timestamptz": ("'infinity'", "'-infinity'", "'2026-03-29 01:30:00.123456+00'", "'4714-11-24 00:00:00+00 BC'"),
    "timestamp": ("'2026-01-01 00:00:00.000001'", "'0044-03-15 12:00 BC'"),
    "date": ("'infinity'", "'5874897-12-31'", "'2026-02-03'"),
    "timetz": ("'23:59:59.999999-11'",),
    "interval": ("'1 mon -3 days 04:05:06.000007'", "'-1 year'", "'30 days'", "'1 mon'"),
    "json": ("""'{"a": 1,   "a": 2.0, "b": "\\u00e9"}'""", "'null'"),
    "jsonb": ("'null'", """'{"a": [1.0, 1e400, null, "\\\\"]}'"""),
    "bit(3)": ("B'101'",),
    "varbit": ("B''", "B'10101'"),
    "char(5)": ("'ab'",),
    "uuid": ("'00000000-0000-0000-0000-000000000001'",),
    "inet": ("'10.0.0.1/8'", "'::1'"),
    "tsvector": ("to_tsvector('simple', 'a b''c a')", "''"),
    "point": ("'(1.1,-2)'",),
    "money": ("'1234.56'",),
    '"char"': ("'a'",),
    "xml": ("'<a>x &amp; y</a>'",),
    "boolean": ("true", "false"),
    "citext": ("'Hello'",),
    "pg_lsn": ("'16/B374D848'",),
    "jsonpath": ("'$.a[*] ? (@ > 1)'",),
    "oid": ("4294967295",),
}
TYPES = """
CREATE TYPE mood AS ENUM ('ok', 'a b''c');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
"""


@pytest.mark.each_postgres
@pytest.mark.parametrize("compare", ["value", "exact"])
def test_values_come_back_exactly(bench: Bench, compare: str) -> None:
    bench.both(TYPES)
    spec = ""
    tables: list[str] = []
    for number, (name, values) in enumerate(VALUES.items()):
        if not _has(bench, name):
            continue
        table = f"t{number}"
        bench.both(f"CREATE TABLE {table} (id int PRIMARY KEY, v {name})")
        rows = [f"({n}, {value})" for n, value in enumerate((*values, "NULL"), 1)]
        bench.backup.sql(f"INSERT INTO {table} VALUES {', '.join(rows)}")
        # Some rows are missing, others have lost their value; and what is to be NULL has one.
        bench.production.sql(f"INSERT INTO {table} SELECT n, NULL FROM generate_series(2, {len(rows) - 1}, 2) n")
        bench.production.sql(f"INSERT INTO {table} VALUES ({len(rows)}, {values[0]})")
        tables.append(table)
        spec += f"{table}: {{ table: production.{table}, source: backup, compare: {compare} }}\n"
    bench.law(spec, same=tuple(tables))


PAIRS = {
    "float8": ("NULL", "0", "'NaN'", "'Infinity'", "'-Infinity'", "1"),
    "float4": ("NULL", "0", "'NaN'", "'Infinity'", "1"),
    "numeric": ("NULL", "0", "'NaN'", "'Infinity'", "'-Infinity'", "1", "-1"),
    "float8[]": ("NULL", "'{}'", "'{NULL}'", "'{0}'", "'{NULL,NULL}'", "'{0,0}'"),
    "numeric[]": ("NULL", "'{}'", "'{NULL}'", "'{NaN}'", "'{Infinity}'", "'{0}'"),
    "text": ("NULL", "''", "' '", "'NULL'", "'null'"),
    "text[]": ("NULL", "'{}'", "'{NULL}'", "'{\"\"}'", "'{\"NULL\"}'", "'[0:0]={NULL}'", "'{{NULL}}'"),
    "jsonb": ("NULL", "'null'", "'{}'", "'[]'", "'[null]'", "'0'", "'false'", "'\"\"'"),
    "json": ("NULL", "'null'", "'{}'", "'[]'", "'{ }'"),
    "boolean": ("NULL", "true", "false"),
    "int": ("NULL", "0", "1", "-1"),
    "bigint": ("NULL", "0", "1", "-1", "4294967296", "-4294967296"),
    "interval": ("NULL", "'0'", "'1 day'", "'1 mon'", "'1 second'"),
    "timestamptz": ("NULL", "'2000-01-01Z'", "'infinity'", "'-infinity'"),
    "date": ("NULL", "'2000-01-01'", "'infinity'", "'-infinity'"),
    "time": ("NULL", "'00:00'", "'24:00'"),
    "bytea": ("NULL", "''", r"'\x00'", r"'\x0000'"),
    "int4range": ("NULL", "'empty'", "'(,)'", "'[0,1)'"),
    "numrange": ("NULL", "'empty'", "'[0,NaN)'", "'[0,Infinity)'", "'[0,)'"),
    "pair": ("NULL", "ROW(NULL, NULL)", "ROW(0, NULL)", "ROW(NULL, '')", "ROW(0, '')"),
    "fpair": ("NULL", "ROW(NULL, NULL)", "ROW(0, NULL)", "ROW(NULL, 'NaN')", "ROW(0, 'Infinity')"),
    "varbit": ("NULL", "B''", "B'0'", "B'00'"),
    "inet": ("NULL", "'0.0.0.0'", "'0.0.0.0/0'", "'::'"),
    "uuid": ("NULL", "'00000000-0000-0000-0000-000000000000'"),
    "point": ("NULL", "'(0,0)'", "'(NaN,0)'"),
    "tsvector": ("NULL", "''", "'a'", "'a:1'"),
    "money": ("NULL", "'0'", "'1'"),
}  # fmt: skip


@pytest.mark.parametrize("compare", ["value", "exact"])
@pytest.mark.parametrize("side", ["another", "the same"])
def test_no_difference_is_overlooked(bench: Bench, compare: str, side: str) -> None:
    """Each value of a type against each other one, NULL among them."""
    bench.both(TYPES + "CREATE TYPE fpair AS (x float8, y numeric)")
    spec, tables = "", dict[str, str]()
    for number, (name, values) in enumerate(PAIRS.items()):
        table = f"t{number}"
        pairs = [(one, other) for one in values for other in values if one != other]
        for on, of, nth in (
            (bench.backup, table, 0),
            (bench.production, table, 1),
            (bench.production, f"s{number}", 0),
        ):
            rows = ", ".join(f"({n}, {pair[nth]})" for n, pair in enumerate(pairs))
            on.sql(f"CREATE TABLE {of} (id int PRIMARY KEY, v {name}); INSERT INTO {of} VALUES {rows}")
        source = "backup" if side == "another" else f"production.s{number}"
        spec += f"{table}: {{ table: production.{table}, source: {source}, compare: {compare} }}\n"
        tables[table] = name
    assert bench.apply(bench.plan(spec)).code is Exit.DONE
    here, there = bench.production.dump(*tables), bench.backup.dump(*tables)
    overlooked = {
        tables[table]: list(zip(here[table], there[table], strict=True))
        for table in tables
        if here[table] != there[table]
    }
    for name, pairs in overlooked.items():
        print(name, [pair for pair in pairs if pair[0] != pair[1]])
    assert sorted(overlooked) == []


def _has(bench: Bench, type_: str) -> bool:
    if type_ == "citext":
        if not bench.backup.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'citext'"):
            return False
        bench.both("CREATE EXTENSION citext")
    if type_ == "xml":
        try:
            bench.backup.sql("SELECT '<a/>'::xml")
        except psycopg.errors.FeatureNotSupported:
            return False
    return True


def test_sessions_and_databases_may_set_what_they_like(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id timestamptz PRIMARY KEY, d date, i interval, b bytea, f float8, m money)")
    bench.backup.sql(
        r"INSERT INTO t VALUES ('2026-02-01 12:00Z', '2026-02-03', '1 mon 2 days', '\x00ff', 0.1::float8/3, '1.5')"
    )
    for database, settings in (
        (bench.production, ("TimeZone = 'Asia/Tokyo'", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'iso_8601'")),
        (bench.backup, ("TimeZone = 'America/New_York'", "bytea_output = 'escape'", "extra_float_digits = -5")),
    ):
        for setting in settings:
            database.sql(f"ALTER DATABASE {database.name} SET {setting}")
    bench.law(WHOLE, same=("t",))


def test_json_null_is_not_sql_null(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v jsonb)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'null'), (2, NULL)")
    bench.production.sql("INSERT INTO t VALUES (1, NULL), (2, 'null')")
    plan = bench.law(WHOLE, same=("t",))
    assert images(plan, "update", "public.t") == [(("1",), {"v": "null"}), (("2",), {"v": None})]


def test_equal_values_need_no_update_unless_compared_exactly(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, n numeric, i interval, j jsonb)")
    bench.backup.sql("""INSERT INTO t VALUES (1, 1.0, '30 days', '{"a": 1.0}')""")
    bench.production.sql("""INSERT INTO t VALUES (1, 1.00, '1 mon', '{"a": 1.00}')""")
    assert summary(bench.plan(WHOLE)) == {}
    plan = bench.law(WHOLE + "  compare: exact\n", same=("t",))
    assert images(plan, "update", "public.t") == [(("1",), {"n": "1.0", "i": "30 days", "j": '{"a": 1.0}'})]


def test_keys_of_any_type(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE t (a text, b numeric, c timestamptz, d bytea, e uuid, f text[], v text, PRIMARY KEY (a, b, c, d, e, f))
    """)
    bench.backup.sql(r"""
        INSERT INTO t VALUES
        (E'a\\N', 1.50, 'infinity', '\x00', '00000000-0000-0000-0000-000000000001', '{a,"b c",NULL}', 'x'),
        (E'', 'NaN', '2026-01-01 00:00:00.000001Z', '', '00000000-0000-0000-0000-000000000001', '{}', 'y'),
        (E'\t\n"''', 0, '-infinity', '\x5c', '00000000-0000-0000-0000-000000000001', '{"\"\\,{}"}', 'z')
    """)
    bench.production.sql(
        "INSERT INTO t SELECT 'a\\N', 1.50, 'infinity', '\\x00', '00000000-0000-0000-0000-000000000001', '{a,\"b c\",NULL}', 'was'"
    )
    bench.law(WHOLE, same=("t",))


# Names

NAMES = {
    "capitals": ('"Order"', '"userId"', '"User Name"'),
    "spaces and quotes": ('"a ""quoted"" table"', '"it\'s an id"', '"a, b"'),
    "percents": ('"100%"', '"%s"', '"%(x)s"'),
    "braces": ('"{}"', '"{0}"', '"a{b}c"'),
    "reserved": ('"select"', '"user"', '"from"'),
    "aliases": ('"t"', '"s"', '"d"'),
    "our own": ('"p"', '"k1"', '"kind"'),
    "our own too": ('"rc_d_0"', '"m"', '"reason"'),
    "staged": ('"l"', '"c1"', '"st"'),
    "longest": (f'"{"t" * 63}"', f'"{"i" * 63}"', f'"{"é" * 31}"'),
    "dots and slashes": ('"a.b"', '"x/y\\z"', '"$1"'),
    "emoji": ('"📦"', '"🔑"', '"wert"'),
    "yaml": ('"null"', '"true"', '"yes: #no"'),
    "colons": ('"a:b"', '":x"', '"::int"'),
    "brackets": ('"a[1]/insert"', '"b]"', '"#2"'),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_any_name(bench: Bench, names: tuple[str, str, str]) -> None:
    table, key, column = names
    bench.both(f"""
        CREATE SCHEMA "My Schema";
        CREATE TABLE "My Schema".{table} ({key} serial PRIMARY KEY, {column} text UNIQUE, x int DEFAULT 7);
        CREATE TABLE child (id int PRIMARY KEY, {column} int REFERENCES "My Schema".{table} ON DELETE CASCADE);
    """)
    bench.backup.sql(f"""
        INSERT INTO "My Schema".{table} ({column}) VALUES ('a'), ('b'), ('c');
        INSERT INTO child VALUES (1, 1), (2, 2);
    """)
    bench.production.sql(
        f"""INSERT INTO "My Schema".{table} VALUES (1, 'was', 1), (9, 'extra', 1); INSERT INTO child VALUES (3, 9)"""
    )
    where = json.dumps(f"{key} > 0", ensure_ascii=False)
    name = json.dumps(f'production."My Schema".{table}', ensure_ascii=False)
    plan = bench.law(
        f"""
        parent: {{ table: {name}, source: backup, where: {where}, on_extra: delete, max_delete: 9 }}
        child: {{ table: production.child, source: backup }}
        """,
    )
    assert sum(count for step, count in counts(plan).items() if step.startswith("delete")) == 2


# Shapes of schemas


def test_cycle_of_two_tables_that_cannot_be_deferred(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
        CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
    """)
    bench.backup.sql(
        "WITH x AS (INSERT INTO a SELECT n, n FROM generate_series(1, 9) n) INSERT INTO b SELECT n, 10 - n FROM generate_series(1, 9) n"
    )
    plan = bench.law(
        "a: { table: production.a, source: backup }\nb: { table: production.b, source: backup }\n", same=("a", "b")
    )
    assert len({step.together for step in plan.steps}) == 1


def test_cycle_of_three_tables_that_cannot_be_deferred(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
        CREATE TABLE b (id int PRIMARY KEY, c int NOT NULL);
        CREATE TABLE c (id int PRIMARY KEY, a int NOT NULL REFERENCES a ON DELETE CASCADE);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
        ALTER TABLE b ADD FOREIGN KEY (c) REFERENCES c;
        CREATE TABLE leaf (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
    """)
    fill = """
        WITH x AS (INSERT INTO a SELECT n, n FROM generate_series({0}) n), y AS (INSERT INTO b SELECT n, n FROM generate_series({0}) n)
        INSERT INTO c SELECT n, n FROM generate_series({0}) n
    """
    bench.backup.sql(fill.format("1, 9"))
    bench.production.sql(fill.format("9, 9"))
    bench.backup.sql("INSERT INTO leaf SELECT n, n FROM generate_series(1, 9) n")
    bench.law(
        """
        everything: { into: production, source: backup, roots: { a: "true" }, follow: dependents }
        """,
        same=("a", "b", "c", "leaf"),
    )


def test_extra_rows_of_a_cycle_are_deleted(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL);
        CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
    """)
    fill = "WITH x AS (INSERT INTO a SELECT n, n FROM generate_series({0}) n) INSERT INTO b SELECT n, n FROM generate_series({0}) n"
    bench.backup.sql(fill.format("1, 4"))
    bench.production.sql(fill.format("3, 7"))
    options = "source: backup, on_extra: delete, max_delete: 3"
    bench.law(f"a: {{ table: production.a, {options} }}\nb: {{ table: production.b, {options} }}\n", same=("a", "b"))


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE", "RESTRICT"])
def test_rows_that_point_at_rows_of_their_own_table(bench: Bench, action: str) -> None:
    bench.both(f"CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t ON DELETE {action}, v text)")
    bench.backup.sql("INSERT INTO t VALUES (3, NULL, 'root'), (2, 3, 'b'), (1, 2, 'a'), (4, 4, 'self')")
    bench.production.sql("INSERT INTO t VALUES (9, NULL, 'x'), (8, 9, 'y'), (3, NULL, 'old')")
    bench.law(WHOLE + "  on_extra: delete\n  max_delete: 2\n", same=("t",))


def test_keys_of_several_columns_across_schemas(bench: Bench) -> None:
    bench.both("""
        CREATE SCHEMA one; CREATE SCHEMA two;
        CREATE TABLE one.p (x int, y text, PRIMARY KEY (x, y), UNIQUE (y, x));
        CREATE TABLE two.c (id int PRIMARY KEY, y text, x int, FOREIGN KEY (y, x) REFERENCES one.p (y, x) ON DELETE CASCADE);
        CREATE TABLE two.p (x int PRIMARY KEY);
    """)
    bench.backup.sql(
        "INSERT INTO one.p VALUES (1, 'a'), (2, 'b'); INSERT INTO two.c VALUES (1, 'a', 1), (2, 'b', 2), (3, NULL, 2)"
    )
    plan = bench.law(
        """
        all: { into: production, source: backup, roots: { one.p: "x < 3" }, follow: dependents }
        """
    )
    assert counts(plan) == {"insert one.p": 2, "insert two.c": 2}


@pytest.mark.each_postgres
def test_partitioned_tables(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE p (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        CREATE TABLE c (id int PRIMARY KEY, p int, day date, FOREIGN KEY (p, day) REFERENCES p ON DELETE CASCADE);
    """)
    bench.backup.sql("""
        INSERT INTO p VALUES (1, '2026-01-05', 'a'), (2, '2026-02-05', 'b'), (3, '2026-01-06', 'c');
        INSERT INTO c VALUES (1, 1, '2026-01-05'), (2, 2, '2026-02-05');
    """)
    bench.production.sql(
        "INSERT INTO p VALUES (3, '2026-01-06', 'was'), (4, '2026-02-06', 'extra'); INSERT INTO c VALUES (9, 4, '2026-02-06')"
    )
    plan = bench.law(
        """
        p: { table: production.p, source: backup, on_extra: delete, max_delete: 2 }
        c: { table: production.c, source: backup }
        """,
        same=("p", "c"),
    )
    assert counts(plan) == {
        "insert public.p": 2, "update public.p": 1, "delete public.p": 1, "insert public.c": 2, "delete public.c": 1,
    }  # fmt: skip


def test_a_cascade_from_a_partitioned_table(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY HASH (k);
        CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE p2 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE c (id int PRIMARY KEY, p int, k int, FOREIGN KEY (p, k) REFERENCES p ON DELETE CASCADE);
    """)
    bench.backup.sql(
        "INSERT INTO p SELECT n, n FROM generate_series(1, 9) n; INSERT INTO c SELECT n, n, n FROM generate_series(1, 9) n"
    )
    plan = bench.law("""
        all: { into: production, source: backup, roots: { p: "id < 5" }, follow: dependents }
    """)
    assert counts(plan) == {"insert public.p": 4, "insert public.c": 4}


def test_tables_that_are_nothing_but_a_key(bench: Bench) -> None:
    bench.both("CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))")
    bench.backup.sql("INSERT INTO t VALUES (1, 1), (1, 2)")
    bench.production.sql("INSERT INTO t VALUES (1, 2), (9, 9)")
    bench.law(WHOLE + "  on_extra: delete\n  max_delete: 1\n", same=("t",))


def test_a_table_without_a_primary_key_needs_one_to_be_named(bench: Bench) -> None:
    bench.both("CREATE TABLE t (a int, b text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    bench.production.sql("INSERT INTO t VALUES (1, 'was')")
    assert "has no primary key" in said(refused(bench, WHOLE))
    bench.law(WHOLE + "  key: [a]\n", same=("t",))


@pytest.mark.parametrize("row", ["(2, 'c')", "(NULL, 'd')"], ids=["twice", "NULL"])
def test_a_key_that_is_none(bench: Bench, row: str) -> None:
    bench.both("CREATE TABLE t (a int, b text)")
    bench.backup.sql(f"INSERT INTO t VALUES (1, 'a'), (2, 'b'), {row}")
    assert "key" in said(refused(bench, WHOLE + "  key: [a]\n"))


def test_generated_columns_and_identities(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED)
    """)
    bench.backup.sql("INSERT INTO t (a) VALUES (1), (2), (3)")
    bench.production.sql("INSERT INTO t (a) VALUES (7)")
    bench.law(WHOLE, same=("t",))
    assert bench.production.sql("INSERT INTO t (a) VALUES (4) RETURNING id") == [(4,)]


# Options


@pytest.mark.parametrize(
    ("on_changed", "expected"),
    [
        ("update", [("1",), ("2",), ("3",)]),
        ("fill", [("2",)]),
        ("keep", []),
        ("{ newer: at }", [("1",), ("2",)]),
    ],
)
def test_on_changed(bench: Bench, on_changed: str, expected: list[tuple[str, ...]]) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text, at date)")
    bench.backup.sql(
        "INSERT INTO t VALUES (1, 'a', '2026-02-02'), (2, 'b', '2026-02-02'), (3, 'c', '2026-01-01'), (4, 'd', NULL)"
    )
    bench.production.sql("INSERT INTO t VALUES (1, 'was', '2026-01-01'), (2, NULL, NULL), (3, 'kept', '2026-02-02')")
    plan = bench.law(WHOLE + f"  on_changed: {on_changed}\n")
    assert [change.key for change in changes(plan, "update", "public.t")] == expected
    assert [change.key for change in changes(plan, "insert", "public.t")] == [("4",)]


FAMILY = """
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE cascading (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE);
CREATE TABLE grandchild (id int PRIMARY KEY, c int REFERENCES cascading ON DELETE CASCADE);
CREATE TABLE nulled (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL, v text);
CREATE TABLE blocking (id int PRIMARY KEY, p int REFERENCES p);
"""
DELETING = "p: { table: production.p, source: backup, on_extra: delete, max_delete: %s }\n"


def family(bench: Bench) -> None:
    bench.both(FAMILY + "INSERT INTO p VALUES (1)")
    bench.production.sql("""
        INSERT INTO p VALUES (2), (3); INSERT INTO cascading VALUES (1, 1), (2, 2), (3, 3); INSERT INTO grandchild VALUES (2, 2), (3, NULL);
        INSERT INTO nulled VALUES (1, 1, 'a'), (2, 2, 'b');
    """)


def test_deletes_list_what_goes_along(bench: Bench) -> None:
    family(bench)
    plan = bench.law(DELETING % 5)
    assert counts(plan) == {
        "delete public.p": 2, "delete public.cascading": 2, "delete public.grandchild": 1, "update public.nulled": 1,
    }  # fmt: skip
    assert images(plan, "update", "public.nulled") == [(("2",), {"p": None})]


def test_cascades_count_against_max_delete(bench: Bench) -> None:
    family(bench)
    error = refused(bench, DELETING % 4)
    assert error.code is Exit.LIMIT
    assert "5" in said(error)


def test_nothing_is_deleted_by_default(bench: Bench) -> None:
    family(bench)
    assert summary(bench.plan("p: { table: production.p, source: backup }\n")) == {}
    assert (
        refused(bench, "p: { table: production.p, source: backup, on_extra: delete, max_delete: 0 }\n").code
        is Exit.LIMIT
    )


@pytest.mark.parametrize(("share", "allowed"), [("50%", True), ("49%", False)])
def test_max_delete_as_a_share_of_the_scope(bench: Bench, share: str, allowed: bool) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
    bench.production.sql("INSERT INTO t VALUES (3), (4)")
    spec = WHOLE + f'  on_extra: delete\n  max_delete: "{share}"\n'
    if allowed:
        bench.law(spec, same=("t",))
    else:
        assert refused(bench, spec).code is Exit.LIMIT


def test_a_reference_that_blocks_is_named(bench: Bench) -> None:
    family(bench)
    bench.production.sql("INSERT INTO blocking VALUES (1, 2), (2, 3), (3, 1)")
    error = refused(bench, DELETING % 9)
    assert "blocking_p_fkey" in said(error)
    assert "2 rows" in said(error)


def test_blocking_rows_that_go_themselves_do_not_block(bench: Bench) -> None:
    family(bench)
    bench.backup.sql("INSERT INTO blocking VALUES (3, 1)")
    bench.production.sql("INSERT INTO blocking VALUES (1, 2), (2, 3), (3, 1)")
    bench.law(DELETING % 9 + "b: { table: production.blocking, source: backup, on_extra: delete, max_delete: 2 }\n")


ORPHANS = """
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, a int REFERENCES p, b int REFERENCES p);
CREATE TABLE below (id int PRIMARY KEY, t int NOT NULL REFERENCES t);
"""


def orphans(bench: Bench) -> None:
    bench.both(ORPHANS)
    bench.backup.sql(
        "INSERT INTO p VALUES (1), (2); INSERT INTO t VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1); INSERT INTO below VALUES (1, 1), (2, 2)"
    )
    bench.production.sql("INSERT INTO p VALUES (1)")


def test_missing_parents_fail(bench: Bench) -> None:
    orphans(bench)
    error = refused(bench, WHOLE)
    assert "t_a_fkey" in said(error)
    assert "t_b_fkey" in said(error)


def test_missing_parents_become_null(bench: Bench) -> None:
    orphans(bench)
    plan = bench.law(WHOLE + '  on_missing_parent: "null"\n')
    assert images(plan, "insert", "public.t") == [
        (("1",), {"id": "1", "a": "1", "b": "1"}), (("2",), {"id": "2", "a": "1", "b": None}), (("3",), {"id": "3", "a": None, "b": "1"}),
    ]  # fmt: skip


def test_missing_parents_leave_rows_out_and_rows_below_them_too(bench: Bench) -> None:
    orphans(bench)
    plan = bench.law(
        WHOLE
        + "  on_missing_parent: skip\nbelow: { table: production.below, source: backup, on_missing_parent: skip }\n"
    )
    assert counts(plan) == {"insert public.t": 1, "insert public.below": 1}


def test_missing_parents_for_each_column(bench: Bench) -> None:
    orphans(bench)
    plan = bench.law(WHOLE + '  on_missing_parent: { a: skip, b: "null" }\n')
    assert images(plan, "insert", "public.t") == [
        (("1",), {"id": "1", "a": "1", "b": "1"}),
        (("2",), {"id": "2", "a": "1", "b": None}),
    ]
    assert "t_b_fkey" in said(
        refused(
            bench,
            "below: { table: production.below, source: backup, on_missing_parent: skip }\n"
            + WHOLE.replace("t:", "again:", 1)
            + "  where: id = 2\n  columns: [b]\n",
        )
    )


def test_null_for_a_parent_that_must_be_there(bench: Bench) -> None:
    orphans(bench)
    error = refused(bench, 'below: { table: production.below, source: backup, on_missing_parent: "null" }\n')
    assert "may not be NULL" in said(error)


def test_a_unique_value_that_another_row_has(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    bench.production.sql("INSERT INTO t VALUES (9, 'a')")
    error = refused(bench, WHOLE)
    assert "t_name_key" in said(error)


def test_a_unique_value_that_a_deleted_row_frees(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    bench.production.sql("INSERT INTO t VALUES (9, 'a'), (2, 'x')")
    bench.law(WHOLE + "  on_extra: delete\n  max_delete: 1\n", same=("t",))


def test_a_unique_value_that_an_updated_row_frees(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    bench.production.sql("INSERT INTO t VALUES (2, 'a')")
    bench.law(WHOLE, same=("t",))


@pytest.mark.parametrize("order", ["up", "down"])
def test_unique_values_that_move_along_a_chain(bench: Bench, order: str) -> None:
    """Row after row takes the value of the next one; none may be refused because the next has not moved yet."""
    bench.both("CREATE TABLE t (id int PRIMARY KEY, name int UNIQUE)")
    step = 1 if order == "up" else -1
    bench.backup.sql(f"INSERT INTO t SELECT n, n + {step} FROM generate_series(1, 9) n")
    bench.production.sql("INSERT INTO t SELECT n, n FROM generate_series(1, 9) n")
    before = bench.production.dump()
    plan = bench.plan(WHOLE)
    assert bench.apply(plan).code is Exit.DONE
    assert bench.production.dump() == bench.backup.dump()
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert bench.production.dump() == before


def test_unique_values_that_change_places(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    bench.production.sql("INSERT INTO t VALUES (1, 'b'), (2, 'c'), (3, 'a')")
    before = bench.production.dump()
    try:
        plan = bench.plan(WHOLE)
    except ReconcilerError as error:  # allowed, if it is said at plan
        assert "t_name_key" in said(error)
        return
    assert bench.apply(plan).code is Exit.DONE
    assert bench.production.dump() == bench.backup.dump()
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert bench.production.dump() == before


def test_partial_expression_and_nulls_not_distinct_uniques(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE t (id int PRIMARY KEY, name text, gone bool NOT NULL, n int);
        CREATE UNIQUE INDEX one ON t (lower(name)) WHERE NOT gone;
        CREATE UNIQUE INDEX two ON t (n) NULLS NOT DISTINCT WHERE id > 100;
    """)
    bench.backup.sql("INSERT INTO t VALUES (1, 'A', false, 1), (101, 'x', false, NULL)")
    bench.production.sql("INSERT INTO t VALUES (2, 'a', true, 1)")
    bench.law(WHOLE)
    bench.production.sql("DELETE FROM t; INSERT INTO t VALUES (2, 'a', false, 1), (102, 'y', false, NULL)")
    text = said(refused(bench, WHOLE))
    assert "one" in text
    assert "two" in text


def test_columns_that_only_one_side_has(bench: Bench) -> None:
    bench.backup.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a text, old text); INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'y')"
    )
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a text, fresh text NOT NULL DEFAULT 'new'); INSERT INTO t VALUES (1, 'was', 'kept')"
    )
    bench.law(WHOLE)
    assert bench.production.dump("t") == {"t": ["(1,a,kept)", "(2,b,new)"]}


def test_a_column_that_must_have_a_value_and_gets_none(bench: Bench) -> None:
    bench.backup.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, fresh text NOT NULL)")
    assert "fresh" in said(refused(bench, WHOLE))


@pytest.mark.parametrize("columns", ["[a]", "{ except: [b] }"])
def test_only_some_columns(bench: Bench, columns: str) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a', 'b'), (2, 'a', 'b')")
    bench.production.sql("INSERT INTO t VALUES (1, 'was', 'kept')")
    bench.law(WHOLE + f"  columns: {columns}\n")
    assert bench.production.dump("t") == {"t": ["(1,a,kept)", "(2,a,)"]}


def test_types_that_differ_are_converted(bench: Bench) -> None:
    bench.backup.sql(
        "CREATE TABLE t (id bigint PRIMARY KEY, v int, w varchar(9)); INSERT INTO t VALUES (1, 5, 'x'), (2, 6, 'y')"
    )
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v numeric(9,2), w text); INSERT INTO t VALUES (1, 5, 'was')"
    )
    bench.law(WHOLE)
    assert bench.production.dump("t") == {"t": ["(1,5.00,x)", "(2,6.00,y)"]}


def test_sequences_are_raised(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id serial PRIMARY KEY, v text)")
    bench.backup.sql("INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 5)")
    plan = bench.law(WHOLE, same=("t",))
    assert [(step.verb, step.target) for step in plan.steps if step.verb == "setval"] == [("setval", "public.t_id_seq")]
    assert bench.production.sql("INSERT INTO t (v) VALUES ('y') RETURNING id") == [(6,)]


def test_sequences_are_never_lowered(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id serial PRIMARY KEY, v text)")
    bench.backup.sql("INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 5)")
    plan = bench.plan(WHOLE)
    bench.production.sql("SELECT setval('t_id_seq', 100)")
    assert bench.apply(plan).code is Exit.DONE
    assert bench.production.sql("SELECT nextval('t_id_seq')") == [(101,)]
    bench.production.sql("DELETE FROM t")
    assert [step.verb for step in bench.plan().steps] == ["insert"]


TOUCH = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := now(); RETURN NEW; END $$;
CREATE TABLE t (id int PRIMARY KEY, v text, touched timestamptz);
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
"""


def test_triggers_that_must_not_fire(bench: Bench) -> None:
    bench.both(TOUCH)
    for database in (bench.backup, bench.production):
        database.sql("ALTER TABLE t DISABLE TRIGGER touch")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a', '2020-01-01'), (2, 'b', '2020-01-01')")
    bench.production.sql("INSERT INTO t VALUES (1, 'was', '2019-01-01'); ALTER TABLE t ENABLE TRIGGER touch")
    bench.law(WHOLE + '  triggers: "off"\n', same=("t",))
    assert bench.production.sql("SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'touch'") == [("O",)]
    bench.production.sql("UPDATE t SET v = 'now' WHERE id = 1")
    assert bench.production.sql("SELECT touched > '2021-01-01' FROM t WHERE id = 1") == [(True,)]


COUNTER = """
CREATE TABLE d (id int PRIMARY KEY, likes int NOT NULL DEFAULT 0);
CREATE TABLE l (id int PRIMARY KEY, d int NOT NULL REFERENCES d ON DELETE CASCADE);
CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'INSERT' THEN UPDATE d SET likes = likes + 1 WHERE id = NEW.d; RETURN NEW; END IF;
  UPDATE d SET likes = likes - 1 WHERE id = OLD.d; RETURN OLD;
END $$;
CREATE TRIGGER counted AFTER INSERT OR DELETE ON l FOR EACH ROW EXECUTE FUNCTION counted();
"""


def test_a_counter_that_a_trigger_keeps_is_settled(bench: Bench) -> None:
    bench.both(COUNTER)
    bench.backup.sql("INSERT INTO d VALUES (1, 0), (2, 0); INSERT INTO l VALUES (1, 1), (2, 1), (3, 2)")
    plan = bench.law(
        """
        d: { table: production.d, source: backup }
        l: { table: production.l, source: backup }
        """,
        same=("d", "l"),
    )
    assert counts(plan) == {"insert public.d": 2, "insert public.l": 3}
    bench.production.sql("DELETE FROM d")
    applied = bench.apply(bench.plan())
    assert any("settled" in note for note in applied.notes)


def test_what_triggers_write_elsewhere_is_told(bench: Bench) -> None:
    bench.both(COUNTER)
    bench.backup.sql("INSERT INTO d VALUES (1, 0); INSERT INTO l VALUES (1, 1)")
    bench.production.sql("INSERT INTO d VALUES (1, 0)")
    applied = bench.apply(bench.plan("l: { table: production.l, source: backup }\n"))
    assert any("public.d" in note and "1 updated" in note for note in applied.notes)


def test_a_trigger_that_swallows_rows(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY)")
    bench.backup.sql("INSERT INTO t VALUES (1), (2)")
    bench.production.sql("""
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no();
    """)
    with pytest.raises(ReconcilerError, match="0 of 2"):
        bench.apply(bench.plan(WHOLE))


# Guards


def test_an_empty_source_is_an_error(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY)")
    bench.production.sql("INSERT INTO t VALUES (1)")
    assert "no rows" in said(refused(bench, WHOLE + "  on_extra: delete\n  max_delete: 9\n"))
    assert "no rows" in said(
        refused(bench, 't: { into: production, source: backup, roots: { t: "true" }, follow: dependents }\n')
    )
    assert summary(bench.plan(WHOLE)) == {}


def test_protected_rows_are_left(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    bench.production.sql("INSERT INTO t VALUES (1, 'kept'), (9, 'kept')")
    plan = bench.plan(WHOLE + "  protect: true\n  on_extra: delete\n  max_delete: 9\n")
    assert counts(plan) == {"insert public.t": 1}
    assert "blocked" in {hazard.kind for hazard in plan.header.hazards}
    bench.apply(plan)
    assert bench.production.dump("t") == {"t": ["(1,kept)", "(2,b)", "(9,kept)"]}


def test_two_resources_must_not_speak_for_the_same_rows(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a', 'b'), (2, 'a', 'b')")
    bench.production.sql("INSERT INTO t VALUES (1, 'x', 'x'), (2, 'x', 'x')")
    shape = "one: {{ table: production.t, source: backup, {} }}\ntwo: {{ table: production.t, source: backup, {} }}\n"
    assert "same rows" in said(refused(bench, shape.format("where: id < 3", "where: id > 1")))
    bench.law(shape.format("where: id < 2", "where: id > 1"), same=("t",))
    bench.production.sql("UPDATE t SET a = 'y', b = 'y'")
    bench.law(shape.format("columns: [a]", "columns: [b]"), same=("t",))


def test_a_source_in_the_same_database(bench: Bench) -> None:
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (LIKE t INCLUDING ALL)")
    bench.production.sql(
        "INSERT INTO other VALUES (1, 'a'), (2, 'b'), (5, 'out'); INSERT INTO t VALUES (1, 'was'), (3, 'extra')"
    )
    bench.law(
        """
        t: { table: production.t, source: production.other, where: id < 5, on_extra: delete, max_delete: 1 }
        """
    )
    assert bench.production.dump("t") == {"t": ["(1,a)", "(2,b)"]}


def test_what_reads_what_this_plan_changes_is_deferred(bench: Bench) -> None:
    bench.both(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)"
    )
    bench.backup.sql("INSERT INTO a VALUES (1), (2)")
    bench.production.sql("INSERT INTO a VALUES (2)")
    plan = bench.plan(
        """
        a: { table: production.a, source: backup }
        b: { table: production.b, source: production.a }
        """
    )
    assert [deferred.address for deferred in plan.header.deferred] == ["collections.b"]
    assert counts(plan) == {"insert public.a": 1}
    bench.apply(plan)
    plan = bench.plan()
    assert (counts(plan), plan.header.deferred) == ({"insert public.b": 2}, ())


def test_deferred_where_nothing_differs_yet(bench: Bench) -> None:
    bench.both("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    bench.backup.sql("INSERT INTO a VALUES (1)")
    plan = bench.plan(
        """
        a: { table: production.a, source: backup }
        b: { table: production.b, source: production.a }
        """
    )
    assert [deferred.address for deferred in plan.header.deferred] == ["collections.b"]


SECRET = """
t:
  table: production.t
  source: backup
  sensitive: [email]
"""
CANARY = "canary-7f3a@example.com"


def secret(bench: Bench) -> None:
    bench.environ["RECONCILER_DIGEST_KEY"] = "a long random text"
    bench.both("CREATE TABLE t (id int PRIMARY KEY, email text, v text)")
    bench.backup.sql(f"INSERT INTO t VALUES (1, '{CANARY}', 'a'), (2, '{CANARY}2', 'b'), (3, NULL, 'c')")
    bench.production.sql(f"INSERT INTO t VALUES (1, 'was-{CANARY}', 'was')")


def test_sensitive_values_are_written_and_stand_in_no_plan(bench: Bench) -> None:
    secret(bench)
    plan = bench.plan(SECRET)
    assert bench.apply(plan).code is Exit.DONE
    assert bench.production.dump() == bench.backup.dump()
    again = bench.apply(plan)
    assert [(step.applied, step.already) for step in again.steps] == [(0, step.count) for step in plan.steps]
    assert summary(bench.plan()) == {}
    for path in bench.folder.glob("*"):
        assert "canary" not in path.read_text("utf-8") or path == bench.path


def test_sensitive_values_need_a_key(bench: Bench) -> None:
    secret(bench)
    del bench.environ["RECONCILER_DIGEST_KEY"]
    assert "RECONCILER_DIGEST_KEY" in said(refused(bench, SECRET))


def test_sensitive_values_that_changed_in_the_source_are_drift(bench: Bench) -> None:
    secret(bench)
    plan = bench.plan(SECRET)
    bench.backup.sql("UPDATE t SET email = 'canary-other' WHERE id = 2")
    before = bench.production.dump()
    with pytest.raises(Drift) as caught:
        bench.apply(plan)
    assert "canary" not in said(caught.value)
    assert bench.production.dump() == before


def test_sensitive_values_that_changed_in_the_target_are_drift(bench: Bench) -> None:
    secret(bench)
    plan = bench.plan(SECRET)
    bench.production.sql("UPDATE t SET email = 'canary-other' WHERE id = 1")
    with pytest.raises(Drift) as caught:
        bench.apply(plan)
    assert "canary" not in said(caught.value)


@pytest.mark.parametrize("column", ["email", "id"])
def test_sensitive_values_stand_in_no_error(bench: Bench, column: str) -> None:
    bench.environ["RECONCILER_DIGEST_KEY"] = "a long random text"
    bench.both("CREATE TABLE t (id text PRIMARY KEY, email text UNIQUE)")
    bench.backup.sql(f"INSERT INTO t VALUES ('1', '{CANARY}')")
    bench.production.sql(f"INSERT INTO t VALUES ('2', '{CANARY}')")
    error = refused(bench, SECRET)
    assert CANARY not in said(error)
    bench.production.sql("DELETE FROM t")
    plan = bench.plan()
    bench.production.sql(f"INSERT INTO t VALUES ('2', '{CANARY}')")
    with pytest.raises(ReconcilerError) as caught:
        bench.apply(plan)
    assert CANARY not in said(caught.value)
    assert column in ("email", "id")


def test_rows_that_a_policy_hides_are_an_error(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    role = f"hidden_{bench.backup.name}"
    bench.backup.sql(f"""
        CREATE ROLE {role} LOGIN; GRANT SELECT ON t TO {role}; GRANT TEMP ON DATABASE {bench.backup.name} TO {role};
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON t USING (id = 1);
    """)
    try:
        bench.environ["BACKUP_URL"] = bench.backup.dsn.replace("postgres@", f"{role}@")
        assert "row-level security" in said(refused(bench, WHOLE))
    finally:
        bench.backup.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


# Cascades of roots


def test_other_rows_are_left_alone(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE p (id text PRIMARY KEY, v text);
        CREATE TABLE c (id int PRIMARY KEY, p text REFERENCES p ON DELETE CASCADE, v text);
        CREATE TABLE n (id int PRIMARY KEY, p text REFERENCES p ON DELETE SET NULL, v text);
        INSERT INTO p VALUES ('mine/1', 'a'), ('mine/2', 'b'), ('other', 'c');
        INSERT INTO c VALUES (1, 'mine/1', 'a'), (2, 'mine/2', 'b'), (3, 'other', 'c');
        INSERT INTO n VALUES (1, 'mine/1', 'a'), (2, 'other', 'b');
    """)
    bench.production.sql(
        "DELETE FROM p WHERE id LIKE 'mine/%'; UPDATE p SET v = 'new'; UPDATE n SET v = 'new'; DELETE FROM c"
    )
    plan = bench.law(
        """
        mine:
          into: production
          source: backup
          roots: { p: "starts_with(id, 'mine/')" }
          follow: dependents
        """
    )
    assert counts(plan) == {"insert public.p": 2, "insert public.c": 2, "update public.n": 1}
    assert bench.production.dump("p", "c", "n") == {
        "p": ["(mine/1,a)", "(mine/2,b)", "(other,new)"],
        "c": ["(1,mine/1,a)", "(2,mine/2,b)"],
        "n": ["(1,mine/1,new)", "(2,other,new)"],
    }


def test_diamonds_and_deep_chains(bench: Bench) -> None:
    bench.both("""
        CREATE TABLE a (id int PRIMARY KEY);
        CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a ON DELETE CASCADE);
        CREATE TABLE c (id int PRIMARY KEY, a int NOT NULL REFERENCES a ON DELETE CASCADE);
        CREATE TABLE d (id int PRIMARY KEY, b int REFERENCES b ON DELETE CASCADE, c int REFERENCES c ON DELETE CASCADE,
          up int REFERENCES d ON DELETE CASCADE);
        CREATE TABLE e (d int REFERENCES d ON DELETE CASCADE, a int REFERENCES a ON DELETE CASCADE, PRIMARY KEY (d, a));
        INSERT INTO a SELECT n FROM generate_series(1, 6) n; INSERT INTO b SELECT n, n FROM generate_series(1, 6) n;
        INSERT INTO c SELECT n, n FROM generate_series(1, 6) n;
        INSERT INTO d SELECT n, n, n, NULL FROM generate_series(1, 6) n; INSERT INTO d SELECT n + 10, NULL, NULL, n FROM generate_series(1, 6) n;
        INSERT INTO d SELECT n + 20, NULL, NULL, n + 10 FROM generate_series(1, 6) n; INSERT INTO e SELECT n + 20, n FROM generate_series(1, 6) n;
    """)
    bench.production.sql("DELETE FROM a WHERE id < 4")
    plan = bench.law(
        'all: { into: production, source: backup, roots: { a: "id < 6" }, follow: dependents }\n',
        same=("a", "b", "c", "d", "e"),
    )
    assert counts(plan) == {
        f"insert public.{name}": n for name, n in (("a", 3), ("b", 3), ("c", 3), ("d", 9), ("e", 3))
    }


def test_status_agrees_with_the_plan(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    bench.production.sql("INSERT INTO t VALUES (2, 'was'), (3, 'c'), (4, 'x'), (5, 'y')")
    bench.write(WHOLE)
    [status] = app.status(bench.session())
    assert (status.in_sync, status.missing, status.changed, status.extra) == (1, 1, 1, 2)


def test_status_counts_what_a_plan_leaves_for_later(bench: Bench) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE copied (id int PRIMARY KEY, v text)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'b'); CREATE TABLE made (id int PRIMARY KEY)")
    bench.production.sql("INSERT INTO t VALUES (1, 'was'); INSERT INTO copied VALUES (1, 'a'), (3, 'c')")
    (bench.folder / "made.sql").write_text("CREATE TABLE made (id int PRIMARY KEY);\n")
    bench.spec("""
        sql_objects:
          made: { on: production, file: made.sql }
        collections:
          t: { table: production.t, source: backup }
          copied: { table: production.copied, source: production.t }
          made: { table: production.made, source: backup }
    """)
    plan = bench.plan()
    assert {it.address for it in plan.header.deferred} == {"collections.copied", "collections.made"}
    found = {it.address: it for it in app.status(bench.session())}
    assert {address: (it.in_sync, it.missing, it.changed, it.extra, it.wrong) for address, it in found.items()} == {
        "collections.copied": (0, 0, 1, 1, 0),
        "collections.made": (0, 0, 0, 0, 1),
        "collections.t": (0, 1, 1, 0, 0),
        "sql_objects.made": (0, 1, 0, 0, 0),
    }
    assert "created by sql_objects.made" in found["collections.made"].notes[0]
    assert all(it.differs for it in found.values())
    assert app.extract(bench.session(), bench.folder / "saved") == (
        "saved/copied.jsonl: 1 rows",
        "saved/t.jsonl: 2 rows",
        "not saved: collections.made, for its table public.made is created by sql_objects.made; plan again after apply",
    )


def test_rows_beyond_the_source_stay_and_are_counted(bench: Bench) -> None:
    """Also below roots, and where tables that nobody declares point at them."""
    bench.both("""
        CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE copied (id int PRIMARY KEY, v text);
        CREATE TABLE kid (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
        CREATE TABLE friend (id int PRIMARY KEY, t int REFERENCES t ON DELETE SET NULL);
    """)
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (3, 'c')")
    bench.production.sql(
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'); INSERT INTO kid VALUES (1, 2); INSERT INTO friend VALUES (1, 2)"
    )
    bench.production.sql("INSERT INTO copied VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    alone = 'all: { into: production, source: backup, roots: { t: "id < 6" } }\n'
    followed = 'all: { into: production, source: backup, roots: { t: "id < 6" }, follow: dependents }\n'
    for spec in (alone, followed):
        assert counts(bench.law(spec)) == {"insert public.t": 1}
        bench.production.sql("DELETE FROM t WHERE id = 3")
    bench.production.sql("INSERT INTO t VALUES (3, 'c')")
    # What is only counted changes nothing that another resource reads.
    bench.write(
        "t: { table: production.t, source: backup }\ncopied: { table: production.copied, source: production.t }\n"
    )
    assert counts(bench.plan()) == {}
    assert [(it.address, it.in_sync, it.extra, it.differs) for it in app.status(bench.session())] == [
        ("collections.copied", 3, 0, False),
        ("collections.t", 2, 1, False),
    ]
    assert app.status_csv(bench.session(), bench.folder / "found")


def test_a_referenced_value_that_would_move_rows_along_is_refused(bench: Bench) -> None:
    bench.both("CREATE TABLE p (id int PRIMARY KEY, code text UNIQUE, name text)")
    bench.both("CREATE TABLE c (id int PRIMARY KEY, code text REFERENCES p (code) ON UPDATE CASCADE)")
    bench.both("INSERT INTO p VALUES (1, 'a', 'x'), (2, 'b', 'y'); INSERT INTO c VALUES (1, 'a')")
    bench.backup.sql("UPDATE p SET code = 'z' WHERE id = 1")
    with pytest.raises(ReconcilerError) as caught:
        bench.plan("p: { table: production.p, source: backup }")
    assert "new values of code would go on into 1 rows of public.c" in caught.value.what
    bench.backup.sql("UPDATE p SET code = 'a', name = 'w' WHERE id = 1; UPDATE p SET code = 'q' WHERE id = 2")
    bench.law("p: { table: production.p, source: backup }", same=("p",))
