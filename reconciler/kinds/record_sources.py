"""Where `pds_records` come from: a table, files, rows of the spec, or a CAR file; each gives keys and texts of records.

In: a resource of the spec. Out: a function that reads its rows, as often as it is called. A record's text is never parsed into Python
numbers on its way: a json column's text is kept as it is, and numbers of files keep their digits.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, cast

from reconciler.kinds.tables import find_table, place_of, proven
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.spec import CarFile, InlineRows, Number, PdsRecords, Value, json_text
from reconciler.systems.files import FileSource, find
from reconciler.systems.pds import car
from reconciler.systems.pds.compare import Row
from reconciler.systems.pds.records import MAX_BYTES
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.rows import alias, full_name, relation
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

Rows = Callable[[], Iterator[Row]]


class Origin(NamedTuple):
    """`place` is what errors call it, `table` the one it is, if it is one; `likely` is how many rows it has as far as anyone knows
    before one is read."""

    rows: Rows
    place: str
    table: TableName | None = None
    likely: Callable[[], int] = lambda: 0


_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_RECORDS = ("json", "jsonb", "text", "character varying")


def rows_of(world: World, address: str, resource: PdsRecords) -> Origin:
    """Where a resource's records come from."""
    match resource.source:
        case InlineRows(rows=rows):
            texts = (f"{json_text(cast('Mapping[str, Value]', row))}\n".encode() for row in rows)
            lines = list(texts)
            return Origin(lambda: _of_lines(resource, iter(lines), "row"), f"the rows of {address}")
        case CarFile(car=file):
            path = world.spec.base / file
            place = place_of(world, address, "source")
            if not path.is_file():
                raise ReconcilerError(f"{address}: there is no file {file}", where=place)
            return Origin(lambda: _of_car(world, resource, file), file)
        case _:
            pass
    named = resource.table()
    assert named is not None
    assert named.table is not None
    files = world.files(named.connection)
    if files is None:
        return _of_table(world, address, resource, named.connection, named.table)
    source = find(files.path, files.tables, named.table.name)
    if source is None:
        raise ReconcilerError(
            f"{address}: {files.path.name} has no file for {named.table.name}", where=place_of(world, address, "source"),
            todo="name it: source: connection.name, or map it under the connection's `tables`",
        )  # fmt: skip
    return Origin(lambda: _of_file(resource, source), source.place)


def _of_table(world: World, address: str, resource: PdsRecords, connection: str, name: TableName) -> Origin:
    table = find_table(world, connection, name, place_of(world, address, "source"))
    session = world.session(connection)
    where = raw("true")
    if resource.where:
        where = proven(world, session, resource.where, table, place_of(world, address, "where"))
    key = _column(world, address, table, "rkey", resource.rkey or "")
    if resource.record is not None:
        record = _column(world, address, table, "record", resource.record)
        if table.columns[resource.record].type.partition("(")[0] not in _RECORDS:
            raise ReconcilerError(
                f"{address}: {full_name(table.name)}.{resource.record} is no JSON",
                where=place_of(world, address, "record"), why=f"it is of the type {table.columns[resource.record].type}",
            )  # fmt: skip
        text: Composable = q("{}::text", record)
    else:
        text = _built(world, address, resource, table)
    query = q("SELECT {}::text, {} FROM {} AS {} WHERE {} ORDER BY {}::text COLLATE \"C\"", key, text, relation(table.name),
              alias(table.name), where, key)  # fmt: skip
    column = resource.rkey or ""

    def rows() -> Iterator[Row]:
        for number, (key_text, record_text) in enumerate(_copied(session, query), 1):
            yield Row(f"row {number if key_text is None else f'{column} = {key_text}'}", key_text, record_text)

    def likely() -> int:
        (told,) = session.one(q("EXPLAIN (FORMAT JSON) {}", query))
        return int(told[0]["Plan"]["Plan Rows"])

    return Origin(rows, f"{connection} {full_name(table.name)}", table.name, likely)


