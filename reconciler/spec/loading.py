"""From files, or from a plan's header, to a Spec: merge, substitute, validate, and say everything that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar, cast

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.spec import dangling, given, strings
from reconciler.spec.audit import Audit, report_shared
from reconciler.spec.bucket_prefix import BucketPrefix, CopyFrom
from reconciler.spec.check import Check
from reconciler.spec.collection import Collection
from reconciler.spec.connections import ConnectionSpec, ResolvedConnection, resolve, type_of
from reconciler.spec.document import RESOURCE_SECTIONS, SECTIONS, Document
from reconciler.spec.entries import (
    audit_of,
    check_of,
    collection_of,
    connection_of,
    guard_of,
    objects_of,
    prefix_of,
    process_of,
    records_of,
    unique_key_of,
    variable_of,
)
from reconciler.spec.environment import Environment
from reconciler.spec.files import gather, replace_connections
from reconciler.spec.guard import Guard
from reconciler.spec.models import Resource
from reconciler.spec.nodes import MapNode, at, from_plain, place_in, place_of, plain
from reconciler.spec.pds_records import PdsRecords
from reconciler.spec.problems import Problems, did_you_mean
from reconciler.spec.process import Process
from reconciler.spec.sql_objects import ObjectsFile, SqlObjects, read_objects
from reconciler.spec.unique_key import UniqueKey
from reconciler.spec.values import Value, ordered, to_canonical
from reconciler.spec.values import from_canonical as plain_from_canonical

_Model = TypeVar("_Model", bound=Resource)
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Spec:
    """What should be true, complete and free of contradictions."""

    document: Document
    variables: Mapping[str, str]
    base: Path
    warnings: tuple[ReconcilerError, ...]
    _root: MapNode = field(repr=False, compare=False)
    _environment: Environment = field(repr=False, compare=False)

    def canonical(self, addresses: Sequence[str] | None = None) -> dict[str, object]:
        """The merged spec as written, of its resources these: references are left as they are, files in any number and order."""
        tree = cast("dict[str, object]", to_canonical(_tree(self._root)))
        if addresses is None:
            return tree
        chosen = {
            section: {name.partition(".")[2] for name in addresses if name.startswith(f"{section}.")}
            for section in tree
        }
        return {
            section: {name: it for name, it in cast("dict[str, object]", named).items() if name in chosen[section]}
            if section in RESOURCE_SECTIONS else named
            for section, named in tree.items()
            if section not in RESOURCE_SECTIONS or chosen[section]
        }  # fmt: skip

    def locate(self, *path: str | int, offset: int = 0) -> Location | None:
        """The place of a value, or of a character of a text; of what is not there the nearest place around it."""
        node = at(self._root, path) if offset else None
        place = place_of(self._root, path) if node is None else place_in(node, offset)
        return place.location() if place else None

    def resources(self) -> dict[str, Resource]:
        """Every resource by its address, in order."""
        named: list[tuple[str, Mapping[str, Resource]]] = [(it, getattr(self.document, it)) for it in RESOURCE_SECTIONS]
        return {f"{section}.{name}": resources[name] for section, resources in named for name in sorted(resources)}

    def sensitive(self) -> frozenset[str]:
        """Every column that some collection calls sensitive."""
        collections = self.document.collections.values()
        return frozenset(name for it in collections for some in (it, *it.tables.values()) for name in some.sensitive)

    def objects_file(self, name: str) -> ObjectsFile:
        """The statements of `sql_objects.<name>`, read from its file."""
        file = self.document.sql_objects[name].file
        return read_objects(self.base, file, self.locate("sql_objects", name, "file"))

    def connection(self, name: str) -> ResolvedConnection:
        """A connection with the environment's values, which are read here and not before."""
        declared = self.document.connections
        if name not in declared:
            todo = did_you_mean(name, tuple(declared), f"the connections are {', '.join(declared) or 'none'}")
            raise ReconcilerError(f"the connection `{name}` is not declared", todo=todo)
        spec = declared[name]
        where = self.locate("connections", name, type_of(spec)) or f"the plan's spec: connections.{name}"
        return resolve(name, spec, self._environment, self.base, where)


def load(
    paths: Sequence[Path],
    *,
    variables: Mapping[str, str] = _NOTHING,
    environ: Mapping[str, str],
    connections: Path | None = None,
) -> Spec:
    """Read specs from files and folders."""
    problems = Problems()
    gathered = gather(paths, problems)
    root = gathered.root
    if connections is not None:
        root = replace_connections(root, connections, problems)
    environment = _environment(environ, gathered.base, connections)
    spec = _spec(root, gathered.base, variables, environment, problems, whole=gathered.whole)
    for name in sorted(spec.document.sql_objects):
        try:
            spec.objects_file(name)
        except SpecErrors as several:
            for error in several.errors:
                problems.take(error)
        except ReconcilerError as error:
            problems.take(error)
    problems.raise_any()
    return spec


def from_canonical(
    tree: Mapping[str, object],
    *,
    variables: Mapping[str, str],
    base: Path,
    environ: Mapping[str, str],
    connections: Path | None = None,
) -> Spec:
    """Read the spec that a plan holds."""
    problems = Problems()
    try:
        root = from_plain(plain_from_canonical(dict(tree)))
    except ValueError as error:
        raise ReconcilerError("the plan's spec cannot be read", why=str(error), todo="plan again") from None
    if not isinstance(root, MapNode) or root.entries.keys() - {"version", *SECTIONS} or not _is_version_1(root):
        raise ReconcilerError("the plan's spec is not one this program knows", todo="plan again")
    if any(section != "version" and not isinstance(entry.node, MapNode) for section, entry in root.entries.items()):
        raise ReconcilerError("the plan's spec cannot be read", why="a section is no mapping", todo="plan again")
    if connections is not None:
        root = replace_connections(root, connections, problems)
    return _spec(root, base, variables, _environment(environ, base, connections), problems, whole=True)


