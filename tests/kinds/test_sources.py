"""Rows that come from files, from the spec itself, and from what `extract` saved."""

from __future__ import annotations

import json

import pytest

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from tests.kinds.bench import Bench, summary

_HEAD = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
  extract: { files: %s }
collections:
  t: { table: production.t, source: extract }
"""
_TABLE = "CREATE TABLE t (id int PRIMARY KEY, n numeric, tags text[], j json, b jsonb, at timestamptz, g int GENERATED ALWAYS AS (id * 2) STORED)"
_ROW = (
    r'{"id": 1, "n": 1234567890123456789012345678901234567890.10, "tags": ["a", null, "b\\c"], '
    r'"j": {"a":1,  "a":2}, "b": {"x": 1.10}, "at": "2026-01-02T03:04:05.678901Z", "g": 9}'
)


def use(bench: Bench, files: str) -> None:
    bench.path.write_text(_HEAD % files, "utf-8")


def row(bench: Bench) -> list[tuple[str | None, ...]]:
    return bench.production.sql(
        "SELECT id::text, n::text, tags::text, j::text, b::text, (at AT TIME ZONE 'UTC')::text FROM t ORDER BY id"
    )


WANTED = (
    "1",
    "1234567890123456789012345678901234567890.10",
    r'{a,NULL,"b\\c"}',
    '{"a":1,  "a":2}',
    '{"x": 1.10}',
    "2026-01-02 03:04:05.678901",
)


@pytest.mark.parametrize("form", ["jsonl", "array", "members"])
def test_json_reaches_the_database_to_the_digit(bench: Bench, form: str) -> None:
    bench.production.sql(_TABLE)
    match form:
        case "jsonl":
            (bench.folder / "data").mkdir()
            (bench.folder / "data" / "t.jsonl").write_text(_ROW + "\n\n", "utf-8")
            use(bench, "data")
        case "array":
            (bench.folder / "data").mkdir()
            (bench.folder / "data" / "t.json").write_text(f"[\n{_ROW}\n]", "utf-8")
            use(bench, "data")
        case _:
            (bench.folder / "data.json").write_text(
                '{"other": [1, {"t": []}], "t": [' + _ROW + '], "last": 3}', "utf-8"
            )
            use(bench, "data.json")
    bench.law()
    assert row(bench) == [WANTED]


def test_csv_tells_null_from_empty(bench: Bench) -> None:
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    (bench.folder / "data").mkdir()
    (bench.folder / "data" / "t.csv").write_text('id,a,b\n1,,""\n2,"x, ""y""",é\n', "utf-8")
    use(bench, "data")
    bench.law()
    assert bench.production.sql("SELECT * FROM t ORDER BY id") == [(1, None, ""), (2, 'x, "y"', "é")]


def test_rows_in_the_spec(bench: Bench) -> None:
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, n numeric, j jsonb, gone text)")
    bench.production.sql("INSERT INTO t VALUES (2, 1, NULL, 'kept'), (3, 3, NULL, 'not spoken of')")
    bench.law(
        """
        t: { table: production.t, source: { rows: [{ id: 1, n: 1.10, j: { a: [1] } }, { id: 2, n: 2, j: null }] } }
        """
    )
    assert bench.production.sql("SELECT id, n::text, j::text, gone FROM t ORDER BY id") == [
        (1, "1.10", '{"a": [1]}', None),
        (2, "2", None, "kept"),
        (3, "3", None, "not spoken of"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 1}\n{"id": 2, "n": "x"}\n{"id": 3}\n', "row 2"),
        ('{"id": 1}\n{"id": \n', "row 2"),
        ('{"id": 1}\n[1]\n', "row 2"),
        ('{"id": 1}\n{"n": 1}\n', "NULL in the key"),
        ('{"id": 1}\n{"id": 1}\n', "more than once"),
        ('{"key": 1}\n', "no key column 'id'"),
    ],
)
def test_a_bad_line_is_named_and_its_value_is_not(bench: Bench, text: str, said: str) -> None:
    bench.production.sql(_TABLE)
    (bench.folder / "data").mkdir()
    (bench.folder / "data" / "t.jsonl").write_text(text, "utf-8")
    use(bench, "data")
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert said in caught.value.render()
    assert '"x"' not in caught.value.render()


def test_a_file_that_is_cut_short_is_an_error(bench: Bench) -> None:
    bench.production.sql(_TABLE)
    (bench.folder / "data.json").write_text('{"t": [{"id": 1}, {"id": 2', "utf-8")
    use(bench, "data.json")
    with pytest.raises(ReconcilerError, match="is not JSON"):
        bench.plan()


def test_a_table_that_no_file_has_is_an_error(bench: Bench) -> None:
    bench.production.sql(_TABLE)
    (bench.folder / "data").mkdir()
    use(bench, "data")
    with pytest.raises(ReconcilerError, match="no table t"):
        bench.plan()


def test_what_extract_saves_restores_the_same(bench: Bench) -> None:
    bench.both(_TABLE)
    bench.backup.sql(
        "INSERT INTO t VALUES (1, 'NaN', '{\"a\\\\b\",NULL}', ' [1,  2]', 'null', 'infinity'), (2, NULL, NULL, 'null', NULL, NULL)"
    )
    bench.write("t: { table: production.t, source: backup }\n")
    app.extract(bench.session(), bench.folder / "saved")
    assert json.loads((bench.folder / "saved" / "reconciler-extract.json").read_text()) == {"reconciler_extract": 1}
    use(bench, "saved")
    bench.law(same=("t",))
    bench.write("t: { table: production.t, source: backup, compare: exact }\n")
    assert summary(bench.plan()) == {}
    assert bench.apply(bench.plan()).code is Exit.DONE


def test_a_csv_may_have_more_columns_than_the_table(bench: Bench) -> None:
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, a text, twice int GENERATED ALWAYS AS (id * 2) STORED)")
    (bench.folder / "data").mkdir()
    (bench.folder / "data" / "t.csv").write_text("id,more,a,twice\n1,x,one,2\n2,,two,4\n", "utf-8")
    use(bench, "data")
    plan = bench.law()
    assert any("columns that public.t lacks, left out: more" in note for step in plan.steps for note in step.notes)
    assert bench.production.sql("SELECT * FROM t ORDER BY id") == [(1, "one", 2), (2, "two", 4)]
