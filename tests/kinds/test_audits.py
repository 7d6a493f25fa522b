"""Audits: every change leaves a record, whoever makes it and however; planned, found again, repaired, taken back."""

from __future__ import annotations

import shutil
from typing import Any

import psycopg
import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, summary
from tests.views.test_sql import refuse, succeed

_OBJECTS = """
SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') FROM pg_proc p
 JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_|^information_schema$'
UNION ALL SELECT c.relkind::text, c.oid::regclass::text, concat_ws(' ', a.columns, g.grants, pg_get_expr(c.relpartbound, c.oid),
  pg_get_partkeydef(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || attnotnull || attidentity::text, ', '
   ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a (columns)
 CROSS JOIN LATERAL (SELECT string_agg(x.grantee || x.privilege_type, ',' ORDER BY x.grantee, x.privilege_type) FROM aclexplode(c.relacl) x
   WHERE x.grantee <> c.relowner) g (grants) WHERE n.nspname !~ '^pg_|^information_schema$'
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger
 WHERE NOT tgisinternal
ORDER BY 1, 2
"""
_IMAGES = """
CREATE TABLE images (id int PRIMARY KEY, path text NOT NULL, size int);
CREATE TABLE thumbs (id int PRIMARY KEY, image int REFERENCES images ON DELETE CASCADE, path text);
INSERT INTO images VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);
INSERT INTO thumbs VALUES (10, 1, 'x'), (20, 2, 'y');
"""
_BOTH = "audits:\n  mine: { tables: [production.images, production.thumbs], log: production.audit_log }\n"


class Audits(Bench):
    def objects(self) -> list[tuple[str, ...]]:
        return self.production.sql(_OBJECTS)

    def records(
        self, columns: str = "operation, table_name, key, old, new", log: str = "audit_log"
    ) -> list[tuple[Any, ...]]:
        return self.production.sql(f"SELECT {columns} FROM {log} ORDER BY id")

    def installed(self, spec: str = _BOTH) -> Plan:
        self.spec(spec)
        plan = self.plan()
        assert self.apply(plan).code is Exit.DONE
        return plan

    def whole_law(self, spec: str) -> Plan:
        """plan writes nothing → apply → plan is empty → again: all already → undo: as it was → apply: as it was to be."""
        self.spec(spec)
        before = self.objects()
        plan = self.plan()
        assert self.plan().path.read_bytes() == plan.path.read_bytes()
        assert self.objects() == before
        applied = self.apply(plan)
        assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
        assert counted(applied) == (plan.changes_count, 0)
        after = self.objects()
        assert summary(self.plan()) == {}
        assert counted(self.apply(plan)) == (0, plan.changes_count)
        assert self.objects() == after
        back = self.undo(plan)
        undone = self.apply(back)
        assert (undone.code, undone.converged, undone.remaining) == (Exit.DONE, True, ())
        assert self.objects() == before
        assert counted(self.apply(back)) == (0, plan.changes_count)
        assert counted(self.apply(self.undo(back))) == (plan.changes_count, 0)
        assert self.objects() == after
        return plan


def counted(applied: app.Applied) -> tuple[int, int]:
    return sum(step.applied for step in applied.steps), sum(step.already for step in applied.steps)


@pytest.fixture
def bench(bench: Bench) -> Audits:
    bench.production.sql(_IMAGES)
    return Audits(bench.folder, bench.production, bench.backup)


@pytest.mark.each_postgres
def test_an_audit_is_planned_applied_found_again_and_taken_back(bench: Audits) -> None:
    plan = bench.whole_law(_BOTH)
    targets = [step.target for step in plan.steps]
    assert targets[0] == "audit log public.audit_log"
    assert targets[-4:] == [
        f"audit trigger public.thumbs.reconciler_audit_{e}" for e in ("insert", "update", "delete", "truncate")
    ]
    assert sum(target.startswith("audit partition") for target in targets) == 5


