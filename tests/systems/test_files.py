"""Rows in files: whatever the formatting and wherever the blocks end, the rows are those of the document, to the letter.

What JSON is, Python's own reader says, which keeps numbers as text and members in their order here. PostgreSQL refuses a row that is
no JSON; where there is no database, Python does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.files import find, reader, write_table
from tests.kinds.bench import Bench

EXAMPLES = os.environ.get("RECONCILER_LAW_EXAMPLES")
settings.register_profile("files", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LAW = settings(
    settings.get_profile("files"), max_examples=int(EXAMPLES or 80), derandomize=EXAMPLES is None, database=None
)
WITH_DATABASE = settings(LAW, max_examples=int(EXAMPLES or 12))


class Number(str):
    """A number as it is spelled."""

    __slots__ = ()


class Members(NamedTuple):
    """An object's members as they stand, twice where they stand twice."""

    pairs: tuple[tuple[str, object], ...]


def loads(text: str) -> object:
    def refuse(constant: str) -> object:
        raise ValueError(constant)

    return json.loads(
        text,
        parse_int=Number,
        parse_float=Number,
        parse_constant=refuse,
        object_pairs_hook=lambda pairs: Members(tuple(pairs)),
    )


# Documents as text

BLANK = st.text(" \t\n\r", max_size=2)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
LETTERS = st.one_of(
    st.sampled_from(
        [r"\"", r"\\", r"\/", r"\n", r"\u0041", r"\ud83d\ude00", r"\ud83d", r"\u005c", r"\u0022", r"\t\b\f\r"]
    ),
    st.sampled_from(list("[]{}:, \"\\'")).map(lambda letter: json.dumps(letter)[1:-1]),
    st.characters(exclude_characters='"\\', min_codepoint=32, exclude_categories=("Cs",)),
)
STRINGS = st.lists(LETTERS, max_size=6).map(lambda letters: f'"{"".join(letters)}"')
KEYS = st.one_of(st.sampled_from(['"t"', '"id"', '"a"', '""', '"rows"']), STRINGS)


