"""Right specs are read as they are meant."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.limit import most
from reconciler.plan.names import TableName
from reconciler.spec import (
    Cascade,
    ColumnsExcept,
    FilesConnection,
    Newer,
    Number,
    OneTable,
    PostgresConnection,
    SourceRows,
    SourceTable,
    Value,
    from_canonical,
    load,
)
from tests.spec.conftest import Loader
from tests.spec.worked import RESTORE

ENVIRON = {"DATABASE_URL": "postgresql://u:canary@h/d"}


def test_one_table(load_text: Loader) -> None:
    spec = load_text(RESTORE)
    publications = spec.document.collections["publications"]
    assert publications.target() == ("production", TableName(None, "publications"))
    assert publications.scope() == OneTable("production", TableName(None, "publications"), publications.where)
    assert publications.source_ref() == SourceTable("backup", None)
    assert publications.columns == ColumnsExcept.model_validate({"except": ["search_vector"]})
    assert publications.on_changed == Newer.model_validate({"newer": "indexed_at"})
    assert publications.triggers == "off"
    assert publications.max_delete == 5
    assert [publications.missing_parent(column) for column in ("doc", "x", "y", "z")] == [
        "null",
        "null",
        "skip",
        "fail",
    ]
    assert publications.on_extra == "delete"


def test_cascade_and_the_options_of_its_tables(load_text: Loader) -> None:
    everything = load_text(RESTORE).document.collections["everything_of_the_user"]
    scope = everything.scope()
    assert isinstance(scope, Cascade)
    assert scope.connection == "production"
    assert scope.follow
    assert sorted(scope.roots) == [
        TableName(None, "documents"),
        TableName(None, "publications"),
        TableName("app", "Order"),
    ]
    assert scope.roots[TableName("app", "Order")] == "true"
    comments = everything.options(TableName("public", "comments_on_documents"))
    assert comments.on_missing_parent == "null"
    assert comments.compare == "exact"
    assert comments.key == ("uri",)
    assert [most(str(comments.max_delete), partial(int, rows)) for rows in (0, 10, 20, 199)] == [0, 0, 1, 9]
    assert everything.options(TableName("app", "tags")).triggers == "off"
    assert everything.options(TableName("other", "tags")).triggers == "fire"
    assert everything.on_changed is None
    assert everything.description == "all of did:plc:abc, ${literally}"


def test_inline_rows_keep_their_digits_and_dates(load_text: Loader) -> None:
    inline = load_text(RESTORE).document.collections["inline"]
    data: Value = {"a": [True, None, "0123"], "b": Number("1e400")}
    row: Mapping[str, Value] = {"at": "2024-01-01", "data": data, "id": 1, "price": Number("1.10")}
    assert inline.source_ref() == SourceRows((row,))
    assert inline.target() == ("local", TableName("public", "Prices"))
    assert inline.protect
    assert inline.on_missing_parent == "null"


def test_connections_are_resolved_late(load_text: Loader) -> None:
    spec = load_text(RESTORE, ENVIRON)
    production = spec.connection("production")
    assert isinstance(production, PostgresConnection)
    assert production.dsn.reveal() == ENVIRON["DATABASE_URL"]
    assert not production.embedded
    assert "canary" not in repr(production) + str(production.dsn) + f"{production.dsn:>20}" + repr(spec)
    backup = spec.connection("backup")
    assert isinstance(backup, PostgresConnection)
    assert backup.embedded
    extract = spec.connection("extract")
    assert isinstance(extract, FilesConnection)
    assert extract.path == Path.cwd() / "backup-data"
    assert extract.tables == {"documents_in_publications": "documentsInPublications"}


def test_what_the_environment_lacks_is_said_at_its_place(load_text: Loader) -> None:
    spec = load_text(RESTORE)
    with pytest.raises(
        ReconcilerError, match="needs the environment variable DATABASE_URL, which is not set"
    ) as raised:
        spec.connection("production")
    assert str(raised.value.where) == "spec.yaml:9:27"
    with pytest.raises(ReconcilerError, match="which is empty"):
        load_text(RESTORE, {"DATABASE_URL": ""}).connection("production")
    with pytest.raises(ReconcilerError, match="is not declared") as raised:
        spec.connection("prodution")
    assert raised.value.todo == "did you mean `production`?"


def test_a_value_that_is_no_address_is_refused_unseen(load_text: Loader) -> None:
    spec = load_text(RESTORE, {"DATABASE_URL": "https://canary.example"})
    with pytest.raises(ReconcilerError, match="is no PostgreSQL address") as raised:
        spec.connection("production")
    assert "canary" not in raised.value.render()


def test_a_password_inside_a_uri_must_be_encoded(load_text: Loader) -> None:
    text = 'version: 1\nconnections: { a: { postgres: "postgresql://u:${env:PW}@h/d" } }\n'
    connection = load_text(text, {"PW": "a%40b"}).connection("a")
    assert isinstance(connection, PostgresConnection)
    assert connection.dsn.reveal() == "postgresql://u:a%40b@h/d"
    with pytest.raises(ReconcilerError, match="cannot stand as a password inside a URI") as raised:
        load_text(text, {"PW": "can@ry"}).connection("a")
    assert "can@ry" not in raised.value.render()


def test_places(load_text: Loader) -> None:
    spec = load_text(RESTORE)
    assert str(spec.locate("collections", "publications", "where")) == "spec.yaml:18:12"
    assert str(spec.locate("collections", "publications", "key", 0)) == "spec.yaml:19:11"
    assert str(spec.locate("collections", "publications")) == "spec.yaml:15:3"
    assert str(spec.locate("collections", "publications", "nothing", "here")) == "spec.yaml:15:3"
    assert str(spec.locate()) == "spec.yaml:2:1"
    where = spec.document.collections["publications"].where or ""
    assert str(spec.locate("collections", "publications", "where", offset=where.index(":did"))) == "spec.yaml:18:40"
    documents = (spec.document.collections["everything_of_the_user"].roots or {})["documents"]
    place = spec.locate("collections", "everything_of_the_user", "roots", "documents", offset=documents.index(":did"))
    assert str(place) == "spec.yaml:35:22"


def test_resources_are_in_order(load_text: Loader) -> None:
    addresses = list(load_text(RESTORE).resources())
    assert addresses == ["collections.everything_of_the_user", "collections.inline", "collections.publications"]


def test_likely_wildcards_are_warned_of(load_text: Loader) -> None:
    (warning,) = load_text(RESTORE.replace("starts_with(uri, 'at://' ||", "(uri LIKE 'at://' ||", 1)).warnings
    assert warning.render().startswith("warning: LIKE takes `_` and `%` in :did for wildcards\n  --> spec.yaml:18:33")


def test_paths_of_one_machine_are_warned_of(load_text: Loader) -> None:
    (warning,) = load_text("version: 1\nconnections: { a: { files: /data } }\n").warnings
    assert "holds on one machine only" in warning.render()
    assert load_text('version: 1\nconnections: { a: { files: "${env:HOME}/data" } }\n').warnings == ()


def test_variables_come_from_the_command_line_then_the_environment_then_the_spec(load_text: Loader) -> None:
    environ = {"RECONCILER_VAR_DID": "from environment"}
    assert load_text(RESTORE).variables == {"did": "did:plc:abc", "limit": "5"}
    assert load_text(RESTORE, environ).variables["did"] == "from environment"
    assert load_text(RESTORE, environ, did="given").variables["did"] == "given"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dd": "x"}, "did you mean `did`?"),
        ({"did": ""}, "--var did is empty"),
        ({"did": "postgresql://u:canary@h"}, "--var did holds a password in a connection URI"),
        ({"limit": "many"}, "a limit is a number of rows"),
        ({"did": "a\0b"}, "holds the character NUL"),
    ],
)
def test_values_of_variables_are_checked(load_text: Loader, given: dict[str, str], said: str) -> None:
    with pytest.raises(ReconcilerError) as raised:
        load_text(RESTORE, **given)
    assert said in raised.value.render()
    assert "canary" not in raised.value.render()


def test_a_value_may_be_empty_where_the_spec_says_so(load_text: Loader) -> None:
    text = 'version: 1\nvariables: { prefix: { default: "" } }\n'
    assert load_text(text, {"RECONCILER_VAR_PREFIX": ""}).variables == {"prefix": ""}


def test_a_value_is_never_read_as_a_reference(load_text: Loader) -> None:
    text = 'version: 1\nvariables: { x: { default: a } }\nconnections: { c: { files: "${x}/${env:F}" } }\n'
    connection = load_text(text, {"F": "f", "SECRET": "canary"}, x="${env:SECRET}").connection("c")
    assert isinstance(connection, FilesConnection)
    assert connection.path == Path.cwd() / "${env:SECRET}" / "f"


def test_aliases_and_merges(load_text: Loader) -> None:
    text = """version: 1