def _column(world: World, address: str, table: Table, word: str, name: str, *more: str) -> Composable:
    if name not in table.columns:
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} has no column {name!r}", where=place_of(world, address, word, *more),
            todo=f"its columns are {', '.join(table.columns)}",
        )  # fmt: skip
    return q("{}.{}", alias(table.name), ident(name))


def _built(world: World, address: str, resource: PdsRecords, table: Table) -> Composable:
    """A record made of columns; one that is NULL leaves its field out."""
    parts: list[Composable] = [lit(f'"$type":{json.dumps(resource.collection)}')]
    for field, name in sorted((resource.fields or {}).items()):
        column = _column(world, address, table, "fields", name, field)
        head = lit(f"{json.dumps(field, ensure_ascii=False)}:")
        parts.append(q("CASE WHEN {c} IS NOT NULL THEN {head} || to_json({c})::text END", c=column, head=head))
    return q("'{{' || concat_ws(',', {}) || '}}'", join(parts))


def _copied(session: Session, query: Composable) -> Iterator[tuple[str | None, str | None]]:
    rest = b""
    for block in session.copy_out(q("COPY ({}) TO STDOUT", query)):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            key, text = line.split(b"\t")
            yield _unescaped(key), _unescaped(text)


def _unescaped(field: bytes) -> str | None:
    if field == b"\\N":
        return None
    if b"\\" in field:
        field = _ESCAPED.sub(lambda match: _LETTERS.get(match[1], match[1]), field)
    return field.decode()


def _of_car(world: World, resource: PdsRecords, file: str) -> Iterator[Row]:
    with car.opened(world.spec.base / file) as opened:
        for rkey, _, text in opened.records(resource.collection):
            yield Row(f"record {rkey}", rkey, text)


def _of_file(resource: PdsRecords, source: FileSource) -> Iterator[Row]:
    if source.values != "csv":
        return _of_lines(resource, source.lines(), f"{source.place}, row")
    csv.field_size_limit(MAX_BYTES * 2)
    members = (cast("dict[str, object]", row) for row in csv.DictReader(_text_lines(source.lines())))
    empty = ({name: value or None for name, value in row.items()} for row in members)
    return _of_members(resource, empty, f"{source.place}, row")


def _text_lines(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = ""
    for text in codecs.iterdecode(blocks, "utf-8-sig"):
        *lines, rest = (rest + text).split("\n")
        yield from (f"{line}\n" for line in lines)
    if rest:
        yield rest


def _of_lines(resource: PdsRecords, lines: Iterator[bytes], place: str) -> Iterator[Row]:
    def members() -> Iterator[dict[str, object]]:
        for number, line in enumerate((line for line in lines if line.strip()), 1):
            try:
                row = cast(object, json.loads(line, parse_float=Number, parse_int=Number, object_pairs_hook=_once))
            except ValueError as error:
                raise ReconcilerError(f"{place} {number} is not JSON", why=str(error)) from None
            if not isinstance(row, dict):
                raise ReconcilerError(f"{place} {number} is not an object")
            yield cast("dict[str, object]", row)

    return _of_members(resource, members(), place)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return members


def _of_members(resource: PdsRecords, rows: Iterable[Mapping[str, object]], place: str) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        key = row.get(resource.rkey or "")
        yield Row(f"{place} {number}", None if key is None else str(key), _text(resource, row))


def _text(resource: PdsRecords, row: Mapping[str, object]) -> str | None:
    """The record of a row: a JSON object, or text that is one, or made of several members."""
    if resource.record is not None:
        value = row.get(resource.record)
        return value if value is None or isinstance(value, str) else json_text(cast(Value, value))
    fields = {name: row[column] for name, column in (resource.fields or {}).items() if row.get(column) is not None}
    return json_text(cast(Value, {"$type": resource.collection, **fields}))