def joined(opening: str, closing: str, parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def join(blank: str, padded: list[tuple[str, str, str]]) -> str:
        return opening + (",".join("".join(part) for part in padded) or blank) + closing

    return st.builds(join, BLANK, st.lists(st.tuples(BLANK, parts, BLANK), max_size=4))


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(KEYS, BLANK, st.just(":"), BLANK, values).map("".join)
    return joined("{", "}", pair)


VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["null", "true", "false"])),
    lambda inner: st.one_of(joined("[", "]", inner), objects(inner)),
    max_leaves=8,
)
ROWS = joined("[", "]", objects(VALUES))
NAMES = st.lists(
    st.sampled_from(["t", "rows", "document", "a_b", "T", "Kühe", "a b", "t2", "ids"]),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def members(draw: st.DrawFn) -> tuple[list[str], str]:
    """Names of arrays of rows, and a document that holds them among other things."""
    names = draw(NAMES)
    parts = [f'"{name}":{draw(BLANK)}{draw(ROWS)}' for name in names]
    others = draw(st.lists(VALUES, max_size=3))
    parts += [f'"other {n}":{draw(BLANK)}{value}' for n, value in enumerate(others)]
    order = draw(st.permutations(parts))
    return names, "{" + ",".join(draw(BLANK) + part + draw(BLANK) for part in order) + "}"


# Reading them


@pytest.fixture
def folder(place: Path) -> Path:
    (place / "data").mkdir()
    return place / "data"


def rows(path: Path, table: str, block: int) -> list[object] | None:
    """The rows of a table as the database would take them; None where the file has none of that name."""
    before, reader.CHUNK = reader.CHUNK, block
    try:
        found = find(path, {}, table)
        return None if found is None else list(_taken(found.lines(), found.place))
    finally:
        reader.CHUNK = before


def _taken(lines: Iterator[bytes], place: str) -> Iterator[object]:
    for line in lines:
        assert line.count(b"\n") == 1 and line.endswith(b"\n")
        if not line.strip():
            continue  # as the loader does
        try:
            row = loads(line.decode())
        except ValueError:
            raise ReconcilerError(f"{place} is not JSON") from None
        if not isinstance(row, Members):
            raise ReconcilerError(f"{place} is not an object")
        yield row


BLOCKS = st.one_of(st.integers(1, 9), st.just(1 << 18))


@LAW
@given(text=st.builds("{}{}{}".format, BLANK, ROWS, BLANK), block=BLOCKS)
def test_an_array_of_rows(folder: Path, text: str, block: int) -> None:
    (folder / "t.json").write_text(text, "utf-8", newline="")
    (folder.parent / "t.json").write_text(text, "utf-8", newline="")
    assert rows(folder, "t", block) == loads(text)
    assert rows(folder.parent / "t.json", "anything", max(block, 4)) == loads(text)


@LAW
@given(document=members(), block=BLOCKS)
def test_members_of_an_object(folder: Path, document: tuple[list[str], str], block: int) -> None:
    names, text = document
    path = folder / "all.json"
    path.write_text(text, "utf-8", newline="")
    whole = loads(text)
    assert isinstance(whole, Members)
    held = dict(whole.pairs)
    for name in names:
        assert rows(path, name, block) == held[name]
    assert rows(path, "no such", block) is None


@LAW
@given(text=ROWS, cut=st.floats(0, 1, exclude_max=True), block=BLOCKS)
def test_an_array_that_is_cut_anywhere(folder: Path, text: str, cut: float, block: int) -> None:
    (folder / "t.json").write_bytes(text.encode()[: max(1, int(len(text.encode()) * cut))])
    with pytest.raises(ReconcilerError, match=r"t\.json"):
        rows(folder, "t", block)


@LAW
@given(document=members(), cut=st.floats(0, 1, exclude_max=True), block=BLOCKS)
def test_an_object_that_is_cut_anywhere(folder: Path, document: tuple[list[str], str], cut: float, block: int) -> None:
    names, text = document
    path = folder / "all.json"
    path.write_bytes(text.encode()[: max(1, int(len(text.encode()) * cut))])
    for name in names:
        with pytest.raises(ReconcilerError, match=r"all\.json"):
            rows(path, name, block)


@LAW
@given(text=ROWS, at=st.floats(0, 1), more=st.sampled_from(list('[]{}",:x1')), block=BLOCKS)
def test_an_array_with_a_character_too_many(folder: Path, text: str, at: float, more: str, block: int) -> None:
    """It is refused, or it is what it says; a comma between rows is forgiven, since no row is lost by it."""
    place = 1 + int((len(text) - 2) * at)
    broken = text[:place] + more + text[place:]
    (folder / "t.json").write_text(broken, "utf-8", newline="")
    try:
        wanted = loads(broken)
    except ValueError:
        wanted = loads(text) if more == "," else None
    try:
        assert rows(folder, "t", block) == wanted
    except ReconcilerError as error:
        assert "t.json" in error.render()


WRONG = {
    "more after the end": ('[{"id": 1}] x', "t", None),
    "two documents": ('[{"id": 1}][{"id": 2}]', "t", None),
    "brackets that do not match": ('{"x": [{]}, "t": [{"id": 1}]}', "t", "refused"),
    "a name like another": ('{" t": [{"id": 1}], "t:": [{"id": 2}]}', "t", "absent"),
    "a line break before the colon": ('{"t"\n: [{"id": 1}]}', "t", [{"id": 1}]),
    "a name with escapes": (r'{"K\u00fche": [{"id": 1}]}', "Kühe", [{"id": 1}]),
    "a name that stands twice": ('{"t": [{"id": 1}], "t": [{"id": 2}]}', "t", "refused"),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_row_is_there_or_none(folder: Path, case: str) -> None:
    text, name, wanted = WRONG[case]
    path = folder / ("t.json" if wanted is None else "all.json")
    path.write_text(text, "utf-8")
    if wanted is None:
        with pytest.raises(ReconcilerError):
            rows(folder, name, 1 << 18)
    elif wanted == "refused":
        with pytest.raises(ReconcilerError, match="is not JSON"):
            rows(path, name, 1 << 18)
    elif wanted == "absent":
        assert rows(path, name, 1 << 18) is None
    else:
        assert rows(path, name, 1 << 18) == loads(json.dumps(wanted))


# All the way to a table

SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  given: { files: data }
collections:
  t: { table: production.t, source: given }
"""
TEXTS = st.text(
    st.one_of(st.sampled_from(list("\n\r\"',\\;. \tN")), st.characters(exclude_characters="\0", exclude_categories=("Cs",))), max_size=8
)  # fmt: skip
TABLE = st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS), min_size=1, max_size=6)
Table = list[tuple[str | None, str | None]]


def quoted(text: str | None, always: bool) -> str:
    """A field of CSV as PostgreSQL reads it: without quotes an empty one is NULL."""
    if text is None:
        return ""
    if always or not text or set(text) & set('\n\r",'):
        return '"' + text.replace('"', '""') + '"'
    return text


def bring(bench: Bench, name: str, text: str) -> list[tuple[str | None, ...]]:
    """The table after a plan that had this file as its source was applied."""
    bench.production.sql("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
    folder = bench.folder / "data"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8", newline="")
    bench.path.write_text(SPEC, "utf-8")
    assert bench.apply(bench.plan()).converged
    return bench.production.sql("SELECT a, b FROM t ORDER BY id")


@WITH_DATABASE
@given(table=TABLE, always=st.booleans(), end=st.sampled_from(["\n", "\r\n"]), mark=st.sampled_from(["", "\ufeff"]))
def test_csv(bench: Bench, table: Table, always: bool, end: str, mark: str) -> None:
    lines = [f"{n},{quoted(a, always)},{quoted(b, always)}" for n, (a, b) in enumerate(table)]
    assert bring(bench, "t.csv", mark + end.join(["id,a,b", *lines, ""])) == table


@WITH_DATABASE
@given(table=TABLE, ascii_=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n"]), last=st.booleans())
def test_jsonl(bench: Bench, table: Table, ascii_: bool, end: str, last: bool) -> None:
    lines = [json.dumps({"id": n, "a": a, "b": b}, ensure_ascii=ascii_) for n, (a, b) in enumerate(table)]
    assert bring(bench, "t.jsonl", end.join(lines) + (end if last else "")) == table


@WITH_DATABASE
@given(table=TABLE, indent=st.sampled_from([None, 0, 2, "\t"]), ascii_=st.booleans())
def test_json(bench: Bench, table: Table, indent: int | str | None, ascii_: bool) -> None:
    given_rows = [{"id": n, "a": a, "b": b} for n, (a, b) in enumerate(table)]
    assert bring(bench, "t.json", json.dumps(given_rows, indent=indent, ensure_ascii=ascii_)) == table


@pytest.mark.each_postgres
def test_csv_with_a_line_that_once_meant_the_end(bench: Bench) -> None:
    table: Table = [("one\n\\.\ntwo", "x"), ("\\.", "y"), ("three", "\\.")]
    lines = [f"{n},{quoted(a, True)},{quoted(b, True)}" for n, (a, b) in enumerate(table)]
    assert bring(bench, "t.csv", "\n".join(["id,a,b", *lines, ""])) == table


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'id,a,b\n1,x,y\n2,"x,y\n'),
        ("t.csv", "id,a,b\n1,x,y\n2,x\n"),
        ("t.csv", "id,a,b\n1,x,y,z\n"),
        ("t.csv", ""),
        ("t.csv", "id,id\n1,1\n"),
        ("t.csv", "a,b\nx,y\n"),
        ("t.json", "null"),
        ("t.json", ""),
        ("t.jsonl", '{"id": 1}\n{"id": 2'),
        ("t.jsonl", '{"id": 1}\n{"id": 2} {"id": 3}\n'),
        ("t.jsonl", '{"id": 1}\n{"id": 2, "a": "\\ud800"}\n'),
        ("t.json", '[{"id": 1, "a": "\\u0000"}]'),
        ("t.json", '[{"id": 1}, {"id": 2]]'),
        ("t.json", '[{"id": 1}, 2]'),
        ("t.json", '[{"id": 1} {"id": 2}]'),
        ("t.json", '{"id": 1}'),
    ],
)
def test_what_is_broken_is_an_error_that_names_the_file(bench: Bench, name: str, text: str) -> None:
    with pytest.raises(ReconcilerError) as caught:
        bring(bench, name, text)
    assert name in caught.value.render()
    assert bench.production.sql("SELECT * FROM t") == []


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.jsonl"])
def test_bytes_that_are_no_text(bench: Bench, name: str) -> None:
    bench.production.sql("CREATE TABLE t (id int PRIMARY KEY, a text)")
    bench.path.write_text(SPEC, "utf-8")
    (bench.folder / "data").mkdir()
    texts = {"t.csv": b"id,a\n1,\xff\n", "t.json": b'[{"id": 1, "a": "\xff"}]', "t.jsonl": b'{"id": 1, "a": "\xff"}\n'}
    (bench.folder / "data" / name).write_bytes(texts[name])
    with pytest.raises(ReconcilerError) as caught:
        bench.plan()
    assert name in caught.value.render()


@pytest.mark.parametrize(("name", "text"), [("t.json", "[]"), ("t.jsonl", "")])
def test_no_rows_are_no_rows(bench: Bench, name: str, text: str) -> None:
    assert bring(bench, name, text) == []


@pytest.mark.parametrize("name", ["../outside", "a/b", "/outside", "nul\x00"])
def test_no_table_is_written_outside_its_folder(folder: Path, name: str) -> None:
    with pytest.raises(ReconcilerError, match="cannot be the name of a file"):
        write_table(folder / "here", name, iter([b"{}\n"]))
    assert not [path for path in folder.rglob("*") if path.is_file()]
