"""What a plan that was made after an apply still finds, in a line a step: which things, and what of them.

Pure; values never stand in it, so that it may be printed.
"""

from __future__ import annotations

from reconciler.plan.file import Plan
from reconciler.plan.step import Change, Step

_NAMED = 3
_MEMBERS = 6


def told(plan: Plan, step: Step) -> str:
    """The step, how many changes it has, and the first of them by key, with the columns or members that differ."""
    shown = [_one(change) for change in plan.examples(step, _NAMED)]
    more = [f"{step.count - len(shown)} more"] if step.count > len(shown) else []
    return f"{step.id}: {step.count} change{'' if step.count == 1 else 's'}: {', '.join([*shown, *more])}"


def _one(change: Change) -> str:
    key = " ".join(change.key)
    if change.before is None or change.after is None:
        return key
    before, after = change.before, change.after
    names = sorted(name for name in after if name not in before or before[name] != after[name])
    names += sorted(name for name in before if name not in after) if len(before) > len(after) else []
    return f"{key} ({', '.join([*names[:_MEMBERS], *(['…'] if len(names) > _MEMBERS else [])])})"
