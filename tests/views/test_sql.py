"""The script does on a real PostgreSQL what `apply` promises: once, guarded, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Header, Plan
from reconciler.plan.step import Verb
from reconciler.systems.postgres.session import Session
from reconciler.views import sql
from tests.postgres import Database
from tests.views.plans import NASTY, PRODUCTION, Row, inserts, make, step

DOCUMENTS = """
CREATE TABLE documents (uri text PRIMARY KEY, data jsonb, n int);
INSERT INTO documents VALUES ('u1', '{"k": 1}', 1), ('u2', '{"k": 1}', 2), ('u3', NULL, 3);
"""
pytestmark = pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql to run the scripts with")
INTS = {"id": "integer", "other": "integer"}


def psql(dsn: str, plan: Plan, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a plan's script."""
    script = "".join(sql.render(plan))
    command = ["psql", "-X", "-q", "-At", *options, "-d", dsn, "-f", "-"]
    environ = {"PATH": os.environ["PATH"], "PGOPTIONS": "-c client_min_messages=warning"}
    return subprocess.run(command, input=script, capture_output=True, text=True, env=environ, timeout=60, check=False)


def succeed(dsn: str, plan: Plan, *options: str) -> str:
    done = psql(dsn, plan, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refuse(dsn: str, plan: Plan, *options: str) -> str:
    done = psql(dsn, plan, *options)
    assert done.returncode == 3, done.stdout
    return done.stderr


def changes(tmp_path: Path) -> Plan:
    """One row in, two rows changed (each in its own columns), one row out."""
    update: list[Row] = [
        (("u1",), {"data": '{"k": 1}', "n": "1"}, {"data": '{"k": 2}', "n": None}),
        (("u2",), {"data": '{"k": 1}'}, {"data": None}),
    ]
    delete: list[Row] = [(("u3",), {"uri": "u3", "data": None, "n": "3"}, None)]
    steps = [
        (step(Verb.INSERT), inserts(["new"])),
        (step(Verb.UPDATE, notes=("columns: data (2), n (1)",)), update),
        (step(Verb.DELETE), delete),
    ]
    return make(tmp_path, steps)


@pytest.mark.each_postgres
def test_script_does_the_plan_and_a_second_run_does_nothing(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    plan = changes(tmp_path)
    first = succeed(database.dsn, plan)
    wanted = [("new", {"a": 1}, None), ("u1", {"k": 2}, None), ("u2", None, 2)]
    assert database.sql('TABLE documents ORDER BY uri COLLATE "C"') == wanted
    assert [line.split("|")[1:] for line in first.splitlines()] == [["1", "0"], ["2", "0"], ["1", "0"]]
    versions = database.sql("SELECT xmin::text FROM documents ORDER BY 1")
    second = succeed(database.dsn, plan)
    assert [line.split("|")[1:] for line in second.splitlines()] == [["0", "1"], ["0", "2"], ["0", "1"]]
    assert database.sql("SELECT xmin::text FROM documents ORDER BY 1") == versions


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        ("INSERT INTO documents VALUES ('new', '{\"a\": 2}')", ['["new"]', "planned absent", r"\"a\": 2"]),
        ("UPDATE documents SET n = 7 WHERE uri = 'u1'", ['["u1"]', 'planned {"n": "1"}', 'found {"n": "7"}']),
        ("DELETE FROM documents WHERE uri = 'u2'", ['["u2"]', "no such row"]),
        (
            "UPDATE documents SET data = '{}' WHERE uri = 'u3'",
            ['["u3"]', 'planned {"data": null}', 'found {"data": "{}"}'],
        ),
    ],
)
def test_drift_is_named_and_nothing_is_kept(
    database: Database, tmp_path: Path, meanwhile: str, told: list[str]
) -> None:
    database.sql(DOCUMENTS)
    database.sql(meanwhile)
    before = database.sql("TABLE documents ORDER BY uri")
    error = refuse(database.dsn, changes(tmp_path))
    assert "drift: planned changes that do not fit what is there: 1;" in error
    assert [part for part in told if part not in error] == []
    assert database.sql("TABLE documents ORDER BY uri") == before


