"""`--examples keys|none`: a plan with personal data can be shown where such data may not be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.plan.file import Header, Plan, planned, write
from reconciler.plan.step import Change, Kept, Verb
from reconciler.views import markdown, text
from reconciler.views.overview import Examples
from tests.views.plans import PRODUCTION, inserts, step

NEW, CHANGED, GONE = step(Verb.INSERT), step(Verb.UPDATE, notes=("columns: n (1)", "a note")), step(Verb.DELETE)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    lost = Change(
        GONE.id, ("key-of-loser",), {"n": "1"}, None, "duplicate", Kept(("key-of-survivor",), "v-kept", "v-lost")
    )
    return write(
        tmp_path / "x.plan.jsonl",
        Header(connections=PRODUCTION),
        [
            planned(
                NEW, [Change(NEW.id, key, before, after, "missing") for key, before, after in inserts(["key-of-new"])]
            ),
            planned(CHANGED, [Change(CHANGED.id, ("key-of-old",), {"n": "v-old"}, {"n": "v-new"}, "differs")]),
            planned(GONE, [lost]),
        ],
    )


@pytest.mark.parametrize("render", [text.render, markdown.render])
def test_so_much_and_no_more(plan: Plan, render: Callable[..., str]) -> None:
    whole, keys, none = (render(plan, examples=it) for it in Examples)
    assert render(plan) == whole
    assert "key-of-new" in whole
    assert "key-of-new" in keys
    for shown in (keys, none):
        assert "v-" not in shown
        assert "key-of-survivor" not in shown
        assert "a note" in shown
    assert "key-of" not in none
    assert "more" not in none


def test_markdown_shows_values_only_with_all(plan: Plan) -> None:
    assert "v-old" in markdown.render(plan)
    assert "Examples" not in markdown.render(plan, examples=Examples.NONE)
