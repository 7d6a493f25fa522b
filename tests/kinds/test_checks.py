"""Checks: asked at plan, made sure of by apply, alone in `status`; they write nothing and compare as PostgreSQL does."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.step import Check
from tests.kinds.bench import Bench

TABLE = "CREATE TABLE t (id int PRIMARY KEY, name text, price numeric(10,2), at timestamptz, j json);"


@pytest.fixture
def two(bench: Bench) -> Bench:
    bench.both(TABLE)
    bench.backup.sql(
        "INSERT INTO t VALUES (1, 'a', 1.10, '2025-01-01', '{}'), (2, NULL, NULL, NULL, NULL), (3, 'c', 3, 'infinity', '[1]')"
    )
    bench.production.sql("INSERT INTO t VALUES (1, 'a', 1.10, '2025-01-01', '{}')")
    return bench


def spec(bench: Bench, checks: str, *, rows: bool = True) -> None:
    collections = "collections:\n  t: { table: production.t, source: backup }\n" if rows else ""
    bench.spec(collections + "checks:\n" + indent(dedent(checks), "  "))


def stands(bench: Bench, check: str) -> Check:
    """How one check stands on the production as it is."""
    spec(bench, f"one: {check}\n", rows=False)
    plan = bench.plan()
    (found,) = plan.header.checks
    return found


# Each case: the query on one row (1, 'a', 1.10, 2025-01-01, {}), what is expected, whether it holds, what is said.
CASES = {
    "count": ("SELECT count(*) FROM t", "1", True, "1"),
    "count differs": ("SELECT count(*) FROM t", "0", False, "1, 0 expected"),
    "bound": ("SELECT count(*) FROM t", "{ at_most: 1 }", True, "1"),
    "over a bound": ("SELECT count(*) FROM t", "{ at_most: 0 }", False, "1, at most 0 expected"),
    "under a bound": ("SELECT count(*) FROM t", "{ at_least: 1.5 }", False, "1, at least 1.5 expected"),
    "two bounds": ("SELECT count(*) FROM t", "{ at_least: 1, at_most: 2 }", True, "1"),
    "equal": ("SELECT count(*) FROM t", "{ equal: 1 }", True, "1"),
    "a number equals however it is written": ("SELECT price FROM t", "1.1", True, "1.10"),
    "more digits than a float has": ("SELECT 12345678901234567890.1", "12345678901234567890.2", False,
                                     "12345678901234567890.1, 12345678901234567890.2 expected"),
    "a float": ("SELECT 0.1::float8", "0.1", True, "0.1"),
    "text": ("SELECT name FROM t", "a", True, "a"),
    "a longer text": ("SELECT 'abc'::char(3)", "abc", True, "abc"),
    "a number that is text": ("SELECT '007'", '"007"', True, "007"),
    "time": ("SELECT at FROM t", '"2025-01-01 01:00+01"', True, "2025-01-01 00:00:00+00"),
    "time, a bound": ("SELECT at FROM t", '{ at_least: "2025-06-01" }', False, "2025-01-01 00:00:00+00, at least 2025-06-01 expected"),
    "true": ("SELECT true", "true", True, "true"),
    "json by its text": ("SELECT j FROM t", '"{}"', True, "{}"),
    "null": ("SELECT name FROM t WHERE id = 1 AND false", "null", False, "no row, NULL expected"),
    "null is null": ("SELECT max(id) FROM t WHERE false", "null", True, "NULL"),
    "null is no number": ("SELECT max(id) FROM t WHERE false", "{ at_most: 3 }", False, "NULL, at most 3 expected"),
    "no value at all": ("SELECT id FROM t WHERE false", "1", False, "no row, 1 expected"),
    "many values": ("SELECT 1 FROM generate_series(1, 2)", "1", False, "more than one row, 1 expected"),
    "empty": ("SELECT id, name FROM t WHERE name IS NULL", "empty", True, "0 rows"),
    "not empty": ("SELECT id, name FROM t", "empty", False, "1 row, none expected"),
    "with": ("WITH x AS (SELECT 3 AS n) SELECT n FROM x", "3", True, "3"),
    "a parameter": ("SELECT :word", "\"it's\"", True, "it's"),
    "a comment": ("SELECT 1 -- one", "1", True, "1"),
    "an oid": ("SELECT 7::oid", "7", True, "7"),
}  # fmt: skip


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def test_a_value_is_compared_as_the_database_compares(two: Bench) -> None:
    lines = [
        f"c{n}: {{ on: production, query: {quoted(query)}, expect: {expect} }}"
        for n, (query, expect, _, _) in enumerate(CASES.values())
    ]
    spec(two, "\n".join(lines) + "\n", rows=False)
    with two.path.open("a", encoding="utf-8") as file:
        file.write('variables: { word: { default: "it\'s" } }\n')
    found = {it.address: (it.holds, it.found) for it in two.plan().header.checks}
    wanted = {f"checks.c{n}": (holds, said) for n, (_, _, holds, said) in enumerate(CASES.values())}
    assert found == wanted


REFUSED = {
    "a delete": ("DELETE FROM t RETURNING 1", "this is no query"),
    "a delete in a WITH": ("WITH x AS (DELETE FROM t RETURNING 1) SELECT count(*) FROM x", "must be at the top level"),
    "INTO": ("SELECT 1 INTO u", "not allowed here"),
    "a lock": ("SELECT id FROM t FOR UPDATE", "would write"),
    "a sequence": ("SELECT nextval('s')", "would write"),
    "a function that writes": ("SELECT f()", "would write"),
    "two columns": ("SELECT 1, 2", "returns 2 columns"),
    "another type": ("SELECT at FROM t", "no value of the query's type"),
    "a table that is not there": ("SELECT 1 FROM nowhere", "cannot be asked"),
    "COPY": ("TABLE t) TO STDOUT", "closes nothing"),
}


def test_what_is_no_question_is_refused_and_writes_nothing(two: Bench) -> None:
    two.production.sql("CREATE SEQUENCE s; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM t RETURNING 1'")
    before = two.production.dump(), two.production.sql("SELECT last_value, is_called FROM s")
    for case, (query, said) in REFUSED.items():
        spec(two, f"one: {{ on: production, query: {quoted(query)}, expect: 1 }}\n", rows=False)
        with pytest.raises(ReconcilerError) as caught:
            two.plan()
        assert said in caught.value.render(), case
    assert (two.production.dump(), two.production.sql("SELECT last_value, is_called FROM s")) == before


COVERAGES = [
    (
        "{ table: production.t, column: name }",
        False,
        "2 of 3 rows of public.t have name (66.66%), at least 100% expected",
    ),
    ("{ table: production.public.t, column: id, at_least: 100% }", True, "3 of 3 rows of public.t have id (100%)"),
    ("{ table: production.t, column: name, at_least: 66.6% }", True, "2 of 3 rows of public.t have name (66.66%)"),
    ("{ table: production.t, column: name, where: id <> 2 }", True, "2 of 2 rows of public.t have name (100%)"),
    ("{ table: production.t, column: name, where: id > 5 }", True, "0 of 0 rows of public.t have name (100%)"),
]


def test_coverage_counts_rows_that_have_a_value(two: Bench) -> None:
    two.production.sql("INSERT INTO t VALUES (2, NULL), (3, 'c')")
    for coverage, holds, found in COVERAGES:
        check = stands(two, f"{{ coverage: {coverage} }}")
        assert (check.holds, check.found) == (holds, found)


def test_coverage_takes_its_table_from_beside_on(two: Bench) -> None:
    assert stands(two, "{ on: production, coverage: { table: t, column: id } }").holds
    assert stands(two, "{ on: production, coverage: { table: public.t, column: id } }").holds
    assert stands(two, "{ on: production, coverage: { table: production.t, column: id } }").holds


def test_one_row_short_of_all_is_never_shown_as_all(bench: Bench) -> None:
    bench.production.sql("CREATE TABLE t (id int); INSERT INTO t SELECT nullif(g, 1) FROM generate_series(1, 100000) g")
    check = stands(bench, "{ coverage: { table: production.t, column: id } }")
    assert not check.holds
    assert "(99.99%)" in check.found


def test_apply_makes_sure_and_a_new_plan_says_so(two: Bench) -> None:
    spec(two, 'all: { on: production, query: "SELECT count(*) FROM t", expect: 3 }')
    plan = two.plan()
    assert [(it.holds, it.found) for it in plan.header.checks] == [(False, "1, 3 expected")]
    applied = two.apply(plan)
    assert applied.code is Exit.DONE
    assert applied.checks == (Check("checks.all", "error", True, "3"),)
    again = two.plan()
    assert again.empty
    assert again.header.checks[0].holds
    assert two.apply(again).code is Exit.DONE


def test_an_error_fails_the_apply_inside_the_transaction(two: Bench) -> None:
    spec(two, 'none: { on: production, query: "SELECT count(*) FROM t WHERE name IS NULL", expect: 0 }')
    before = two.dump()
    plan = two.plan()
    assert plan.header.checks[0].holds
    with pytest.raises(ReconcilerError) as caught:
        two.apply(plan)
    assert caught.value.code is Exit.ERROR
    assert caught.value.details == ("checks.none fails: 1, 0 expected",)
    assert two.dump() == before


def test_a_warning_is_told_and_fails_nothing(two: Bench) -> None:
    spec(two, 'none: { on: production, query: "SELECT count(*) FROM t WHERE name IS NULL", expect: 0, severity: warn }')
    applied = two.apply(two.plan())
    assert applied.code is Exit.DONE
    assert [it.text for it in applied.checks] == ["checks.none does not hold: 1, 0 expected"]
    assert len(two.production.sql("SELECT FROM t")) == 3


def test_what_another_database_is_to_hold_is_asked_after_the_commit(two: Bench) -> None:
    spec(two, 'there: { on: backup, query: "SELECT count(*) FROM t", expect: 0 }')
    applied = two.apply(two.plan())
    assert applied.code is Exit.ERROR
    assert [it.text for it in applied.checks] == ["checks.there fails: 3, 0 expected"]
    assert len(two.production.sql("SELECT FROM t")) == 3


def test_a_check_may_ask_for_what_the_plan_creates(bench: Bench) -> None:
    (bench.folder / "made.sql").write_text("CREATE TABLE made (id int PRIMARY KEY);", "utf-8")
    bench.spec(
        "sql_objects: { made: { on: production, file: made.sql } }\n"
        'checks: { made: { on: production, query: "SELECT count(*) FROM made", expect: 0 } }\n'
    )
    plan = bench.plan()
    assert plan.header.checks[0].holds is None
    assert [it.holds for it in bench.apply(plan).checks] == [True]


def test_only_the_chosen_checks_are_asked(two: Bench) -> None:
    spec(
        two,
        'one: { on: production, query: "SELECT 1", expect: 1 }\ntwo: { on: production, query: "SELECT 1", expect: 2 }\n',
    )
    plan = app.plan(two.session(), out=two.folder / "only.plan.jsonl", only=("checks.one",))
    assert plan.header.spec["checks"] == {
        "one": {"expect": 1, "on": "production", "query": "SELECT 1"}
    }  # the plan speaks of nothing it did not look at
    assert [it.address for it in plan.header.checks] == ["checks.one"]
    assert plan.empty
    assert two.apply(plan).code is Exit.DONE


def test_a_rehearsal_asks_too_and_keeps_nothing(two: Bench) -> None:
    spec(two, 'all: { on: production, query: "SELECT count(*) FROM t", expect: 3 }')
    before = two.dump()
    applied = app.apply(two.plan(), two.session(), rehearse=True)
    assert [it.holds for it in applied.checks] == [True]
    assert two.dump() == before


def test_undo_asks_nothing(two: Bench) -> None:
    spec(two, 'all: { on: production, query: "SELECT count(*) FROM t", expect: 3 }')
    before = two.dump()
    plan = two.plan()
    two.apply(plan)
    assert two.apply(two.undo(plan)).code is Exit.DONE
    assert two.dump() == before


def test_status_tells_of_checks(two: Bench) -> None:
    spec(
        two,
        'good: { on: production, query: "SELECT 1", expect: 1 }\nbad: { on: production, query: "SELECT 1", expect: 2 }\n',
        rows=False,
    )
    bad, good = app.status(two.session())
    assert (bad.address, bad.failed, bad.differs, bad.notes) == (
        "checks.bad",
        True,
        True,
        ("checks.bad fails: 1, 2 expected",),
    )
    assert (good.failed, good.differs) == (False, False)


def test_values_of_sensitive_columns_are_not_shown(two: Bench) -> None:
    two.spec(
        "collections: { t: { table: production.t, source: backup, sensitive: [name] } }\n"
        'checks: { name: { on: production, query: "SELECT name FROM t WHERE id = 1", expect: b } }\n'
    )
    two.environ["RECONCILER_DIGEST_KEY"] = "key"
    plan = two.plan()
    assert plan.header.checks[0].found == "a value that is not shown, b expected"


def test_the_end_of_a_transaction_is_seen_and_not_written_to(two: Bench) -> None:
    """A function that writes is refused at apply too, and the transaction that asks goes on writing afterwards."""
    two.production.sql("CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM t'")
    spec(two, "one: { on: production, query: SELECT f(), expect: { at_least: 1 } }")
    plan = two.plan()
    two.production.sql(
        "CREATE OR REPLACE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'DELETE FROM t RETURNING 3::bigint'"
    )
    with pytest.raises(ReconcilerError, match="would write"):
        two.apply(plan)
    assert len(two.production.sql("SELECT FROM t")) == 1
