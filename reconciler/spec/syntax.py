"""YAML, read strictly into a tree that keeps its places; of the language's oddities none is let through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import yaml

from reconciler.plan.errors import ReconcilerError
from reconciler.spec.credentials import MASK, key_may_be_shown, may_be_shown
from reconciler.spec.nodes import Entry, ListNode, MapNode, Node, Scalar
from reconciler.spec.problems import Problems
from reconciler.spec.source import Place, Source
from reconciler.spec.syntax_errors import explain
from reconciler.spec.values import DEEPEST, NUMBER_KEY, Path, scalar

_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_MOST_COPIES = 10_000  # nodes that aliases may add: beyond it lies the "billion laughs" attack


class _Stop(Exception):
    """The rest of this file cannot be read."""


def parse(source: Source, problems: Problems) -> MapNode | None:
    """The file's tree; what is wrong is noted, and None is returned where nothing can be made of the file."""
    try:
        return _Reader(source, problems).document()
    except yaml.MarkedYAMLError as error:
        source.broken = True
        problems.take(explain(source, error))
    except yaml.YAMLError:
        source.broken = True
        problems.take(ReconcilerError(f"{source.name} is not valid YAML"))
    except _Stop:
        source.broken = True
    return None


class _Reader:
    """One pass over the parser's events."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._events = cast("Iterator[yaml.Event]", yaml.parse(source.text, Loader=_LOADER))  # pyright: ignore[reportUnknownMemberType]  # its stub leaves the stream untyped
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._copies = 0
        self._empty: list[tuple[Path, Place]] = []

    def document(self) -> MapNode | None:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise self._stop(f"{self._source.name} is empty", Place(self._source, 0, 0), todo="begin with: version: 1")
        node, _ = self._node(next(self._events), ())
        next(self._events)  # the end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._stop(
                "a second document begins here",
                self._place(event),
                todo="put it into a file of its own: a spec is one document",
            )
        for path, place in self._empty:  # only now: broken YAML makes empty values that nobody wrote
            what = f"`{path[-1]}` has no value" if isinstance(path[-1], str) else "an entry of the list has no value"
            glued = ":" in str(path[-1])
            todo = "write a space after the colon" if glued else "write the value, or null if nothing is meant"
            self._problems.add(what, path, place=place, todo=todo)
        if isinstance(node, MapNode):
            return node
        if isinstance(node, Scalar) and node.value is None:
            raise self._stop(f"{self._source.name} is empty", node.place, todo="begin with: version: 1")
        raise self._stop("a spec is a mapping", node.place, todo="begin with: version: 1")

    def _node(self, event: yaml.Event, path: Path) -> tuple[Node, int]:
        """A node and how many nodes it stands for."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        assert isinstance(event, yaml.NodeEvent)
        if len(path) > DEEPEST:
            raise self._stop(f"the spec is nested more than {DEEPEST} levels deep", self._place(event))
        anchor: str | None = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        self._refuse_tag(event, path)
        match event:
            case yaml.ScalarEvent():
                node, size = self._scalar(event, path), 1
            case yaml.SequenceStartEvent():
                node, size = self._list(event, path)
            case _:
                node, size = self._mapping(event, path)
        if anchor is not None:
            self._anchors[anchor] = node, size
        return node, size

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Scalar:
        place, style, text = self._place(event), event.style or "", str(event.value)
        if path and not may_be_shown(path, f"{event.tag or ''}{event.anchor or ''}{text}"):
            self._hide(event)
        if style:
            return Scalar(text, place, style)
        if not text and path:
            self._empty.append((path, place))
        return Scalar(scalar(text), place)

    def _list(self, event: yaml.Event, path: Path) -> tuple[ListNode, int]:
        node, size = ListNode([], self._place(event)), 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item, more = self._node(event, (*path, len(node.items)))
            node.items.append(item)
            size += more
        return node, size

    def _mapping(self, event: yaml.Event, path: Path) -> tuple[MapNode, int]:
        node, size = MapNode({}, self._place(event)), 1
        merged: list[MapNode] = []
        merges = 0
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            place = self._place(event)
            name = self._key(event, path)
            if name == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                value, more = self._node(next(self._events), (*path, "<<"))
                merged += self._merged(value, place)
                merges += 1
                if merges > 1:
                    self._problems.add(
                        "`<<` stands twice in this mapping", place=place, todo="write <<: [*first, *second]"
                    )
                size += more
                continue
            value, more = self._node(next(self._events), (*path, name if name is not None else "?"))
            size += more + 1
            if name is None:
                continue
            if name in node.entries:
                first = node.entries[name].key
                assert first is not None
                self._problems.add(
                    f"`{self._shown(name, path)}` stands twice in this mapping",
                    place=place,
                    details=(f"first at {first.location()}",),
                    todo="keep one",
                )
                continue
            node.entries[name] = Entry(place, value)
        for other in merged:  # the mapping's own keys win, then the earlier of those merged into it
            for name, entry in other.entries.items():
                node.entries.setdefault(name, entry)
        return node, size

    def _key(self, event: yaml.Event, path: Path) -> str | None:
        """The key's text, or None after saying why it is none."""
        place = self._place(event)
        if not isinstance(event, yaml.ScalarEvent):
            if not isinstance(event, yaml.AliasEvent):
                self._node(event, (*path, "?"))
            self._problems.add("a key is text, not a list, a mapping or an alias", place=place)
            return None
        self._refuse_tag(event, path)
        text = str(event.value)
        if not key_may_be_shown((*path, text)):
            self._hide(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = Scalar(text, place, "'"), 1
        if not event.style and not isinstance(scalar(text), str):
            shown = self._shown(text, path)
            what = "a key is missing" if not text else f"the key `{shown}` is not text"
            self._problems.add(what, place=place, todo=f'write it in quotes: "{shown}":')
            return None
        if text == NUMBER_KEY:
            self._problems.add(f"the key `{NUMBER_KEY}` is reserved", place=place)
            return None
        return text

    def _alias(self, event: yaml.AliasEvent, path: Path) -> tuple[Node, int]:
        place, name = self._place(event), event.anchor
        shown = name if path and may_be_shown(path, name) else MASK
        if name not in self._anchors:
            todo = f"define &{shown} first, or put text that begins with * in quotes"
            raise self._stop(f"nothing above is named &{shown}", place, todo=todo)
        target = self._anchors[name]
        if target is None:
            raise self._stop(f"*{shown} stands inside &{shown} and would never end", place)
        self._copies += target[1]
        if self._copies > _MOST_COPIES:
            raise self._stop(
                f"aliases make the spec grow by more than {_MOST_COPIES:,} values",
                place,
                todo="write fewer aliases of large parts",
            )
        return target

    def _merged(self, node: Node, place: Place) -> list[MapNode]:
        nodes = node.items if isinstance(node, ListNode) else [node]
        maps = [item for item in nodes if isinstance(item, MapNode)]
        if len(maps) != len(nodes):
            self._problems.add("`<<` merges mappings only", place=place, todo="write <<: *name of a mapping")
        return maps

    def _refuse_tag(self, event: yaml.Event, path: Path) -> None:
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!") if path and may_be_shown(path, tag) else MASK
            self._problems.add(
                f"the tag `{shown}` is not allowed" if tag != "!" else "a value cannot begin with `!`",
                path or None,
                place=self._place(event),
                todo="put text that begins with ! in quotes; no value of a spec needs a tag",
            )

    def _shown(self, key: str, path: Path) -> str:
        return key if key_may_be_shown((*path, key)) else MASK

    def _hide(self, event: yaml.Event) -> None:
        start, end = event.start_mark, event.end_mark
        self._source.hide(start.line, start.column, end.line, end.column)

    def _place(self, event: yaml.Event) -> Place:
        return Place(self._source, event.start_mark.line, event.start_mark.column)

    def _stop(self, what: str, place: Place | None, *, todo: str | None = None) -> _Stop:
        self._problems.add(what, place=place, todo=todo)
        return _Stop()
