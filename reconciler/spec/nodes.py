"""What a YAML file says, as a tree in which every key and value knows its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from reconciler.spec.source import Place
from reconciler.spec.values import Path, Value


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A leaf; `style` is YAML's: empty for plain, a quote, | or >."""

    value: Value
    place: Place | None = None
    style: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ListNode:
    items: list[Node] = field(default_factory=list["Node"])
    place: Place | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A key's place and its value."""

    key: Place | None
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class MapNode:
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    place: Place | None = None


_BLANKS = frozenset(" \t\r\n")

Node: TypeAlias = "Scalar | ListNode | MapNode"


def plain(node: Node) -> Value:
    """The tree without its places."""
    match node:
        case Scalar():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MapNode():
            return {key: plain(entry.node) for key, entry in node.entries.items()}


def from_plain(value: Value) -> Node:
    """A tree that has no places."""
    match value:
        case dict():
            return MapNode({key: Entry(None, from_plain(item)) for key, item in value.items()})
        case list():
            return ListNode([from_plain(item) for item in value])
        case _:
            return Scalar(value)


def at(node: Node, path: Path) -> Node | None:
    """The node at a path, where there is one."""
    for step in path:
        match node, step:
            case MapNode(), str() if step in node.entries:
                node = node.entries[step].node
            case ListNode(), int() if 0 <= step < len(node.items):
                node = node.items[step]
            case _:
                return None
    return node


def place_of(node: Node, path: Path) -> Place | None:
    """The place of the value at a path; of what is not there, the key of the nearest thing around it that is."""
    known = key = node.place
    for step in path:
        match node, step:
            case MapNode(), str() if step in node.entries:
                entry = node.entries[step]
                node = entry.node
                known = _better(entry.key, node.place) or known
                key = entry.key or known
            case ListNode(), int() if 0 <= step < len(node.items):
                node = node.items[step]
                known = key = node.place or known
            case _:
                return key
    return known


def place_of_key(node: Node, path: Path) -> Place | None:
    """The place of the key a path ends with, or the nearest one around it that is known."""
    parent = at(node, path[:-1])
    key = path[-1] if path else None
    if isinstance(parent, MapNode) and isinstance(key, str) and key in parent.entries and parent.entries[key].key:
        return parent.entries[key].key
    return place_of(node, path)


def place_in(node: Node | None, offset: int) -> Place | None:
    """The place of a character of a text, where the file's own characters can be followed that far; else the text's."""
    if not isinstance(node, Scalar) or node.place is None or not isinstance(node.value, str):
        return node.place if node else None
    source = node.place.source
    if node.style in ("|", ">"):
        position = source.offset(node.place.line + 1, 0)
    else:
        position = source.offset(node.place.line, node.place.column) + (1 if node.style else 0)
    for index, character in enumerate(node.value):
        if character in " \t\n":  # what YAML folds and indents is skipped in the file before the next visible character
            if index == offset:
                break
            continue
        while source.text[position : position + 1] in _BLANKS:
            position += 1
        if source.text[position : position + 1] != character:
            return node.place
        if index == offset:
            break
        position += 2 if node.style == "'" and character == "'" else 1
    return source.place(position)


def _better(key: Place | None, value: Place | None) -> Place | None:
    """The key's place for a value that begins on a later line, so that an error shows what it is about."""
    if key is None or value is None or key.source is not value.source or value.line != key.line:
        return key or value
    return value
