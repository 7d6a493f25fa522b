"""What is to be written, and the calls it is cut into.

Pure: in are writes, out are batches within the server's limits and the exact bytes of their calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import quota, syntax
from reconciler.systems.pds.records import MAX_BYTES, Record
from reconciler.systems.pds.xrpc import RefusedError

MAX_WRITES = 200
_ENVELOPE = 2_400  # bytes of a call beside its writes, at most
_METHOD = "com.atproto.repo.applyWrites"
_PLACE = re.compile(r"writes(?:\[|[./])(\d+)")
_CID = re.compile(r"\bb[a-z2-7]{50,}\b")


class Validate(StrEnum):
    """Whether the PDS checks records against their lexicon: never, always, or where it knows it."""

    OFF = "off"
    ON = "on"
    KNOWN = "known"


@dataclass(frozen=True)
class Write:
    """One record going from a CID to a record; `before` None: it is absent, `after` None: it goes."""

    collection: str
    rkey: str
    before: str | None
    after: Record | None

    def __post_init__(self) -> None:
        syntax.nsid(self.collection)
        syntax.rkey(self.rkey)
        if self.after and (self.after.collection, self.after.rkey) != self.key:
            raise ValueError(f"{self.path} cannot become {self.after.collection}/{self.after.rkey}")

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.rkey}"

    @property
    def key(self) -> tuple[str, str]:
        return self.collection, self.rkey

    @property
    def cid(self) -> str | None:
        """What the record is to be afterwards."""
        return self.after.cid if self.after else None

    @property
    def points(self) -> int:
        if self.after is None:
            return quota.DELETE
        return quota.CREATE if self.before is None else quota.UPDATE

    @property
    def size(self) -> int:
        """Bytes of its call, at most."""
        return 160 + len(self.collection) + len(self.rkey) + (self.after.size if self.after else 0)

    def call(self) -> str:
        """The JSON of this write."""
        verb = "delete" if self.after is None else "create" if self.before is None else "update"
        value = f',"value":{self.after.text}' if self.after else ""
        return f'{{"$type":"{_METHOD}#{verb}","collection":"{self.collection}","rkey":"{self.rkey}"{value}}}'


class Outcome(StrEnum):
    APPLIED = "applied"
    ALREADY = "already"
    FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """What became of a write; `error` where it failed."""

    write: Write
    outcome: Outcome
    error: ReconcilerError | None = None


@dataclass
class Room:
    """How much goes into a call now; it shrinks where the server or other writers ask for it."""

    writes: int = MAX_WRITES
    bytes: int = MAX_BYTES

    def fit(self, writes: Sequence[Write], points: int) -> int:
        """How many of the writes, from the first on, go into one call: at least one."""
        size = _ENVELOPE
        for number, write in enumerate(writes):
            size += write.size
            points -= write.points
            if number and (size > self.bytes or number == self.writes or points < 0):
                return number
        return len(writes)


def body(did: str, writes: Sequence[Write], commit: str, validate: Validate) -> bytes:
    """A call of applyWrites, records byte for byte as they were read."""
    how = {Validate.OFF: '"validate":false,', Validate.ON: '"validate":true,', Validate.KNOWN: ""}[validate]
    calls = ",".join(write.call() for write in writes)
    return f'{{"repo":{json.dumps(did)},{how}"swapCommit":{json.dumps(commit)},"writes":[{calls}]}}'.encode()


def single(did: str, write: Write, validate: Validate) -> tuple[str, bytes]:
    """Method and call of one write that is bound to its own record, not to the state of the repo."""
    record: dict[str, str | bool | None] = {
        "repo": did,
        "collection": write.collection,
        "rkey": write.rkey,
        "swapRecord": write.before,
    }
    if write.after is None:
        return "com.atproto.repo.deleteRecord", json.dumps(record).encode()
    if validate is not Validate.KNOWN:
        record["validate"] = validate is Validate.ON
    return "com.atproto.repo.putRecord", f'{json.dumps(record)[:-1]},"record":{write.after.text}}}'.encode()


def suspects(refused: RefusedError, writes: Sequence[Write]) -> list[Write]:
    """The writes the server's words point at, which may be none."""
    if (place := _PLACE.search(refused.words)) and int(place[1]) < len(writes):
        return [writes[int(place[1])]]
    named = set(_CID.findall(refused.words))
    return [it for it in writes if it.after and (it.cid in named or any(cid in it.after.text for cid in named))]


def judged(
    writes: Sequence[Write], now: Mapping[tuple[str, str], str | None]
) -> tuple[list[Write], list[Write], list[str]]:
    """The writes that are to do, those that are done, and one line for each record that is neither as before nor as after."""
    to_do: list[Write] = []
    done: list[Write] = []
    drifted: list[str] = []
    for write in writes:
        actual = now[write.key]
        if actual == write.cid:
            done.append(write)
        elif actual == write.before:
            to_do.append(write)
        else:
            drifted.append(f"{write.path}: planned on {write.before or 'nothing there'}, is {actual or 'gone'}")
    return to_do, done, drifted