@pytest.mark.each_postgres
def test_every_kind_of_write_leaves_a_record(bench: Audits) -> None:
    bench.installed()
    bench.production.sql("INSERT INTO images VALUES (4, 'd', NULL), (5, 'e', 5)")
    bench.production.sql("UPDATE images SET size = size + 1 WHERE id IN (1, 5)")
    bench.production.sql("DELETE FROM images WHERE id IN (1, 3)")
    bench.production.sql("TRUNCATE thumbs")
    bench.production.sql("TRUNCATE thumbs")
    assert bench.records() == [
        ("INSERT", "images", {"id": 4}, None, {"id": 4, "path": "d", "size": None}),
        ("INSERT", "images", {"id": 5}, None, {"id": 5, "path": "e", "size": 5}),
        ("UPDATE", "images", {"id": 1}, {"id": 1, "path": "a", "size": 1}, {"id": 1, "path": "a", "size": 2}),
        ("UPDATE", "images", {"id": 5}, {"id": 5, "path": "e", "size": 5}, {"id": 5, "path": "e", "size": 6}),
        ("DELETE", "images", {"id": 1}, {"id": 1, "path": "a", "size": 2}, None),
        ("DELETE", "images", {"id": 3}, {"id": 3, "path": "c", "size": 3}, None),
        ("DELETE", "thumbs", {"id": 10}, {"id": 10, "image": 1, "path": "x"}, None),
        ("TRUNCATE", "thumbs", {"id": 20}, {"id": 20, "image": 2, "path": "y"}, None),
        ("TRUNCATE", "thumbs", None, None, None),
    ]  # fmt: skip
    (who,) = bench.production.sql("SELECT DISTINCT role, host(client_addr), query, plan_id, allowed FROM audit_log")
    assert who == ("postgres", "127.0.0.1", None, None, None)


@pytest.mark.each_postgres
def test_upserts_merges_copies_and_moved_keys_are_recorded(bench: Audits) -> None:
    bench.installed()
    bench.production.sql(
        "INSERT INTO images VALUES (3, 'new', 0), (4, 'd', 4) ON CONFLICT (id) DO UPDATE SET path = excluded.path"
    )
    bench.production.sql(
        "MERGE INTO images i USING (VALUES (2, 'm'), (9, 'n')) v (id, path) ON v.id = i.id"
        " WHEN MATCHED THEN UPDATE SET path = v.path WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.path, 0)"
    )
    with bench.production.connect() as session, session.cursor().copy("COPY images FROM STDIN") as copy:
        copy.write("11\tcopied\t\\N\n")
    bench.production.sql("UPDATE images SET id = id + 100 WHERE id IN (3, 4)")
    bench.production.sql("UPDATE images SET size = 7 WHERE false")
    assert bench.records("operation, key, old ->> 'path', new ->> 'path', new ->> 'id'") == [
        ("UPDATE", {"id": 3}, "c", "new", "3"),
        ("INSERT", {"id": 4}, None, "d", "4"),
        ("UPDATE", {"id": 2}, "b", "m", "2"),
        ("INSERT", {"id": 9}, None, "n", "9"),
        ("INSERT", {"id": 11}, None, "copied", "11"),
        ("UPDATE", {"id": 3}, "new", "new", "103"),
        ("UPDATE", {"id": 4}, "d", "d", "104"),
    ]


def test_a_large_update_that_moves_every_key_pairs_old_with_new(bench: Audits) -> None:
    bench.production.sql("INSERT INTO images SELECT n, 'p' || n, n FROM generate_series(100, 5099) n")
    bench.installed()
    bench.production.sql("UPDATE images SET id = 20000 - id WHERE id >= 100")
    wrong = bench.production.sql(
        "SELECT count(*), count(*) FILTER (WHERE old ->> 'path' <> new ->> 'path'"
        " OR (old ->> 'id')::int + (new ->> 'id')::int <> 20000) FROM audit_log"
    )
    assert wrong == [(5000, 0)]


