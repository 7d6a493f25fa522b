"""All chosen resources against the world, in one read-only snapshot per database.

In: addresses. Out: `Observed`: what was found, from which steps, statuses and findings are made.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.kinds.bucket_prefixes import compile_prefix
from reconciler.kinds.checks import stand
from reconciler.kinds.collections import Compiled, NoTableError, compile_collection
from reconciler.kinds.guards import pass_guards
from reconciler.kinds.kept import add_kept, find_kept
from reconciler.kinds.processes import (
    Waiting,
    add_steps,
    compile_process,
    count_waiting,
    defer_after,
    waits_for,
    will_run,
    write_pending,
)
from reconciler.kinds.processes import status_of as status_of_process
from reconciler.kinds.sql_objects import created_tables, find_objects
from reconciler.kinds.unique_keys import compile_unique_key
from reconciler.kinds.world import World
from reconciler.plan.file import Planned
from reconciler.plan.names import TableName
from reconciler.plan.order import Edge
from reconciler.plan.step import Check as CheckState
from reconciler.plan.step import Deferred, Hazard, Verb
from reconciler.spec import (
    Audit,
    BucketPrefix,
    Check,
    Collection,
    Guard,
    PdsRecords,
    Process,
    Resource,
    SqlObjects,
    UniqueKey,
)
from reconciler.systems.postgres.as_of import AsOf
from reconciler.systems.postgres.described import Described, Objects, find_described
from reconciler.systems.postgres.described_steps import object_steps, write_object_findings
from reconciler.systems.postgres.differ import Found
from reconciler.systems.postgres.emit import Emitted
from reconciler.systems.postgres.exchange import Reached
from reconciler.systems.postgres.extract import extract_rows
from reconciler.systems.postgres.findings import write_findings
from reconciler.systems.postgres.kept_diff import KeptFound
from reconciler.systems.postgres.object_diff import ObjectsFound
from reconciler.systems.postgres.planner import load, observe, prepare, steps_of
from reconciler.systems.postgres.rows import Duplicates, Intent, OnExtra, TableSource, full_name
from reconciler.systems.postgres.session import Session
from reconciler.systems.postgres.structure import lacking

if TYPE_CHECKING:
    from reconciler.kinds.pds_records import Meant
    from reconciler.systems.pds.compare import Compared


@dataclass(frozen=True)
class ResourceStatus:
    """A table, a file of objects or a collection of records, of a resource, in numbers."""

    address: str
    target: str
    in_sync: int
    missing: int
    changed: int
    extra: int
    notes: tuple[str, ...]
    deletes_extra: bool
    wrong: int = 0
    check: CheckState | None = None

    @property
    def failed(self) -> bool:
        """Whether it is a check that does not hold."""
        return self.check is not None and self.check.failed

    @property
    def differs(self) -> bool:
        return bool(self.missing or self.changed or self.wrong or (self.extra and self.deletes_extra))


@dataclass
class Observed:
    world: World
    addresses: Sequence[str] = ()
    founds: dict[str, list[Found]] = field(default_factory=dict[str, list[Found]])
    """By connection."""
    objects: list[ObjectsFound] = field(default_factory=list[ObjectsFound])
    prefixes: list[tuple[str, Objects]] = field(default_factory=list[tuple[str, Objects]])
    """What was found in buckets, with the storage's connection."""
    kept: list[KeptFound] = field(default_factory=list[KeptFound])
    """Audits and guards."""
    records: list[Compared] = field(default_factory=list["Compared"])
    processes: list[Waiting] = field(default_factory=list[Waiting])
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    waiting: list[tuple[str, Found]] = field(default_factory=list[tuple[str, Found]])
    """Unique keys that are deferred, by connection: they are counted all the same."""
    deferred: list[Deferred] = field(default_factory=list[Deferred])

    def steps(self) -> Emitted:
        """Steps, edges and risks over all connections."""
        everything = Emitted()
        for connection, founds in self.founds.items():
            out = steps_of(self.world.session(connection), self.world.catalog(connection), founds)
            everything.steps += out.steps
            everything.must += out.must
            everything.rather += out.rather
            everything.hazards += out.hazards
            everything.hazards += pass_guards(self.world.session(connection), founds, everything.steps)
        add_kept(everything, self.kept)
        for objects in self.objects:
            steps, edges = objects.steps()
            everything.steps += steps
            everything.must += edges
            everything.hazards += objects.hazards
        for connection, prefix in self.prefixes:
            out = object_steps(self.world.session(prefix.intent.connection), prefix, connection)
            everything.steps += out.steps
            everything.must += out.must
            everything.hazards += out.hazards
        if self.records:
            self._add_records(everything)
        add_steps(self.world, self.processes, self.founds, everything)
        everything.hazards += [Hazard("left-out", address, text) for address, text in self.notes]
        return everything

    def _add_records(self, everything: Emitted) -> None:
        """Records come after the rows of the same plan, unless something else asks for another order."""
        from reconciler.systems.pds.emit import hazards_of, limits_of, steps_of

        before = {item.step.id for item in everything.steps}
        last = sorted(before - {one for one, other in everything.must if other in before})
        for found in self.records:
            steps, edges = steps_of(found)
            everything.steps += steps
            everything.must += edges
            everything.rather += [(name, steps[0].step.id) for name in last if steps]
            everything.hazards += hazards_of(found)
        everything.hazards += limits_of(self.records)

    def needs(self, steps: Mapping[str, Planned]) -> list[Edge]:
        """The edges that `needs` in the spec asks for."""
        by_address: dict[str, list[str]] = {}
        for name, item in steps.items():
            by_address.setdefault(item.step.address, []).append(name)
        resources = self.world.spec.resources()
        return [
            (before, after)
            for address, names in by_address.items()
            for needed in (resources[address].needs if address in resources else ())
            for before in by_address.get(needed, ())
            for after in names
        ]

    def _declared(self) -> Iterator[tuple[str, Found]]:
        for connection, founds in self.founds.items():
            for found in founds:
                if found.written and not found.intent.finds:
                    yield connection, found

    def _keys(self) -> list[tuple[str, Found]]:
        """Every unique key, also those that wait."""
        planned = [(connection, found) for connection, founds in self.founds.items() for found in founds]
        return [it for it in (*planned, *self.waiting) if isinstance(it[1].intent.finds, Duplicates)]

    def intents(self) -> list[tuple[Session, Found]]:
        """What was declared, each with the session its target is on."""
        return [(self.world.session(connection), found) for connection, found in self._declared()]

    def status(self) -> list[ResourceStatus]:
        """Every table of every resource."""
        counted = [
            ResourceStatus(
                address=found.intent.address,
                target=f"{connection} {full_name(found.intent.target.name)}",
                in_sync=max(0, (found.source_rows or 0) - found.missing - found.changed),
                missing=found.missing,
                changed=found.changed,
                extra=found.extra,
                notes=tuple(found.notes),
                deletes_extra=found.intent.on_extra is OnExtra.DELETE,
            )
            for connection, found in sorted(self._declared(), key=lambda item: item[1].intent.label)
        ]
        counted += [
            ResourceStatus(
                address=found.intent.address,
                target=f"{connection} {full_name(found.intent.target.name)}",
                in_sync=found.source_rows or 0,
                missing=0,
                changed=0,
                extra=found.extra,
                notes=tuple(found.notes),
                deletes_extra=True,
                wrong=self._lacking(connection, found),
            )
            for connection, found in self._keys()
        ]
        counted += [
            ResourceStatus(
                address=it.intent.address,
                target=f"{it.intent.connection} {full_name(it.intent.target.name)}",
                in_sync=it.in_sync,
                missing=it.counts["missing_in_db"],
                changed=it.rows.changed + it.counts.get("sign", 0),
                extra=it.counts["unexpected"],
                notes=tuple(it.notes),
                deletes_extra=False,
                wrong=it.counts["missing_in_storage"],
            )
            for _, it in self.prefixes
        ]
        counted += [
            ResourceStatus(
                address=it.declared.address,
                target=f"{it.declared.connection} {it.declared.file}",
                in_sync=it.in_sync,
                missing=it.count(Verb.CREATE),
                changed=it.count(Verb.ALTER),
                extra=it.count(Verb.DROP),
                notes=tuple(it.notes),
                deletes_extra=True,
            )
            for it in self.objects
        ]
        counted += [
            ResourceStatus(
                it.address, f"{it.connection} {it.label}", it.in_sync, *it.counts, tuple(it.notes), deletes_extra=True
            )
            for it in self.kept
        ]
        counted += [
            ResourceStatus(
                address=it.wanted.address,
                target=f"{it.wanted.connection} {it.wanted.collection}",
                in_sync=it.in_sync,
                missing=len(it.creates),
                changed=len(it.updates),
                extra=len(it.extra),
                notes=(f"{it.outside} rows of the source are outside of `rkeys`",) if it.outside else (),
                deletes_extra=it.wanted.delete,
            )
            for it in self.records
        ]
        counted += [ResourceStatus(**status_of_process(self.world, it)) for it in self.processes]
        counted += [
            ResourceStatus(it.address, "", int(bool(it.holds)), 0, 0, 0, (it.text,), False, int(it.failed), it)
            for it in self.checks()
        ]
        return sorted(counted, key=lambda it: it.address)

    def checks(self) -> tuple[CheckState, ...]:
        """How the chosen checks stand now."""
        return stand(self.world, self.addresses)

    def _lacking(self, connection: str, found: Found) -> int:
        """How many constraints a unique key lacks."""
        source = found.intent.finds
        assert isinstance(source, Duplicates)
        session, catalog = self.world.session(connection), self.world.catalog(connection)
        return min(1, len(lacking(session, catalog, found.intent, source, 0).after))

    def write_findings(self, folder: Path) -> tuple[Path, ...]:
        keys = [(self.world.session(connection), found) for connection, found in self._keys()]
        paths = write_findings(self.intents(), keys, folder)
        if self.prefixes and not self.intents():
            for path in paths:
                path.unlink()
            paths = ()
        for n, (_, it) in enumerate(self.prefixes):
            made = write_object_findings(self.world.session(it.intent.connection), it, folder, fresh=not n)
            paths = tuple(dict.fromkeys((*paths, *made)))
        pending = write_pending(self.world, self.processes, folder)
        for path in paths:
            if path.stem not in ("missing", "changed", "extra"):
                continue
            with path.open("a", encoding="utf-8", newline="") as file:
                out = csv.writer(file, lineterminator="\n")
                for it in self.records:
                    keys = {"missing": it.creates, "changed": it.updates, "extra": it.deletes}[path.stem]
                    out.writerows((it.wanted.address, it.wanted.collection, key) for key in sorted(keys))
        return (*paths, *pending)

    def extract(self, folder: Path) -> tuple[str, ...]:
        """Save what the sources hold."""
        folder.mkdir(parents=True, exist_ok=True)
        said = extract_rows(self.intents(), folder)
        if self.records:
            from reconciler.kinds.pds_records import extract_records

            said += extract_records(self.world, self.records, folder)
        return said


