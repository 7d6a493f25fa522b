"""What YAML's parser complains about, said for someone who writes a spec."""

from __future__ import annotations

import yaml

from reconciler.plan.errors import ReconcilerError
from reconciler.spec.source import Place, Source

_QUOTE = 'put the value in double quotes, or write it below the key after a "|"'


def explain(source: Source, error: yaml.MarkedYAMLError) -> ReconcilerError:
    """The parser's error at its place, with what to do about it."""
    problem = error.problem or "it cannot be understood"
    mark = error.problem_mark or error.context_mark
    place = Place(source, mark.line, mark.column) if mark else Place(source, 0, 0)
    line = source.lines[place.line] if place.line < len(source.lines) else ""
    character = line[place.column : place.column + 1]
    what, todo = f"the YAML is broken: {problem}", None
    indent = line[: len(line) - len(line.lstrip())]
    if character == "\t" or "\t" in indent or "tab character" in problem:
        place = Place(source, place.line, max(line.find("\t"), 0))
        what, todo = "a tab stands where YAML wants spaces", "indent with spaces"
    elif "cannot start any token" in problem:
        what, todo = f"a value cannot begin with `{character}`", _QUOTE
    elif error.context and "quoted scalar" in error.context and error.context_mark:
        if "end of stream" in problem or "document indicator" in problem:
            place = Place(source, error.context_mark.line, error.context_mark.column)
            what, todo = "this quote is never closed", "close it; inside '…' a quote is written twice"
        else:
            what, todo = f"the quoted text is broken: {problem}", r"inside double quotes a backslash is written \\"
    elif "mapping values are not allowed" in problem:
        what, todo = "a `:` stands where no key can be", f"check the indentation; if it belongs to a value, {_QUOTE}"
    elif "could not find expected ':'" in problem:
        what, todo = "the `:` after a key is missing", "check the line before this one as well"
    elif "expected ',' or" in problem:
        what = "something is wrong inside [ ] or { }" if character else "a [ or { is never closed"
        todo = "put values that hold , : [ ] { } or # in quotes, and check that every bracket is closed"
        if not character and error.context_mark:
            place = Place(source, error.context_mark.line, error.context_mark.column)
    elif "did not find expected key" in problem:
        what = "this does not belong to the mapping it stands in"
        todo = (
            "check the indentation; a value that begins with a quote must be in quotes as a whole: write it after a |"
        )
    elif "expected '-' indicator" in problem:
        what, todo = "this does not belong to the list it stands in", "check the indentation"
    elif "undefined tag" in problem:
        what, todo = "a value cannot begin with `!`", _QUOTE
    return ReconcilerError(what, where=place.location(), todo=todo)
