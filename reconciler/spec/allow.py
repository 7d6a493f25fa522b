"""`# reconciler: allow R004 why` in a spec: the same as `allow: [R004]` on the resource it stands at.

In: a file and its tree. Out: the tree with `allow` in those resources. A comment belongs to the resource whose lines it stands in, or, on
lines of its own directly above a resource's name, to that one.
Invariant: what is not a comment, such as text in quotes or in a block, allows nothing; a comment that allows nothing is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import yaml

from reconciler.plan.rules import IDS
from reconciler.spec.document import RESOURCE_SECTIONS
from reconciler.spec.nodes import Entry, ListNode, MapNode, Scalar
from reconciler.spec.problems import Problems, did_you_mean
from reconciler.spec.source import Place, Source

_COMMENT = re.compile(r"(?:^|(?<=\s))#\s*reconciler\s*:\s*allow\b:?\s*(.*)")
_ID = re.compile(r"[A-Za-z]+-?\d+")
_BETWEEN = re.compile(r"[\s,]*")


def with_allowed(root: MapNode, source: Source, problems: Problems) -> MapNode:
    """The tree with what comments allow; most files have no such comment and cost nothing."""
    found = [(n, match) for n, line in enumerate(source.lines) if (match := _COMMENT.search(line))]
    spans = list(_texts(source)) if found else []
    for line, match in found:
        if any(first <= (line, match.start()) < last for first, last in spans):
            continue
        place = Place(source, line, match.start())
        ids = list(_ids(match[1]))
        for unknown in (name for name in ids if name not in IDS):
            todo = did_you_mean(unknown, IDS, f"the rules are {IDS[0]} to {IDS[-1]}; the README lists them")
            problems.add(f"there is no rule {unknown}", place=place, todo=todo)
        if not ids:
            problems.add("this comment names no rule", place=place, todo="write # reconciler: allow R004 and why")
        section, name = _resource(root, source, line) or ("", "")
        if not name:
            todo = "put it into the lines of a resource, or right above its name"
            problems.add("this comment stands at no resource, and allows nothing", place=place, todo=todo)
        else:
            root = _allowing(root, section, name, [it for it in ids if it in IDS], place)
    return root


def _ids(text: str) -> Iterator[str]:
    """The numbers at the beginning; what follows them is the reason."""
    at = 0
    while match := _ID.match(text, at):
        yield match[0]
        between = _BETWEEN.match(text, match.end())
        at = between.end() if between else match.end()


def _texts(source: Source) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where scalars begin and end: a `#` in there is text."""
    events = cast("Iterator[yaml.Event]", yaml.parse(source.text, Loader=yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    for event in events:
        if isinstance(event, yaml.ScalarEvent):
            start, end = event.start_mark, event.end_mark
            # A block begins after its `|`, and on the line of that a comment may stand.
            first = (start.line + 1, 0) if event.style in ("|", ">") else (start.line, start.column)
            yield first, (end.line, end.column)


def _resource(root: MapNode, source: Source, line: int) -> tuple[str, str] | None:
    """Section and name of the resource a line belongs to."""
    starts: list[tuple[int, str, str]] = []
    for section, entry in root.entries.items():
        if entry.key:
            starts.append((entry.key.line, "", ""))
        if section in RESOURCE_SECTIONS and isinstance(entry.node, MapNode):
            starts += [(it.key.line, section, name) for name, it in entry.node.entries.items() if it.key]
    following = line
    while following < len(source.lines) and source.lines[following].lstrip().startswith("#"):
        following += 1
    above = [(section, name) for at, section, name in starts if at == following and name and following != line]
    if above:
        return above[0]
    before = [(at, name != "", section, name) for at, section, name in starts if at <= line]
    _, _, section, name = max(before, default=(0, False, "", ""))
    return (section, name) if name else None


def _allowing(root: MapNode, section: str, name: str, ids: list[str], place: Place) -> MapNode:
    """The tree with these numbers in a resource's `allow`; nodes may be shared by aliases, so new ones are made."""
    entry = root.entries[section]
    assert isinstance(entry.node, MapNode)
    resource = entry.node.entries[name]
    if not isinstance(resource.node, MapNode):
        return root
    there = resource.node.entries.get("allow")
    if there and not isinstance(there.node, ListNode):
        return root  # it is wrong, and will be told
    items = list(there.node.items) if there and isinstance(there.node, ListNode) else []
    known = [item.value for item in items if isinstance(item, Scalar)]
    items += [Scalar(it, place) for it in dict.fromkeys(ids) if it not in known]
    allow = Entry(there.key if there else place, ListNode(items, there.node.place if there else place))
    changed = MapNode({**resource.node.entries, "allow": allow}, resource.node.place)
    names = MapNode({**entry.node.entries, name: Entry(resource.key, changed)}, entry.node.place)
    return MapNode({**root.entries, section: Entry(entry.key, names)}, root.place)
