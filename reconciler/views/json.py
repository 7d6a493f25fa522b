"""A plan in the shape of `terraform show -json`, for OPA, conftest and scripts.

In: a plan. Out: pieces of one JSON document, one for each change, so that a large plan needs little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from reconciler.plan import rules
from reconciler.plan.file import Plan
from reconciler.plan.step import Change, Hazard, Image, Step, Verb
from reconciler.views.escape import escape_all_unseen
from reconciler.views.overview import changed_members

FORMAT_VERSION = "1.2"
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def render(plan: Plan) -> Iterator[str]:
    """The document, piece by piece."""
    header = plan.header
    head: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "applyable": bool(plan.steps),
        "complete": not header.deferred,
        "errored": False,
        "variables": {name: {"value": value} for name, value in sorted(header.variables.items())},
        "reconciler": {
            "id": plan.id,
            "summary": dict(sorted(header.summary.items())),
            "connections": {name: dict(sorted(it.items())) for name, it in sorted(header.connections.items())},
            "hazards": [_hazard(it) for it in header.hazards],
            **({"checks": [asdict(it) for it in header.checks]} if header.checks else {}),
            "deferred": [{"address": it.address, "reason": it.reason} for it in header.deferred],
            "steps": [_step(step, header.hazards) for step in plan.steps],
        },
    }
    yield _dumps(head)[:-1] + ',"resource_changes":['
    comma = ""
    for step in plan.steps:
        for change in plan.changes(step):
            yield f"{comma}\n{_dumps(_resource_change(step, change))}"
            comma = ","
    yield "\n]}\n"


def _dumps(value: object) -> str:
    """Compact JSON; inside strings, what a terminal would act upon stands as `\\u....`."""
    return escape_all_unseen(_COMPACT.encode(value))


def _hazard(it: Hazard) -> dict[str, object]:
    """A risk with everything said, for policies."""
    rule = rules.rule(it.kind)
    return {
        "rule": rule.id,
        "kind": it.kind,
        "level": rule.level.value,
        "address": it.address,
        "step": it.step or None,
        "text": it.text,
        "count": it.count,
        "allowed": it.allowed,
        "stops": rules.stops(it),
    }


def _step(step: Step, hazards: Sequence[Hazard]) -> dict[str, object]:
    return {
        "id": step.id,
        "address": step.address,
        "connection": step.connection,
        "target": step.target,
        "verb": step.verb.value,
        "count": step.count,
        "needs": list(step.needs),
        "together": step.together,
        "notes": list(step.notes),
        "risks": sorted({rules.rule(it.kind).id for it in rules.concerning(hazards, step.id)}),
    }


def _resource_change(step: Step, change: Change) -> dict[str, object]:
    section, _, name = step.address.partition(".")
    sensitive = dict.fromkeys(step.sensitive, True)
    whole = step.verb is Verb.PUT  # a record stands there with all its members, a row with those that change
    before: Image = {} if whole or change.before is None else change.before
    after = {**before, **change.after} if change.after is not None else None
    return {
        "address": f"{step.address}[{step.target}]{_COMPACT.encode(change.key)}",
        "mode": "managed",
        "type": section,
        "name": name,
        "index": change.key[0] if len(change.key) == 1 else list(change.key),
        "change": {
            "actions": _actions(step, change),
            "before": change.before,
            "after": after,
            "after_unknown": {},
            "before_sensitive": _masked(change.before, sensitive),
            "after_sensitive": _masked(after, sensitive),
        },
        "action_reason": change.reason,
        "reconciler": {
            "step": step.id,
            "verb": step.verb.value,
            "connection": step.connection,
            "target": step.target,
            "key": dict(zip(step.key, change.key, strict=False)),
            "changed": _changed(step, change),
        },
    }


def _changed(step: Step, change: Change) -> list[str]:
    if change.before is None or change.after is None:
        return []
    return changed_members(change) if step.verb is Verb.PUT else sorted(change.after)


def _actions(step: Step, change: Change) -> list[str]:
    """Terraform's words: what a policy asks is whether something comes, goes or is altered."""
    match (change.before, change.after):
        case _ if step.verb is Verb.CALL:
            return ["update"]
        case (None, None):
            return ["update"]
        case (None, _):
            return ["create"]
        case (_, None):
            return ["delete"]
        case _:
            return ["update"]


def _masked(image: Mapping[str, object] | None, sensitive: Mapping[str, bool]) -> dict[str, bool]:
    return {name: True for name in sensitive if image and name in image}
