"""Many files make one spec, whatever their number and order."""

from __future__ import annotations

import json
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError, SpecErrors
from reconciler.spec import FilesConnection, PostgresConnection, from_canonical, load
from tests.spec.worked import RESTORE

VERSION = "version: 1\n"
ONE = "collections: { one: { table: a.one, source: b } }\n"
CONNECTIONS = 'connections: { a: { postgres: "${env:A}" }, b: { postgres: "${env:B}" } }\n'


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def entries(text: str) -> list[tuple[str, str]]:
    """Each name of a spec in block style, with its section."""
    found: list[tuple[str, str]] = []
    for section in re.split(r"^(?=\w)", text, flags=re.MULTILINE)[2:]:
        head, _, body = section.partition("\n")
        found += [(head, entry) for entry in re.split(r"^(?=  \w)", body, flags=re.MULTILINE) if entry.strip()]
    return found


@given(st.integers(0, 2**32), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_canonical_knows_nothing_of_files_and_order(seed: int, number: int) -> None:
    chance = random.Random(seed)
    shuffled = entries(RESTORE)
    assert len(shuffled) == 9
    chance.shuffle(shuffled)
    files: list[dict[str, list[str]]] = [{} for _ in range(number)]
    for section, entry in shuffled:
        chance.choice(files).setdefault(section, []).append(entry)
    with tempfile.TemporaryDirectory() as folder:
        whole = load([write(Path(folder) / "whole", all=RESTORE)], environ={})
        texts = {
            f"f{index}": VERSION + "".join(f"{section}\n{''.join(blocks)}" for section, blocks in file.items())
            for index, file in enumerate(files)
        }
        apart = write(Path(folder) / "apart", **texts)
        paths = [apart / f"{name}.yaml" for name in texts]
        chance.shuffle(paths)
        expected = json.dumps(whole.canonical())
        assert json.dumps(load([apart], environ={}).canonical()) == expected
        assert json.dumps(load(paths, environ={}).canonical()) == expected
        assert load([*paths, apart], environ={}).document == whole.document


def test_canonical_is_as_written(tmp_path: Path) -> None:
    spec = load([write(tmp_path, a=VERSION + CONNECTIONS + ONE)], environ={"A": "host=canary"})
    assert spec.canonical() == {
        "collections": {"one": {"source": "b", "table": "a.one"}},
        "connections": {"a": {"postgres": "${env:A}"}, "b": {"postgres": "${env:B}"}},
        "version": 1,
    }


def test_a_name_defined_twice_names_both_places(tmp_path: Path) -> None:
    folder = write(tmp_path, a=VERSION + CONNECTIONS + ONE, b=VERSION + ONE)
    with pytest.raises(ReconcilerError, match=r"collections\.one is defined twice") as raised:
        load([folder], environ={})
    assert str(raised.value.where) == f"{folder}/b.yaml:2:16"
    assert raised.value.details == (f"first at {folder}/a.yaml:3:16",)


def test_every_file_of_a_folder_is_judged_in_one_run(tmp_path: Path) -> None:
    folder = write(
        tmp_path, a="versoin: 1\n", b=VERSION + "x: [\n", c="", d=VERSION + "collections: { c: { tabel: x } }\n"
    )
    with pytest.raises(SpecErrors) as raised:
        load([folder], environ={})
    assert {Path(str(error.where)).name.partition(":")[0] for error in raised.value.errors} == {
        f"{name}.yaml" for name in "abcd"
    }


def test_only_yaml_files_directly_in_the_folder_count(tmp_path: Path) -> None:
    folder = write(tmp_path, a=VERSION + CONNECTIONS + ONE, **{".hidden": "nonsense: ["})
    write(folder / "deeper", b="nonsense: [")
    (folder / "notes.md").write_text("nonsense")
    (folder / "c.yml").write_text(VERSION)
    assert list(load([folder], environ={}).resources()) == ["collections.one"]


def test_unreadable_files_are_errors(tmp_path: Path) -> None:
    cases = {
        "latin": (VERSION.encode() + b"# \xe9\n", "is not UTF-8 text"),
        "wide": (VERSION.encode("utf-16"), "is not UTF-8 text"),
        "huge": (VERSION.encode() + b"#" * (5 * 1024 * 1024), "is larger than 4 MiB"),
        "nul": (VERSION.encode() + b"\0", r"U\+0000 is not allowed"),
    }
    for name, (data, said) in cases.items():
        (tmp_path / f"{name}.yaml").write_bytes(data)
        with pytest.raises(ReconcilerError, match=said):
            load([tmp_path / f"{name}.yaml"], environ={})
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + VERSION.encode())
    load([tmp_path / "bom.yaml"], environ={})
    (tmp_path / "windows.yaml").write_bytes((VERSION + CONNECTIONS + ONE).replace("\n", "\r\n").encode())
    load([tmp_path / "windows.yaml"], environ={})