def observed(
    world: World, addresses: Sequence[str], pads: tuple[bytes, bytes] | None, *, count_extra: bool = False
) -> Observed:
    """Compile, make the temporary tables, forbid writes, compare."""
    result = Observed(world, addresses)
    intents: list[Intent] = []
    records: dict[str, PdsRecords] = {}
    reaches: list[AsOf | Reached] = []
    resources = world.spec.resources()
    files = {address: it for address in addresses if isinstance(it := resources[address], SqlObjects)}
    result.objects = find_objects(world, files)
    result.notes += [(it.declared.address, note) for it in result.objects for note in it.notes]
    created = created_tables(result.objects)
    for address in addresses:
        resource = resources[address]
        if isinstance(resource, SqlObjects | Check):
            continue
        if isinstance(resource, Audit | Guard):
            continue
        if isinstance(resource, PdsRecords):
            records[address] = resource
            continue
        if isinstance(resource, Process):
            try:
                result.processes.append(compile_process(world, address, resource))
            except NoTableError as error:
                _defer_until_created(result, address, error, created)
            continue
        first = intents[-1].number + 1 if intents else 0
        try:
            made = _compile(world, address, resource, first)
        except NoTableError as error:
            _defer_until_created(result, address, error, created)
            continue
        intents += made.intents
        reaches += made.reaches
        result.notes += [(address, note) for note in made.notes]
    result.kept, absent = find_kept(world, addresses)
    for address, error in absent:
        _defer_until_created(result, address, error, created)
    result.notes += [(it.address, note) for it in result.kept for note in it.notes]
    meant = _meant(result, records, created) if records else []
    by_connection: dict[str, list[Intent]] = {}
    for intent in intents:
        by_connection.setdefault(intent.connection, []).append(intent)
    bystanders = {
        connection: prepare(world.session(connection), world.catalog(connection), members, pads)
        for connection, members in by_connection.items()
    }
    for reach in reaches:
        reach.make()
    for session in world.sessions.values():
        session.forbid_writes()
    declared = {connection: load(world.session(connection), them) for connection, them in sorted(by_connection.items())}
    for reach in reaches:
        reach.fill()
    for connection, founds in declared.items():
        result.founds[connection] = observe(
            world.session(connection),
            world.catalog(connection),
            founds,
            by_connection[connection],
            bystanders[connection],
            partial(_describe, result, connection, by_connection[connection], wait=not count_extra),
            count_extra=count_extra,
        )
    _defer_keys(result, created)
    changing = _defer(result)
    count_waiting(world, result.processes)
    running = will_run(result.processes, changing)
    result.deferred += defer_after(world.spec, result.founds, running)
    deferred = {it.address for it in result.deferred}
    result.prefixes = [it for it in result.prefixes if it[1].intent.address not in deferred]
    if records:
        from reconciler.kinds.pds_records import find_records

        result.records = find_records(world, [it for it in meant if not _waits(result, it, changing, running)])
    result.deferred = sorted(set(result.deferred), key=lambda it: it.address)
    return result


