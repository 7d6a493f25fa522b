"""Every kind of risk by a number that stays: what it is called, how grave it is, whether it stops a plan until the spec allows it.

In: risks as kinds note them. Out: the same, with what the spec allows marked. Numbers are never used twice.
Invariant: a rule stops only what the spec's own words did not ask for: what `on_extra`, `max_delete`, `triggers` or `sensitive` say
already is shown and goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias, get_args

from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.step import Hazard


class Level(StrEnum):
    """STOP: exit code 4 until allowed. WARNING: shown first. NOTE: shown."""

    STOP = "stop"
    WARNING = "warning"
    NOTE = "note"


class Rule(NamedTuple):
    """`kind` is the word a plan's hazards bear, `text` what it means."""

    id: str
    kind: str
    level: Level
    text: str


RULES = (
    Rule("R001", "delete-over-limit", Level.STOP, "More would be deleted than max_delete allows, cascades counted."),
    Rule("R002", "delete", Level.WARNING, "Something is deleted."),
    Rule("R003", "cascade", Level.WARNING, "Rows go, or lose a reference, because rows they point at go."),
    Rule("R004", "overwrite-newer", Level.STOP, "Rows that were changed later than the source's are overwritten."),
    Rule("R005", "long-lock", Level.STOP, "A table of a million rows or more takes no writes while an index is built."),
    Rule("R006", "trigger", Level.WARNING, "A trigger fires, and what it does is not in the plan."),
    Rule("R007", "irreversible", Level.WARNING, "undo cannot bring back what was there."),
    Rule("R008", "unindexed-foreign-key", Level.WARNING, "Deleting reads a whole table for each row: an index is missing."),
    Rule("R009", "missing-archive", Level.WARNING, "Duplicates go, and only the plan file holds them."),
    Rule("R010", "whole-table", Level.STOP, "Every row that a table holds is deleted."),
    Rule("R011", "quota-over-a-day", Level.STOP, "A system's limits make this take more than a day."),
    Rule("R012", "deferred", Level.NOTE, "A resource waits for this plan and is planned after it."),
    Rule("R020", "lock", Level.NOTE, "A table is locked or read as a whole for a while."),
    Rule("R021", "sequence", Level.NOTE, "A sequence is raised, and nothing lowers it again."),
    Rule("R022", "blocked", Level.NOTE, "What is protected stays as it is."),
    Rule("R023", "left-out", Level.NOTE, "Something that was declared is not part of the plan."),
    Rule("R024", "drop", Level.WARNING, "An object goes, with its owner, grants and comment."),
    Rule("R025", "whole-table-update", Level.WARNING, "Every row of a table is changed."),
    Rule("R026", "rate-limit", Level.NOTE, "A system's limits make this take a while."),
    Rule("R027", "missing-blob", Level.WARNING, "A record names a blob that is nowhere, and will be refused."),
    Rule("R028", "dropped-blob", Level.WARNING, "A blob loses its last record, and the PDS drops it."),
    Rule("R029", "other-repo", Level.NOTE, "The source names records of another repo."),
    Rule("R030", "key-shared-again", Level.WARNING, "A unique key goes, because two rows share it again."),
    Rule("R031", "not-undone", Level.WARNING, "An undo leaves this out: it cannot be taken back."),
    Rule("R032", "old-blob", Level.WARNING, "A record names a blob in a form that a PDS takes no more."),
    Rule("R033", "objects-move", Level.WARNING, "Objects of a bucket get other names, and URLs that name the old ones break."),
    Rule("R034", "guard", Level.WARNING, "A guard of the database would refuse this, and lets the plan through."),
)  # fmt: skip

RuleId: TypeAlias = Literal[
    "R001", "R002", "R003", "R004", "R005", "R006", "R007", "R008", "R009", "R010", "R011", "R012", "R020", "R021", "R022",
    "R023", "R024", "R025", "R026", "R027", "R028", "R029", "R030", "R031", "R032", "R033", "R034",
]  # fmt: skip
IDS: tuple[str, ...] = get_args(RuleId)
_BY_KIND = {rule.kind: rule for rule in RULES}
_BY_ID = {rule.id: rule for rule in RULES}


def rule(kind: str) -> Rule:
    """The rule of a hazard's kind; of one that a newer version wrote, one that only warns."""
    return _BY_KIND.get(kind) or Rule("R000", kind, Level.WARNING, "A risk that this version does not know.")


def by_id(name: str) -> Rule:
    return _BY_ID[name]


def stops(hazard: Hazard) -> bool:
    """Whether nothing may be applied while this stands."""
    return rule(hazard.kind).level is Level.STOP and not hazard.allowed


def settled(hazards: Iterable[Hazard], allowed: Mapping[str, Sequence[str]]) -> tuple[Hazard, ...]:
    """The risks in a stable order, what stops first, each marked if its resource allows it (`allowed`, by address)."""
    marked = [replace(it, allowed=rule(it.kind).id in allowed.get(it.address, ())) for it in hazards]
    return tuple(
        sorted(marked, key=lambda it: (not stops(it), rule(it.kind).id, it.kind, it.address, it.step, it.text))
    )


def concerning(hazards: Sequence[Hazard], step: str) -> list[Hazard]:
    """The risks of a step: its own, and those of its whole resource that are more than a remark."""
    address = step.partition("[")[0]
    return [
        it
        for it in hazards
        if it.step == step or (not it.step and it.address == address and rule(it.kind).level is not Level.NOTE)
    ]


def refusal(hazards: Sequence[Hazard]) -> ReconcilerError | None:
    """Why a plan may not be applied, or None."""
    stopping = [it for it in hazards if stops(it)]
    if not stopping:
        return None
    names = sorted({rule(it.kind).id for it in stopping})
    return ReconcilerError(
        f"{len(stopping)} risk{'s' if len(stopping) > 1 else ''} of this plan must be allowed first",
        details=tuple(f"{rule(it.kind).id} {rule(it.kind).kind}: {it.text} ({it.address})" for it in stopping[:20]),
        todo=f"if that is meant, write allow: [{', '.join(names)}] into the resource, then plan again and have that plan reviewed",
        code=Exit.LIMIT,
        rule=names[0],
    )