def test_another_file_replaces_the_connections(tmp_path: Path) -> None:
    spec_file = write(tmp_path / "specs", s=VERSION + CONNECTIONS + ONE) / "s.yaml"
    (tmp_path / "specs" / ".env").write_text("A=host=strangers\n")
    trusted = write(
        tmp_path / "ci", c=VERSION + 'connections: { a: { postgres: "${env:A:-host=x}" }, b: { postgres: embedded } }\n'
    )
    spec = load([spec_file], environ={}, connections=trusted / "c.yaml")
    connection = spec.connection("a")
    assert isinstance(connection, PostgresConnection)
    assert connection.dsn.reveal() == "host=x"
    again = from_canonical(
        {**spec.canonical(), "connections": {}},
        variables={},
        base=spec.base,
        environ={},
        connections=trusted / "c.yaml",
    )
    assert again.connection("a") == connection
    assert spec.canonical()["connections"] == {"a": {"postgres": "${env:A:-host=x}"}, "b": {"postgres": "embedded"}}
    for text, said in (
        (VERSION + ONE, "cannot stand in a file of connections"),
        (VERSION, "declares no connections"),
        (VERSION + "connections: { a: { postgres: embedded } }\n", r"the connection `b` is not declared"),
    ):
        other = write(tmp_path / "ci", d=text) / "d.yaml"
        with pytest.raises(ReconcilerError) as raised:
            load([spec_file], environ={}, connections=other)
        assert re.search(said, raised.value.render())
    assert "d.yaml" in raised.value.render()


def test_relative_paths_stand_against_the_folder_of_the_specs(tmp_path: Path) -> None:
    text = VERSION + "connections: { e: { files: data } }\n"
    one, two = write(tmp_path / "one", a=text), write(tmp_path / "two", b=VERSION)
    for paths, base in (([one], one), ([one / "a.yaml"], one), ([one, one / "a.yaml"], one), ([one, two], tmp_path)):
        connection = load(paths, environ={}).connection("e")
        assert isinstance(connection, FilesConnection)
        assert connection.path == base / "data"


def test_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path / "cwd"))
    specs = write(tmp_path / "specs", a=VERSION + CONNECTIONS + "variables: { v: {} }\n")
    (specs / ".env").write_text("# comment\n\nexport A = 'host=a b' # x\nRECONCILER_VAR_V=one two # three\n")
    Path(".env").write_text('A=host=cwd\nB="host=\\"b\\""\n')
    spec = load([specs], environ={})
    assert spec.variables == {"v": "one two"}
    assert [reveal(spec.connection(name)) for name in "ab"] == ["host=a b", 'host="b"']
    assert reveal(load([specs], environ={"A": "host=set"}).connection("a")) == "host=set"


@pytest.mark.parametrize(
    "line", ["canary", "A='canary", 'A="canary', "A='x' canary", "1A=canary", "=canary", "A canary"]
)
def test_a_broken_dotenv_is_told_without_its_line(tmp_path: Path, line: str) -> None:
    specs = write(tmp_path, a=VERSION)
    (specs / ".env").write_text(f"B=1\n{line}\n")
    with pytest.raises(ReconcilerError, match="not KEY=VALUE") as raised:
        load([specs], environ={})
    assert "canary" not in raised.value.render()
    assert ".env:2:1" in raised.value.render()


def reveal(connection: object) -> str:
    assert isinstance(connection, PostgresConnection)
    return connection.dsn.reveal()