@pytest.mark.each_postgres
def test_only_what_changed_or_only_some_columns(bench: Audits) -> None:
    bench.installed(
        "audits:\n"
        "  a: { tables: [production.images], log: production.audit_log, columns: changed, query: keep }\n"
        "  b: { tables: [production.thumbs], log: production.audit_log, columns: [path] }\n"
    )
    bench.production.sql("UPDATE images SET size = NULL WHERE id = 1")
    bench.production.sql("UPDATE images SET size = size WHERE id = 2")
    bench.production.sql("UPDATE thumbs SET image = NULL WHERE id = 10")
    bench.production.sql("DELETE FROM images WHERE id = 3")
    assert bench.records("table_name, key, old, new, query") == [
        ("images", {"id": 1}, {"size": 1}, {"size": None}, "UPDATE images SET size = NULL WHERE id = 1"),
        ("images", {"id": 2}, {}, {}, "UPDATE images SET size = size WHERE id = 2"),
        ("thumbs", {"id": 10}, {"id": 10, "path": "x"}, {"id": 10, "path": "x"}, None),
        ("images", {"id": 3}, {"id": 3, "path": "c", "size": 3}, None, "DELETE FROM images WHERE id = 3"),
    ]
    assert summary(bench.plan()) == {}


@pytest.mark.each_postgres
def test_sensitive_columns_never_reach_the_log(bench: Audits) -> None:
    bench.production.sql("CREATE TABLE people (id int PRIMARY KEY, email text, note text)")
    bench.backup.sql("CREATE TABLE people (id int PRIMARY KEY, email text, note text)")
    bench.environ["RECONCILER_DIGEST_KEY"] = "k" * 32
    bench.installed(
        "audits: { a: { tables: [production.people, production.images], log: production.audit_log, sensitive: [path] } }\n"
        "collections: { people: { table: production.people, source: backup, sensitive: [email] } }\n"
    )
    bench.production.sql(
        "INSERT INTO people VALUES (1, 'canary@x', 'n'); UPDATE people SET email = 'canary@y'; TRUNCATE people"
    )
    bench.production.sql("UPDATE images SET path = 'canary' WHERE id = 1")
    assert bench.records("operation, old, new")[:2] == [
        ("INSERT", None, {"id": 1, "note": "n"}),
        ("UPDATE", {"id": 1, "note": "n"}, {"id": 1, "note": "n"}),
    ]
    assert bench.production.sql("SELECT count(*) FROM audit_log l WHERE l::text LIKE '%canary%'") == [(0,)]


@pytest.mark.each_postgres
def test_writers_need_no_right_on_the_log_and_cannot_touch_it(bench: Audits) -> None:
    bench.production.sql(
        "CREATE ROLE rc_writer LOGIN; GRANT ALL ON images, thumbs TO rc_writer;"
        " ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO rc_writer; ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO rc_writer;"
        " GRANT CREATE ON SCHEMA public TO rc_writer"
    )
    try:
        bench.installed()
        with bench.production.connect() as session:
            session.execute("SET ROLE rc_writer")
            session.execute("CREATE TABLE mine (id int)")
            session.execute("UPDATE images SET size = 9 WHERE id = 1")
            (partition,) = session.execute(
                "SELECT tableoid::regclass::text FROM audit_log"
                if False
                else "SELECT c.relname FROM pg_inherits i JOIN pg_class c"
                " ON c.oid = i.inhrelid WHERE i.inhparent = 'audit_log'::regclass ORDER BY 1 LIMIT 1"
            ).fetchone() or ("",)
            for statement in (
                "DELETE FROM audit_log", "UPDATE audit_log SET role = 'x'", "TRUNCATE audit_log", f"DELETE FROM {partition}",
                "INSERT INTO audit_log (tx_id, statement_at, table_schema, table_name, operation, role) VALUES (1, now(), 'a', 'b', 'c', 'd')",
                "CREATE TRIGGER t AFTER DELETE ON mine REFERENCING OLD TABLE AS old_rows EXECUTE FUNCTION reconciler_audit_images()",
            ):  # fmt: skip
                with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                    session.execute(statement.encode())
            session.execute("RESET ROLE")
            session.commit()
        assert bench.records("operation, role") == [("UPDATE", "rc_writer")]
        assert summary(bench.plan()) == {}
        bench.production.sql("GRANT DELETE ON audit_log TO rc_writer")
        plan = bench.plan()
        assert list(summary(plan)) == ["audits.mine[audit log public.audit_log]/alter"]
        assert list(plan.reasons(plan.steps[0])) == ["others have rights on it"]
        assert bench.apply(plan).code is Exit.DONE
        assert bench.apply(bench.undo(plan)).code is Exit.DONE
        assert bench.production.sql("SELECT has_table_privilege('rc_writer', 'audit_log', 'DELETE')") == [(True,)]
    finally:
        bench.production.sql("DROP OWNED BY rc_writer; DROP ROLE rc_writer")


