"""From the paths a user gives to one tree of all their files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reconciler.plan.errors import ReconcilerError
from reconciler.spec.allow import with_allowed
from reconciler.spec.document import SECTIONS
from reconciler.spec.nodes import Entry, ListNode, MapNode, Node, Scalar
from reconciler.spec.problems import Problems, did_you_mean, suggest
from reconciler.spec.references import NAME
from reconciler.spec.source import read
from reconciler.spec.syntax import parse
from reconciler.spec.values import describe

_NAME = re.compile(NAME)
_SUFFIXES = (".yaml", ".yml")


class Gathered(NamedTuple):
    """The merged tree; `whole` is false where a file could not be read, so that names may be missing."""

    root: MapNode
    base: Path
    whole: bool


def gather(paths: Sequence[Path], problems: Problems) -> Gathered:
    """Read every file and merge their sections; a name defined twice is noted with both places."""
    files, folders = _files(paths)
    trees = [tree for file in files if (tree := _tree(file, problems)) is not None]
    root, whole = MapNode({}, trees[0].place if trees else None), len(trees) == len(files)
    for tree in trees:
        whole = _merge(tree, root, problems) and whole
    return Gathered(root, _common(folders), whole)


def replace_connections(root: MapNode, file: Path, problems: Problems) -> MapNode:
    """The tree with the connections of another file instead of its own."""
    tree = _tree(file, problems)
    if tree is None:
        return root
    alone = MapNode({}, tree.place)
    _merge(tree, alone, problems)
    for section, entry in alone.entries.items():
        if section not in ("version", "connections"):
            todo = "it replaces the connections of the spec and nothing else"
            problems.add(f"`{section}` cannot stand in a file of connections", place=entry.key, todo=todo)
    connections = alone.entries.get("connections")
    if connections is None:
        todo = "write connections: { name: { postgres: … } }"
        problems.add(f"{file} declares no connections", ("connections",), place=tree.place, todo=todo)
        return root
    kept = {name: entry for name, entry in root.entries.items() if name != "connections"}
    return MapNode({**kept, "connections": connections}, root.place)


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files in order, each once, and the folders they were named by."""
    files: dict[Path, Path] = {}
    folders: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = [
                file for file in _listed(path) if file.suffix in _SUFFIXES and file.name[0] != "." and file.is_file()
            ]
            if not found:
                raise ReconcilerError(
                    f"there is no *.yaml file in {path}", todo="name a spec, or write one with `reconciler init`"
                )
            folders.append(path)
        elif path.exists():
            found = [path]
            folders.append(path.parent)
        else:
            near = [file.name for file in _listed(path.parent)] if path.parent.is_dir() else []
            todo = did_you_mean(path.name, near, "name a spec or a folder of them; `reconciler init` writes an example")
            raise ReconcilerError(f"there is no file or folder {path}", todo=todo)
        for file in found:
            files.setdefault(file.resolve(), file)
    if not files:
        raise ReconcilerError("no spec is named", todo="name a file or a folder")
    return sorted(files.values(), key=str), folders


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ReconcilerError(f"cannot list {folder}: {error.strerror or 'unknown reason'}") from None


def _common(folders: Sequence[Path]) -> Path:
    """The folder that relative paths stand against: that of the specs, or the nearest around all of them."""
    if len({folder.resolve() for folder in folders}) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def _tree(file: Path, problems: Problems) -> MapNode | None:
    try:
        source = read(file)
        tree = parse(source, problems)
        return None if tree is None else with_allowed(tree, source, problems)
    except ReconcilerError as error:
        problems.take(error)
        return None


def _merge(tree: MapNode, root: MapNode, problems: Problems) -> bool:
    """Add a file's sections to the tree; whether every one of its names is known afterwards."""
    _check_version(tree, problems)
    complete = True
    for section, entry in tree.entries.items():
        if section == "version":
            root.entries.setdefault("version", entry)
        elif section not in SECTIONS:
            todo = did_you_mean(section, SECTIONS, f"the sections are {', '.join(SECTIONS)}")
            problems.add(f"unknown key `{section}`", place=entry.key, todo=todo)
            complete = complete and suggest(section, SECTIONS) is None
        elif not isinstance(entry.node, MapNode):
            complete = False
            what = f"{section} is a mapping of names, and {describe(_kind(entry.node))} stands there"
            problems.add(
                what, (section,), place=entry.node.place, todo=f"write {section}: {{ name: {{ … }} }}, or remove it"
            )
        else:
            _merge_section(section, entry, entry.node, root, problems)
    return complete


def _merge_section(section: str, entry: Entry, node: MapNode, root: MapNode, problems: Problems) -> None:
    merged = root.entries.setdefault(section, Entry(entry.key, MapNode({}, node.place))).node
    assert isinstance(merged, MapNode)
    for name, named in node.entries.items():
        if not _NAME.fullmatch(name):
            plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
            todo = f"write {plain}" if _NAME.fullmatch(plain) else "begin with a letter, then letters, digits and _"
            problems.add(
                f"`{name}` cannot be a name",
                place=named.key,
                why="names are lower-case letters, digits and _",
                todo=todo,
            )
        if name in merged.entries:
            first = merged.entries[name].key
            details = (f"first at {first.location()}",) if first else ()
            problems.add(
                f"{section}.{name} is defined twice",
                place=named.key,
                details=details,
                todo="rename or remove one of them",
            )
        else:
            merged.entries[name] = named


def _check_version(tree: MapNode, problems: Problems) -> None:
    entry = tree.entries.get("version")
    if entry is None:
        problems.add("`version` is missing", place=tree.place, todo="begin the file with: version: 1")
    elif not isinstance(entry.node, Scalar) or entry.node.value != 1 or isinstance(entry.node.value, bool):
        problems.add(
            "the version is unknown", place=entry.node.place, todo="write version: 1; this program knows no other"
        )


def _kind(node: Node) -> object:
    match node:
        case Scalar():
            return node.value
        case ListNode():
            return []
        case MapNode():
            return {}