connections: { a: { postgres: embedded }, b: { postgres: "${env:B}" } }
collections:
  one: &one { table: a.one, source: b, on_extra: delete }
  two: { <<: *one, table: a.two, on_extra: keep }
"""
    two = load_text(text).document.collections["two"]
    assert (two.table, two.source, two.on_extra) == ("a.two", "b", "keep")


def test_billion_laughs_are_refused_quickly(load_text: Loader) -> None:
    lines = ["version: 1", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    started = time.monotonic()
    with pytest.raises(ReconcilerError, match="aliases make the spec grow by more than 10,000 values"):
        load_text("\n".join(lines))
    assert time.monotonic() - started < 1


def test_a_cycle_of_needs_is_printed_with_its_places(load_text: Loader) -> None:
    text = """version: 1
connections: { x: { postgres: embedded }, y: { postgres: "${env:Y}" } }
collections:
  b: { table: x.b, source: y, needs: [collections.c] }
  c: { table: x.c, source: y, needs: [collections.a] }
  a: { table: x.a, source: y, needs: [collections.b] }
  d: { table: x.d, source: y, needs: [collections.a] }
"""
    with pytest.raises(ReconcilerError, match="in a circle") as raised:
        load_text(text)
    assert raised.value.details == (
        "collections.a needs collections.b (spec.yaml:6:39)",
        "collections.b needs collections.c (spec.yaml:4:39)",
        "collections.c needs collections.a (spec.yaml:5:39)",
    )


def test_large_specs_are_read_quickly(load_text: Loader) -> None:
    head, _, tail = RESTORE.partition("collections:\n")
    one = tail.partition("  everything_of")[0]
    text = head + "collections:\n" + "".join(one.replace("  publications:", f"  p{n}:") for n in range(170))
    assert text.count("\n") > 2000
    load_text(RESTORE)
    started = time.process_time()
    load_text(text)
    assert time.process_time() - started < 0.5


def test_what_a_plan_holds_gives_the_same_spec(load_text: Loader) -> None:
    spec = load_text(RESTORE, ENVIRON)
    tree = json.loads(json.dumps(spec.canonical()))
    again = from_canonical(tree, variables=spec.variables, base=spec.base, environ=ENVIRON)
    assert again.document == spec.document
    assert again.variables == spec.variables
    assert json.dumps(again.canonical()) == json.dumps(spec.canonical())
    assert again.connection("production") == spec.connection("production")
    assert again.locate("collections", "publications") is None
    with pytest.raises(ReconcilerError) as raised:
        from_canonical(tree, variables=spec.variables, base=spec.base, environ={}).connection("production")
    assert raised.value.where == "the plan's spec: connections.production"


@pytest.mark.parametrize(
    "tree", [{}, {"version": 2}, {"version": 1, "x": {}}, {"version": 1, "collections": []}, {"version": [1]}]
)
def test_what_no_plan_holds_is_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ReconcilerError, match="the plan's spec"):
        from_canonical(tree, variables={}, base=Path(), environ={})


def test_load_needs_a_spec(tmp_path: Path) -> None:
    for paths, said in (
        ([], "no spec is named"),
        ([tmp_path], "there is no .*yaml file"),
        ([tmp_path / "x.yaml"], "there is no file or folder"),
    ):
        with pytest.raises(ReconcilerError, match=said):
            load(paths, environ={})
