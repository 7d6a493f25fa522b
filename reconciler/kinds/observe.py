"""All chosen resources against the world, in one read-only snapshot per database.

In: addresses. Out: `Observed`. What can only be planned after the plan is applied is deferred here, kind by kind.
The modules of a kind are loaded when a spec has a resource of it: they are half of the tool, and a spec seldom has more than two kinds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from reconciler.kinds.findings import Observed
from reconciler.kinds.tables import Compiled, NoTableError, sensitive_columns, signed_columns
from reconciler.kinds.world import World
from reconciler.plan.names import TableName
from reconciler.plan.step import Deferred
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
from reconciler.systems.postgres.described import Described
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.planner import load, observe, prepare
from reconciler.systems.postgres.rows import Duplicates, Intent, TableSource, full_name

if TYPE_CHECKING:
    from reconciler.kinds.pds_records import Meant
    from reconciler.kinds.processes import Waiting
    from reconciler.systems.postgres.as_of import AsOf
    from reconciler.systems.postgres.exchange import Reached


def observed(
    world: World, addresses: Sequence[str], pads: tuple[bytes, bytes] | None, *, count_extra: bool = False
) -> Observed:
    """Compile, make the temporary tables, forbid writes, compare.

    With `count_extra` everything is counted as it stands: what a plan would have to leave for later, and rows that it would leave alone.
    """
    result = Observed(world, addresses)
    intents: list[Intent] = []
    records: dict[str, PdsRecords] = {}
    reaches: list[AsOf | Reached] = []
    resources = world.spec.resources()
    created: dict[tuple[str, TableName], str] = {}
    if files := {address: it for address in addresses if isinstance(it := resources[address], SqlObjects)}:
        from reconciler.kinds.sql_objects import created_tables, find_objects

        result.objects = find_objects(world, files)
        result.notes += [(it.declared.address, note) for it in result.objects for note in it.notes]
        created = created_tables(result.objects)
    for address in addresses:
        resource = resources[address]
        if isinstance(resource, SqlObjects | Check | Audit | Guard):
            continue
        if isinstance(resource, PdsRecords):
            records[address] = resource
            continue
        if isinstance(resource, Process):
            from reconciler.kinds.processes import compile_process

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
    if any(isinstance(resources[address], Audit | Guard) for address in addresses):
        from reconciler.kinds.kept import find_kept

        result.kept, absent = find_kept(world, addresses)
        for address, error in absent:
            _defer_until_created(result, address, error, created)
        result.notes += [(it.address, note) for it in result.kept for note in it.notes]
    meant = _meant(result, records, created) if records else []
    by_connection: dict[str, list[Intent]] = {}
    for intent in intents:
        by_connection.setdefault(intent.connection, []).append(intent)
    bystanders = {
        connection: [
            replace(
                it,
                sensitive=frozenset(sensitive_columns(world, connection, it.target.name)),
                secret=signed_columns(world, connection, it.target.name),
            )
            for it in prepare(world.session(connection), world.catalog(connection), members, pads)
        ]
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
    changing = {} if count_extra else _defer(result)
    running: list[Waiting] = []
    if result.processes:
        from reconciler.kinds.processes import count_waiting, defer_after, will_run

        count_waiting(world, result.processes)
        running = [] if count_extra else will_run(result.processes, changing)
        result.deferred += defer_after(world.spec, result.founds, running)
    deferred = {it.address for it in result.deferred}
    if not count_extra:  # a status counts them all the same
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
    described = [it for it in intents if isinstance(it.finds, Described)]
    if not described:
        return []
    from reconciler.systems.postgres.described_all import find_described

    writers = {
        it.intent.target.name: it.intent.address for it in founds if wait and (it.missing or it.changed or it.extra)
    }
    waiting: dict[str, str] = {}
    for intent in described:
        if writer := writers.get(intent.target.name):
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
    if meant.table and writer is None and running:
        from reconciler.kinds.processes import waits_for

        writer = waits_for(result.world.spec, meant.wanted.address, meant.table, running)
    if meant.table and writer:
        reason = f"its source {full_name(meant.table[1])} is changed by {writer}; plan again after apply"
        result.deferred.append(Deferred(meant.wanted.address, reason))
    return writer is not None


def _compile(world: World, address: str, resource: Resource, first: int) -> Compiled:
    match resource:
        case Collection():
            from reconciler.kinds.collections import compile_collection

            return compile_collection(world, address, resource, first)
        case BucketPrefix():
            from reconciler.kinds.bucket_prefixes import compile_prefix

            return compile_prefix(world, address, resource, first)
        case UniqueKey():
            from reconciler.kinds.unique_keys import compile_unique_key

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
            from reconciler.systems.postgres.structure import lacking

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