_OTHER = (
    "CREATE OR REPLACE FUNCTION reconciler_audit_thumbs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
)


@pytest.mark.parametrize(
    ("harm", "steps"),
    [
        (
            f"""DROP TRIGGER reconciler_audit_delete ON images; ALTER TABLE images DISABLE TRIGGER reconciler_audit_update;
            ALTER TABLE images ENABLE REPLICA TRIGGER reconciler_audit_insert; DROP INDEX audit_log_key_idx; {_OTHER};
            CREATE OR REPLACE TRIGGER reconciler_audit_delete AFTER DELETE ON thumbs REFERENCING OLD TABLE AS other
            EXECUTE FUNCTION reconciler_audit_thumbs(); ALTER FUNCTION reconciler_audit_images() SECURITY INVOKER""",
            [
                "audit index public.audit_log_key_idx]/create",
                "audit function public.reconciler_audit_images()]/alter",
                "audit trigger public.images.reconciler_audit_insert]/alter",
                "audit trigger public.images.reconciler_audit_update]/alter",
                "audit trigger public.images.reconciler_audit_delete]/create",
                "audit function public.reconciler_audit_thumbs()]/alter",
                "audit trigger public.thumbs.reconciler_audit_delete]/alter",
            ],
        ),
        (
            """DROP FUNCTION reconciler_audit_images() CASCADE; ALTER FUNCTION reconciler_audit_thumbs() RESET search_path;
            GRANT EXECUTE ON FUNCTION reconciler_audit_thumbs() TO PUBLIC""",
            [
                "audit function public.reconciler_audit_images()]/create",
                *(f"audit trigger public.images.reconciler_audit_{e}]/create" for e in ("insert", "update", "delete", "truncate")),
                "audit function public.reconciler_audit_thumbs()]/alter",
            ],
        ),
        ("DROP TABLE audit_log_rest", ["audit partition public.audit_log_rest]/create"]),
        ("DROP TABLE audit_log CASCADE", ["audit log public.audit_log]/create"]),
    ],
    ids=["triggers", "functions", "partition", "log"],
)  # fmt: skip
def test_what_was_done_to_an_audit_by_hand_is_told_and_repaired(bench: Audits, harm: str, steps: list[str]) -> None:
    bench.installed()
    whole = bench.objects()
    bench.production.sql(harm)
    harmed = bench.objects()
    (told,) = app.status(bench.session())
    assert told.differs
    plan = bench.plan()
    assert [one.id.removeprefix("audits.mine[") for one in plan.steps][: len(steps)] == steps
    assert bench.apply(plan).code is Exit.DONE
    assert bench.objects() == whole
    bench.production.sql("DELETE FROM images WHERE id = 3")
    assert bench.records("operation, key") == [("DELETE", {"id": 3})]
    bench.production.sql("TRUNCATE audit_log")
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    if "DROP TABLE" not in harm:  # a log that is written to stays whole
        assert bench.objects() == harmed
    bench.production.sql("DELETE FROM thumbs")


def test_harm_between_plan_and_apply_is_drift(bench: Audits) -> None:
    bench.installed()
    bench.production.sql("ALTER TABLE images DISABLE TRIGGER reconciler_audit_delete")
    plan = bench.plan()
    bench.production.sql("ALTER TABLE images ENABLE ALWAYS TRIGGER reconciler_audit_delete")
    with pytest.raises(Drift) as caught:
        bench.apply(plan)
    assert "reconciler_audit_delete" in caught.value.details[0]


