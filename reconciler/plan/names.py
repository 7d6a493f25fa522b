"""Names of tables, read and written as SQL does: unquoted ones fold to lower case, quotes stand only where needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Self

# What PostgreSQL 18's quote_ident() puts in quotes: every keyword but the unreserved ones.
_KEYWORDS = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast
    char character check coalesce collate collation column concurrently constraint create cross current_catalog
    current_date current_role current_schema current_time current_timestamp current_user dec decimal default deferrable
    desc distinct do else end except exists extract false fetch float for foreign freeze from full grant greatest group
    grouping having ilike in initially inner inout int integer intersect interval into is isnull join json json_array
    json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value
    lateral leading least left like limit localtime localtimestamp merge_action national natural nchar none normalize
    not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position precision
    primary real references returning right row select session_user setof similar smallint some substring symmetric
    system_user table tablesample then time timestamp to trailing treat trim true union unique user using values varchar
    variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces
    xmlparse xmlpi xmlroot xmlserialize xmltable
    """.split()  # noqa: SIM905  # a list literal would be 150 lines
)
_SAFE = re.compile(r"[a-z_][a-z0-9_]*")
# The bare ones are letters, _ and what is beyond ASCII; said by what they are not, which compiles much faster.
_PART = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*)')
_FOLD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")  # as PostgreSQL: ASCII only
LONGEST = 63  # bytes; PostgreSQL cuts longer names off and so would find another table


@total_ordering
@dataclass(frozen=True)
class TableName:
    """A table, with its schema where one was written; `str()` gives it as SQL spells it."""

    schema: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name` or `schema.name`; a ValueError says what is wrong with it."""
        match split_dotted(text):
            case (name,):
                return cls(None, name)
            case (schema, name):
                return cls(schema, name)
            case parts:
                raise ValueError(f"`{text}` has {len(parts)} parts, a table's name has at most two: schema.table")

    def __str__(self) -> str:
        return ".".join(quote(part) for part in (self.schema, self.name) if part is not None)

    def __lt__(self, other: TableName) -> bool:
        return (self.schema or "", self.name) < (other.schema or "", other.name)


def quote(name: str) -> str:
    """One identifier as SQL spells it, in quotes where it needs them."""
    if _SAFE.fullmatch(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def split_dotted(text: str) -> tuple[str, ...]:
    """The parts of a dotted name such as `production."my schema".t`; a ValueError says in a sentence what is wrong."""
    parts: list[str] = []
    position = 0
    while True:
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(_complaint(text, position))
        quoted = match["quoted"]
        part = match["bare"].translate(_FOLD) if quoted is None else quoted.replace('""', '"')
        if not part:
            raise ValueError(f"`{text}` has an empty name in it")
        if "\0" in part:
            raise ValueError("a name cannot hold the character NUL")
        if len(part.encode("utf-8", "surrogatepass")) > LONGEST:
            raise ValueError(f"`{part}` is longer than the {LONGEST} bytes PostgreSQL allows a name")
        parts.append(part)
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            raise ValueError(_complaint(text, position))
        position += 1


def _complaint(text: str, position: int) -> str:
    """Why nothing that may stand in a dotted name stands at `position`."""
    if not text.strip():
        return "a name is missing"
    if position == len(text) or text[position] == ".":
        return f"`{text}` has an empty name in it"
    if text[position] == '"':
        if text.count('"') % 2:
            return f"`{text}` has a quote that is not closed"
        return f"`{text}` needs a dot between its names"
    return f"`{text}` cannot hold `{text[position]}` there; put a name that needs it in quotes, as SQL does"
