"""From files, or from a plan's header, to a Spec: merge, substitute, validate, and say everything that is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import cast

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from reconciler.spec import dangling, given, strings
from reconciler.spec.audit import report_shared
from reconciler.spec.bucket_prefix import CopyFrom
from reconciler.spec.connections import ResolvedConnection, resolve, type_of
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
from reconciler.spec.models import Resource
from reconciler.spec.nodes import MapNode, at, from_plain, place_in, place_of, plain
from reconciler.spec.problems import Problems, did_you_mean
from reconciler.spec.sql_objects import ObjectsFile, read_objects
from reconciler.spec.values import Value, ordered, to_canonical
from reconciler.spec.values import from_canonical as plain_from_canonical

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

    def canonical(self, addresses: Collection[str] | None = None) -> dict[str, object]:
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
    collections = {
        name: collection_of(root, name, value, tuple(variables), problems)
        for name, value in _section(tree, "collections")
    }
    unique_keys = {
        name: unique_key_of(root, name, value, tuple(variables), problems)
        for name, value in _section(tree, "unique_keys")
    }
    sound = {name: collection for name, collection in collections.items() if collection is not None}
    sound_keys = {name: unique_key for name, unique_key in unique_keys.items() if unique_key is not None}
    records = {
        name: records_of(root, name, value, tuple(variables), problems) for name, value in _section(tree, "pds_records")
    }
    sound_records = {name: it for name, it in records.items() if it is not None}
    prefixes = {
        name: prefix_of(root, name, value, tuple(variables), problems)
        for name, value in _section(tree, "bucket_prefixes")
    }
    sound_prefixes = {name: it for name, it in prefixes.items() if it is not None}
    processes = {
        name: process_of(root, name, value, tuple(variables), problems) for name, value in _section(tree, "processes")
    }
    sound_processes = {name: it for name, it in processes.items() if it is not None}
    objects = {name: objects_of(name, value, problems) for name, value in _section(tree, "sql_objects")}
    sound_objects = {name: it for name, it in objects.items() if it is not None}
    checks = {name: check_of(root, name, it, tuple(variables), problems) for name, it in _section(tree, "checks")}
    sound_checks = {name: it for name, it in checks.items() if it is not None}
    audits = {name: audit_of(name, value, problems) for name, value in _section(tree, "audits")}
    sound_audits = {name: it for name, it in audits.items() if it is not None}
    guards = {name: guard_of(root, name, value, tuple(variables), problems) for name, value in _section(tree, "guards")}
    sound_guards = {name: it for name, it in guards.items() if it is not None}
    if whole:
        declared_in = _declared_in(root)
        for name, it in sound_checks.items():
            dangling.report_check(("checks", name), it, connections, declared_in, problems)
        for name, collection in sound.items():
            dangling.report_connections(name, collection, connections, declared_in, problems)
        for name, it in sound_objects.items():
            dangling.report_target(("sql_objects", name, "on"), it.on, connections, declared_in, problems)
        for name, unique_key in sound_keys.items():
            dangling.report_target(("unique_keys", name, "table"), unique_key.table, connections, declared_in, problems)
        for name, it in sound_prefixes.items():
            dangling.report_target(("bucket_prefixes", name, "table"), it.table, connections, declared_in, problems)
            dangling.report_bucket(("bucket_prefixes", name, "bucket"), it.bucket, connections, declared_in, problems)
            if isinstance(it.on_missing_object, CopyFrom):
                at = ("bucket_prefixes", name, "on_missing_object", "copy_from")
                dangling.report_bucket(at, it.on_missing_object.copy_from, connections, declared_in, problems)
        for name, it in sound_records.items():
            dangling.report_records(("pds_records", name), it, connections, declared_in, problems)
        for name, audit in sound_audits.items():
            dangling.report_target(("audits", name, "log"), audit.log, connections, declared_in, problems)
        report_shared(sound_audits, problems)
        for name, guard in sound_guards.items():
            dangling.report_target(("guards", name, "table"), guard.table, connections, declared_in, problems)
        for name, it in sound_processes.items():
            dangling.report_process(("processes", name), it, connections, declared_in, problems)
        read = [
            (sound, collections),
            (sound_checks, checks),
            (sound_records, records),
            (sound_objects, objects),
            (sound_keys, unique_keys),
            (sound_prefixes, prefixes),
            (sound_processes, processes),
            (sound_audits, audits),
            (sound_guards, guards),
        ]
        if all(len(right) == len(written) for right, written in read):
            needs = {f"collections.{name}": collection.needs for name, collection in sound.items()}
            needs |= {f"audits.{name}": it.needs for name, it in sound_audits.items()}
            needs |= {f"guards.{name}": it.needs for name, it in sound_guards.items()}
            needs |= {f"pds_records.{name}": it.needs for name, it in sound_records.items()}
            needs |= {f"processes.{name}": it.needs for name, it in sound_processes.items()}
            needs |= {f"bucket_prefixes.{name}": it.needs for name, it in sound_prefixes.items()}
            needs |= {f"sql_objects.{name}": it.needs for name, it in sound_objects.items()}
            needs |= {f"unique_keys.{name}": unique_key.needs for name, unique_key in sound_keys.items()}
            needs |= {f"checks.{name}": it.needs for name, it in sound_checks.items()}
            dangling.report_needs(needs, tuple(needs), problems)
    problems.raise_any()
    document = Document(
        version=1,
        variables={name: variable for name, variable in variables.items() if variable},
        connections={name: connection for name, connection in connections.items() if connection},
        checks=sound_checks,
        collections=sound,
        bucket_prefixes=sound_prefixes,
        pds_records=sound_records,
        processes=sound_processes,
        sql_objects=sound_objects,
        unique_keys=sound_keys,
        audits=sound_audits,
        guards=sound_guards,
    )
    return Spec(document, MappingProxyType(resolved), base, problems.warnings, root, environment)


def _section(tree: Mapping[str, Value], name: str) -> list[tuple[str, Value]]:
    section = tree.get(name)
    return list(section.items()) if isinstance(section, dict) else []


def _declared_in(root: MapNode) -> str:
    entry = root.entries.get("connections")
    return entry.key.source.name if entry and entry.key else "the spec"
