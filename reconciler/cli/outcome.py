"""What apply did, for the terminal and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from reconciler.cli.terminal import tell, write
from reconciler.views.escape import cut_middle, plain

if TYPE_CHECKING:
    from reconciler.app import Applied, StepOutcome
    from reconciler.plan.file import Plan

_OUTCOMES = ("applied", "already", "blocked", "failed", "skipped")


def present_outcome(plan: Plan, applied: Applied, *, rehearse: bool, as_json: bool) -> None:
    """Counts by step to stdout, everything there is to say of them to stderr."""
    if as_json:
        tree = {"id": plan.id, "rehearsed": rehearse, **asdict(applied), "code": int(applied.code)}
        write([json.dumps(tree, ensure_ascii=True) + "\n"])
    else:
        write(f"{line}\n" for line in _lines(applied, rehearse=rehearse))
    tell(*applied.notes, *(f"left: {it}" for it in applied.remaining))


def _lines(applied: Applied, *, rehearse: bool) -> list[str]:
    names = [cut_middle(step.step_id, 100) for step in applied.steps]
    width = max(map(len, names), default=0)
    steps = [f"  {name:<{width}}  {_counts(step)}" for name, step in zip(names, applied.steps, strict=True)]
    totals = {name: sum(_count(step, name) for step in applied.steps) for name in _OUTCOMES}
    verb = "Rehearsed and rolled back" if rehearse else "Apply"
    counts = [f"{count:,} {name}" for name, count in totals.items() if count or name in ("applied", "already")]
    steps += [f"  {plain(it.text)}" for it in applied.checks]
    return [*steps, *([""] if steps else []), f"{verb}: {', '.join(counts)}{_convergence(applied, rehearse)}"]


def _counts(step: StepOutcome) -> str:
    counts = [f"{_count(step, name):,} {name}" for name in _OUTCOMES if _count(step, name)]
    return ", ".join(counts) or "nothing to do"


def _count(step: StepOutcome, outcome: str) -> int:
    return int(getattr(step, outcome))


def _convergence(applied: Applied, rehearse: bool) -> str:
    if rehearse:
        return ""
    match applied.converged:
        case True:
            return " · converged: nothing is left to do"
        case False:
            return " · NOT converged: see what is left"
        case None:
            return " · whether anything is left could not be checked"
