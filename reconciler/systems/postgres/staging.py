"""A plan's changes on their way back into the database: streamed from the file into one temporary table a step.

Layout by verb, columns by position so that no user's name can clash: insert `c1…` (after), delete `c1…` (before),
update `k1…`, `b1…` and `a1…` with `mb`/`ma` saying by a string of 0 and 1 which of them are given. `st`: 't' to do, 'a' already so.
Invariant: types come from the catalog and must be the plan's; a plan whose columns have changed meanwhile is drift.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import LiteralString

from reconciler.plan.errors import Drift
from reconciler.plan.file import Plan, dumps
from reconciler.plan.names import TableName
from reconciler.plan.step import WHOLE, Step, Verb
from reconciler.systems.postgres.catalog import Catalog, Column, Table
from reconciler.systems.postgres.rows import hmac_sql, relation, stored, whole
from reconciler.systems.postgres.session import Composable, Session, ident, join, q, raw

LINES_A_BLOCK = 500


@dataclass
class Staged:
    """A step, its table, and where its changes stand."""

    step: Step
    table: Table
    temp: Composable
    key: tuple[tuple[str, str], ...]
    """(column of the table, column of the temporary table)."""
    columns: tuple[Column, ...]
    """The step's columns in sorted order; for an update without the key's."""
    todo: int = 0
    already: int = 0
    numbered: Composable | None = None
    """Of a table without a key, where its rows stand and what they are called: `at`, `whole`."""

    @property
    def live(self) -> Composable:
        """The table as a relation that has the key."""
        if self.numbered is None:
            return relation(self.table.name)
        return q("(SELECT w.whole AS {}, x.* FROM {} w JOIN {} x ON x.ctid = w.at)", ident(WHOLE), self.numbered,
                 relation(self.table.name))  # fmt: skip

    @property
    def taken_as_new(self) -> bool:
        """An insert whose key a unique index guards need not look before it writes: a row that is there makes it fail, and then we look."""
        return self.step.verb is Verb.INSERT and not self.step.sensitive and self.table.unique_on(self.step.key)

    def analyze(self, session: Session) -> None:
        """How many rows there are, and how their keys are spread: nothing is joined by what else they hold."""
        session.run(q("ANALYZE {} ({})", self.temp, join([ident(temp) for _, temp in self.key])))

    @property
    def all_todo(self) -> bool:
        return self.already == 0

    def on_key(self, staged: LiteralString, live: LiteralString) -> Composable:
        return join([q("{} = {}", ident(live, name), ident(staged, temp)) for name, temp in self.key], " AND ")

    def equal(self, column: Column, live: Composable, staged: Composable) -> Composable:
        """Whether a live value is the staged one, to the letter."""
        if column.name in self.step.sensitive:
            return q("({} IS NOT DISTINCT FROM {})", hmac_sql(live), staged)
        if column.traits.exact:
            return q("({} IS NOT DISTINCT FROM {})", live, staged)
        return q("(({})::text IS NOT DISTINCT FROM ({})::text)", live, staged)

    def given(self, mask: str, number: int) -> Composable:
        return q("substr({}, {}, 1) = '1'", ident("p", mask), raw(str(number)))

    def holds(self, prefix: str, mask: str | None) -> Composable:
        """Whether the live row (alias t) has the staged values; with a mask, those that are given."""
        tests: list[Composable] = []
        for number, column in enumerate(self.columns, 1):
            same = self.equal(column, ident("t", column.name), ident("p", f"{prefix}{number}"))
            tests.append(q("(NOT {} OR {})", self.given(mask, number), same) if mask else same)
        return join(tests, " AND ") if tests else raw("true")

    @property
    def after(self) -> Composable:
        return self.holds("a", "ma") if self.step.verb is Verb.UPDATE else self.holds("c", None)

    @property
    def open_only(self) -> Composable:
        return raw("true") if self.all_todo else raw("p.st = 't'")


def stage(
    session: Session, catalog: Catalog, plan: Plan, step: Step, number: int, advance: Callable[[int], None]
) -> Staged:
    """Make a step's temporary table and fill it."""
    table = catalog.find(TableName.parse(step.target))
    if table is None:
        raise Drift(f"{step.target} is not there", why=f"{step.id} would change its rows")
    _check_types(step, table)
    temp = ident(f"rc_p_{number}")
    names = sorted(step.columns)
    if step.verb is Verb.UPDATE:
        names = [name for name in names if name not in step.key]
        key = tuple((name, f"k{n}") for n, name in enumerate(step.key, 1))
        parts = [(name, temp_name) for name, temp_name in key]
        parts += [(name, f"{letter}{n}") for letter in "ba" for n, name in enumerate(names, 1)]
        masks = ", ''::text AS mb, ''::text AS ma"
    else:
        by_whole = step.by_whole
        key = ((WHOLE, "k1"),) if by_whole else tuple((name, f"c{names.index(name) + 1}") for name in step.key)
        parts = [(name, f"c{n}") for n, name in enumerate(names, 1)]
        parts += [(WHOLE, "k1")] if by_whole else []
        if step.unique and step.verb is Verb.DELETE:  # the key of the row that stays, and why
            parts += [(name, f"s{n}") for n, name in enumerate(step.key, 1)]
        masks = ", ''::text AS rule" if step.unique and step.verb is Verb.DELETE else ""
    unnamed = ("k1", "s1") if step.by_whole else ()
    selected = [
        q(
            "null::text AS {}" if name in step.sensitive or temp_name in unnamed else "{1} AS {0}",
            ident(temp_name),
            ident(name),
        )
        for name, temp_name in parts
    ]
    session.run(
        q("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}{} FROM {} WITH NO DATA", temp, join(selected), raw(masks),
          relation(table.name))
    )  # fmt: skip
    listed = [temp_name for _, temp_name in parts]
    listed += ["mb", "ma"] if step.verb is Verb.UPDATE else ["rule"] if masks else []
    session.run(q("ALTER TABLE {} ADD COLUMN st \"char\" DEFAULT 't'", temp))
    copied = session.copy_in(
        q("COPY {} ({}) FROM STDIN", temp, join([ident(n) for n in listed])), _blocks(plan, step, names, advance)
    )
    item = Staged(step, table, temp, key, tuple(table.columns[name] for name in names), todo=copied)
    if step.verb is not Verb.INSERT:
        item.analyze(session)
    if step.by_whole:
        item.numbered = ident(f"rc_w_{number}")
        session.run(q("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", relation(table.name)))
        session.run(q("CREATE TEMP TABLE {} (at tid, whole text) ON COMMIT DROP", item.numbered))
        number_rows(session, item)
    return item


