"""The past of a table out of its log: the law that it is what was there, and what has no answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.names import TableName
from reconciler.systems.postgres.as_of import as_of
from reconciler.systems.postgres.audit_log import find_log
from reconciler.systems.postgres.catalog import read_catalog
from reconciler.systems.postgres.session import connect, raw
from tests.kinds.bench import Bench
from tests.postgres import Database

LOG = (Path(__file__).parent / "log.sql").read_text("utf-8")
TABLE = """
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE TABLE t (id int, part text, name text, price numeric, tags text[], data jsonb, at timestamptz, bytes bytea, mood mood, n float8,
  day daterange, twice numeric GENERATED ALWAYS AS (price * 2) STORED, PRIMARY KEY (id, part));
"""
VALUES = [
    "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
    "'ä \"\\ ''', 1.10, '{a,NULL,\"x,y\"}', '{\"b\": [1.0, null, 12345678901234567890.5]}', '2025-01-01 12:00:00.123456+02',"
    " '\\x00ff', 'sad', 0.1, '[2020-01-01,)'",
    "'', 'NaN', '{}', '\"text\"', 'infinity', '\\x', 'fine', 'Infinity', 'empty'",
    "'b', -12345678901234567890.000, '{{1,2},{3,4}}', '{}', '-infinity', '\\x5c', NULL, 1e300, '(,)'",
]
COLUMNS = "name, price, tags, data, at, bytes, mood, n, day"

KEYS = st.tuples(st.integers(1, 4), st.sampled_from(["a", "b"]))
CHANGES = st.one_of(
    st.tuples(st.just("insert"), KEYS, st.integers(0, 3)),
    st.tuples(st.just("update"), KEYS, st.integers(0, 3)),
    st.tuples(st.just("rename"), KEYS, st.integers(0, 3)),
    st.tuples(st.just("delete"), KEYS, st.just(0)),
    st.tuples(st.just("all"), KEYS, st.integers(0, 3)),
)
MOVES = st.tuples(st.just("move"), KEYS, st.integers(1, 4))


def statement(change: tuple[str, tuple[int, str], int]) -> str:
    verb, (number, part), values = change
    where = f"id = {number} AND part = '{part}'"
    match verb:
        case "insert":
            return f"INSERT INTO t (id, part, {COLUMNS}) VALUES ({number}, '{part}', {VALUES[values]}) ON CONFLICT DO NOTHING"
        case "update":
            return f"UPDATE t SET ({COLUMNS}) = ROW ({VALUES[values]}) WHERE {where}"
        case "rename":
            return f"UPDATE t SET name = 'n{values}' WHERE {where}"
        case "move":
            free = f"NOT EXISTS (SELECT FROM t WHERE id = {values} AND part = '{part}')"
            return f"UPDATE t SET id = {values} WHERE {where} AND {free}"
        case "delete":
            return f"DELETE FROM t WHERE {where}"
        case _:
            return f"UPDATE t SET price = {values} WHERE id > 2"


@pytest.mark.parametrize("how", ["all", "changed"])
def test_the_past_is_what_was_there(database: Database, how: str) -> None:
    database.sql(LOG + TABLE)
    database.sql(f"CALL audit_table('t', '{how}', 'id, part')")

    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    # A record of changed columns does not tell the others of a row that goes to another key.
    @given(
        st.lists(CHANGES | MOVES if how == "all" else CHANGES, min_size=1, max_size=14), st.lists(CHANGES, max_size=6)
    )
    def law(before: list[tuple[str, tuple[int, str], int]], unlogged: list[tuple[str, tuple[int, str], int]]) -> None:
        text = ["TRUNCATE t", "TRUNCATE audit_log", "ALTER TABLE t DISABLE TRIGGER USER", *map(statement, unlogged)]
        text += ["ALTER TABLE t ENABLE TRIGGER USER", "DROP SCHEMA IF EXISTS past CASCADE", "CREATE SCHEMA past"]
        text += [
            "INSERT INTO audit_log (statement_at, table_schema, table_name, operation) VALUES ('2000-01-01', '', '', 'INSERT')"
        ]
        for minute, change in enumerate(before):
            text += [
                f"CREATE TABLE past.t{minute} AS TABLE t",
                f"SET audit.now = '2001-01-01 00:{minute:02}:30+00'",
                statement(change),
            ]
        database.sql(";".join([*text, "RESET audit.now"]))
        with connect("production", database.dsn) as session, session.snapshot():
            catalog = read_catalog(session)
            log = find_log(catalog, "production", TableName(None, "audit_log"))
            pasts = [
                as_of(session, log, catalog.tables[TableName("public", "t")], f"2001-01-01 00:{minute:02}Z", minute, "c", None,
                      whole=minute % 2 == 1)
                for minute in range(len(before))
            ]  # fmt: skip
            for _, reach in pasts:
                reach.make()
            session.forbid_writes()
            for minute, (past, reach) in enumerate(pasts):
                reach.fill()
                names = ", ".join(past.columns)
                there = f"SELECT ROW({names})::text FROM {past.name}"
                here = f"SELECT ROW({names})::text FROM past.t{minute}"
                assert session.rows(raw(f"({there} EXCEPT ALL {here}) UNION ALL ({here} EXCEPT ALL {there})")) == []
        with connect("production", database.dsn) as session:
            assert session.value("SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()") == 0

    law()


def past(bench: Bench, rest: str = "", *, moment: str = "2001-01-01T00:00:30Z", table: str = "production.t") -> None:
    bench.write(f"t: {{ table: {table}, source: {{ audit: production.audit_log, as_of: '{moment}' }}{rest} }}")


def refused(bench: Bench) -> ReconcilerError:
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    return caught.value


@pytest.fixture
def audited(bench: Bench) -> Bench:
    bench.production.sql(LOG + "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, note text)")
    bench.production.sql("CALL audit_table('t', 'changed', 'id')")
    bench.production.sql(
        "SET audit.now = '2001-01-01Z'; INSERT INTO t SELECT g, 'n' || g FROM generate_series(1, 100) g; RESET audit.now"
    )
    return bench


def test_a_mass_deletion_is_planned_back_row_by_row(audited: Bench) -> None:
    audited.production.sql(
        "UPDATE t SET note = 'later' WHERE id < 5; DELETE FROM t WHERE id % 2 = 0; INSERT INTO t VALUES (1000, 'new')"
    )
    past(audited)
    plan = audited.plan()
    assert plan.header.summary == {"insert": 50, "update": 2, "delete": 0}
    applied = audited.apply(plan)
    assert (applied.code, applied.converged) == (Exit.DONE, True)
    assert audited.plan().empty
    assert audited.production.sql("SELECT count(*), count(note) FROM t WHERE id <= 100") == [(100, 0)]
    assert audited.apply(audited.undo(plan)).code is Exit.DONE
    assert audited.production.sql("SELECT count(*), count(note) FROM t WHERE id <= 100") == [(50, 2)]


def test_rows_rebuilt_under_new_ids_are_not_doubled(audited: Bench) -> None:
    audited.production.sql(
        "DELETE FROM t WHERE id <= 40; INSERT INTO t SELECT 200 + g, 'n' || g FROM generate_series(1, 30) g"
    )
    past(audited, ", key: [name]")
    plan = audited.plan()
    assert plan.header.summary == {"insert": 10, "update": 0, "delete": 0}


def test_rows_rebuilt_without_a_record_are_not_doubled_either(audited: Bench) -> None:
    audited.production.sql("DELETE FROM t WHERE id <= 40; DROP TRIGGER audit_insert ON t")
    audited.production.sql("INSERT INTO t SELECT 200 + g, 'n' || g FROM generate_series(1, 30) g")
    past(audited, ", key: [name]")
    assert audited.plan().header.summary == {"insert": 10, "update": 0, "delete": 0}


def test_it_fills_another_database(audited: Bench) -> None:
    audited.backup.sql("CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, note text)")
    audited.production.sql("UPDATE t SET note = 'later'; DELETE FROM t WHERE id <= 40")
    past(audited, table="backup.t")
    assert audited.apply(audited.plan()).converged
    assert audited.backup.sql("SELECT count(*), count(note) FROM t") == [(100, 0)]


def test_what_came_later_goes_where_that_is_asked(audited: Bench) -> None:
    audited.production.sql("INSERT INTO t VALUES (1000, 'new')")
    past(audited, ", on_extra: delete, max_delete: 1")
    assert audited.plan().header.summary == {"insert": 0, "update": 0, "delete": 1}


def test_with_all_that_depends_on_it(bench: Bench) -> None:
    """Children go by ON DELETE CASCADE and come back with their parents, a table that points at itself among them."""
    bench.production.sql(
        LOG
        + "CREATE TABLE p (id int PRIMARY KEY, up int REFERENCES p ON DELETE CASCADE);"
        + "CREATE TABLE c (id int PRIMARY KEY, p int NOT NULL REFERENCES p ON DELETE CASCADE);"
        + "CALL audit_table('p', 'all', 'id'); CALL audit_table('c', 'all', 'id');"
        + "SET audit.now = '2001-01-01Z'; INSERT INTO p VALUES (1, NULL), (2, 1), (3, 2), (9, NULL);"
        + "INSERT INTO c SELECT g, 1 + g % 3 FROM generate_series(1, 30) g; RESET audit.now"
    )
    before = bench.production.dump("public.p", "public.c")
    bench.production.sql("DELETE FROM p WHERE id = 1")
    bench.write(
        "all: { into: production, source: { audit: production.audit_log, as_of: '2001-01-02' }, roots: { p: id = 1 }, follow: dependents }"
    )
    plan = bench.plan()
    assert plan.header.summary == {"insert": 33, "update": 0, "delete": 0}
    assert bench.apply(plan).converged
    assert bench.production.dump("public.p", "public.c") == before


def test_a_column_that_came_later_takes_its_default(audited: Bench) -> None:
    audited.production.sql(
        "DELETE FROM t WHERE id = 1; ALTER TABLE t ADD flag text NOT NULL DEFAULT 'no', DROP note; DELETE FROM t WHERE id = 2"
    )
    past(audited)
    audited.apply(audited.plan())
    assert audited.production.sql("SELECT * FROM t WHERE id <= 2 ORDER BY id") == [(1, "n1", "no"), (2, "n2", "no")]


def test_what_a_log_cannot_answer_is_an_error(audited: Bench) -> None:
    past(audited, moment="1999-01-01")
    assert "does not reach back" in refused(audited).what
    past(audited, moment="2999-01-01")
    assert "in the future" in refused(audited).what
    past(audited, moment="never")
    assert "as_of does not fit" in refused(audited).what
    audited.production.sql(
        "UPDATE t SET note = 'x' WHERE id = 7; ALTER TABLE t DISABLE TRIGGER USER; DELETE FROM t WHERE id = 7; ALTER TABLE t ENABLE TRIGGER USER"
    )
    past(audited)
    assert "1 rows of public.t cannot be put together" in refused(audited).what
    audited.production.sql("TRUNCATE t")
    assert "was truncated" in refused(audited).what


def test_keys_that_one_statement_hands_on_are_not_guessed(audited: Bench) -> None:
    audited.production.sql("UPDATE t SET id = 1000 WHERE id = 7")
    past(audited)
    assert "1 rows of public.t cannot be put together" in refused(audited).what
    audited.production.sql("DROP TRIGGER audit_update ON t; CREATE TRIGGER audit_update AFTER UPDATE ON t REFERENCING OLD TABLE AS old_rows"
                           " NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION audit_statement('all', 'id')")  # fmt: skip
    rows = (
        "TRUNCATE t; TRUNCATE audit_log; SET audit.now = '2001-01-01Z';"
        " INSERT INTO t SELECT 10 * g FROM generate_series(1, 3) g; RESET audit.now; "
    )
    past(audited, rest=", on_extra: delete, max_delete: 100%, allow: [R001]")
    audited.production.sql(rows + "UPDATE t SET id = id + 1")
    assert audited.plan().header.summary == {"insert": 3, "update": 0, "delete": 3}
    audited.production.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id) DEFERRABLE")
    audited.production.sql(rows + "UPDATE t SET id = id + 10")
    assert "2 rows of public.t cannot be put together" in refused(audited).what


def test_a_trigger_that_is_missing_now_is_told(audited: Bench) -> None:
    audited.production.sql(
        "DELETE FROM t WHERE id = 1; DROP TRIGGER audit_update ON t; DROP TRIGGER audit_truncate ON t"
    )
    past(audited)
    (told,) = [it.text for it in audited.plan().header.hazards if "records" in it.text]
    assert told.startswith("no trigger records UPDATE, TRUNCATE of public.t")


def test_sensitive_columns_are_read_from_the_log_again(audited: Bench) -> None:
    audited.environ["RECONCILER_DIGEST_KEY"] = "key"
    audited.production.sql("UPDATE t SET note = 'secret' WHERE id = 1")
    audited.production.sql("DELETE FROM t WHERE id = 1")
    past(
        audited,
        ", sensitive: [note]",
        moment=str(
            audited.production.sql("SELECT max(statement_at) FILTER (WHERE operation = 'UPDATE')::text FROM audit_log")[
                0
            ][0]
        ),
    )
    plan = audited.plan()
    assert b"secret" not in plan.path.read_bytes()
    assert audited.apply(plan).converged
    assert audited.production.sql("SELECT note FROM t WHERE id = 1") == [("secret",)]
