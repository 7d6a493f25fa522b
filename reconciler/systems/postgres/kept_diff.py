"""The objects that an audit or a guard wants beside those a database has: what is created, altered or dropped.

In: objects wanted, in the order they are made; those to go have no image. Out: changes, counts, notes and risks, and their steps.
Invariant: what is not named here is not touched, so a block that is taken out of a spec takes nothing out of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from reconciler.plan.file import Planned, planned
from reconciler.plan.kept import grants_of, text_of
from reconciler.plan.names import TableName
from reconciler.plan.order import Edge
from reconciler.plan.statements import one_statement
from reconciler.plan.step import Change, Hazard, Image, Step, Verb
from reconciler.systems.postgres import routines
from reconciler.systems.postgres.audit_sql import spelled
from reconciler.systems.postgres.kept import KEPT_KINDS, image_now
from reconciler.systems.postgres.session import Session


class Wanted(NamedTuple):
    """An object, as its image says or, without one, gone; `why` it goes, and what is lost with it."""

    kind: str
    name: str
    image: Image | None
    why: str = ""
    loses: str = ""


class KeptChange(NamedTuple):
    verb: Verb
    wanted: Wanted
    before: Image | None
    reason: str


@dataclass
class KeptFound:
    """One resource beside the database. `first`: its steps come before those of rows, else after."""

    address: str
    connection: str
    label: str
    tables: frozenset[TableName]
    first: bool
    changes: list[KeptChange] = field(default_factory=list[KeptChange])
    in_sync: int = 0
    notes: list[str] = field(default_factory=list[str])
    hazards: list[Hazard] = field(default_factory=list[Hazard])

    def count(self, verb: Verb) -> int:
        return sum(change.verb is verb for change in self.changes)

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many objects are missing, changed and extra."""
        return self.count(Verb.CREATE), self.count(Verb.ALTER), self.count(Verb.DROP)

    def steps(self) -> tuple[list[Planned], list[Edge]]:
        """A step for each object; one is dropped before it, or another, is made anew."""
        made: list[Planned] = []
        for it in self.changes:
            target = f"{it.wanted.kind} {it.wanted.name}"
            step = Step(
                f"{self.address}[{target}]/{it.verb.value}", self.connection, target, it.verb, key=("kind", "name"),
                columns={"sql": "text"}, loses=it.wanted.loses,
            )  # fmt: skip
            made.append(
                planned(
                    step, [Change(step.id, (it.wanted.kind, it.wanted.name), it.before, it.wanted.image, it.reason)]
                )
            )
        return made, list(pairwise(item.step.id for item in made))


def function_wanted(session: Session, kind: str, name: TableName, sql: str) -> Wanted:
    """A function as the server writes it, which nobody but its owner may put to use."""
    made = routines.normalised(session, one_statement(sql))
    return Wanted(kind, f"{spelled(session, name)}()", {"sql": made.definition.rstrip("\n")})


def compare(session: Session, found: KeptFound, wanted: Sequence[Wanted], *, protect: bool) -> None:
    """Look at each object and note what is to become of it."""
    for it in wanted:
        now = image_now(session, it.kind, it.name)
        if (now is None and it.image is None) or (now and it.image and text_of(now) == text_of(it.image)):
            found.in_sync += it.image is not None
            continue
        if (
            now is not None
            and it.image is None
            and not it.loses
            and (left := KEPT_KINDS[it.kind].left(session, it.name))
        ):
            if left not in found.notes:
                found.notes.append(left)
            continue
        verb = Verb.CREATE if now is None else Verb.DROP if it.image is None else Verb.ALTER
        if protect and verb is not Verb.CREATE:
            text = f"{it.kind} {it.name}: to {verb.value} it is blocked, it is protected and left"
            found.hazards.append(Hazard("blocked", found.address, text, 1))
            continue
        if it.loses:
            text = f"{it.kind} {it.name} goes with {it.loses}, and undo does not bring them back"
            found.hazards.append(Hazard("irreversible", found.address, text))
        found.changes.append(KeptChange(verb, it, now, it.why if it.image is None else _reason(now, it.image)))


def _reason(now: Image | None, image: Image) -> str:
    if now is None:
        return "missing"
    if now["sql"] != image["sql"]:
        return "differs"
    if enabled := now.get("enabled"):
        return f"is {enabled}"
    return "others have rights on it" if grants_of(now) else "differs"