@pytest.mark.each_postgres
def test_columns_that_come_and_go_fail_no_writer(bench: Audits) -> None:
    bench.installed("audits: { a: { tables: [production.images], log: production.audit_log, columns: [path] } }")
    with bench.production.connect() as session:
        session.autocommit = True
        session.execute("UPDATE images SET size = 1 WHERE id = 1")
        bench.production.sql("ALTER TABLE images ADD COLUMN taken timestamptz, DROP COLUMN path")
        session.execute("UPDATE images SET size = 2 WHERE id = 1")
        bench.production.sql("ALTER TABLE thumbs DROP COLUMN image; ALTER TABLE images RENAME id TO number")
        session.execute("DELETE FROM images WHERE number = 1")
        session.execute("TRUNCATE images")
    assert bench.records("operation, key, old") == [
        ("UPDATE", {"id": 1}, {"id": 1, "path": "a"}),
        ("UPDATE", {"id": 1}, {"id": 1, "path": None}),
        ("DELETE", {"id": None}, {"id": None, "path": None}),
        ("TRUNCATE", {"id": None}, {"id": None, "path": None}),
        ("TRUNCATE", {"id": None}, {"id": None, "path": None}),
    ]
    bench.spec("audits: { a: { tables: [production.images], log: production.audit_log, columns: all } }")
    assert list(summary(bench.plan())) == ["audits.a[audit function public.reconciler_audit_images()]/alter"]
    bench.apply(bench.plan())
    bench.production.sql("INSERT INTO images VALUES (5, 5, '2025-01-02 03:04+02')")
    assert bench.records("key, new")[-1] == (
        {"number": 5},
        {"number": 5, "size": 5, "taken": "2025-01-02T01:04:00+00:00"},
    )


@pytest.mark.each_postgres
def test_values_are_written_the_same_whatever_the_writer_has_set(bench: Audits) -> None:
    bench.production.sql(
        "CREATE TABLE odd (id timestamptz PRIMARY KEY, f float8, b bytea, i interval, r daterange, n numeric, j jsonb, a int[])"
    )
    bench.installed("audits: { a: { tables: [production.odd], log: production.audit_log } }")
    row = "('2025-01-02 03:04:05.678901+02', 0.1::float8 + 0.2, '\\xff00', '1 mon 2 days', '[2025-01-02,2025-01-05)', 1.10, '{\"a\": 1.0}', '{1,2}')"
    settings = ("", "SET TimeZone = 'Asia/Tokyo'; SET extra_float_digits = -5; SET bytea_output = 'escape';"
                " SET IntervalStyle = 'sql_standard'; SET DateStyle = 'SQL, DMY';")  # fmt: skip
    for setting in settings:
        with bench.production.connect() as session:
            session.execute(f"{setting} INSERT INTO odd VALUES {row}; DELETE FROM odd".encode())
    one, *rest = bench.production.sql("SELECT coalesce(old, new)::text, key::text FROM audit_log ORDER BY id")
    assert rest == [one] * 3
    assert bench.production.sql(
        "SELECT count(*) FROM (SELECT (jsonb_populate_record(NULL::odd, new)).* FROM audit_log) x WHERE f = 0.1::float8 + 0.2"
    ) == [(2,)]


@pytest.mark.each_postgres
def test_tables_with_odd_names_long_names_and_without_a_key(bench: Audits) -> None:
    long = "t" * 63
    bench.production.sql(
        f"""CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."Big Table" ("Id" int, o int, "r%s" text, "it's" int, PRIMARY KEY ("Id", "it's"));
        CREATE TABLE {long} (new_rows int, a int); CREATE TABLE {long[:-1]}u (a int);
        CREATE TABLE uniq (a int NOT NULL UNIQUE, this_tx text)"""
    )
    plan = bench.whole_law(
        f"""
        audits:
          odd:
            tables: ['production."My Schema"."Big Table"', production.{long}, production.{long[:-1]}u, production.uniq]
            log: 'production."My Schema"."The Log"'
        """
    )
    names = {step.target.rpartition(".")[2] for step in plan.steps if "function" in step.target}
    assert len(names) == 4
    bench.production.sql(
        f"""INSERT INTO "My Schema"."Big Table" VALUES (1, 2, '%I', 3); UPDATE "My Schema"."Big Table" SET o = 3;
        TRUNCATE "My Schema"."Big Table"; INSERT INTO {long} VALUES (1, 2); UPDATE {long} SET a = 3; DELETE FROM {long};
        INSERT INTO {long[:-1]}u VALUES (1); INSERT INTO uniq VALUES (7, 'x'); TRUNCATE uniq"""
    )
    found = bench.records("table_schema, table_name, operation, key, coalesce(new, old)", '"My Schema"."The Log"')
    image = {"Id": 1, "o": 3, "r%s": "%I", "it's": 3}
    assert found == [
        ("My Schema", "Big Table", "INSERT", {"Id": 1, "it's": 3}, {**image, "o": 2}),
        ("My Schema", "Big Table", "UPDATE", {"Id": 1, "it's": 3}, image),
        ("My Schema", "Big Table", "TRUNCATE", {"Id": 1, "it's": 3}, image),
        ("public", long, "INSERT", None, {"new_rows": 1, "a": 2}),
        ("public", long, "UPDATE", None, {"new_rows": 1, "a": 3}),
        ("public", long, "DELETE", None, {"new_rows": 1, "a": 3}),
        ("public", f"{long[:-1]}u", "INSERT", None, {"a": 1}),
        ("public", "uniq", "INSERT", {"a": 7}, {"a": 7, "this_tx": "x"}),
        ("public", "uniq", "TRUNCATE", {"a": 7}, {"a": 7, "this_tx": "x"}),
    ]


