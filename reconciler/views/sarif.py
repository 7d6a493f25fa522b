"""Findings as SARIF 2.1.0, for code scanning: what is wrong with specs, and the risks of a plan, each with its rule's number and place.

In: findings, made of errors or of a plan. Out: one JSON document, the same for the same findings.
Places come with files named relative to the working directory: code scanning knows no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.rules import RULES, Level, rule, stops
from reconciler.plan.step import Hazard
from reconciler.views.escape import cut, escape_all_unseen, plain

SPEC_ERROR, SPEC_WARNING = "S001", "S002"
_LEVELS = {Level.STOP: "error", Level.WARNING: "warning", Level.NOTE: "note"}
_WORDS = [
    (SPEC_ERROR, "wrong-spec", "error", "The spec cannot be read, or says what cannot be."),
    (SPEC_WARNING, "doubtful-spec", "warning", "The spec says what is allowed and probably not meant."),
    ("R000", "unknown", "warning", "A risk that this version does not know."),
    *((it.id, it.kind, _LEVELS[it.level], it.text) for it in RULES),
]
_INDEX = {id_: n for n, (id_, *_) in enumerate(_WORDS)}
_LONGEST = 1_000

SarifLevel: TypeAlias = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """One thing to show; `allowed`: somebody said that it is meant."""

    rule: str
    level: SarifLevel
    text: str
    where: Location | None = None
    address: str = ""
    allowed: bool = False


def of_error(error: ReconcilerError, *, warning: bool = False) -> Finding:
    """What is wrong with a spec, or exceeds a limit."""
    parts = [error.what, *error.details, *(it for it in (error.why, error.todo) if it)]
    where = error.where if isinstance(error.where, Location) else None
    id_ = error.rule or (SPEC_WARNING if warning else SPEC_ERROR)
    return Finding(id_, "warning" if warning else "error", ": ".join(parts), where)


def of_plan(plan: Plan, places: Mapping[str, Location], default: Location | None = None) -> list[Finding]:
    """The risks of a plan and what waits, each where its resource stands in the specs, or else at `default`."""
    waiting = [Hazard("deferred", it.address, f"deferred: {it.reason}") for it in plan.header.deferred]
    return [
        Finding(
            rule(it.kind).id, level(it), f"{it.address}: {it.text}", places.get(it.address, default), it.step or it.address, it.allowed
        )
        for it in (*plan.header.hazards, *waiting)
    ]  # fmt: skip


def level(hazard: Hazard) -> SarifLevel:
    """error for what stops, and warning where it is allowed."""
    if stops(hazard):
        return "error"
    return "note" if rule(hazard.kind).level is Level.NOTE else "warning"


def render(findings: Iterable[Finding]) -> str:
    """The document."""
    tree = {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "reconciler",
                        "rules": [
                            {
                                "id": id_,
                                "name": name,
                                "shortDescription": {"text": text},
                                "defaultConfiguration": {"level": grave},
                            }
                            for id_, name, grave, text in _WORDS
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(it) for it in findings],
            }
        ],
    }
    return escape_all_unseen(json.dumps(tree, ensure_ascii=False)) + "\n"


def _result(it: Finding) -> dict[str, object]:
    name = f"{it.rule} {it.address} {it.where.file if it.where else ''} {it.text if not it.address else ''}"
    tree: dict[str, object] = {
        "ruleId": it.rule,
        "ruleIndex": _INDEX[it.rule],
        "level": it.level,
        "message": {"text": cut(it.text, _LONGEST)},
        "partialFingerprints": {"reconciler/v1": hashlib.sha256(name.encode(errors="replace")).hexdigest()[:32]},
    }
    location: dict[str, object] = {}
    if it.where:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(it.where.file)},
            "region": {"startLine": it.where.line, "startColumn": it.where.column},
        }
    if it.address:
        location["logicalLocations"] = [{"fullyQualifiedName": plain(it.address), "kind": "resource"}]
    if location:
        tree["locations"] = [location]
    if it.allowed:
        tree["suppressions"] = [{"kind": "inSource", "status": "accepted"}]
    return tree
