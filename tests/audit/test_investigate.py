"""What an investigation tells of a log, in any layout, and what it says the log cannot tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import app
from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.investigate import Investigation, Mass
from tests.kinds.bench import Bench

LOG = (Path(__file__).parent / "log.sql").read_text("utf-8")
TABLE = "CREATE TABLE t (id int PRIMARY KEY, path text, thumb text, status text)"

# Layouts of others, as they are installed; each is filled from the same story.
SUPA = """
CREATE SCHEMA audit; CREATE TYPE audit.operation AS ENUM ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE');
CREATE TABLE audit.record_version (id bigserial PRIMARY KEY, record_id uuid, old_record_id uuid,
  op audit.operation NOT NULL,
  ts timestamptz NOT NULL DEFAULT now(), table_oid oid NOT NULL, table_schema name NOT NULL, table_name name NOT NULL,
  record jsonb, old_record jsonb);
INSERT INTO audit.record_version (op, ts, table_oid, table_schema, table_name, record, old_record)
  SELECT operation::audit.operation, statement_at, 't'::regclass, table_schema, table_name, new, old FROM audit_log;
DROP TABLE audit_log;
"""
TRIGGER = """
CREATE EXTENSION hstore; CREATE SCHEMA audit;
CREATE TABLE audit.logged_actions (event_id bigserial PRIMARY KEY, schema_name text NOT NULL, table_name text NOT NULL, relid oid NOT NULL,
  session_user_name text, action_tstamp_tx timestamptz NOT NULL, action_tstamp_stm timestamptz NOT NULL, action_tstamp_clk timestamptz NOT NULL,
  transaction_id bigint, application_name text, client_addr inet, client_port integer, client_query text,
  action text NOT NULL CHECK (action IN ('I', 'D', 'U', 'T')), row_data hstore, changed_fields hstore, statement_only boolean NOT NULL);
INSERT INTO audit.logged_actions (schema_name, table_name, relid, session_user_name, action_tstamp_tx, action_tstamp_stm, action_tstamp_clk,
    transaction_id, application_name, action, row_data, changed_fields, statement_only)
  SELECT table_schema, table_name, 't'::regclass, role, statement_at, statement_at, statement_at, tx_id, application_name, left(operation, 1),
    (SELECT hstore(array_agg(key), array_agg(value)) FROM jsonb_each_text(coalesce(old, new))),
    (SELECT hstore(array_agg(n.key), array_agg(n.value)) FROM jsonb_each_text(new) n
      WHERE old -> n.key IS DISTINCT FROM new -> n.key AND old IS NOT NULL), false
  FROM audit_log;
DROP TABLE audit_log;
"""
REPORT = """
ALTER TABLE audit_log RENAME TO log_of_us;
CREATE TABLE audit_log (id serial PRIMARY KEY, table_name text, operation text, changed_at timestamptz, db_user text, application_name text,
  old_data jsonb, new_data jsonb);
INSERT INTO audit_log (table_name, operation, changed_at, db_user, old_data, new_data)
  SELECT table_name, operation, statement_at, role, old, new FROM log_of_us ORDER BY id;
DROP TABLE log_of_us;
"""
ODD = """
CREATE TABLE who_did_what (n serial, moment timestamp, relation_name text, verb text, was json);
INSERT INTO who_did_what (moment, relation_name, verb, was)
  SELECT statement_at AT TIME ZONE 'UTC', table_name, lower(operation), old FROM audit_log ORDER BY id;
