"""At most one row a key: who survives, who goes, and what becomes of the rows that pointed at them."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from reconciler.plan.errors import Exit, Location, ReconcilerError
from tests.kinds.bench import Bench, changes, counts, summary

IMAGES = "CREATE TABLE t (id int PRIMARY KEY, k text, s text, n int, at timestamptz, j jsonb);"


def key(rest: str = "", *, table: str = "t", columns: str = "k", archive: bool = True) -> str:
    """A unique key named `one` on production.t, with what `rest` says besides."""
    body = f"table: production.{table}\nkey: [{columns}]\n" + ("archive: gone\n" if archive else "") + dedent(rest)
    return "unique_keys:\n  one:\n" + indent(body, "    ")


def survivors(bench: Bench, table: str = "t") -> list[object]:
    return [row[0] for row in bench.production.sql(f"SELECT id FROM {table} ORDER BY id")]


def refused(bench: Bench, spec: str) -> ReconcilerError:
    bench.spec(spec)
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    return caught.value


# Each case: the rule, three rows' values of the column, which row is to stay. Row 1 would stay by the primary key alone.
RULES = {
    "listed, best first": ("{ s: [complete, receiving, pending] }", "s", "'pending', 'complete', 'receiving'", 2),
    "unlisted after listed": ("{ s: [complete] }", "s", "'other', 'complete', 'other'", 2),
    "null after unlisted": ("{ s: [complete] }", "s", "NULL, 'other', 'another'", 2),
    "unlisted are equal": ("{ s: [complete] }", "s", "'b', 'a', NULL", 1),
    "newest": ("{ at: newest }", "at", "'2024-01-01', '2025-01-01', '2023-01-01'", 2),
    "newest, null last": ("{ at: newest }", "at", "NULL, '1999-01-01', '1998-01-01'", 2),
    "oldest": ("{ at: oldest }", "at", "'2024-01-01', '2025-01-01', '2023-01-01'", 3),
    "oldest, null last": ("{ at: oldest }", "at", "NULL, '2025-01-01', '2023-01-01'", 3),
    "infinity": ("{ at: newest }", "at", "'2024-01-01', 'infinity', NULL", 2),
    "highest": ("{ n: highest }", "n", "9, 10, 8", 2),
    "highest, null last": ("{ n: highest }", "n", "NULL, -5, -4", 3),
    "lowest": ("{ n: lowest }", "n", "9, 10, 8", 3),
    "lowest, null last": ("{ n: lowest }", "n", "NULL, 2, 1", 3),
    "filled": ("{ j: filled }", "j", "NULL, 'null', NULL", 2),
    "filled ties": ("{ j: filled }", "j", "'1', '2', NULL", 1),
    "longest": ("{ s: longest }", "s", "'aa', 'bbbb', 'ccc'", 2),
    "longest, null last": ("{ s: longest }", "s", "NULL, '', 'c'", 3),
    "empty is longer than null": ("{ s: longest }", "s", "NULL, '', NULL", 2),
    "longest of json": ("{ j: longest }", "j", """'{"a": 1}', '{"a": 1, "b": 2}', NULL""", 2),
    "an expression": ("n % 10", "n", "31, 15, 28", 3),
    "an expression, null last": ("nullif(n, 99)", "n", "99, 15, 28", 3),
    "a condition": ("s LIKE 'good%'", "s", "'bad', 'bad', 'good one'", 3),
    "numbers in a list": ("{ n: [3, 1, 2] }", "n", "1, 2, 3", 3),
    "a window is no rule of a row, a query is": ("(SELECT max(x.n) FROM t x WHERE x.id = t.id)", "n", "1, 9, 3", 2),
    "no rule decides": ("{ s: longest }", "s", "'a', 'b', 'c'", 1),
}  # fmt: skip


@pytest.mark.parametrize("case", RULES.values(), ids=RULES.keys())
def test_a_rule_decides(bench: Bench, case: tuple[str, str, str, int]) -> None:
    rule, column, values, stays = case
    bench.production.sql(IMAGES)
    bench.spec(key(f"keep: [{rule if rule.startswith('{') else repr_yaml(rule)}]\n"))
    for order in ("ASC", "DESC"):
        bench.production.sql(
            f"TRUNCATE t; INSERT INTO t (id, k, {column}) SELECT o, 'k', x FROM unnest(ARRAY[{values}]::{_type(column)}[])"
            f" WITH ORDINALITY u(x, o) ORDER BY o {order}"
        )
        gone = {int(change.key[0]) for change in changes(bench.plan(), "delete", "public.t")}
        assert gone == {1, 2, 3} - {stays}


def repr_yaml(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def _type(column: str) -> str:
    return {"s": "text", "n": "int", "at": "timestamptz", "j": "jsonb"}[column]


def test_rules_in_turn_and_why_is_told(bench: Bench) -> None:
    bench.production.sql(IMAGES)
    bench.production.sql(
        "INSERT INTO t VALUES (1, 'a', 'failed', 9, '2025-01-09'), (2, 'a', 'complete', 1, '2025-01-01'),"
        " (3, 'b', 'x', 1, '2025-01-01'), (4, 'b', 'x', 2, '2025-01-01'), (5, 'c', NULL, NULL, NULL), (6, 'c', NULL, NULL, NULL),"
        " (7, 'd', 'x', 1, NULL)"
    )
    bench.spec(key("keep: [{ s: [complete, failed] }, { at: newest }, { n: highest }]\n"))
    plan = bench.law()
    losers = changes(plan, "delete", "public.t")
    assert [(c.key, c.reason, c.kept and (c.kept.key, c.kept.has, c.kept.over)) for c in losers] == [
        (("1",), "duplicate: loses by s", (("2",), "complete", "failed")),
        (("3",), "duplicate: loses by n", (("4",), "2", "1")),
        (("6",), "duplicate: loses by primary key", (("5",), None, None)),
    ]
    assert survivors(bench) == [2, 4, 5, 7]
    assert bench.production.sql("SELECT id, survivor_key, rule, plan_id, archived_at IS NOT NULL FROM gone ORDER BY 1") == [
        (1, "2", "duplicate: loses by s", plan.id, True), (3, "4", "duplicate: loses by n", plan.id, True),
        (6, "5", "duplicate: loses by primary key", plan.id, True),
    ]  # fmt: skip


def test_null_in_a_key_is_no_duplicate_unless_said(bench: Bench) -> None:
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    rows = "INSERT INTO t VALUES (1, 1, NULL), (2, 1, NULL), (3, NULL, NULL), (4, NULL, NULL), (5, 1, 1), (6, 1, 1)"
    bench.production.sql(rows)
    bench.spec(key(columns="a, b"))
    bench.law()
    assert survivors(bench) == [1, 2, 3, 4, 5]
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_a_b_key")
    bench.spec(key("nulls: not_distinct\n", columns="a, b"))
    bench.law()
    assert survivors(bench) == [1, 3, 5]
    assert "t t_a_b_key UNIQUE NULLS NOT DISTINCT (a, b)" in bench.structure()


def test_a_key_that_is_unique_already(bench: Bench) -> None:
    bench.production.sql(IMAGES + "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    bench.spec(key())
    plan = bench.law()
    assert summary(plan) == {"unique_keys.one[constraint t_k_key]/create": 1}
    assert bench.production.sql("SELECT to_regclass('gone')") == [(None,)]


FAMILY = """
CREATE TABLE t (id int PRIMARY KEY, k text, code int UNIQUE);
CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE {action}, v text);
INSERT INTO t VALUES (1, 'a', 101), (2, 'a', 102), (3, 'a', 103), (4, 'b', 104);
INSERT INTO c VALUES (1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, NULL);
"""


@pytest.mark.parametrize("action", ["SET NULL", "CASCADE", "NO ACTION", "RESTRICT", "SET DEFAULT"])
def test_what_points_at_a_loser_is_led_to_the_survivor(bench: Bench, action: str) -> None:
    bench.production.sql(FAMILY.format(action=action))
    bench.spec(key("references: repoint\n"))
    plan = bench.law()
    assert counts(plan) == {
        "create public.gone": 1,
        "update public.c": 3,
        "delete public.t": 2,
        "create constraint t_k_key": 1,
    }
    assert bench.production.sql("SELECT id, t FROM c ORDER BY id") == [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 4),
        (6, None),
    ]


@pytest.mark.parametrize("action", ["SET NULL", "CASCADE", "NO ACTION", "RESTRICT"])
def test_what_points_at_a_loser_goes_too(bench: Bench, action: str) -> None:
    bench.production.sql(FAMILY.format(action=action))
    bench.spec(key("references: delete\nmax_delete: 5\n"))
    plan = bench.law()
    assert counts(plan)["delete public.c"] == 3
    assert survivors(bench, "c") == [1, 5, 6]
    assert [c.reason for c in changes(plan, "delete", "public.c")] == ["points at a duplicate of public.t"] * 3


@pytest.mark.parametrize("action", ["SET NULL", "CASCADE", "NO ACTION", "RESTRICT"])
def test_references_are_an_error_unless_said_otherwise(bench: Bench, action: str) -> None:
    bench.production.sql(FAMILY.format(action=action))
    error = refused(bench, key())
    assert error.what == "unique_keys.one: 3 rows of public.c point at rows that would go"
    assert error.why == f"by c_t_fkey (ON DELETE {action})"
    bench.production.sql("UPDATE c SET t = 1 WHERE t IN (2, 3)")
    bench.law()


def test_a_cascade_goes_further_and_is_counted(bench: Bench) -> None:
    bench.production.sql(FAMILY.format(action="CASCADE"))
    bench.production.sql(
        "CREATE TABLE g (id int PRIMARY KEY, c int REFERENCES c ON DELETE CASCADE);"
        "CREATE TABLE n (id int PRIMARY KEY, c int REFERENCES c ON DELETE SET NULL);"
        "INSERT INTO g VALUES (1, 1), (2, 2), (3, 3); INSERT INTO n VALUES (1, 1), (2, 3)"
    )
    spec = "references: delete\nmax_delete: {}\n"
    error = refused(bench, key(spec.format(6)))
    assert (error.code, error.what) == (Exit.LIMIT, "unique_keys.one would delete 7 rows; max_delete allows 6")
    bench.spec(key(spec.format(7)))
    plan = bench.law()
    assert counts(plan)["delete public.g"] == 2
    assert bench.production.sql("SELECT id, c FROM n ORDER BY id") == [(1, 1), (2, None)]


def test_a_foreign_key_to_another_unique_column(bench: Bench) -> None:
    bench.production.sql(FAMILY.format(action="CASCADE"))
    bench.production.sql(
        "CREATE TABLE d (id int PRIMARY KEY, code int REFERENCES t (code) ON DELETE SET NULL); INSERT INTO d VALUES (1, 103), (2, 101), (3, 104)"
    )
    bench.spec(key("references: repoint\n"))
    bench.law()
    assert bench.production.sql("SELECT id, code FROM d ORDER BY id") == [(1, 101), (2, 101), (3, 104)]


def test_a_survivor_that_cannot_be_pointed_at(bench: Bench) -> None:
    bench.production.sql(FAMILY.format(action="CASCADE"))
    bench.production.sql(
        "CREATE TABLE d (id int PRIMARY KEY, code int REFERENCES t (code)); INSERT INTO d VALUES (1, 103)"
    )
    bench.production.sql("UPDATE t SET code = NULL WHERE id = 1")
    error = refused(bench, key("references: repoint\n"))
    assert error.what == "unique_keys.one: 1 rows of public.d cannot be repointed"
    assert "code" in (error.why or "")


def test_composite_keys(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (tenant int, id text, a int, b text, PRIMARY KEY (tenant, id));"
        "CREATE TABLE c (id int PRIMARY KEY, tenant int, t text, FOREIGN KEY (tenant, t) REFERENCES t);"
        "INSERT INTO t VALUES (1, 'x', 1, 'a'), (1, 'y', 1, 'a'), (2, 'x', 1, 'a'), (2, 'z', 2, 'a'), (3, 'a,b', 2, 'a');"
        "INSERT INTO c VALUES (1, 1, 'y'), (2, 2, 'x'), (3, 3, 'a,b'), (4, 3, NULL), (5, NULL, 'x')"
    )
    bench.spec(key("references: repoint\n", columns="a, b"))
    plan = bench.law()
    assert bench.production.sql("SELECT * FROM c ORDER BY id") == [
        (1, 1, "x"), (2, 1, "x"), (3, 2, "z"), (4, 3, None), (5, None, "x"),
    ]  # fmt: skip
    assert [c.kept and c.kept.key for c in changes(plan, "delete", "public.t")] == [("1", "x"), ("1", "x"), ("2", "z")]
    assert bench.production.sql("SELECT survivor_key FROM gone ORDER BY tenant, id") == [
        ('["1", "x"]',), ('["1", "x"]',), ('["2", "z"]',),
    ]  # fmt: skip


def test_two_foreign_keys_of_one_child(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, k text);"
        "CREATE TABLE c (id int PRIMARY KEY, one int REFERENCES t ON DELETE CASCADE, two int REFERENCES t ON DELETE SET NULL);"
        "INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'b'), (4, 'b');"
        "INSERT INTO c VALUES (1, 2, 4), (2, 1, 4), (3, 2, 3), (4, 2, NULL), (5, 1, 3), (6, 4, 4)"
    )
    bench.spec(key("references: repoint\n"))
    plan = bench.law()
    assert counts(plan)["update public.c"] == 5
    assert bench.production.sql("SELECT * FROM c ORDER BY id") == [
        (1, 1, 3), (2, 1, 3), (3, 1, 3), (4, 1, None), (5, 1, 3), (6, 3, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("action", ["SET NULL", "CASCADE", "NO ACTION", "RESTRICT"])
@pytest.mark.parametrize("references", ["repoint", "delete"])
def test_a_table_that_points_at_itself(bench: Bench, action: str, references: str) -> None:
    bench.production.sql(
        f"CREATE TABLE t (id int PRIMARY KEY, k text, up int REFERENCES t ON DELETE {action});"
        # 3 and 4 lose; 4 points at 3, the survivor 1 at the loser 3, 5 at 4, 6 at 5.
        "INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'a', 1), (4, 'b', 3), (5, 'c', 4), (6, 'd', 5), (7, 'e', NULL)"
    )
    bench.spec(key(f"references: {references}\nmax_delete: 4\n"))
    if references == "delete" and action in ("NO ACTION", "RESTRICT"):
        bench.production.sql("UPDATE t SET up = NULL WHERE id = 6")
    bench.law()
    rows = bench.production.sql("SELECT id, up FROM t ORDER BY id")
    if references == "repoint":
        assert rows == [(1, None), (2, 1), (5, 2), (6, 5), (7, None)]
    elif action == "CASCADE":
        assert rows == [(1, None), (2, 1), (7, None)]
    else:
        assert rows == [(1, None), (2, 1), (6, None), (7, None)]


def test_a_survivor_that_points_at_its_loser(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, k text, up int REFERENCES t, UNIQUE (up, id));"
        "INSERT INTO t VALUES (1, 'a', NULL), (2, 'a', 1); UPDATE t SET up = 2 WHERE id = 1"
    )
    bench.spec(key("references: repoint\n"))
    bench.law()
    assert bench.production.sql("SELECT id, up FROM t") == [(1, 1)]


def test_room_that_only_a_loser_makes_is_no_room(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, k text, up int REFERENCES t, UNIQUE (up, k));"
        # 3 loses to 1. 5 moves from under 3 to under 1, where the loser 6 holds (1, 'c') now.
        "INSERT INTO t VALUES (1, 'a', NULL), (3, 'a', 1), (5, 'c', 3), (6, 'c', 1)"
    )
    error = refused(bench, key("references: repoint\n"))
    assert "t_up_k_key" in error.render()


def test_a_reference_that_is_part_of_the_child_s_key(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, k text);"
        "CREATE TABLE c (t int REFERENCES t ON DELETE CASCADE, tag text, v text, g text GENERATED ALWAYS AS (v || '!') STORED,"
        " n int GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (t, tag));"
        "INSERT INTO t VALUES (1, 'a'), (2, 'a'); INSERT INTO c VALUES (1, 'x', 'p'), (2, 'y', 'q'), (2, 'z', NULL)"
    )
    bench.spec(key("references: repoint\n"))
    plan = bench.law()
    assert bench.production.sql("SELECT * FROM c ORDER BY n") == [
        (1, "x", "p", "p!", 1), (1, "y", "q", "q!", 2), (1, "z", None, None, 3),
    ]  # fmt: skip
    assert counts(plan)["insert public.c"] == counts(plan)["delete public.c"] == 2


def test_a_child_whose_key_would_change_under_its_own_children(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, k text);"
        "CREATE TABLE c (t int REFERENCES t, tag text, PRIMARY KEY (t, tag));"
        "CREATE TABLE g (t int, tag text, FOREIGN KEY (t, tag) REFERENCES c);"
        "INSERT INTO t VALUES (1, 'a'), (2, 'a'); INSERT INTO c VALUES (2, 'y'); INSERT INTO g VALUES (2, 'y')"
    )
    error = refused(bench, key("references: repoint\n"))
    assert error.what == "unique_keys.one: rows of public.c cannot be repointed"
    assert "g_t_tag_fkey" in (error.why or "")


CROWDED = """
CREATE TABLE t (id int PRIMARY KEY, k text);
CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t, tag text, UNIQUE (t, tag));
INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'a');
INSERT INTO c VALUES (10, 1, 'x'), (11, 2, 'x'), (12, 2, 'y'), (13, 3, 'y'), (14, 3, 'z'), (15, 2, NULL), (16, 3, NULL);
"""


def test_no_room_at_the_survivor(bench: Bench) -> None:
    bench.production.sql(CROWDED)
    error = refused(bench, key("references: repoint\n"))
    assert error.what == "unique_keys.one: 2 rows of public.c have no room at the survivor"
    assert "c_t_tag_key" in (error.why or "")


@pytest.mark.parametrize("unique", ["", "CREATE UNIQUE INDEX more ON c (t, lower(tag)) WHERE tag IS NOT NULL"])
def test_what_has_no_room_is_dropped_if_said(bench: Bench, unique: str) -> None:
    bench.production.sql(CROWDED + unique)
    bench.spec(key("references: repoint\non_collision: drop_child\nmax_delete: 4\n"))
    plan = bench.law()
    assert bench.production.sql("SELECT * FROM c ORDER BY id") == [
        (10, 1, "x"), (12, 1, "y"), (14, 1, "z"), (15, 1, None), (16, 1, None),
    ]  # fmt: skip
    assert [c.reason for c in changes(plan, "delete", "public.c")] == ["no room at the survivor: c_t_tag_key"] * 2


def test_what_has_no_room_counts_towards_the_limit(bench: Bench) -> None:
    bench.production.sql(CROWDED)
    error = refused(bench, key("references: repoint\non_collision: drop_child\nmax_delete: 3\n"))
    assert (error.code, error.what) == (Exit.LIMIT, "unique_keys.one would delete 4 rows; max_delete allows 3")
    error = refused(bench, key("references: repoint\non_collision: drop_child\n", archive=False))
    assert error.code is Exit.LIMIT


@pytest.mark.parametrize(
    ("archive", "limit", "allowed"),
    [(True, None, True), (False, None, False), (True, "2", False), (True, "3", True), (False, "3", True), (False, "2", False),
     (True, '"30%"', True), (True, '"29%"', False), (False, '"30%"', True), (False, "0", False)],
)  # fmt: skip
def test_max_delete(bench: Bench, archive: bool, limit: str | None, allowed: bool) -> None:
    bench.production.sql(
        IMAGES + "INSERT INTO t SELECT i, 'k' || CASE WHEN i <= 4 THEN 0 ELSE i END FROM generate_series(1, 10) i"
    )
    spec = key(f"max_delete: {limit}\n" if limit else "", archive=archive)
    if allowed:
        bench.spec(spec)
        plan = bench.law()
        assert ("missing-archive" in {it.kind for it in plan.header.hazards}) is not archive
        return
    error = refused(bench, spec)
    assert error.code is Exit.LIMIT
    assert "would delete 3 rows" in error.what


def test_what_cannot_be(bench: Bench) -> None:
    bench.production.sql(IMAGES + "CREATE TYPE st AS ENUM ('good', 'bad'); ALTER TABLE t ADD e st, ADD x json")
    bench.production.sql("CREATE VIEW v AS SELECT * FROM t")

    def place(error: ReconcilerError) -> int:
        assert isinstance(error.where, Location)
        return error.where.line

    error = refused(bench, key("keep:\n  - { s: [a] }\n  - { e: [good, bda] }\n"))
    assert "bda" in error.render()
    assert place(error) == 12
    error = refused(bench, key("keep:\n  - { missing: newest }\n"))
    assert "no column 'missing'" in error.what
    assert place(error) == 11
    error = refused(bench, key(columns="k, nope"))
    assert "no column 'nope'" in error.what
    for rule in ("{ x: newest }", '"id; DROP TABLE t"', '"count(*)"', '"nope > 1"', '"row_number() OVER ()"', '"x"'):
        error = refused(bench, key(f"keep:\n  - {{ s: longest }}\n  - {rule}\n"))
        assert place(error) == 12, rule
    error = refused(bench, key(columns="x"))
    assert "x" in error.what
    assert place(error) == 8
    error = refused(bench, key(table="v"))
    assert "public.v is not a table" in error.what
    error = refused(bench, key(table="nope"))
    assert "nope" in error.what
    error = refused(bench, key("where: count(*) > 1\n"))
    assert error.where is not None


def test_rows_that_cannot_be_told_apart(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (k text, n int, id int, UNIQUE (n)); INSERT INTO t VALUES ('a', 1, 1), ('a', 2, 2);"
        " CREATE TABLE c (n int REFERENCES t (n))"
    )
    error = refused(bench, key())
    assert error.what == "unique_keys.one: rows of public.t cannot be told apart"
    assert "ADD COLUMN" in (error.todo or "")
    bench.production.sql("DROP TABLE c")
    bench.production.sql("ALTER TABLE t ALTER n SET NOT NULL")
    bench.spec(key())
    plan = bench.law()
    assert [(c.key, c.reason) for c in changes(plan, "delete", "public.t")] == [(("2",), "duplicate: loses by key")]


def test_an_identity_that_may_be_checked_late_or_is_no_plain_one_will_not_do(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int NOT NULL, k text, CONSTRAINT late UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)"
    )
    bench.production.sql("INSERT INTO t VALUES (1, 'a'), (2, 'a')")
    bench.spec(key())
    bench.law()
    assert survivors(bench) == [1]


def test_generated_identity_and_awkward_values(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k text, g text GENERATED ALWAYS AS (k || '?') STORED,"
        " j jsonb, b bytea, n numeric, f float8, at timestamptz, r int4range, a text[], x json)"
    )
    bench.production.sql(
        "INSERT INTO t (k, j, b, n, f, at, r, a, x) SELECT 'a', 'null', '\\x00ff', 1.50, 'NaN', '2025-01-01 00:00:00.123456+00',"
        " '[1,5)', ARRAY['x', NULL, 'a\"b', E'tab\\t'], '{\"a\":  1.0}' FROM generate_series(1, 3)"
    )
    bench.production.sql(
        "INSERT INTO t (k) VALUES (E'quote '' \" \\\\ \\n \\u0001'), (E'quote '' \" \\\\ \\n \\u0001')"
    )
    before = bench.production.sql("SELECT (t.*)::text FROM t ORDER BY id")
    bench.spec(key("keep: [{ g: newest }]\n"))
    bench.law()
    assert survivors(bench) == [1, 4]
    kept = bench.production.sql(
        "SELECT x::text FROM (SELECT id, t.*::text AS x FROM t UNION ALL"
        " SELECT id, ROW(id, k, g, j, b, n, f, at, r, a, x)::text FROM gone) u ORDER BY id"
    )
    assert kept == before


def test_a_generated_column_may_be_the_key(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, raw text, k text GENERATED ALWAYS AS (lower(raw)) STORED)"
    )
    bench.production.sql("INSERT INTO t VALUES (1, 'A'), (2, 'a'), (3, 'b')")
    bench.spec(key())
    bench.law()
    assert survivors(bench) == [1, 3]


def test_equal_is_what_the_key_s_type_says(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int PRIMARY KEY, k char(4), n numeric);"
        "INSERT INTO t VALUES (1, 'a', 1.0), (2, 'a  ', 1.00), (3, 'b', 1), (4, 'a', 2)"
    )
    bench.spec(key(columns="k, n"))
    bench.law()
    assert survivors(bench) == [1, 3, 4]