def _describe(
    result: Observed, connection: str, intents: Sequence[Intent], founds: Sequence[Found], *, wait: bool
) -> list[Found]:
    """Rows of objects, compared; with `wait` only where no other resource of this plan changes them first."""
    writers = {
        it.intent.target.name: it.intent.address for it in founds if wait and (it.missing or it.changed or it.extra)
    }
    waiting: dict[str, str] = {}
    for intent in intents:
        if isinstance(intent.finds, Described) and (writer := writers.get(intent.target.name)):
            waiting[intent.address] = (
                f"rows of {full_name(intent.target.name)} are changed by {writer}; plan again after apply"
            )
    result.deferred += [Deferred(address, reason) for address, reason in waiting.items()]
    seen = find_described(result.world.session(connection), [it for it in intents if it.address not in waiting])
    for found in seen:
        resource = result.world.spec.resources()[found.intent.address]
        assert isinstance(resource, BucketPrefix)
        result.prefixes.append((resource.place()[0], found))
    return [found for it in seen for found in (it.new, it.rows)]


def _meant(
    result: Observed, records: Mapping[str, PdsRecords], created: Mapping[tuple[str, TableName], str]
) -> list[Meant]:
    from reconciler.kinds.pds_records import compile_records

    meant: list[Meant] = []
    for address, resource in records.items():
        try:
            meant.append(compile_records(result.world, address, resource))
        except NoTableError as error:
            _defer_until_created(result, address, error, created)
    return meant


