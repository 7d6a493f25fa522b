"""A file of objects is read with its spec, and every wrong statement is named at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.spec import Spec, from_canonical, load
from tests.spec.wrong import HEAD

_SECTION = "\nsql_objects:\n  a: { on: production, file: 'sql/${did}.sql', replace: true, needs: [] }\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(HEAD + _SECTION, "utf-8")
    (tmp_path / "sql").mkdir()
    return tmp_path


def read(folder: Path, text: str) -> Spec:
    (folder / "sql" / "abc.sql").write_bytes(text.encode())
    return load([folder], environ={})


def test_statements_with_their_places(folder: Path) -> None:
    spec = read(folder, "-- two\n\nCREATE TABLE a (b int);\n  CREATE FUNCTION f() RETURNS int RETURN 1\n")
    assert list(spec.resources()) == ["sql_objects.a"]
    assert spec.document.sql_objects["a"].replace is True
    file = spec.objects_file("a")
    assert [(it.kind, it.identity, str(file.place(it.offset)).rpartition("/")[2]) for it in file.statements] == [
        ("table", "public.a", "abc.sql:3:1"),
        ("function", "public.f", "abc.sql:4:3"),
    ]


def test_every_wrong_statement_is_named(folder: Path) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(folder, "CREATE TABLE a ();\nDROP TABLE b;\n\n  CREATE TEMP TABLE c ();\nSELECT\n1;")
    said = [(str(e.where).rpartition("/")[2], e.what) for e in caught.value.errors]
    assert said == [
        ("abc.sql:2:1", "only CREATE statements can stand here, not DROP …"),
        ("abc.sql:4:10", "what is temporary is gone with its session"),
        ("abc.sql:5:1", "only CREATE statements can stand here, not SELECT …"),
    ]
    assert isinstance(caught.value.errors[0].where, Location)
    assert caught.value.errors[0].where.text == "DROP TABLE b;"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no statement"),
        ("-- nothing\n;", "holds no statement"),
        ("CREATE TABLE a (b text DEFAULT 'x);", "this ' is never closed"),
        ("CREATE TABLE a (b text DEFAULT '\0');", "NUL"),
        ("CREATE VIEW a AS SELECT 'postgresql://me:canary@h/d'", "holds a password in a connection URI"),
    ],
)
def test_what_is_no_file_of_statements(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ReconcilerError) as caught:
        read(folder, text)
    assert said in caught.value.what
    assert "canary" not in caught.value.render()


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text("canary")
    (folder / "sql" / "abc.sql").symlink_to(secret)
    with pytest.raises(ReconcilerError, match="leads out of the folder") as caught:
        load([folder], environ={})
    assert "canary" not in caught.value.render()


def test_a_plan_s_spec_does_without_the_file(folder: Path) -> None:
    spec = read(folder, "CREATE TABLE a ()")
    tree = spec.canonical()
    (folder / "sql" / "abc.sql").unlink()
    again = from_canonical(tree, variables=spec.variables, base=folder, environ={})
    assert again.document.sql_objects == spec.document.sql_objects