def test_unrelated_writes_do_not_matter(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    database.sql("UPDATE documents SET n = 99 WHERE uri = 'u2'; INSERT INTO documents VALUES ('u9')")
    succeed(database.dsn, changes(tmp_path))
    assert database.sql("SELECT data, n FROM documents WHERE uri = 'u2'") == [(None, 99)]


def test_many_rows_come_in_several_statements(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    plan = make(tmp_path, [(step(Verb.INSERT), inserts(f"k{n:05}" for n in range(2500)))])
    assert "".join(sql.render(plan)).count("INSERT INTO pg_temp.reconciler_changes") == 3
    succeed(database.dsn, plan)
    assert database.sql("SELECT count(*) FROM documents WHERE uri LIKE 'k%'") == [(2500,)]


NAMES = [
    'My "T"',
    "a:b",
    "x'y",
    "sel ect",
    "new\nline",
    "back\\slash",
    "\u202erev",
    "$reconciler$",
    "%I",
    "{x}",
    "select",
]


@pytest.mark.each_postgres
@pytest.mark.parametrize("name", NAMES)
def test_hostile_names(database: Database, tmp_path: Path, name: str) -> None:
    table, kind = quoted(name), quoted(f"{name}_kind")
    database.sql(f"CREATE TYPE {kind} AS ENUM ('it''s'); CREATE TABLE {table} ({table} text PRIMARY KEY, b {kind})")
    columns = {name: "text", "b": kind}
    rows: list[Row] = [(("k",), None, {name: "k", "b": "it's"}), ((name,), None, {name: name, "b": None})]
    plan = make(tmp_path, [(step(Verb.INSERT, f"public.{table}", key=(name,), columns=columns), rows)])
    assert "\u202e" not in "".join(sql.render(plan))
    succeed(database.dsn, plan)
    update: list[Row] = [(("k",), {"b": "it's"}, {"b": None})]
    changed = step(Verb.UPDATE, f"public.{table}", key=(name,), columns=columns)
    succeed(database.dsn, make(tmp_path, [(changed, update)]))
    assert sorted(database.sql(f"TABLE {table}")) == sorted([("k", None), (name, None)])


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(VALUES, min_size=1, max_size=60, unique=True))
def test_values_arrive_as_they_are(database: Database, tmp_path: Path, values: list[str]) -> None:
    values = sorted(
        {*values, NASTY, "\\", "'", ":x", ":'x'", "$reconciler$", "\\connect x", "-- x", "/*", "\x7f", "%s"}
    )
    database.sql("DROP TABLE IF EXISTS t; CREATE TABLE t (k text PRIMARY KEY, v text)")
    rows: list[Row] = [((value,), None, {"k": value, "v": value}) for value in values]
    columns = {"k": "text", "v": "text"}
    succeed(database.dsn, make(tmp_path, [(step(Verb.INSERT, "public.t", key=("k",), columns=columns), rows)]))
    assert sorted(database.sql("SELECT k, v FROM t")) == sorted((value, value) for value in values)


TYPES = [
    ("timestamp with time zone", "2024-01-02 03:04:05.678901+00"),
    ("timestamp(3) without time zone", "infinity"),
    ("numeric(40,2)", "12345678901234567890123.10"),
    ("double precision", "0.1"),
    ("bytea", "\\x00ff"),
    ("boolean", "true"),
    ("interval day to second(3)", "1 day 02:03:04.5"),
    ("character varying(5)[]", '{"a b",NULL}'),
    ("json", '{"a":  1.00}'),
    ("character(4)", "ab"),
    ("int4range", "[1,5)"),
]


@pytest.mark.parametrize(("type_", "value"), TYPES, ids=[name for name, _ in TYPES])
def test_text_forms_of_types(database: Database, tmp_path: Path, type_: str, value: str) -> None:
    database.sql(f"CREATE TABLE t (k int PRIMARY KEY, v {type_})")
    columns = {"k": "integer", "v": type_}
    plan = make(
        tmp_path,
        [(step(Verb.INSERT, "public.t", key=("k",), columns=columns), [(("1",), None, {"k": "1", "v": value})])],
    )
    succeed(database.dsn, plan)
    succeed(database.dsn, plan)
    gone = make(
        tmp_path,
        [(step(Verb.DELETE, "public.t", key=("k",), columns=columns), [(("1",), {"k": "1", "v": value}, None)])],
    )
    succeed(database.dsn, gone)
    assert database.sql("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "type_", ["text); DROP TABLE t; --", "text and pg_sleep(9)", "text), (1", "", "text union select"]
)
def test_an_expression_cannot_pose_as_a_type(tmp_path: Path, type_: str) -> None:
    plan = make(tmp_path, [(step(Verb.INSERT, columns={"uri": type_}), [(("u",), None, {"uri": "u"})])])
    with pytest.raises(ReconcilerError, match="no script can be written"):
        "".join(sql.render(plan))