DROP TABLE audit_log;
"""


@pytest.fixture
def story(bench: Bench) -> Bench:
    """3000 rows were there before the log; 1200 without a thumb go at once, 200 of them come back under new ids."""
    bench.production.sql(LOG + TABLE)
    bench.production.sql(
        "INSERT INTO t SELECT g, '/p/' || g, CASE WHEN g > 1200 THEN 'th' END, 'new' FROM generate_series(1, 3000) g"
    )
    bench.production.sql(
        "CALL audit_table('t', 'all', 'id'); SET audit.now = '2025-01-01 10:00Z'; DELETE FROM t WHERE id <= 1200"
    )
    bench.production.sql(
        "SET audit.now = '2025-01-03 12:00Z'; INSERT INTO t SELECT 5000 + g, '/p/' || g FROM generate_series(1, 200) g"
    )
    bench.spec("")
    return bench


def look(bench: Bench, **options: object) -> Investigation:
    return app.investigate(bench.session(), "production", **options)  # pyright: ignore[reportArgumentType]


def deletion(found: Investigation) -> Mass:
    (mass,) = [it for it in found.masses if it.operation == "DELETE"]
    return mass


def check_story(found: Investigation) -> None:
    assert (found.records, found.first) == (1400, "2025-01-01 10:00:00+00")
    mass = deletion(found)
    assert (mass.table, mass.rows, mass.first) == ("public.t", 1200, "2025-01-01 10:00:00+00")
    assert {it.column: it.filled for it in mass.lost} == {"id": 1200, "path": 1200, "status": 1200, "thumb": 0}
    assert [(it.column, it.value) for it in mass.lost if it.value] == [("status", "new")]
    assert mass.again is not None
    assert (mass.again.rows, mass.again.by) == (200, ("path",))


def test_our_own_log(story: Bench) -> None:
    found = look(story)
    check_story(found)
    assert deletion(found).of == 3000
    (recorded,) = found.recorded
    assert recorded.counts == {"INSERT": 200, "DELETE": 1200}
    assert (recorded.never, recorded.without_trigger, recorded.without_insert) == (("UPDATE",), (), 1800)
    assert [(it.first, it.length) for it in found.silences] == [("2025-01-01 10:00:00+00", "2 days 02:00:00")]
    assert deletion(found).role == "postgres"


@pytest.mark.parametrize(
    ("layout", "name"),
    [(SUPA, "supa_audit"), (TRIGGER, "2ndQuadrant audit-trigger"), (REPORT, "columns by their usual names")],
)
def test_logs_of_others_tell_the_same(story: Bench, layout: str, name: str) -> None:
    story.production.sql(layout)
    found = look(story)
    assert found.layout == name
    check_story(found)


@pytest.mark.parametrize(
    ("layout", "log", "at", "new"),
    [
        (SUPA, "audit.record_version", "ts", "record"),
        (TRIGGER, "audit.logged_actions", "action_tstamp_stm", "row_data"),
        (REPORT, "audit_log", "changed_at", "new_data"),
    ],
)
def test_logs_of_others_are_a_source_too(story: Bench, layout: str, log: str, at: str, new: str) -> None:
    story.production.sql("ALTER TABLE t DISABLE TRIGGER USER")
    story.production.sql(layout)
    story.production.sql(f"UPDATE {log} SET {at} = '2024-01-01' WHERE {new} -> 'id' = '5001'")
    story.write(f"t: {{ table: production.t, source: {{ audit: production.{log}, as_of: '2025-01-01 09:00Z' }} }}")
    plan = story.plan()
    assert plan.header.summary == {"insert": 1200, "update": 0, "delete": 0}
    story.apply(plan)
    assert story.production.sql("SELECT count(*), count(thumb), count(status) FROM t WHERE id <= 3000") == [
        (3000, 1800, 3000)
    ]


def test_a_map_of_columns(story: Bench) -> None:
    story.production.sql(ODD)
    with pytest.raises(ReconcilerError, match="no table that looks like an audit log"):
        look(story)
    with pytest.raises(ReconcilerError, match="cannot be read as an audit log"):
        look(story, log="who_did_what")
    found = look(
        story,
        log="who_did_what",
        columns={"at": "moment", "table": "relation_name", "operation": "verb", "old": "was", "id": "n"},
    )
    assert deletion(found).rows == 1200
    assert "the log does not say who" in found.notes


def test_since_a_moment(story: Bench) -> None:
    found = look(story, since="2025-01-02")
    assert (found.records, [it.operation for it in found.masses]) == (200, ["INSERT"])
    with pytest.raises(ReconcilerError, match="--since does not fit"):
        look(story, since="x")


def test_shares_updates_bursts_and_jobs(bench: Bench) -> None:
    bench.production.sql(
        LOG
        + TABLE
        + "; CREATE TABLE jobs (id int PRIMARY KEY, job_type text, status text); CREATE TABLE silent (id int)"
    )
    bench.production.sql("CALL audit_table('t', 'changed', 'id'); CALL audit_table('jobs', 'changed', 'id')")
    bench.production.sql(
        "SET audit.now = '2025-01-01Z'; INSERT INTO t SELECT g, 'p', 'th', 'new' FROM generate_series(1, 300) g"
    )
    bench.production.sql("SET audit.now = '2025-01-02Z'; UPDATE t SET thumb = NULL, status = 'old' WHERE id <= 50")
    bench.production.sql(
        "INSERT INTO jobs SELECT g, CASE WHEN g < 4 THEN 'generate_thumbnails' ELSE 'analyze' END,"
        " CASE WHEN g < 6 THEN 'SUCCESS' ELSE 'FAILED' END FROM generate_series(1, 8) g; DELETE FROM jobs"
    )
    bench.production.sql("SET application_name = 'sync'")
    bench.production.sql("""DO $$ BEGIN FOR i IN 1..60 LOOP
        PERFORM set_config('audit.now', ('2025-01-05 10:00Z'::timestamptz + i * interval '0.9 seconds')::text, false);
        UPDATE t SET path = i::text WHERE id BETWEEN 1 AND 10; COMMIT; END LOOP; END $$""")
    bench.production.sql("TRUNCATE t")
    bench.spec("collections: { t: { table: production.t, source: backup, sensitive: [status] } }")
    found = look(bench, rows=250)
    told = {(it.operation, it.rows): it for it in found.masses}
    assert list(told) == [("INSERT", 300), ("UPDATE", 50), ("TRUNCATE", 1)]
    assert [(it.column, it.changed, it.emptied) for it in told["UPDATE", 50].emptied] == [
        ("thumb", 50, 50),
        ("status", 50, 0),
    ]
    (burst,) = found.bursts
    assert (burst.table, burst.operation, burst.rows, burst.transactions, burst.application) == (
        "public.t",
        "UPDATE",
        600,
        60,
        "sync",
    )
    assert [(it.type, it.rows) for it in found.finished] == [("generate_thumbnails", 3), ("analyze", 2)]
    assert [name for name, _ in found.unaudited] == ["public.silent"]


def test_values_of_sensitive_columns_are_not_told(story: Bench) -> None:
    story.spec("collections: { t: { table: production.t, source: backup, sensitive: [status] } }")
    assert [it.value for it in deletion(look(story)).lost] == [None, None, None, None]


def test_it_writes_nothing(story: Bench) -> None:
    before = story.production.dump()
    look(story)
    assert story.production.dump() == before


@pytest.mark.parametrize(
    "loosely",
    [
        REPORT + "UPDATE audit_log SET table_name = 'public.t'",
        REPORT + "ALTER TABLE audit_log ADD table_schema text; UPDATE audit_log SET table_schema = '' WHERE id < 50",
    ],
    ids=["one column for both", "no schema"],
)
def test_logs_that_name_tables_loosely(story: Bench, loosely: str) -> None:
    story.production.sql(loosely)
    found = look(story)
    (recorded,) = found.recorded
    assert recorded.table == "public.t" and recorded.exists and recorded.rows == 2000
    assert sum(recorded.counts.values()) == 1400


def test_records_without_a_time_or_a_table_are_counted(story: Bench) -> None:
    story.production.sql(
        REPORT
        + "INSERT INTO audit_log (table_name, operation, changed_at) VALUES ('t', 'DELETE', NULL), (NULL, 'DELETE', now())"
    )
    found = look(story)
    check_story(found)
    assert "2 records name no time or no table, and are left out" in found.notes


def test_an_empty_log_is_no_error(bench: Bench) -> None:
    bench.production.sql(LOG + TABLE)
    bench.spec("")
    assert look(bench).records == 0
