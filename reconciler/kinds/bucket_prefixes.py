"""`bucket_prefixes`: objects under a prefix and the rows that describe them, both ways.

In: a resource of the spec. Out: two intents (rows to come, rows there are) that `systems/postgres/described.py` compares with the
storage's inventory. It decides nothing about a row or an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from reconciler.kinds.tables import Compiled, find_table, identity, place_of, proven, signed_columns
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.spec import BucketPrefix, CopyFrom, InsertRow, Quarantine, SetRow
from reconciler.spec.bucket_prefix import bucket_of, pieces, seconds
from reconciler.systems.postgres.catalog import Table
from reconciler.systems.postgres.described import Described, RowsOf, Signing
from reconciler.systems.postgres.paired import Inventory
from reconciler.systems.postgres.rows import NO_SOURCE, Intent, OnExtra, Scope, full_name
from reconciler.systems.storage.interface import Storage, Verdict


def compile_prefix(world: World, address: str, it: BucketPrefix, first: int) -> Compiled:
    """One prefix, its intents numbered from `first`."""
    connection, name = it.target()
    place = place_of(world, address)
    table = find_table(world, connection, name, place_of(world, address, "table"))
    if table.kind not in "rp":
        raise ReconcilerError(
            f"{address}: {full_name(table.name)} is not a table", where=place_of(world, address, "table")
        )
    _check_columns(world, address, it, table)
    key = identity(table, address, place_of(world, address))
    sets = it.on_missing_object.set if isinstance(it.on_missing_object, SetRow) else {}
    for name, path in (
        *((c, ("on_missing_object", "set", c)) for c in sets),
        *((c, ("columns", c)) for c in it.columns),
    ):
        if name in key:
            raise ReconcilerError(
                f"{address}: rows of {full_name(table.name)} are told apart by {name!r}, which cannot be changed here",
                where=place_of(world, address, *path), todo="leave it out",
            )  # fmt: skip
    inserts = it.on_missing_row.insert if isinstance(it.on_missing_row, InsertRow) else {}
    for values, path in ((sets, ("on_missing_object", "set")), (inserts, ("on_missing_row", "insert"))):
        for name, value in values.items():
            if value is None and table.columns[name].not_null:
                raise ReconcilerError(
                    f"{address}: column {name!r} may not be NULL", where=place_of(world, address, *path, name), todo="give it a value",
                )  # fmt: skip
    session, where = world.session(connection), place_of(world, address, "where")
    scope = Scope(proven(world, session, it.where, table, where)) if it.where else Scope()
    new = Intent(
        first, address, connection, table, (it.column,), NO_SOURCE, scope, finds=_described(world, address, it, table),
        protect=it.protect, source_name=it.bucket, place=place,
    )  # fmt: skip
    rows = Intent(
        first + 1, address, connection, table, identity(table, address, place), NO_SOURCE, scope, finds=RowsOf(new),
        on_extra=OnExtra.DELETE if it.on_missing_object == "delete" else OnExtra.KEEP, max_delete=str(it.max_delete),
        protect=it.protect, source_name=it.bucket, place=place,
        secret=signed_columns(world, connection, table.name),
    )  # fmt: skip
    return Compiled([new, rows])


def _check_columns(world: World, address: str, it: BucketPrefix, table: Table) -> None:
    named: list[tuple[str, tuple[str, ...]]] = [(it.column, ("column",))]
    named += [(name, ("columns", name)) for name in it.columns]
    if isinstance(it.on_missing_row, InsertRow):
        named += [(name, ("on_missing_row", "insert", name)) for name in it.on_missing_row.insert]
    if isinstance(it.on_missing_object, SetRow):
        named += [(name, ("on_missing_object", "set", name)) for name in it.on_missing_object.set]
    if it.signed_url:
        named.append((it.signed_url.column, ("signed_url", "column")))
    for name, path in named:
        place, column = place_of(world, address, *path), table.columns.get(name)
        if column is None:
            raise ReconcilerError(
                f"{address}: {full_name(table.name)} has no column {name!r}", where=place,
                todo=f"its columns are {', '.join(table.columns)}",
            )  # fmt: skip
        if column.generated:
            raise ReconcilerError(f"{address}: column {name!r} is generated: the database computes it", where=place)


def _described(world: World, address: str, it: BucketPrefix, table: Table) -> Described:
    connection, bucket = it.place()
    storage = world.storage(connection, bucket)
    spare, spare_name = None, ""
    if isinstance(it.on_missing_object, CopyFrom):
        spare_name = it.on_missing_object.copy_from
        other, other_bucket = bucket_of(spare_name)
        spare = _inventory(world, other, other_bucket, it.prefix, it.target()[0])
    insert = it.on_missing_row.insert if isinstance(it.on_missing_row, InsertRow) else None
    action = it.on_missing_object
    return Described(
        bucket=bucket,
        prefix=it.prefix,
        match=(*(pattern(text) for text in it.match), *_aside(it)),
        inventory=_inventory(world, connection, bucket, it.prefix, it.target()[0]),
        column=it.column,
        form=tuple(pieces(it.form)),
        wrong_forms=tuple(tuple(pieces(form)) for form in it.wrong_forms),
        insert=None
        if insert is None
        else {c: None if text is None else tuple(pieces(text)) for c, text in insert.items()},
        on_missing="set" if isinstance(action, SetRow) else "copy" if isinstance(action, CopyFrom) else action,
        sets=action.set if isinstance(action, SetRow) else {},
        spare=spare,
        spare_name=spare_name,
        measured={column: "mime" if what == "content_type" else what for column, what in it.columns.items()},
        extra="move" if isinstance(it.on_extra_object, Quarantine) else it.on_extra_object,
        quarantine=it.on_extra_object.quarantine if isinstance(it.on_extra_object, Quarantine) else "",
        move=it.move,
        lost=_lost(storage, bucket) if it.verify == "bytes" else None,
        signing=signing(it, world.now),
        stale=proven(world, world.session(it.target()[0]), it.stale, table, place_of(world, address, "stale"))
        if it.stale
        else None,
        limit=str(it.max_delete),
    )


def _aside(it: BucketPrefix) -> Iterator[tuple[bool, str]]:
    """What was set aside is not meant any more, also where it lies under the prefix."""
    place = it.on_extra_object.quarantine if isinstance(it.on_extra_object, Quarantine) else ""
    if place.startswith(it.prefix) and (rest := place[len(it.prefix) :]):
        yield False, "^" + re.sub(r"([^\w/ ])", r"\\\1", rest)


def _inventory(world: World, storage: str, bucket: str, prefix: str, connection: str) -> Inventory:
    opened = world.storage(storage, bucket)

    def blocks() -> Iterator[bytes]:
        listing = opened.inventory_copy(bucket, prefix)
        yield from listing
        _ = listing.totals  # an error unless it was read to its end

    return lambda: world.inventory_query(storage, bucket, prefix, connection) or blocks()


def _lost(storage: Storage, bucket: str) -> Callable[[Iterator[str]], Iterable[str]]:
    def ask(names: Iterator[str]) -> Iterable[str]:
        return (name for name, verdict in storage.verify(bucket, names) if verdict is not Verdict.PRESENT)

    return ask


def signing(it: BucketPrefix, now: int) -> Signing | None:
    """What the spec says of signed URLs."""
    if it.signed_url is None:
        return None
    url = it.signed_url
    return Signing(url.column, seconds(url.expires_in), seconds(url.renew_within), now)


def pattern(text: str) -> tuple[bool, str]:
    """A line of .gitignore as (includes, regular expression over the name behind the prefix); `*.ext` stays as it is."""
    includes, text = (False, text[1:]) if text.startswith("!") else (True, text)
    if re.fullmatch(r"\*\.\w+", text):
        return includes, text
    anchored, text = "/" in text.rstrip("/"), text.removeprefix("/")
    below = text.endswith("/")
    out = ["^" if anchored else "(^|/)"]
    rest = text.rstrip("/")
    while rest:
        for glob, expression in (("**/", "(.*/)?"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]")):
            if rest.startswith(glob):
                out.append(expression)
                rest = rest[len(glob) :]
                break
        else:
            letters = re.match(r"\[!?[^]\[\\]+\]", rest)
            taken = letters[0] if letters else rest[1] if rest[0] == "\\" and len(rest) > 1 else rest[0]
            out.append(taken.replace("[!", "[^") if letters else re.sub(r"([^\w/ ])", r"\\\1", taken))
            rest = rest[len(taken) + (not letters and rest[0] == "\\" and len(rest) > 1) :]
    return includes, "".join(out) + ("/" if below else "($|/)")