@pytest.mark.each_postgres
def test_a_cycle_of_not_null_keys_is_one_statement(database: Database, tmp_path: Path) -> None:
    database.sql(
        "CREATE TABLE a (id int PRIMARY KEY, other int NOT NULL);"
        "CREATE TABLE b (id int PRIMARY KEY, other int NOT NULL REFERENCES a);"
        "ALTER TABLE a ADD FOREIGN KEY (other) REFERENCES b"
    )
    rows: list[Row] = [(("1",), None, {"id": "1", "other": "1"})]
    steps = [step(Verb.INSERT, f"public.{name}", key=("id",), columns=INTS, together="cycle") for name in "ab"]
    plan = make(tmp_path, [(it, rows) for it in steps])
    succeed(database.dsn, plan)
    gone: list[Row] = [(("1",), {"id": "1", "other": "1"}, None)]
    steps = [step(Verb.DELETE, f"public.{name}", key=("id",), columns=INTS, together="cycle") for name in "ab"]
    succeed(database.dsn, make(tmp_path, [(it, gone) for it in steps]))
    assert database.sql("SELECT count(*) FROM a, b") == [(0,)]


COUNTER = """
CREATE TABLE posts (id int PRIMARY KEY, other int);
CREATE TABLE likes (id int PRIMARY KEY, other int REFERENCES posts);
CREATE FUNCTION count_like() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN UPDATE posts SET other = other + 1 WHERE id = NEW.other; RETURN NEW; END';
CREATE TRIGGER count_like AFTER INSERT ON likes FOR EACH ROW EXECUTE FUNCTION count_like();
"""


def likes(tmp_path: Path, triggers: str = "fire") -> Plan:
    posts = step(Verb.INSERT, "public.posts", key=("id",), columns=INTS)
    liked = step(Verb.INSERT, "public.likes", key=("id",), columns=INTS, triggers=triggers)
    return make(
        tmp_path,
        [(posts, [(("1",), None, {"id": "1", "other": "1"})]), (liked, [(("7",), None, {"id": "7", "other": "1"})])],
    )


@pytest.mark.each_postgres
def test_what_a_trigger_changes_is_settled(database: Database, tmp_path: Path) -> None:
    database.sql(COUNTER)
    succeed(database.dsn, likes(tmp_path))
    assert database.sql("TABLE posts") == [(1, 1)]