def _defer_until_created(
    result: Observed, address: str, error: NoTableError, created: Mapping[tuple[str, TableName], str]
) -> None:
    """A table that this very plan creates can only be planned after."""
    by = created.get((error.connection, TableName(error.table.schema or "public", error.table.name)))
    if by is None:
        raise error
    reason = f"its table {full_name(error.table)} is created by {by}; plan again after apply"
    result.deferred.append(Deferred(address, reason))


def _waits(
    result: Observed, meant: Meant, changing: Mapping[tuple[str, TableName], str], running: Sequence[Waiting]
) -> bool:
    """Whether the records' source is changed by this very plan."""
    writer = changing.get(meant.table) if meant.table else None
    if meant.table and writer is None:
        writer = waits_for(result.world.spec, meant.wanted.address, meant.table, running)
    if meant.table and writer:
        reason = f"its source {full_name(meant.table[1])} is changed by {writer}; plan again after apply"
        result.deferred.append(Deferred(meant.wanted.address, reason))
    return writer is not None


def _compile(world: World, address: str, resource: Resource, first: int) -> Compiled:
    match resource:
        case Collection():
            return compile_collection(world, address, resource, first)
        case BucketPrefix():
            return compile_prefix(world, address, resource, first)
        case UniqueKey():
            return compile_unique_key(world, address, resource, first)
        case _:
            raise AssertionError(f"{address}: no kind compiles it")


