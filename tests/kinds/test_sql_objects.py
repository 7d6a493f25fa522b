"""Objects of a database, declared by a file of CREATE statements: planned, applied, found again, taken back."""

from __future__ import annotations

from textwrap import dedent

import psycopg
import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, Location, ReconcilerError
from reconciler.plan.file import Plan, planned, write
from reconciler.plan.step import Change, Step, Verb
from tests.kinds.bench import Bench, summary
from tests.pooler import Pooler

_SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
"""

_OBJECTS = """
SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^pg_|^information_schema$' AND p.prokind <> 'a'
UNION ALL SELECT c.relkind::text, c.oid::regclass::text, (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', '
   ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_|^information_schema$'
UNION ALL SELECT 'type', t.oid::regtype::text, t.typtype::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE n.nspname !~ '^pg_|^information_schema$' AND t.typrelid = 0
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'schema', nspname, '' FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL SELECT 'extension', extname, '' FROM pg_extension
ORDER BY 1, 2
"""


class Objects(Bench):
    """A bench whose spec is a file of statements."""

    def declare(self, statements: str, options: str = "", more: str = "") -> None:
        self.file(statements)
        head = f"sql_objects:\n  mine: {{ on: production, file: sql/mine.sql{options} }}\n"
        self.path.write_text(_SPEC + head + dedent(more), "utf-8")

    def file(self, statements: str, name: str = "mine") -> None:
        folder = self.folder / "sql"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.sql").write_bytes(dedent(statements).encode())

    def objects(self) -> list[tuple[str, ...]]:
        return self.production.sql(_OBJECTS)

    def whole_law(self, statements: str, options: str = "") -> Plan:
        """plan writes nothing → apply → plan is empty → again: all already → undo: as it was → apply: as it was to be."""
        self.declare(statements, options)
        before = self.objects()
        plan = self.plan()
        assert self.plan().path.read_bytes() == plan.path.read_bytes()
        assert self.objects() == before
        total = plan.changes_count
        applied = self.apply(plan)
        assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
        assert counted(applied) == (total, 0)
        after = self.objects()
        assert summary(self.plan()) == {}
        assert counted(self.apply(plan)) == (0, total)
        assert self.objects() == after
        back = self.undo(plan)
        undone = self.apply(back)
        assert (undone.code, undone.converged) == (Exit.DONE, True)
        assert self.objects() == before
        assert counted(self.apply(back)) == (0, total)
        assert counted(self.apply(self.undo(back))) == (total, 0)
        assert self.objects() == after
        return plan


def counted(applied: app.Applied) -> tuple[int, int]:
    return sum(step.applied for step in applied.steps), sum(step.already for step in applied.steps)


@pytest.fixture
def bench(bench: Bench) -> Objects:
    return Objects(bench.folder, bench.production, bench.backup)


EVERYTHING = """
-- All kinds there are; each needs those above it.
CREATE SCHEMA app;
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE TYPE app.mood AS ENUM ('fine', 'so; so');
CREATE DOMAIN app.short AS text CHECK (length(VALUE) < 10);
CREATE SEQUENCE app.numbers START 7;
CREATE TABLE app."Things" (
  id int PRIMARY KEY DEFAULT nextval('app.numbers'), mood app.mood NOT NULL, name citext, "Odd name" app.short, parent int REFERENCES app."Things"
);
CREATE UNIQUE INDEX things_by_name ON app."Things" (lower(name::text));
CREATE VIEW app.fine AS SELECT id FROM app."Things" WHERE mood = 'fine';
CREATE MATERIALIZED VIEW counted AS SELECT mood, count(*) AS n FROM app."Things" GROUP BY mood;
CREATE FUNCTION app.mood_of(thing int, OUT mood app.mood, OUT more text[]) LANGUAGE sql STABLE AS $f$
  SELECT mood, ARRAY['a;b'] FROM app."Things" WHERE id = thing /* ; */;
$f$;
CREATE FUNCTION keep_name() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name := ''x''; RETURN NEW; END';
CREATE FUNCTION atomic(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC
  SELECT CASE WHEN a > 1 THEN 1 ELSE 2 END;
  SELECT count(*)::int FROM app."Things";
END;
CREATE PROCEDURE app.reset(a int DEFAULT 3, INOUT b text DEFAULT 'x')
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = app AS $$ BEGIN NULL; END $$;
CREATE TRIGGER keep BEFORE UPDATE OF name ON app."Things" FOR EACH ROW EXECUTE FUNCTION keep_name();
"""


@pytest.mark.each_postgres
def test_every_kind_is_created_found_again_and_taken_back(bench: Objects) -> None:
    plan = bench.whole_law(EVERYTHING)
    assert [step.target for step in plan.steps] == [
        "schema app",
        "extension citext",
        "type app.mood",
        "domain app.short",
        "sequence app.numbers",
        'table app."Things"',
        "index app.things_by_name",
        "view app.fine",
        "materialized view public.counted",
        "function app.mood_of(int)",
        "function public.keep_name()",
        "function public.atomic(int)",
        "procedure app.reset(integer,text)",
        'trigger app."Things".keep',
    ]
    assert {step.verb.value for step in plan.steps} == {"create"}
    assert plan.header.summary["create"] == 14


@pytest.mark.each_postgres
def test_only_what_the_server_tells_apart_is_a_difference(bench: Objects) -> None:
    bench.production.sql(
        """
        CREATE FUNCTION f(a int, b text DEFAULT 'x') RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT a $$;
        CREATE FUNCTION g(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a + 1; END;
        CREATE FUNCTION h() RETURNS timestamptz LANGUAGE sql SET work_mem = '4MB' AS 'SELECT now()';
        """
    )
    bench.declare(
        """
        create   or replace /* same */ function PUBLIC.F ( a  INTEGER, b pg_catalog.text = 'x'::text )
          returns int4 language 'sql' immutable volatile_is_not_written as $body$ SELECT a $body$;
        CREATE FUNCTION g(IN a integer) RETURNS integer LANGUAGE SQL BEGIN ATOMIC
          SELECT  a+1 ; -- the same
        END;
        CREATE FUNCTION h() RETURNS timestamp with time zone SET work_mem TO '4MB' LANGUAGE sql VOLATILE AS 'SELECT now()';
        """.replace("volatile_is_not_written", "called on null input")
    )
    assert summary(bench.plan()) == {}
    assert [(it.in_sync, it.missing, it.changed, it.extra) for it in app.status(bench.session())] == [(3, 0, 0, 0)]


@pytest.mark.each_postgres
@pytest.mark.parametrize(
    "now",
    [
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 2'",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql SET work_mem = '4MB' AS 'SELECT 2'",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2; END'",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql PARALLEL SAFE COST 7 AS 'SELECT 2'",
        "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END",
    ],
)
def test_a_function_that_differs_is_replaced(bench: Objects, now: str) -> None:
    bench.production.sql(now)
    grants = bench.production.sql(
        "GRANT EXECUTE ON FUNCTION f(int) TO pg_monitor; SELECT proacl::text FROM pg_proc WHERE proname = 'f'"
    )
    plan = bench.whole_law("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 2'")
    assert list(summary(plan)) == ["sql_objects.mine[function public.f(integer)]/alter"]
    (change,) = plan.changes(plan.steps[0])
    assert change.key == ("function", "public.f(integer)")
    assert change.before is not None and str(change.before["sql"]).startswith(
        "CREATE OR REPLACE FUNCTION public.f(a integer)"
    )
    assert change.after == {"sql": bench.production.sql("SELECT pg_get_functiondef('f(int)'::regprocedure)")[0][0]}
    assert bench.production.sql("SELECT proacl::text FROM pg_proc WHERE proname = 'f'") == grants


@pytest.mark.each_postgres
@pytest.mark.parametrize(
    ("now", "told"),
    [
        ("CREATE FUNCTION f(a text) RETURNS int LANGUAGE sql AS 'SELECT 1'", "has other arguments: public.f(text)"),
        ("CREATE FUNCTION f(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "public.f(integer,integer)"),
        ("CREATE FUNCTION f(a int) RETURNS text LANGUAGE sql AS 'SELECT 1'", "cannot change return type"),
        ("CREATE FUNCTION f(b int) RETURNS int LANGUAGE sql AS 'SELECT 1'", "cannot change name of input parameter"),
        (
            "CREATE FUNCTION f(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "cannot remove parameter defaults",
        ),
        ("CREATE PROCEDURE f(a int) LANGUAGE sql AS 'SELECT 1'", "it is a procedure"),
    ],
)
def test_another_signature_is_dropped_only_where_the_spec_says_so(bench: Objects, now: str, told: str) -> None:
    bench.production.sql(now)
    wanted = "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 2'"
    bench.declare(f"\n\n{wanted}")
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert told in caught.value.what
    assert isinstance(caught.value.where, Location)
    assert caught.value.where.file.endswith("sql/mine.sql")
    assert caught.value.where.line == 3
    assert "replace: true" in (caught.value.todo or "")
    plan = bench.whole_law(wanted, ", replace: true")
    assert [step.verb.value for step in plan.steps] == ["drop", "create"]
    assert [hazard.kind for hazard in plan.header.hazards] == ["drop"]


def test_what_is_used_is_not_dropped(bench: Objects) -> None:
    bench.production.sql(
        "CREATE FUNCTION f(a text) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW v AS SELECT f('a')"
    )
    bench.declare("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 2'", ", replace: true")
    with pytest.raises(ReconcilerError, match="something uses it") as caught:
        bench.plan()
    assert caught.value.details == ("rule _RETURN on view v",)


def test_overloads_of_one_file_live_together(bench: Objects) -> None:
    bench.production.sql("CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    plan = bench.whole_law(
        """
        CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION f(a text, variadic b "char"[]) RETURNS int LANGUAGE sql AS 'SELECT 2';
        """
    )
    assert list(summary(plan)) == ['sql_objects.mine[function public.f(text,"char"[])]/create']


@pytest.mark.each_postgres
@pytest.mark.parametrize(
    ("meanwhile", "named"),
    [
        (
            "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 3'",
            "function public.f(): planned 'AS $function$SELECT 1$function$', found",
        ),
        ("DROP FUNCTION f()", "function public.f(): planned to be there, found no such function"),
        (
            "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 3'",
            "function public.g(): planned absent, found one of that name: its definition is another",
        ),
        (
            "CREATE TABLE t (id bigint)",
            "table public.t: planned absent, found one of that name: v is missing; id is bigint, not integer",
        ),
    ],
)
def test_drift_is_named_and_nothing_is_kept(bench: Objects, meanwhile: str, named: str) -> None:
    bench.production.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    bench.declare(
        """
        CREATE TYPE a AS (x int);
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2';
        CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 2';
        CREATE TABLE t (id int, v text);
        """
    )
    plan = bench.plan()
    bench.production.sql(meanwhile)
    before = bench.objects()
    with pytest.raises(Drift) as caught:
        bench.apply(plan)
    assert caught.value.code is Exit.DRIFT
    assert len(caught.value.details) == 1
    assert caught.value.details[0].startswith(named)
    assert bench.objects() == before


def test_what_somebody_else_made_just_so_is_already_done(bench: Objects) -> None:
    statements = """
        CREATE TABLE t (id int, v text);
        CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 2';
        """
    bench.declare(statements)
    plan = bench.plan()
    bench.production.sql(
        "CREATE TABLE t (id int, v text); CREATE FUNCTION g() RETURNS integer AS 'SELECT 2' LANGUAGE sql"
    )
    assert counted(bench.apply(plan)) == (0, 2)


@pytest.mark.each_postgres
def test_undo_leaves_a_table_that_has_rows(bench: Objects) -> None:
    bench.declare("CREATE TABLE t (id int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';")
    plan = bench.plan()
    bench.apply(plan)
    back = bench.undo(plan)
    bench.production.sql("INSERT INTO t VALUES (1)")
    before = bench.objects()
    with pytest.raises(Drift, match="it has rows"):
        bench.apply(back)
    assert bench.objects() == before
    bench.production.sql("TRUNCATE t; CREATE VIEW v AS SELECT f() FROM t")
    with pytest.raises(Drift, match="something uses it") as caught:
        bench.apply(back)
    assert caught.value.details == ("view v depends on function f()",)
    bench.production.sql("DROP VIEW v; CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 9'")
    with pytest.raises(Drift, match="1 changes do not fit") as caught:
        bench.apply(back)
    assert caught.value.details == (
        "function public.f(): planned 'AS $function$SELECT 1$function$', found 'AS $function$SELECT 9$function$'",
    )


def test_a_table_that_is_there_is_left_and_its_difference_is_named(bench: Objects) -> None:
    bench.production.sql("CREATE TABLE t (id bigint, extra text, PRIMARY KEY (id)); CREATE VIEW w AS SELECT 1 AS a")
    bench.declare(
        """
        CREATE TABLE t (id serial, name varchar(20) NOT NULL DEFAULT 'x, y', CHECK (id > 0));
        CREATE OR REPLACE VIEW w AS SELECT 2 AS a;
        """
    )
    plan = bench.plan()
    assert plan.empty
    told = "table public.t is left as it is, and its columns differ: name is missing; id is bigint, not integer; extra is not declared"
    assert [hazard.text for hazard in plan.header.hazards] == [told]
    assert [(it.in_sync, it.notes) for it in app.status(bench.session())] == [(2, (told,))]


@pytest.mark.parametrize(
    ("there", "statement", "told"),
    [
        ("CREATE VIEW x AS SELECT 1", "CREATE TABLE x (a int)", "public.x is a view, not a table"),
        ("CREATE TABLE x (a int)", "CREATE SEQUENCE x", "public.x is a table, not a sequence"),
        ("CREATE DOMAIN x AS int", "CREATE TYPE x AS (a int)", "public.x is a domain, not a type"),
        ("SELECT", "CREATE TABLE x (a int,,)", "the server does not understand this CREATE TABLE"),
        ("SELECT", "CREATE TABLE t (); CREATE FUNCTION f() RETURNS nosuch LANGUAGE sql AS ''", "function public.f cannot be created"),
        ("SELECT", "CREATE FUNCTION f() RETURNS int LANGUAGE nosuch AS ''", "function public.f cannot be created"),
        ("SELECT", "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT x; END", "function public.f cannot be created"),
        ("SELECT", "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS ''; CREATE FUNCTION f(b integer) RETURNS int LANGUAGE sql AS ''",
         "function public.f(integer) is created twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_at_plan(bench: Objects, there: str, statement: str, told: str) -> None:
    bench.production.sql(there)
    bench.declare(statement)
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert told in caught.value.what
    assert isinstance(caught.value.where, Location)


def test_an_extension_s_function_is_not_ours(bench: Objects) -> None:
    bench.production.sql("CREATE EXTENSION citext")
    bench.declare("CREATE FUNCTION citext(inet) RETURNS citext LANGUAGE sql AS 'SELECT NULL::citext'")
    with pytest.raises(ReconcilerError, match="belongs to the extension citext"):
        bench.plan()


def test_protected_objects_are_left(bench: Objects) -> None:
    bench.production.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    bench.declare(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'; CREATE TYPE a AS (x int)", ", protect: true"
    )
    plan = bench.plan()
    assert [step.target for step in plan.steps] == ["type public.a"]
    assert [(it.kind, it.count) for it in plan.header.hazards] == [("blocked", 1)]


def test_rows_and_objects_need_each_other_in_one_transaction(bench: Objects) -> None:
    bench.both("CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t DEFERRABLE INITIALLY DEFERRED, n int)")
    bench.backup.sql("INSERT INTO t VALUES (1, NULL, 1), (2, 1, 2)")
    bench.declare(
        """
        CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n * 2; RETURN NEW; END';
        CREATE TRIGGER twice BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION twice();
        """,
        more="""\
          later: { on: production, file: sql/later.sql, needs: [collections.rows] }
        collections:
          rows: { table: production.t, source: backup, needs: [sql_objects.mine] }
        """.replace("          later", "  later")
        .replace("        collections", "collections")
        .replace("          rows", "  rows"),
    )
    bench.file("CREATE UNIQUE INDEX by_n ON t (n);", "later")
    plan = bench.plan()
    assert [step.target for step in plan.steps] == [
        "function public.twice()", "trigger public.t.twice", "public.t", "index public.by_n",
    ]  # fmt: skip
    before = bench.objects()
    applied = bench.apply(plan)
    assert (applied.code, applied.converged) == (Exit.DONE, True)
    assert bench.production.sql("SELECT * FROM t ORDER BY 1") == [(1, None, 1), (2, 1, 2)]
    assert counted(bench.apply(plan)) == (0, 5)
    bench.apply(bench.undo(plan))
    assert bench.objects() == before
    assert bench.production.sql("SELECT * FROM t") == []


def test_rows_of_a_table_that_is_created_wait_for_it(bench: Objects) -> None:
    bench.backup.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    bench.declare(
        "CREATE TABLE t (id int PRIMARY KEY);", more="collections:\n  rows: { table: production.t, source: backup }\n"
    )
    plan = bench.plan()
    assert [(it.address, it.reason) for it in plan.header.deferred] == [
        ("collections.rows", "its table public.t is created by sql_objects.mine; plan again after apply")
    ]
    assert bench.apply(plan).code is Exit.DONE
    again = bench.plan()
    assert again.header.deferred == ()
    assert bench.apply(again).converged is True
    assert bench.production.sql("SELECT * FROM t") == [(1,)]


@pytest.mark.each_postgres
def test_a_role_that_may_only_read_and_make_temporary_things_plans(bench: Objects) -> None:
    bench.production.sql(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
        "DROP ROLE IF EXISTS planner; CREATE ROLE planner LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA public TO planner"
    )
    bench.production.sql(f"GRANT TEMP ON DATABASE {bench.production.name} TO planner")
    bench.production.sql("GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO planner")
    try:
        bench.declare(
            """
            CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2';
            CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 2';
            CREATE TABLE t (id int);
            """
        )
        as_planner = bench.production.dsn.replace("postgres@", "planner@")
        assert as_planner != bench.production.dsn
        bench.environ["PRODUCTION_URL"] = as_planner
        plan = bench.plan()
        assert [step.verb.value for step in plan.steps] == ["alter", "create", "create"]
        with pytest.raises(ReconcilerError, match=r"writing function public\.f\(\) failed") as caught:
            bench.apply(plan)
        assert "must be owner" in (caught.value.why or "")
        assert "grant" in (caught.value.todo or "")
        bench.production.sql("REVOKE USAGE ON LANGUAGE sql FROM PUBLIC")
        with pytest.raises(ReconcilerError, match=r"function public\.f cannot be compared") as caught:
            bench.plan()
        assert caught.value.why == "permission denied for language sql"
    finally:
        bench.production.sql("DROP OWNED BY planner; DROP ROLE planner; GRANT USAGE ON LANGUAGE sql TO PUBLIC")


def test_planning_leaves_nothing_behind(bench: Objects) -> None:
    bench.production.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    bench.declare("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'")
    bench.plan()
    assert bench.production.sql(
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname ~ '^pg_temp'"
    ) == [(0,)]


def test_through_a_pooler(bench: Objects, pooler: Pooler) -> None:
    bench.environ["PRODUCTION_URL"] = pooler.dsn(bench.production)
    bench.whole_law(EVERYTHING)
    with psycopg.connect(pooler.dsn(bench.production), autocommit=True, prepare_threshold=None) as session:
        for _ in range(6):
            (path,) = session.execute("SHOW search_path").fetchone() or ("",)
            assert path == '"$user", public'


def test_somebody_who_replaces_it_at_the_same_moment_is_not_overwritten(bench: Objects) -> None:
    bench.production.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    bench.declare("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'")
    plan = bench.plan()
    with psycopg.connect(bench.production.dsn) as other:
        other.execute("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 3'")
        with pytest.raises(ReconcilerError, match=r"writing function public\.f\(\) failed"):
            app.apply(app.open_plan(plan.path), bench.session(), lock_timeout="200ms")
        other.commit()
    with pytest.raises(Drift):
        bench.apply(plan)


def test_apply_does_not_need_the_file(bench: Objects) -> None:
    bench.declare("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'")
    plan = bench.plan()
    (bench.folder / "sql" / "mine.sql").unlink()
    session = app.Session((), {}, None, bench.environ)
    applied = app.apply(app.open_plan(plan.path), session)
    assert counted(applied) == (1, 0)
    assert applied.converged is None


@pytest.mark.each_postgres
def test_a_table_and_its_rows_come_and_go_in_one_transaction(bench: Objects) -> None:
    """No kind plans this alone; what applies is ready for those that do."""
    statement = "CREATE TABLE t (id int PRIMARY KEY, v text)"
    bench.declare(statement)
    planned_alone = bench.plan()
    (create,) = planned_alone.steps
    insert = Step(
        "sql_objects.mine[public.t]/insert",
        "production",
        "public.t",
        Verb.INSERT,
        ("id",),
        {"id": "integer", "v": "text"},
        needs=(create.id,),
    )
    rows = [Change(insert.id, (str(n),), None, {"id": str(n), "v": "x"}, "missing") for n in range(3)]
    steps = [planned(create, planned_alone.changes(create)), planned(insert, rows)]
    plan = write(bench.folder / "both.plan.jsonl", planned_alone.header, steps)
    before = bench.objects()
    assert counted(bench.apply(plan)) == (4, 0)
    assert bench.production.sql("SELECT count(*) FROM t WHERE v = 'x'") == [(3,)]
    assert counted(bench.apply(plan)) == (0, 4)
    back = bench.undo(plan)
    bench.production.sql("INSERT INTO t VALUES (9)")
    with pytest.raises(Drift, match="it has rows"):
        bench.apply(back)
    bench.production.sql("DELETE FROM t WHERE id = 9")
    assert counted(bench.apply(back)) == (4, 0)
    assert bench.objects() == before
    assert counted(bench.apply(back)) == (0, 4)


def test_a_statement_that_a_plan_hides_is_not_run(bench: Objects) -> None:
    bench.declare("CREATE TABLE t (id int)")
    plan = bench.plan()
    (create,) = plan.steps
    for sql in (
        "DROP TABLE x",
        "CREATE TABLE other (id int)",
        "CREATE TABLE t (id int); DROP TABLE x",
        "CREATE VIEW t AS SELECT 1",
    ):
        change = Change(create.id, ("table", "public.t"), None, {"sql": sql}, "missing")
        forged = write(bench.folder / "forged.plan.jsonl", plan.header, [planned(create, [change])])
        with pytest.raises(ReconcilerError, match="is refused"):
            bench.apply(forged)


@pytest.mark.each_postgres
def test_names_are_what_they_are(bench: Objects) -> None:
    statements = """
        CREATE SCHEMA "My ""s"" on";
        CREATE TYPE "My ""s"" on"."T (1)" AS ENUM ('a');
        CREATE TABLE "My ""s"" on"."t.t" (a "My ""s"" on"."T (1)");
        CREATE INDEX "ON" ON "My ""s"" on"."t.t" (a);
        CREATE FUNCTION "My ""s"" on"." pg_temp.f(1)"("a b" text, "My ""s"" on"."T (1)"[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION "Select"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER "a.b on c" AFTER INSERT ON "My ""s"" on"."t.t" EXECUTE FUNCTION "Select"();
        """
    bench.whole_law(statements)
    bench.declare(statements)
    assert summary(bench.plan()) == {}
    bench.declare(statements.replace("SELECT 1", "SELECT 2"))
    plan = bench.plan()
    assert [step.target for step in plan.steps] == [
        'function "My ""s"" on"." pg_temp.f(1)"(text,"My ""s"" on"."T (1)"[])'
    ]
    assert bench.apply(plan).converged is True


def test_a_credential_in_what_is_there_stands_in_no_plan(bench: Objects) -> None:
    bench.production.sql("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT $$postgresql://me:canary@h/d$$'")
    bench.declare("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT NULL'")
    with pytest.raises(ReconcilerError, match="holds a password in a connection URI") as caught:
        bench.plan()
    assert "canary" not in caught.value.render()


def test_a_table_s_name_is_a_type_s_too(bench: Objects) -> None:
    bench.production.sql("CREATE TABLE x (a int)")
    bench.declare("CREATE TYPE x AS ENUM ('a')")
    with pytest.raises(ReconcilerError, match=r"public\.x is a table, not a type"):
        bench.plan()


def test_killed_or_rehearsed_nothing_is_kept(bench: Objects) -> None:
    bench.declare(EVERYTHING + "CREATE UNIQUE INDEX twice ON doubled (a);")
    bench.production.sql("CREATE TABLE doubled AS SELECT 1 AS a FROM generate_series(1, 2)")
    before = bench.objects()
    plan = bench.plan()
    with pytest.raises(ReconcilerError, match="rows have the same key twice; nothing was kept"):
        bench.apply(plan)
    assert bench.objects() == before
    bench.production.sql("TRUNCATE doubled")
    rehearsed = app.apply(app.open_plan(plan.path), bench.session(), rehearse=True)
    assert counted(rehearsed) == (15, 0)
    assert bench.objects() == before
