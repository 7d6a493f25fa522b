"""The plan's nouns: a change is one thing going from `before` to `after`; a step is a batch of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

Image = Mapping[str, object]  # of a row: column -> its text form, or None for SQL NULL


WHOLE = "(whole row)"
"""Stands for the key of rows that have none: a digest of all a row holds, and the number of the row among those that equal it."""


class Verb(StrEnum):
    """All that a plan can ask of a system."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    SETVAL = "setval"
    CREATE = "create"
    ALTER = "alter"
    DROP = "drop"
    UPLOAD = "upload"
    COPY = "copy"
    MOVE = "move"
    REMOVE = "remove"
    SIGN = "sign"
    PUT = "put"
    CALL = "call"

    @property
    def glyph(self) -> str:
        return _GLYPHS[self]


_GLYPHS = {
    Verb.INSERT: "+", Verb.CREATE: "+", Verb.UPLOAD: "+", Verb.COPY: "+",
    Verb.DELETE: "-", Verb.DROP: "-", Verb.REMOVE: "-",
    Verb.UPDATE: "~", Verb.ALTER: "~", Verb.SETVAL: "~", Verb.MOVE: "~", Verb.PUT: "~", Verb.SIGN: "~",
    Verb.CALL: "!",
}  # fmt: skip


class Kept(NamedTuple):
    """The row that stays where a duplicate goes: its key, and what decided, of the one and of the other."""

    key: tuple[str, ...]
    has: str | None
    over: str | None


class Change(NamedTuple):
    """One thing. `before` is None for what is absent, `after` is None for what goes.

    `before` of an update holds the changed columns and those the decision read; `after` only the changed ones.
    """

    of: str
    key: tuple[str, ...]
    before: Image | None
    after: Image | None
    reason: str
    kept: Kept | None = None


@dataclass(frozen=True)
class Step:
    """A batch of changes of one verb on one target for one resource; `id` is `address[target]/verb`, `#2` when one is not enough.

    `columns` maps column to type; a sensitive one's type ends in ` sensitive` and its values are HMACs.
    `triggers` is "off" where the table's own triggers must not fire. `notes` are sentences for the reviewer and steer nothing.
    """

    id: str
    connection: str
    target: str
    verb: Verb
    key: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    count: int = 0
    needs: tuple[str, ...] = ()
    together: str | None = None
    notes: tuple[str, ...] = ()
    triggers: str = "fire"
    unique: tuple[str, ...] = ()
    """Columns that a deleted row shares with the one that is kept for it (`Change.kept`)."""
    where: str = ""
    """The condition under which these columns are unique, of the row that is kept too; empty for always."""
    archive: str = ""
    """The table that deleted rows go to; of inserts the one they come back from."""
    archived_by: str = ""
    """Of inserts that come back from an archive: the plan that had put them there."""
    apart: bool = False
    """Carried out outside of a transaction."""
    loses: str = ""
    """What a dropped object takes along that undo cannot bring back."""
    passes: tuple[str, ...] = ()
    """Guards of the database that would refuse this step, and are passed for it."""
    undo_passes: tuple[str, ...] = ()
    """Those that would refuse to take it back."""

    def having(self, **fields: object) -> Step:
        """The same step but for these fields: `dataclasses.replace` without its checks, for plans of many steps."""
        step = object.__new__(Step)
        step.__dict__.update(self.__dict__, **fields)
        return step

    @property
    def address(self) -> str:
        """The resource the step belongs to."""
        return self.id.partition("[")[0]

    @property
    def by_whole(self) -> bool:
        """Whether its rows have no key but all they hold; a column may bear that name too."""
        return self.key == (WHOLE,) and WHOLE not in self.columns

    @property
    def sensitive(self) -> tuple[str, ...]:
        return tuple(name for name, type_ in self.columns.items() if type_.endswith(" sensitive"))


class Deferred(NamedTuple):
    """A resource that can only be planned once an earlier step has been applied."""

    address: str
    reason: str


@dataclass(frozen=True)
class Check:
    """A fact that apply makes sure of after its last step, and how it stands: `found` is a phrase.

    `holds` is None where nobody has looked yet.
    """

    address: str
    severity: str
    """error or warn."""
    holds: bool | None
    found: str

    @property
    def failed(self) -> bool:
        return self.holds is False and self.severity == "error"

    @property
    def text(self) -> str:
        match self.holds:
            case True:
                return f"{self.address} holds: {self.found}"
            case False:
                return f"{self.address} {'fails' if self.severity == 'error' else 'does not hold'}: {self.found}"
            case None:
                return f"{self.address} cannot be asked yet: {self.found}"


@dataclass(frozen=True)
class Hazard:
    """A risk a reviewer must see. `kind` is a word of `plan/rules.py`; `text` a sentence; `count` rows concerned.

    Without a `step` it is about the whole resource. `allowed`: the spec says that it is meant.
    """

    kind: str
    address: str
    text: str
    count: int = 0
    step: str = ""
    allowed: bool = False


def passing(step_id: str, guard: str) -> str:
    """What a reviewer is told of a guard that would refuse a step."""
    return f"{step_id} passes guard {guard}, which would refuse it"
