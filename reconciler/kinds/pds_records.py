"""`pds_records`: records of one collection of one repo, as a source has them.

In: the resources of the spec that are such records. Out: what is meant by each (before writes are forbidden, for their SQL is proven), and
then what differs. Nothing is decided here about single records.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.kinds.bucket_blobs import Bucket
from reconciler.kinds.record_sources import rows_of
from reconciler.kinds.tables import place_of
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.spec import CarFile, FilesSpec, PdsRecords
from reconciler.systems.files import write_manifest, write_table
from reconciler.systems.pds import apply, car
from reconciler.systems.pds.batches import Validate
from reconciler.systems.pds.compare import Compared, Wanted, compare, keyed
from reconciler.systems.pds.inventory import fetched
from reconciler.systems.pds.store import Blocks, Folder, Store


@dataclass(frozen=True)
class Meant:
    """A resource ready to be compared; `table` is the one its source is, with its connection."""

    wanted: Wanted
    table: tuple[str, TableName] | None = None


def compile_records(world: World, address: str, resource: PdsRecords) -> Meant:
    """One resource, its source found and its SQL proven."""
    connection, did = resource.target()
    session = world.pds(connection)
    if session.did != did:
        raise ReconcilerError(
            f"{address}: connections.{connection} is the repo of {session.did}, not of {did}",
            where=place_of(world, address, "repo"),
            todo="name the repo that is meant, or the connection that belongs to it",
        )
    origin = rows_of(world, address, resource)
    notes: tuple[str, ...] = ()
    if isinstance(resource.source, CarFile):
        with car.opened(world.spec.base / resource.source.car) as opened:
            if opened.did != did:
                notes = (f"{resource.source.car} is a backup of the repo of {opened.did}",)
    rkeys = resource.rkeys
    wanted = Wanted(
        address=address,
        connection=connection,
        did=did,
        collection=resource.collection,
        rows=origin.rows,
        likely=origin.likely,
        source_name=origin.place,
        update=resource.on_changed == "update",
        delete=resource.on_extra == "delete",
        rkeys=(rkeys,) if isinstance(rkeys, str) else rkeys,
        pattern=isinstance(rkeys, str),
        max_delete=str(resource.max_delete),
        unlimited="R001" in resource.allow,
        protect=resource.protect,
        store=store_of(world, address, resource),
        store_name=resource.blobs.place if resource.blobs else "",
        notes=notes,
        place=place_of(world, address),
    )
    source = resource.table()
    return Meant(wanted, (source.connection, origin.table) if source and origin.table else None)


def find_records(world: World, meant: Sequence[Meant]) -> list[Compared]:
    """What differs, of every resource; no record belongs to two."""
    found = [compare(world.pds(it.wanted.connection), it.wanted, world.scratch()) for it in meant]
    taken: dict[tuple[str, str, str], str] = {}
    for it in found:
        for rkey in sorted({*it.creates, *it.updates, *it.deletes}):
            key = (it.wanted.connection, it.wanted.collection, rkey)
            if other := taken.get(key):
                raise ReconcilerError(
                    f"{other} and {it.wanted.address} both change the record {it.wanted.collection}/{rkey}",
                    where=it.wanted.place,
                    todo="make their scopes apart with `where` or `rkeys`",
                )
            taken[key] = it.wanted.address
    return found


def store_of(world: World, address: str, resource: PdsRecords) -> Store | None:
    """Where the bytes of blobs are."""
    if resource.blobs is None:
        return None
    connection, _, bucket = resource.blobs.place.partition(".")
    if world.is_storage(connection):
        return Bucket(world.storage(connection, bucket), bucket)
    path = _store_path(world, resource.blobs.place)
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Blocks(world.enter(car.opened(path)))
    raise ReconcilerError(
        f"{address}: there is no folder or CAR file {resource.blobs.place}",
        where=place_of(world, address, "blobs", "from"),
        todo="write a path within the folder of the specs, connection.folder of a files connection, or connection.bucket",
    )


def _store_path(world: World, text: str) -> Path:
    connection, _, folder = text.partition(".")
    if isinstance(world.spec.document.connections.get(connection), FilesSpec):
        files = world.files(connection)
        assert files is not None
        return files.path / folder
    return world.spec.base / text


def how(world: World, address: str, *, undo: bool) -> apply.How:
    """What apply needs of the plan's spec; what an undo puts back was there, so it is not validated."""
    resource = world.spec.document.pds_records[address.partition(".")[2]]
    validate = Validate.OFF if undo else Validate(resource.validation)
    return apply.How(validate, lambda: store_of(world, address, resource))


def extract_records(world: World, found: Sequence[Compared], folder: Path) -> tuple[str, ...]:
    """What the sources hold, as `<collection>.jsonl` of {rkey, record}; and each repo as it is now, as `<connection>.car`."""
    said: list[str] = []
    for name in sorted({it.wanted.connection for it in found}):
        session = world.pds(name)
        if not session.whole:
            said.append(f"{name}: no CAR file, for its records are files already")
            continue
        with fetched(session) as repo:
            repo.save(folder / f"{name}.car")
            count = sum(1 for it in repo.collections() for _ in repo.tree.entries(it))
        said.append(f"{folder.name}/{name}.car: the repo now, {count} records, without its blobs")
    by_collection: dict[str, list[Compared]] = {}
    for it in found:
        by_collection.setdefault(it.wanted.collection, []).append(it)
    for collection, members in sorted(by_collection.items()):
        count = write_table(folder, collection, (line for it in members for line in _lines(world, it)))
        said.append(f"{folder.name}/{collection}.jsonl: {count} records")
    if said:
        write_manifest(folder)
    return tuple(said)


def _lines(world: World, found: Compared) -> Iterator[bytes]:
    wanted = found.wanted
    for row in wanted.rows():
        rkey, text = keyed(world.pds(wanted.connection), wanted, row)
        if wanted.means(rkey):
            record = text.replace("\n", " ").replace("\r", " ")  # outside of strings, where JSON has none
            yield f'{{"rkey":{json.dumps(rkey)},"record":{record}}}\n'.encode()