def number_rows(session: Session, item: Staged) -> None:
    """Where rows without a key stand now that equal staged ones; nobody else can move them."""
    assert item.numbered
    named = [ident("k1"), *([ident("s1")] if item.step.unique and item.step.verb is Verb.DELETE else [])]
    wanted = join([q("SELECT split_part({}, '/', 1) FROM {}", name, item.temp) for name in named], " UNION ")
    session.run(q("TRUNCATE {}", item.numbered))
    session.run(
        q("INSERT INTO {w} SELECT x.ctid, {h} || '/' || row_number() OVER (PARTITION BY {h}) FROM {t} x WHERE {h} IN ({wanted})",
          w=item.numbered, h=whole(item.step.columns, "x"), t=relation(item.table.name), wanted=wanted)
    )  # fmt: skip
    session.run(q("ANALYZE {}", item.numbered))


def copy_rows(session: Session, table: Table, plan: Plan, step: Step, advance: Callable[[int], None]) -> int:
    """Copy an insert's rows from the plan's file into their table; how many the server took."""
    _check_types(step, table)
    names = sorted(step.columns)
    into = q("COPY {} ({}) FROM STDIN", relation(table.name), join([ident(name) for name in names]))
    return session.copy_in(into, _blocks(plan, step, names, advance))


def _check_types(step: Step, table: Table) -> None:
    problems: list[str] = []
    for name, type_ in step.columns.items():
        column = table.columns.get(name)
        wanted = type_.removesuffix(" sensitive")
        if column is None:
            problems.append(f"{step.target}.{name}: planned {wanted}, found no such column")
        elif column.type != wanted:
            problems.append(f"{step.target}.{name}: planned {wanted}, found {column.type}")
    if step.by_whole and step.verb is Verb.DELETE:
        more = [name for name in stored(table) if name not in step.columns]
        problems += [f"{step.target}.{name}: not planned, and tells rows apart" for name in more]
    if problems:
        raise Drift("columns are not what they were when the plan was made", details=tuple(problems))


def _field(value: str | None) -> str:
    if value is None:
        return "\\N"
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _blocks(plan: Plan, step: Step, names: list[str], advance: Callable[[int], None]) -> Iterator[bytes]:
    """A step's changes as rows of COPY, many lines of the plan at a time."""
    lines = plan.lines(step)
    row = _update_row(names) if step.verb is Verb.UPDATE else _image_row(step, names)
    while block := [row(line) for line in islice(lines, LINES_A_BLOCK)]:
        yield b"".join(block)
        advance(len(block))