def _defer_keys(result: Observed, created: Mapping[tuple[str, TableName], str]) -> None:
    """A unique key is planned on rows that nothing else in this plan changes, or not at all."""
    archives = dict(created)
    gone: set[str] = set()
    for connection, founds in result.founds.items():
        session, catalog = result.world.session(connection), result.world.catalog(connection)
        for found in founds:
            source, address = found.intent.finds, found.intent.address
            if not isinstance(source, Duplicates) or found.intent.protect:
                continue
            tables = [
                found.intent.target.name,
                *(key.child for key in found.intent.target.referenced_by if found.extra),
            ]
            # Without duplicates rows that only go cannot hurt.
            writers = [
                it.intent.address
                for it in founds
                if it.intent.target.name in tables and it.intent.address not in (address, *gone) and not it.waits
                if it.missing or it.changed or (it.extra and found.extra)
            ]
            writer = found.waits or next(iter(writers), "")
            archive = (connection, source.archive) if source.archive and found.extra else None
            if writer and (found.extra or lacking(session, catalog, found.intent, source, 0).after):
                result.deferred.append(
                    Deferred(
                        address,
                        f"rows of {full_name(found.intent.target.name)} are changed by {writer}; plan again after apply",
                    )
                )
            elif archive and archives.get(archive, address) != address:
                result.deferred.append(
                    Deferred(
                        address,
                        f"its archive {full_name(archive[1])} is created by {archives[archive]}; plan again after apply",
                    )
                )
            else:
                if archive and catalog.find(archive[1]) is None:
                    archives[archive] = address
                continue
            gone.add(address)
            result.waiting.append((connection, found))
    for connection, founds in result.founds.items():
        result.founds[connection] = [found for found in founds if found.intent.address not in gone]


def _defer(result: Observed) -> dict[tuple[str, TableName], str]:
    """A resource whose source this very plan changes can only be planned after."""
    changing = {
        (connection, found.intent.target.name): found.intent.address
        for connection, founds in result.founds.items()
        for found in founds
        if found.missing or found.changed or found.extra
    }
    for _, prefix in result.prefixes:
        if prefix.counts.get("sign"):
            changing.setdefault((prefix.intent.connection, prefix.intent.target.name), prefix.intent.address)
    for founds in result.founds.values():
        for found in list(founds):
            if found.intent.finds:
                continue
            source = found.intent.source
            if not isinstance(source, TableSource):
                continue
            writer = changing.get((source.session.name, source.table.name))
            if writer and writer != found.intent.address:
                reason = f"its source {full_name(source.table.name)} is changed by {writer}; plan again after apply"
                result.deferred.append(Deferred(found.intent.address, reason))
                founds.remove(found)
    gone = {deferred.address for deferred in result.deferred}
    for connection, founds in result.founds.items():
        result.founds[connection] = [found for found in founds if found.intent.address not in gone]
    return changing
