"""Rules have one number each; whatever the code notes has a rule; what stops does so until it is allowed."""

from __future__ import annotations

import ast
from pathlib import Path

import reconciler
from reconciler.plan import file as plan_file
from reconciler.plan.errors import Exit
from reconciler.plan.file import Header
from reconciler.plan.rules import IDS, RULES, Level, by_id, concerning, refusal, rule, settled, stops
from reconciler.plan.step import Hazard

NEWER = Hazard("overwrite-newer", "collections.a", "2 rows are newer", 2, "collections.a[public.t]/update")


def test_numbers_and_words_are_unique() -> None:
    assert tuple(it.id for it in RULES) == IDS
    assert len({it.id for it in RULES}) == len({it.kind for it in RULES}) == len(RULES)
    assert all(by_id(it.id) is it and rule(it.kind) is it for it in RULES)


def test_every_hazard_in_the_code_has_a_rule() -> None:
    kinds: set[str] = set()
    for path in Path(next(iter(reconciler.__path__))).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Hazard"
                and node.args
            ):
                first = node.args[0]
                parts = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
                kinds |= {it.value for it in parts if isinstance(it, ast.Constant) and isinstance(it.value, str)}
    assert len(kinds) > 10
    assert kinds <= {it.kind for it in RULES}


def test_what_stops_is_refused_until_its_resource_allows_it() -> None:
    others = [Hazard("delete", "collections.a", "t"), Hazard("never heard of", "collections.a", "t")]
    for allowed in ({}, {"collections.b": ["R004"]}, {"collections.a": ["R001"]}):
        hazards = settled([*others, NEWER], allowed)
        assert hazards[0] == NEWER
        refused = refusal(hazards)
        assert refused is not None
        assert (refused.code, refused.rule) == (Exit.LIMIT, "R004")
        assert "allow: [R004]" in refused.render()
    hazards = settled([*others, NEWER], {"collections.a": ["R004"]})
    assert refusal(hazards) is None
    assert [it.allowed for it in hazards] == [False, False, True] or sum(it.allowed for it in hazards) == 1
    assert not any(map(stops, hazards))


def test_only_what_nobody_asked_for_stops() -> None:
    assert [it.kind for it in RULES if it.level is Level.STOP] == [
        "delete-over-limit", "overwrite-newer", "long-lock", "whole-table", "quota-over-a-day",
    ]  # fmt: skip


def test_a_step_has_its_own_risks_and_those_of_its_resource() -> None:
    whole = Hazard("trigger", "collections.a", "t")
    hazards = [NEWER, whole, Hazard("trigger", "collections.b", "t"), Hazard("left-out", "collections.a", "t")]
    assert concerning(hazards, NEWER.step) == [NEWER, whole]
    assert concerning(hazards, "collections.a[public.t]/insert") == [whole]


def test_risks_are_part_of_the_plan_file(tmp_path: Path) -> None:
    hazards = settled([NEWER, Hazard("delete", "x.y", "t", 3)], {"collections.a": ["R004"]})
    made = plan_file.write(tmp_path / "x.plan.jsonl", Header(hazards=hazards), [])
    assert plan_file.read(made.path).header.hazards == hazards
    assert '{"rule":"R004","kind":"overwrite-newer","address":"collections.a","step":"' in made.path.read_text()
