"""What differs becomes steps: blobs are uploaded, records created, others replaced, and at last those deleted that go.

In: `Compared`. Out: steps with their lines, edges, risks. Creating and replacing are two steps of the verb put, so that each of them has
one way back: what was created is deleted, what was replaced is put back. Records stand in the lines with their keys sorted, which
leaves their CIDs as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import cast

from reconciler.plan.file import Planned, change_line
from reconciler.plan.step import Change, Hazard, Image, Step, Verb
from reconciler.systems.pds import quota, records
from reconciler.systems.pds.compare import Compared, Texts, check_limit

_DAY = quota.DAY.seconds
_NAMED = 3


def steps_of(found: Compared) -> tuple[list[Planned], list[tuple[str, str]]]:
    """The steps in their order, and the edges that keep them in it."""
    check_limit(found)
    wanted = found.wanted
    updates = found.updates if found.writes_updates else {}
    name = f"{wanted.address}[{wanted.collection}]"
    told = found.told_columns()
    made = [
        _uploads(found, f"{name}/upload"),
        _records(found, f"{name}/put", Verb.PUT, found.creates, "missing"),
        _records(found, f"{name}/put#2", Verb.PUT, updates, "changed", (f"columns: {told}",)),
        _records(found, f"{name}/delete", Verb.DELETE, found.deletes, "not in source"),
    ]
    steps = [item for item in made if item.step.count]
    return steps, [(one.step.id, other.step.id) for one, other in pairwise(steps)]


def hazards_of(found: Compared) -> list[Hazard]:
    """What a reviewer has to know."""
    wanted, address = found.wanted, found.wanted.address
    hazards = [Hazard("other-repo", address, note) for note in wanted.notes]
    changed, extra = (len(found.updates) if wanted.update else 0), (len(found.extra) if wanted.delete else 0)
    if wanted.protect and (changed or extra):
        text = f"{changed} changed and {extra} extra records of {wanted.collection} are protected and left"
        hazards.append(Hazard("blocked", address, text, changed + extra))
    if deletes := len(found.deletes):
        hazards.append(Hazard("delete", address, f"{deletes} records of {wanted.collection} are deleted", deletes))
    if found.over is not None:
        text = f"{deletes} records are deleted, and max_delete allows {found.over}"
        hazards.append(Hazard("delete-over-limit", address, text, deletes))
    if count := len(found.lacking):
        where = f" and {wanted.store_name} lacks" if wanted.store else ""
        named = _some([f"{cid} of {rkey}" for cid, rkey in sorted(found.lacking_of.items())])
        text = f"{count} blobs that the records name the PDS lacks{where}: it will refuse these records ({named})"
        hazards.append(Hazard("missing-blob", address, text, count))
    if count := len(found.dropped):
        text = (
            f"{count} blobs lose the last record that names them, and the PDS drops them: keep their files for an undo"
        )
        hazards.append(Hazard("dropped-blob", address, text, count))
    if count := len(found.legacy):
        text = (
            f"{count} records name a blob in the old form, which a PDS takes no new record with: "
            f"it will refuse {_some(found.legacy)}"
        )
        hazards.append(Hazard("old-blob", address, text, count))
    return hazards


def limits_of(founds: Sequence[Compared]) -> list[Hazard]:
    """What a server that counts makes of all that is written to an account, and how long that takes."""
    hazards: list[Hazard] = []
    for connection in sorted({it.wanted.connection for it in founds}):
        own = [it for it in founds if it.wanted.connection == connection and (it.creates or it.updates or it.deletes)]
        address = ", ".join(sorted(it.wanted.address for it in own))
        creates, deletes = sum(len(it.creates) for it in own), sum(len(it.deletes) for it in own)
        updates = sum(len(it.updates) for it in own if it.writes_updates)
        points = creates * quota.CREATE + updates * quota.UPDATE + deletes * quota.DELETE
        if points > quota.HOUR.points:
            seconds = quota.seconds_for(creates, updates, deletes)
            took = _duration(seconds)
            text = (
                f"{points} points are needed, and a PDS that counts gives {quota.HOUR.points} an hour and {quota.DAY.points} a day: "
                f"this takes at least {took}"
            )
            hazards.append(Hazard("quota-over-a-day" if seconds > _DAY else "rate-limit", address, text, points))
        uploads = len({blob.cid for it in own for blob in it.uploads})
        if uploads > quota.UPLOADS.points:
            took = _duration((uploads - 1) // quota.UPLOADS.points * quota.UPLOADS.seconds)
            text = (
                f"{uploads} blobs are uploaded, and a PDS that counts takes {quota.UPLOADS.points} a day: "
                f"this takes at least {took}"
            )
            hazards.append(Hazard("rate-limit", address, text, uploads))
    return hazards


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, minutes = divmod(minutes, 1440)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n]
    return " ".join(parts) or "a minute"


def _step(found: Compared, id_: str, verb: Verb, count: int, key: str, notes: tuple[str, ...] = ()) -> Step:
    wanted = found.wanted
    return Step(id_, wanted.connection, wanted.collection, verb, (key,), count=count, notes=notes)


def _uploads(found: Compared, id_: str) -> Planned:
    def lines(sink: Callable[[bytes], object]) -> None:
        for it in found.uploads:
            after: Image = {"mimeType": it.mime, "size": it.size}
            sink(f"{change_line(Change(id_, (it.cid,), None, after, 'missing blob'))}\n".encode())

    return Planned(_step(found, id_, Verb.UPLOAD, len(found.uploads), "cid"), lines)


def _records(
    found: Compared, id_: str, verb: Verb, after: Texts | list[str], reason: str, notes: tuple[str, ...] = ()
) -> Planned:
    rkeys: Iterable[str] = sorted(after)

    def image(rkey: str, texts: Texts | list[str]) -> Image | None:
        if isinstance(texts, list) or rkey not in texts:
            return None
        return cast(Image, records.parse(found.spool.get(texts[rkey])))

    def lines(sink: Callable[[bytes], object]) -> None:
        for rkey in rkeys:
            change = Change(id_, (rkey,), image(rkey, found.before), image(rkey, after), reason)
            sink(f"{change_line(change)}\n".encode())

    return Planned(_step(found, id_, verb, len(after), "rkey", notes), lines)