# A row of COPY is cut out of a line of the plan, mostly without parsing it. What stands between a JSON string's quotes is a COPY field as
# it is: their escapes are the same, but for `\u`, which is parsed. Within a string every quote follows a backslash, so a mark can only be
# met there if it ends with the string's own last quote: `_some` then has a part too many, and `_texts` parses.
_NEXT = b',"'


def _image_row(step: Step, names: list[str]) -> Callable[[bytes], bytes]:
    """An image; the row's key where that is no column; of a loser the key of the row that stays, and why."""
    side, end = ("after", b'},"reason":') if step.verb is Verb.INSERT else ("before", b'},"after":')
    by_whole, loses = step.by_whole, bool(step.unique) and step.verb is Verb.DELETE
    first, *others = _marks(names)
    first = f',"{side}":{{"'.encode() + first
    stops = [*(_NEXT + mark for mark in others), end]

    def parsed(line: bytes) -> bytes:
        change = json.loads(line)
        values = [change[side][name] for name in names]
        values += change["key"] if by_whole else []
        values += [*change["kept"]["key"], change["reason"]] if loses else []
        return ("\t".join(map(_field, values)) + "\n").encode()

    def row(line: bytes) -> bytes:
        if b"\\u" in line:
            return parsed(line)
        fields: list[bytes] = []
        at = line.index(first) + len(first)
        for stop in stops:
            till = line.index(stop, at)
            fields.append(b"\\N" if line.startswith(b"null", at) else line[at + 1 : till - 1])
            at = till + len(stop)
        if by_whole:
            fields += _texts(_between(line, b',"key":[', b'],"before":'))
        if loses:
            fields += _texts(_between(line, b'","kept":{"key":[', b'],"has":'))
            fields.append(_between(line, b'},"after":null,"reason":"', b'","kept":{'))
        return b"\t".join(fields) + b"\n"

    return row


def _update_row(names: list[str]) -> Callable[[bytes], bytes]:
    """The key, values before and after, and which of them are given."""
    marks = _marks(names)

    def parsed(line: bytes) -> bytes:
        change = json.loads(line)
        images = (change["before"], change["after"])
        values = [*change["key"], *(image.get(name) for image in images for name in names)]
        values += ["".join("1" if name in image else "0" for name in names) for image in images]
        return ("\t".join(map(_field, values)) + "\n").encode()

    def row(line: bytes) -> bytes:
        before = _some(_between(line, b',"before":{', b'},"after":{'), marks)
        after = _some(_between(line, b'},"after":{', b'},"reason":'), marks)
        if b"\\u" in line or not (before and after):
            return parsed(line)
        key = _texts(_between(line, b',"key":[', b'],"before":{'))
        return b"\t".join([*key, *before[0], *after[0], before[1], after[1]]) + b"\n"

    return row


def _marks(names: list[str]) -> list[bytes]:
    """How each name stands in a line, behind its first quote."""
    return [f"{dumps(name)[1:]}:".encode() for name in names]


def _some(inner: bytes, marks: list[bytes]) -> tuple[list[bytes], bytes] | None:
    """A field for each mark, and which of them are given; none where what is given is not in their order."""
    parts = inner[1:].split(_NEXT) if inner else []
    fields: list[bytes] = []
    given = bytearray()
    at = 0
    for mark in marks:
        there = at < len(parts) and parts[at].startswith(mark)
        value = parts[at][len(mark) :] if there else b"null"
        fields.append(b"\\N" if value == b"null" else value[1:-1])
        given += b"1" if there else b"0"
        at += there
    return (fields, bytes(given)) if at == len(parts) else None


def _texts(inner: bytes) -> list[bytes]:
    """What a list of texts holds."""
    if b'\\"' in inner or b"null" in inner:  # a quote at a text's end looks like one between two; null has none
        return [_field(text).encode() for text in json.loads(b"[" + inner + b"]")]
    return inner[1:-1].split(b'","')


def _between(line: bytes, mark: bytes, stop: bytes) -> bytes:
    start = line.index(mark) + len(mark)
    return line[start : line.index(stop, start)]


def real(item: Staged, name: str, staged: str) -> Composable:
    """The value to write: of a sensitive column the one read again from the source."""
    if name in item.step.sensitive:
        return q("p.{}::{}", ident("v_" + staged), raw(item.table.columns[name].type))
    return ident("p", staged)
