"""What became of steps, whoever carried them out."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconciler.plan.errors import Exit
from reconciler.plan.step import Step


@dataclass
class Outcome:
    """Counts by step; sentences; what keeps from converging. What failed was refused, and the rest was done all the same."""

    applied: dict[str, int] = field(default_factory=dict[str, int])
    already: dict[str, int] = field(default_factory=dict[str, int])
    failed: dict[str, int] = field(default_factory=dict[str, int])
    notes: list[str] = field(default_factory=list[str])
    unsettled: list[str] = field(default_factory=list[str])
    code: Exit = Exit.DONE

    def count(self, step: Step, *, applied: int = 0, already: int = 0, failed: int = 0) -> None:
        for counts, number in ((self.applied, applied), (self.already, already), (self.failed, failed)):
            counts[step.id] = counts.get(step.id, 0) + number