def _is_version_1(root: MapNode) -> bool:
    version = root.entries.get("version")
    return version is not None and plain(version.node) == 1


def _environment(environ: Mapping[str, str], base: Path, connections: Path | None) -> Environment:
    """With `--connections` the spec may be a stranger's, and so may every `.env` that does not lie beside that file."""
    folders = (base, Path()) if connections is None else (connections.parent,)
    return Environment.read(environ, folders)


def _tree(root: MapNode) -> dict[str, Value]:
    """The tree without places, in the one order that its content has."""
    sections = {name: entry.node for name, entry in root.entries.items() if name in SECTIONS}
    tree: dict[str, Value] = {"version": 1}
    tree |= {name: plain(node) for name, node in sections.items() if isinstance(node, MapNode) and node.entries}
    return cast("dict[str, Value]", ordered(tree))


def _spec(
    root: MapNode, base: Path, values: Mapping[str, str], environment: Environment, problems: Problems, *, whole: bool
) -> Spec:
    """Judge the merged tree as a whole; everything wrong with it is raised together."""
    problems.root = root
    strings.report_credentials(root, problems)
    tree = _tree(root)
    variables = {name: variable_of(name, value, problems) for name, value in _section(tree, "variables")}
    strings.report_references(root, tuple(variables), problems)
    resolved = given.values(variables, values, environment, problems)
    tree = cast("dict[str, Value]", strings.with_values(tree, (), resolved))

    connections = {name: connection_of(name, value, problems) for name, value in _section(tree, "connections")}
    known = tuple(variables)
    document = Document.model_construct(  # its parts are judged one by one
        version=1,
        variables={name: variable for name, variable in variables.items() if variable},
        connections={name: connection for name, connection in connections.items() if connection},
        checks=_sound(tree, "checks", lambda name, it: check_of(root, name, it, known, problems)),
        collections=_sound(tree, "collections", lambda name, it: collection_of(root, name, it, known, problems)),
        unique_keys=_sound(tree, "unique_keys", lambda name, it: unique_key_of(root, name, it, known, problems)),
        bucket_prefixes=_sound(tree, "bucket_prefixes", lambda name, it: prefix_of(root, name, it, known, problems)),
        pds_records=_sound(tree, "pds_records", lambda name, it: records_of(root, name, it, known, problems)),
        processes=_sound(tree, "processes", lambda name, it: process_of(root, name, it, known, problems)),
        sql_objects=_sound(tree, "sql_objects", lambda name, it: objects_of(name, it, problems)),
        audits=_sound(tree, "audits", lambda name, it: audit_of(name, it, problems)),
        guards=_sound(tree, "guards", lambda name, it: guard_of(root, name, it, known, problems)),
    )
    spec = Spec(document, MappingProxyType(resolved), base, problems.warnings, root, environment)
    if whole:
        resources = spec.resources()
        for address, resource in resources.items():
            _report_dangling(address, resource, connections, _declared_in(root), problems)
        report_shared(document.audits, problems)
        if len(resources) == sum(len(_section(tree, section)) for section in RESOURCE_SECTIONS):
            needs = {address: it.needs for address, it in resources.items()}
            dangling.report_needs(needs, tuple(needs), problems)
    problems.raise_any()
    return spec


def _sound(tree: Mapping[str, Value], section: str, of: Callable[[str, Value], _Model | None]) -> dict[str, _Model]:
    """What a section holds, without the entries that something is wrong with."""
    read = {name: of(name, value) for name, value in _section(tree, section)}
    return {name: it for name, it in read.items() if it is not None}


def _report_dangling(
    address: str,
    resource: Resource,
    connections: Mapping[str, ConnectionSpec | None],
    declared_in: str,
    problems: Problems,
) -> None:
    """Note what a resource names and nothing declares."""
    section, name = address.split(".", 1)
    there = (connections, declared_in, problems)
    match resource:
        case Collection():
            dangling.report_connections(name, resource, *there)
        case UniqueKey() | Guard():
            dangling.report_target((section, name, "table"), resource.table, *there)
        case BucketPrefix():
            dangling.report_target((section, name, "table"), resource.table, *there)
            dangling.report_bucket((section, name, "bucket"), resource.bucket, *there)
            if isinstance(resource.on_missing_object, CopyFrom):
                at = (section, name, "on_missing_object", "copy_from")
                dangling.report_bucket(at, resource.on_missing_object.copy_from, *there)
        case PdsRecords():
            dangling.report_records((section, name), resource, *there)
        case Process():
            dangling.report_process((section, name), resource, *there)
        case SqlObjects():
            dangling.report_target((section, name, "on"), resource.on, *there)
        case Audit():
            dangling.report_target((section, name, "log"), resource.log, *there)
        case Check():
            dangling.report_check((section, name), resource, *there)
        case _:
            raise AssertionError(f"{address}: nothing knows what it names")


def _section(tree: Mapping[str, Value], name: str) -> list[tuple[str, Value]]:
    section = tree.get(name)
    return list(section.items()) if isinstance(section, dict) else []


def _declared_in(root: MapNode) -> str:
    entry = root.entries.get("connections")
    return entry.key.source.name if entry and entry.key else "the spec"