@pytest.mark.each_postgres
def test_partitions_are_audited_under_the_name_of_their_table(bench: Audits) -> None:
    bench.production.sql(
        "CREATE TABLE parted (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');"
        " CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2025-02-01') TO ('2025-03-01') PARTITION BY HASH (id);"
        " CREATE TABLE parted_2a PARTITION OF parted_2 FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    )
    bench.whole_law("audits: { a: { tables: [production.parted], log: production.audit_log } }")
    bench.production.sql(
        "INSERT INTO parted VALUES (1, '2025-01-05'), (2, '2025-02-05'); UPDATE parted SET at = '2025-02-06' WHERE id = 1;"
        " DELETE FROM parted_2a WHERE id = 2; INSERT INTO parted_1 VALUES (3, '2025-01-09'); TRUNCATE parted_1"
    )
    assert bench.records("table_name, operation, key ->> 'id', old ->> 'at', new ->> 'at'") == [
        ("parted", "INSERT", "1", None, "2025-01-05"),
        ("parted", "INSERT", "2", None, "2025-02-05"),
        ("parted", "UPDATE", "1", "2025-01-05", "2025-02-06"),
        ("parted", "DELETE", "2", "2025-02-05", None),
        ("parted", "INSERT", "3", None, "2025-01-09"),
        ("parted", "TRUNCATE", "3", "2025-01-09", None),
    ]
    bench.production.sql("CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2025-03-01') TO ('2025-04-01')")
    assert len(summary(bench.plan())) == 4
    assert bench.apply(bench.plan()).code is Exit.DONE


def test_months_are_made_ahead_and_old_ones_go_under_plan(bench: Audits) -> None:
    spec = "audits: { a: { tables: [production.images], log: production.audit_log, keep: 400d } }"
    bench.installed(spec)
    bench.production.sql(
        "DELETE FROM images WHERE id = 3; UPDATE audit_log SET statement_at = now() + interval '10 months'"
    )
    assert bench.production.sql("SELECT tableoid::regclass::text FROM audit_log") == [("audit_log_rest",)]

    def plan_at(now: str) -> Plan:
        return app.plan(bench.session(), out=bench.folder / "later.plan.jsonl", now=now)

    plan = plan_at("now")
    (stray,) = [step.target for step in plan.steps]
    assert bench.apply(plan).code is Exit.DONE
    assert bench.production.sql("SELECT 'audit partition public.' || tableoid::regclass FROM audit_log") == [(stray,)]
    month = bench.production.sql("SELECT to_char(now() + interval '2 months', 'YYYY-MM-15')")[0][0]
    assert summary(plan_at(month)) == {}
    month = bench.production.sql("SELECT to_char(now() + interval '3 months', 'YYYY-MM-15')")[0][0]
    assert list(summary(plan_at(month)).values()) == [1, 1, 1]
    month = bench.production.sql("SELECT to_char(now() + interval '30 months', 'YYYY-MM-15')")[0][0]
    plan = plan_at(month)
    dropped = [step for step in plan.steps if step.verb.value == "drop"]
    assert len(dropped) == 5
    assert [
        hazard.text for hazard in plan.header.hazards if hazard.kind == "irreversible" and "1 records" in hazard.text
    ]
    bench.apply(plan)
    assert bench.records() == []
    assert not [step for step in bench.undo(plan).steps if step.target in {it.target for it in dropped}]


def test_what_our_own_apply_writes_names_its_plan(bench: Audits) -> None:
    bench.backup.sql(_IMAGES)
    bench.backup.sql("UPDATE images SET size = 77 WHERE id = 2; INSERT INTO images VALUES (8, 'h', 8)")
    bench.spec(_BOTH + "collections: { images: { table: production.images, source: backup, triggers: 'off' } }")
    plan = bench.plan()
    assert bench.apply(plan).code is Exit.DONE
    assert bench.records("operation, key, plan_id, application_name") == [
        ("INSERT", {"id": 8}, plan.id, f"reconciler/{plan.id}"),
        ("UPDATE", {"id": 2}, plan.id, f"reconciler/{plan.id}"),
    ]
    back = bench.undo(plan)
    undone = bench.apply(back)
    assert (undone.code, undone.converged) == (Exit.DONE, True)
    assert any("holds records and is left" in note for note in undone.notes)
    assert len(bench.records()) == 4
    assert bench.production.sql("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^reconciler'") == [(0,)]
    assert bench.apply(bench.undo(back)).code is Exit.DONE


def test_triggers_off_silences_neither_audit_nor_guard(bench: Audits) -> None:
    bench.backup.sql(_IMAGES)
    bench.installed()
    bench.production.sql(
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'loud'; END$$;"
        " CREATE TRIGGER loud BEFORE UPDATE ON images FOR EACH ROW EXECUTE FUNCTION loud()"
    )
    bench.backup.sql("UPDATE images SET size = 77 WHERE id = 2")
    bench.spec(_BOTH + "collections: { images: { table: production.images, source: backup, triggers: 'off' } }")
    assert bench.apply(bench.plan()).code is Exit.DONE
    assert bench.records("operation, key") == [("UPDATE", {"id": 2})]


@pytest.mark.each_postgres
def test_to_remove_an_audit_takes_a_word_and_leaves_a_log_with_records(bench: Audits) -> None:
    before = bench.objects()
    bench.installed()
    bench.spec("")
    assert summary(bench.plan()) == {}
    assert len(bench.production.sql("SELECT FROM pg_trigger WHERE tgname ~ '^reconciler'")) == 8
    bench.production.sql("DELETE FROM images WHERE id = 3")
    bench.spec(_BOTH.replace(" }", ", remove: true }"))
    plan = bench.plan()
    assert len(plan.steps) == 10
    (told,) = app.status(bench.session())
    assert (told.missing, told.changed, told.extra) == (0, 0, 10)
    assert bench.apply(plan).code is Exit.DONE
    assert len(bench.records()) == 1
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    bench.production.sql("DELETE FROM images WHERE id = 2")
    assert len(bench.records()) == 3
    bench.spec(_BOTH.replace(" }", ", remove: with_log }"))
    plan = bench.plan()
    assert sum(hazard.kind == "irreversible" for hazard in plan.header.hazards) == 8
    assert bench.apply(plan).code is Exit.DONE
    assert bench.objects() == before


def test_two_audits_share_a_log_and_go_together(bench: Audits) -> None:
    before = bench.objects()
    spec = (
        "audits:\n  a: { tables: [production.images], log: production.audit_log }\n"
        "  b: { tables: [production.thumbs], log: production.audit_log }\n"
    )
    bench.whole_law(spec)
    bench.spec(spec.replace("log }", "log, remove: true }", 1))
    one = bench.plan()
    assert bench.apply(one).code is Exit.DONE
    bench.production.sql("DELETE FROM thumbs")
    assert len(bench.records()) == 2
    bench.production.sql("TRUNCATE audit_log")
    bench.apply(bench.undo(one))
    bench.spec(spec.replace("log }", "log, remove: true }"))
    assert bench.apply(bench.plan()).code is Exit.DONE
    assert bench.objects() == before


@pytest.mark.parametrize(
    ("setup", "spec", "told"),
    [
        ("CREATE TABLE audit_log (id int)", "log: production.audit_log", "is no log that this program made"),
        ("", "log: production.nowhere.audit_log", "there is no schema nowhere"),
        ("", "log: production.audit_log, columns: [nope]", "has no column 'nope'"),
        ("", "log: production.audit_log, sensitive: [nope]", "has a column 'nope'"),
        ("", "log: production.audit_log, sensitive: [id]", "part of the key"),
    ],
)
def test_what_cannot_be_audited_is_told(bench: Audits, setup: str, spec: str, told: str) -> None:
    if setup:
        bench.production.sql(setup)
    bench.spec(f"audits: {{ a: {{ tables: [production.images], {spec} }} }}")
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert told in caught.value.what


@pytest.mark.each_postgres
@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql to run the scripts with")
def test_a_script_does_what_apply_does(bench: Audits) -> None:
    before = bench.objects()
    spec = _BOTH + "guards: { g: { table: production.images, max_rows_per_delete: 1, protect: 'size = 1' } }\n"
    bench.spec(spec)
    first = bench.plan()
    succeed(bench.production.dsn, first)
    assert summary(bench.plan()) == {}
    after = bench.objects()
    succeed(bench.production.dsn, first)
    assert bench.objects() == after
    bench.production.sql(
        "ALTER TABLE images DISABLE TRIGGER reconciler_audit_delete; GRANT DELETE ON audit_log TO pg_monitor; DROP INDEX audit_log_key_idx"
    )
    harmed = bench.objects()
    plan = bench.plan()
    succeed(bench.production.dsn, plan)
    assert bench.objects() == after
    succeed(bench.production.dsn, bench.undo(plan))
    assert bench.objects() == harmed
    succeed(bench.production.dsn, plan)
    bench.backup.sql(_IMAGES + "DELETE FROM thumbs; DELETE FROM images")
    bench.spec(spec + "collections: { i: { table: production.images, source: backup, on_extra: delete, max_delete: 9, triggers: 'off' },"
               " t: { table: production.thumbs, source: backup, on_extra: delete, max_delete: 9 } }")  # fmt: skip
    bench.backup.sql("INSERT INTO images VALUES (9, 'n', 9); INSERT INTO thumbs VALUES (90, 9, 'z')")
    rows = bench.plan()
    succeed(bench.production.dsn, rows)
    counts = "SELECT operation, count(*) FROM audit_log GROUP BY 1 ORDER BY 1"
    assert bench.production.sql(counts) == [("DELETE", 5), ("INSERT", 2)]
    bench.production.sql("UPDATE audit_log SET statement_at = now() + interval '10 months'")
    bench.spec(spec)
    succeed(bench.production.dsn, bench.plan())
    assert bench.production.sql("SELECT DISTINCT tableoid::regclass::text <> 'audit_log_rest' FROM audit_log") == [
        (True,)
    ]
    bench.production.sql("ALTER TABLE images DISABLE TRIGGER reconciler_audit_insert")
    assert "drift: audit trigger public.images.reconciler_audit_insert" in refuse(bench.production.dsn, first)
    bench.production.sql("ALTER TABLE images ENABLE TRIGGER reconciler_audit_insert")
    succeed(bench.production.dsn, bench.undo(first))
    assert len(bench.records()) == 7
    succeed(bench.production.dsn, first)
    bench.production.sql("TRUNCATE audit_log")
    bench.spec(
        "audits: { mine: { tables: [production.images, production.thumbs], log: production.audit_log, remove: true } }\n"
        "guards: { g: { table: production.images, remove: true } }"
    )
    succeed(bench.production.dsn, bench.plan())
    assert bench.objects() == before


def test_names_with_signs_of_any_kind(bench: Audits) -> None:
    bench.production.sql(
        """CREATE TABLE "T{}%s" ("k{}%" int PRIMARY KEY, "s{}'" text, "q`" text); INSERT INTO "T{}%s" VALUES (1, 'a', 'b')"""
    )
    bench.whole_law(
        """audits: { a: { tables: ['production."T{}%s"'], log: production.audit_log, sensitive: ["s{}'"] } }\n"""
    )
    bench.production.sql("""UPDATE "T{}%s" SET "q`" = 'z'; TRUNCATE "T{}%s" """)
    assert bench.records("operation, key, old") == [
        ("UPDATE", {"k{}%": 1}, {"k{}%": 1, "q`": "b"}),
        ("TRUNCATE", {"k{}%": 1}, {"k{}%": 1, "q`": "z"}),
    ]