def test_what_a_trigger_always_changes_is_an_error(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    database.sql(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 42; RETURN NEW; END';"
        "CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION stamp()"
    )
    error = refuse(database.dsn, changes(tmp_path))
    assert "not as planned after writing them: 2;" in error
    assert 'planned {"n": null}, found {"n": "42"}' in error
    assert database.sql("SELECT count(*) FROM documents WHERE uri = 'new'") == [(0,)]


def test_a_trigger_that_swallows_rows_is_an_error(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    database.sql(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE INSERT OR DELETE ON documents FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    error = refuse(database.dsn, changes(tmp_path))
    assert "found no such row" in error
    assert "planned absent, found still there" in error


@pytest.mark.each_postgres
def test_triggers_off_leaves_every_trigger_as_it_was(database: Database, tmp_path: Path) -> None:
    database.sql(COUNTER)
    database.sql(
        "CREATE TRIGGER asleep AFTER INSERT ON likes FOR EACH ROW EXECUTE FUNCTION count_like();"
        "CREATE TRIGGER always AFTER INSERT ON likes FOR EACH ROW EXECUTE FUNCTION count_like();"
        "ALTER TABLE likes DISABLE TRIGGER asleep; ALTER TABLE likes ENABLE ALWAYS TRIGGER always"
    )
    modes = "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
    before = database.sql(modes)
    succeed(database.dsn, likes(tmp_path, triggers="off"))
    assert database.sql(modes) == before
    assert database.sql("TABLE posts") == [(1, 1)]


def test_triggers_off_on_a_table_whose_name_would_end_a_quote(database: Database, tmp_path: Path) -> None:
    name = '"a $$; CREATE TABLE public.broken_out (); DO $$BEGIN END"'
    database.sql(f"CREATE TABLE public.{name} (id int PRIMARY KEY, other int)")
    new = step(Verb.INSERT, f"public.{name}", key=("id",), columns=INTS, triggers="off")
    succeed(database.dsn, make(tmp_path, [(new, [(("1",), None, {"id": "1", "other": "2"})])]))
    assert database.sql(f"TABLE public.{name}") == [(1, 2)]
    assert database.sql("SELECT to_regclass('public.broken_out')") == [(None,)]


def test_triggers_off_with_deferred_constraints(database: Database, tmp_path: Path) -> None:
    database.sql(COUNTER)
    database.sql("ALTER TABLE likes ALTER CONSTRAINT likes_other_fkey DEFERRABLE INITIALLY DEFERRED")
    succeed(database.dsn, likes(tmp_path, triggers="off"))
    assert database.sql("TABLE likes") == [(7, 1)]


FAMILY = """
CREATE TABLE parents (id int PRIMARY KEY, other int);
CREATE TABLE children (id int PRIMARY KEY, other int REFERENCES parents ON DELETE {action});
INSERT INTO parents VALUES (1, 1), (2, 2);
INSERT INTO children VALUES (10, 1), (11, 1), (20, 2);
"""


@pytest.mark.each_postgres
@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_rows_a_delete_takes_along_must_be_listed(database: Database, tmp_path: Path, action: str) -> None:
    database.sql(FAMILY.format(action=action))
    verb = Verb.DELETE if action == "CASCADE" else Verb.UPDATE
    child = step(verb, "public.children", key=("id",), columns=INTS)
    parent = step(Verb.DELETE, "public.parents", key=("id",), columns=INTS)
    after = None if verb is Verb.DELETE else {"other": None}
    listed: list[Row] = [((key,), {"id": key, "other": "1"}, after) for key in ("10", "11")]
    gone: list[Row] = [(("1",), {"id": "1", "other": "1"}, None)]
    error = refuse(database.dsn, make(tmp_path, [(child, listed[:1]), (parent, gone)]))
    assert "rows of children that would go or change" in error
    assert "children_other_fkey" in error
    assert database.sql("SELECT count(*) FROM children WHERE other = 1") == [(2,)]
    succeed(database.dsn, make(tmp_path, [(child, listed), (parent, gone)]))
    assert database.sql("TABLE parents") == [(2, 2)]
    assert database.sql("SELECT id FROM children WHERE other IS NOT NULL") == [(20,)]


def test_sequences_are_never_lowered(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE SEQUENCE s; SELECT setval('s', 50)")
    for value, expected in (("97", 97), ("41", 97)):
        it = step(Verb.SETVAL, "public.s", key=(), columns={})
        succeed(database.dsn, make(tmp_path, [(it, [(("public.s",), {"value": "50"}, {"value": value})])]))
        assert database.sql("SELECT last_value FROM s") == [(expected,)]


def test_identity_columns_keep_their_values(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other int)")
    rows: list[Row] = [(("5",), None, {"id": "5", "other": "1"})]
    succeed(database.dsn, make(tmp_path, [(step(Verb.INSERT, "public.t", key=("id",), columns=INTS), rows)]))
    assert database.sql("TABLE t") == [(5, 1)]


def test_the_wrong_database_is_refused(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    header = Header(connections={"production": {"type": "postgres", "fingerprint": "0123456789abcdef"}})
    plan = make(tmp_path, [(step(Verb.INSERT), inserts(["new"]))], header)
    assert "another database" in refuse(database.dsn, plan)
    with database.connect() as connection:
        own = Session("production", connection).fingerprint()
    header = Header(connections={"production": {"type": "postgres", "fingerprint": own}})
    succeed(database.dsn, make(tmp_path, [(step(Verb.INSERT), inserts(["new"]))], header))


def test_two_databases_are_two_transactions(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    header = Header(connections={"one": {"type": "postgres"}, "the-other": {"type": "postgres"}})
    first = step(Verb.INSERT, connection="one", address="collections.a")
    second = step(Verb.INSERT, connection="the-other", address="collections.b")
    plan = make(tmp_path, [(first, inserts(["x"])), (second, inserts(["y"]))], header)
    assert "say where it is" in refuse(database.dsn, plan)
    succeed(database.dsn, plan, "-v", f"one={database.dsn}", "-v", f"the_other={database.dsn}")
    assert database.sql("SELECT uri FROM documents WHERE uri IN ('x', 'y') ORDER BY 1") == [("x",), ("y",)]


def test_sensitive_values_make_no_script(database: Database, tmp_path: Path) -> None:
    database.sql(DOCUMENTS)
    it = step(Verb.INSERT, columns={"uri": "text", "data": "jsonb sensitive", "n": "integer"})
    plan = make(tmp_path, [(it, [(("new",), None, {"uri": "new", "data": "c0ffee", "n": None})])])
    script = "".join(sql.render(plan))
    assert "CANNOT BE RUN AS A SCRIPT" in script
    assert "c0ffee" not in script
    assert "use reconciler apply" in refuse(database.dsn, plan)


def test_steps_that_are_not_sql_are_named(tmp_path: Path) -> None:
    header = Header(connections={**PRODUCTION, "storage": {"type": "directory"}, "pds": {"type": "atproto"}})
    rows = step(Verb.INSERT)
    upload = step(Verb.UPLOAD, "images", connection="storage", needs=(rows.id,))
    records = step(Verb.DELETE, "site.standard.document", connection="pds", address="pds_records.x")
    thing: list[Row] = [(("a.jpg",), None, {"size": 1})]
    record: list[Row] = [(("3k",), {"v": {"a": 1}}, None)]
    plan = make(tmp_path, [(rows, inserts(["x"])), (upload, thing), (records, record)], header)
    script = "".join(sql.render(plan))
    assert script.count("NOT IN THIS SCRIPT") == 2
    assert sql.refusals(plan) == []
    after = step(Verb.UPDATE, needs=(upload.id,))
    late: list[Row] = [(("x",), {"n": None}, {"n": "1"})]
    plan = make(tmp_path, [(rows, inserts(["x"])), (upload, thing), (after, late)], header)
    assert "which is not SQL" in sql.refusals(plan)[0]


def test_hazards_and_notes_stay_comments(tmp_path: Path) -> None:
    it = step(Verb.INSERT, notes=("x\n; DROP TABLE documents;", "\\! touch pwned"))
    script = "".join(sql.render(make(tmp_path, [(it, inserts(["x"]))])))
    assert all(line.startswith("--") for line in script.splitlines() if "DROP TABLE" in line or "touch" in line)


def object_plan(tmp_path: Path, *rows: Row) -> Plan:
    """A step for each change of an object."""
    verbs = {(True, False): Verb.CREATE, (False, True): Verb.DROP, (False, False): Verb.ALTER}
    steps = [
        (
            step(
                verbs[before is None, after is None],
                " ".join(key),
                address="sql_objects.a",
                key=("kind", "name"),
                columns={"sql": "text"},
            ),
            [(key, before, after)],
        )
        for key, before, after in rows
    ]
    return make(Path(mkdtemp(dir=tmp_path)), steps)


FUNCTION = "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS $$SELECT {}$$"
CREATED: list[Row] = [
    (("schema", "app"), None, {"sql": "CREATE SCHEMA app"}),
    (("type", "app.mood"), None, {"sql": "CREATE TYPE app.mood AS ENUM ('a', E'\\n')"}),
    (("table", 'app."T t"'), None, {"sql": 'CREATE TABLE app."T t" (\n\ta app.mood /* \u202e */)'}),
    (("index", "app.by_a"), None, {"sql": 'CREATE INDEX by_a ON app."T t" (a)'}),
    (("view", "app.v"), None, {"sql": 'CREATE VIEW app.v AS SELECT * FROM app."T t"'}),
    (("function", "public.f(integer)"), None, {"sql": FUNCTION.format(2)}),
    (("function", "app.g(app.mood)"), None, {"sql": "CREATE FUNCTION app.g(app.mood) RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"}),
    (("function", "app.h()"), None, {"sql": "CREATE FUNCTION app.h() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"}),
    (("trigger", 'app."T t".tr'), None, {"sql": 'CREATE TRIGGER tr AFTER INSERT ON app."T t" EXECUTE FUNCTION app.h()'}),
]  # fmt: skip
THERE = (
    "SELECT to_regclass('app.\"T t\"')::text, to_regclass('app.v')::text, to_regprocedure('f(int)')::text,"
    " (SELECT count(*) FROM pg_trigger), to_regnamespace('app')::text"
)


@pytest.mark.each_postgres
def test_objects_come_and_go_once(database: Database, tmp_path: Path) -> None:
    created = [row for row in CREATED if row[0] != ("function", "app.g(app.mood)")]
    plan = object_plan(tmp_path, *created)
    for _ in range(2):
        succeed(database.dsn, plan)
        assert database.sql(THERE) == [('app."T t"', "app.v", "f(integer)", 1, "app")]
    back = object_plan(tmp_path, *[(key, after, None) for key, _, after in reversed(created)])
    database.sql("INSERT INTO app.\"T t\" VALUES ('a')")
    assert 'drift: table app."T t": planned to go while it is empty, found rows' in refuse(database.dsn, back)
    database.sql('TRUNCATE app."T t"')
    for _ in range(2):
        succeed(database.dsn, back)
        assert database.sql(THERE) == [(None, None, None, 0, None)]


@pytest.mark.each_postgres
def test_a_function_is_only_replaced_from_what_was_planned(database: Database, tmp_path: Path) -> None:
    key, was, will_be = ("function", "public.f(integer)"), {"sql": FUNCTION.format(1)}, {"sql": FUNCTION.format(2)}
    plan = object_plan(tmp_path, (key, was, will_be))
    assert "planned to be there, found no such function" in refuse(database.dsn, plan)
    database.sql(FUNCTION.format(3))
    assert "drift: function public.f(integer): its definition is not the planned one" in refuse(database.dsn, plan)
    assert "planned absent, found another definition" in refuse(
        database.dsn, object_plan(tmp_path, (key, None, will_be))
    )
    assert "its definition is not the planned one" in refuse(database.dsn, object_plan(tmp_path, (key, will_be, None)))
    assert database.sql("SELECT f(0)") == [(3,)]
    database.sql(FUNCTION.format(1).replace("CREATE", "CREATE OR REPLACE"))
    for _ in range(2):
        succeed(database.dsn, plan)
        assert database.sql("SELECT f(0)") == [(2,)]
    succeed(database.dsn, object_plan(tmp_path, (key, None, will_be)))


def test_an_object_that_no_script_knows_is_refused(database: Database, tmp_path: Path) -> None:
    for key, statement in (
        (("rule", "public.r"), "CREATE TABLE r ()"),
        (("table", "public.r"), "DROP TABLE x; SELECT 1"),
    ):
        assert "cannot be run as a script" in refuse(
            database.dsn, object_plan(tmp_path, (key, None, {"sql": statement}))
        )
