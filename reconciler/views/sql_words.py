"""The words of a script for psql: names, values, types and comments, none of which can become anything else.

Invariant: what comes from a plan stands quoted or is refused, and no character stands that a reviewer cannot see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName, quote
from reconciler.plan.step import Step
from reconciler.views.escape import escape_all_unseen, has_unseen, plain

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_FIELD = r"(?:year|month|day|hour|minute|second)"
_TYPE = re.compile(
    rf"(?:double precision|character varying|bit varying|interval {_FIELD}(?: to {_FIELD})?|{_NAME}(?:\.{_NAME})?)"
    r"(?:\(-?\w+(?:, ?-?\w+)*\))?(?: with(?:out)? time zone)?(?:\[\])*"
)
"""What `format_type()` writes; several words only where SQL has them, or an expression could hide in a type."""


def identifier(name: str) -> str:
    """A name, quoted where it must be; with escapes where a character of it cannot be seen."""
    return "U&" + _quoted(_unicode_escapes(name), '"') if has_unseen(name) else quote(name)


def relation(target: str) -> str:
    """A table or sequence as a step names it."""
    name = _parse(target)
    return f"{identifier(name.schema or 'public')}.{identifier(name.name)}"


def regclass(target: str) -> str:
    """The same as a value: its text form knows no escapes, so they are those of the string around it."""
    return f"{literal(str(_parse(target)))}::regclass"


def _parse(target: str) -> TableName:
    try:
        name = TableName.parse(target)
        return name if name.schema else TableName("public", name.name)
    except ValueError as error:
        what = "the plan names a target that is not a table"
        raise ReconcilerError(what, where=plain(target), why=plain(str(error))) from None


def literal(text: str) -> str:
    """A string for standard_conforming_strings = on."""
    if has_unseen(text):
        return "U&" + _quoted(_unicode_escapes(text), "'")
    return _quoted(text, "'")


def json_literal(value: object) -> str:
    """A JSON document as a string, or NULL for nothing."""
    if value is None:
        return "NULL"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return _quoted(escape_all_unseen(text), "'")


def array(items: Iterable[str]) -> str:
    """An array of texts."""
    return f"ARRAY[{', '.join(items)}]::text[]"


def column_type(step: Step, column: str) -> str:
    """The type a column's text form is read as."""
    name = step.columns.get(column, "")
    if not _TYPE.fullmatch(name):
        raise ReconcilerError(
            "no script can be written for this plan",
            where=plain(step.id),
            why=f"the type of column {plain(column)} is not one: {plain(name) or '(none)'}",
        )
    return _QUOTED.sub(lambda match: identifier(match[1].replace('""', '"')), name) if has_unseen(name) else name


def check_words(step: Step) -> None:
    """Raise for a step whose target or types cannot be spelled, before half a script is out."""
    relation(step.target)
    for column in () if step.sensitive else step.columns:
        column_type(step, column)


def comment(text: str) -> str:
    """A line of comment, with its end."""
    return f"-- {plain(text)}\n"


def block(body: str, declare: str = "") -> str:
    """An anonymous block; its quotes are ones that do not stand in it."""
    number = 0
    whole = f"{f'DECLARE {declare}' if declare else ''}\nBEGIN\n{body}\nEND"
    while (tag := f"$reconciler{number or ''}$") in whole:
        number += 1
    return f"DO {tag}{whole} {tag};"


def _quoted(text: str, mark: str) -> str:
    return f"{mark}{text.replace(mark, mark * 2)}{mark}"


def _unicode_escapes(text: str) -> str:
    return "".join("\\\\" if char == "\\" else f"\\+{ord(char):06x}" if has_unseen(char) else char for char in text)
