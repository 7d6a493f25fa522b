"""Two plans side by side: what is named is what differs, whatever the rows, and reading costs no memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.compare import How, compare
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Header, Plan, planned, write
from reconciler.plan.step import Change, Deferred, Hazard, Image, Step, Verb
from reconciler.views import plan_diff
from reconciler.views.fit import size
from tests.views.plans import NASTY, PRODUCTION, inserts, make, step

NEW = step(Verb.INSERT)
CHANGED = step(Verb.UPDATE)


def plan(folder: Path, name: str, *steps: tuple[Step, Iterable[tuple[tuple[str, ...], Image | None, Image | None]]],
         header: Header | None = None) -> Plan:  # fmt: skip
    (folder / name).mkdir()
    return make(folder / name, steps, header)


def test_changes_added_gone_and_different_are_named(tmp_path: Path) -> None:
    update = (("u",), {"data": "1", "n": "1"}, {"data": "2"})
    first = plan(tmp_path, "a", (NEW, inserts("abc")), (CHANGED, [update]))
    second = plan(tmp_path, "b", (NEW, inserts("bcd")), (CHANGED, [(("u",), {"data": "1", "n": "9"}, {"data": "2"})]))
    found = compare(first, second)
    assert [(it.how, it.counts) for it in found.steps] == [
        (How.DIFFERENT, {How.ADDED: 1, How.GONE: 1, How.DIFFERENT: 0, How.SAME: 2}),
        (How.DIFFERENT, {How.ADDED: 0, How.GONE: 0, How.DIFFERENT: 1, How.SAME: 0}),
    ]
    assert plan_diff.text(found) == (
        f"""\
  ~ {NEW.id}  1 added, 1 gone, 2 same
      - a
      + d
  ~ {CHANGED.id}  1 different
      ~ u: before.n 1 → 9

Different: 1 added, 1 gone, 1 different, 2 same · 2 of 2 steps · {first.id} → {second.id}
"""
    )
    assert not found.same


def test_a_plan_is_the_same_as_itself_and_as_one_whose_sentences_differ(tmp_path: Path) -> None:
    first = plan(tmp_path, "a", (NEW, inserts("ab")), header=Header(hazards=(Hazard("lock", "x.y", "about 10 rows"),)))
    second = plan(
        tmp_path, "b", (replace(NEW, notes=("another word",)), inserts("ab")),
        header=Header(hazards=(Hazard("lock", "x.y", "about 11 rows"),)),
    )  # fmt: skip
    for one, other in ((first, first), (first, second)):
        found = compare(one, other)
        assert found.same
        assert plan_diff.text(found) == f"Same: both plans do the same 2 changes · {one.id} → {other.id}\n"


def test_what_stands_around_the_steps_is_named(tmp_path: Path) -> None:
    first = plan(
        tmp_path, "a", (NEW, inserts("a")), (CHANGED, [(("u",), {"n": "1"}, {"n": "2"})]),
        header=Header({"collections": {"a": {"x": 1}}}, {"did": "a"}, PRODUCTION, deferred=(Deferred("x.y", "r"),)),
    )  # fmt: skip
    second = plan(
        tmp_path, "b", (CHANGED, [(("u",), {"n": "1"}, {"n": "2"})]), (replace(NEW, needs=(CHANGED.id,)), inserts("a")),
        header=Header({"collections": {"a": {"x": 2}, "b": {}}}, {"did": "b"}, {"production": {"type": "postgres", "fingerprint": "2"}},
                      hazards=(Hazard("delete", "collections.a", "t"),)),
    )  # fmt: skip
    found = compare(first, second)
    assert found.remarks == (
        "the spec differs: collections.a, collections.b",
        "variables differ: did",
        "other systems: production",
        "deferred gone: x.y",
        "risk added: delete (collections.a)",
        "the order of the steps differs",
    )
    assert [it.fields for it in found.steps] == [(), ("needs",)]


def test_whole_steps_come_and_go_without_being_read(tmp_path: Path) -> None:
    gone = step(Verb.DELETE, needs=(NEW.id,))
    first = plan(tmp_path, "a", (NEW, inserts("a")), (gone, [((key,), {"uri": key}, None) for key in "vwxyz"]))
    second = plan(tmp_path, "b", (NEW, inserts("a")), (CHANGED, [(("u",), {"n": "1"}, {"n": "2"})]))
    found = compare(first, second)
    assert [(it.step.id, it.how) for it in found.steps] == [
        (NEW.id, How.SAME),
        (gone.id, How.GONE),
        (CHANGED.id, How.ADDED),
    ]
    assert "the step went, 5 changes\n      - v\n      - w\n      - x\n  +" in plan_diff.text(found)


def test_values_that_are_sensitive_are_not_shown(tmp_path: Path) -> None:
    hidden = step(Verb.UPDATE, columns={"uri": "text", "email": "text sensitive"})
    first, second = (plan(tmp_path, at, (hidden, [(("u",), {"email": "0"}, {"email": f"digest-{at}"})])) for at in "ab")
    for render in (plan_diff.text, plan_diff.markdown, plan_diff.as_json):
        assert "digest" not in render(compare(first, second))
        assert "sensitive" in render(compare(first, second))


def test_nothing_of_the_data_acts_upon_the_reader(tmp_path: Path) -> None:
    first = plan(tmp_path, "a", (CHANGED, [((NASTY,), {"data": "1"}, {"data": "2"})]))
    second = plan(tmp_path, "b", (CHANGED, [((NASTY,), {"data": NASTY}, {"data": "2"})]))
    found = compare(first, second)
    assert "\x1b" not in plan_diff.text(found) + plan_diff.markdown(found) + plan_diff.as_json(found)
    assert "<script" not in plan_diff.markdown(found)
    assert json.loads(plan_diff.as_json(found))["steps"][0]["examples"][0]["key"] == [NASTY]


def test_changes_out_of_order_are_an_error(tmp_path: Path) -> None:
    first, second = plan(tmp_path, "a", (NEW, inserts("ab"))), plan(tmp_path, "b", (NEW, inserts("cd")))
    lines = first.path.read_bytes().splitlines(keepends=True)
    first.path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
    with pytest.raises(ReconcilerError, match="not in the order"):
        compare(first, second)


def test_memory_and_text_do_not_grow_with_the_rows(tmp_path: Path) -> None:
    first = plan(tmp_path, "a", (NEW, inserts(f"{n:06}" for n in range(6_000))))
    second = plan(tmp_path, "b", (NEW, inserts(f"{n:06}x" for n in range(6_000))))
    tracemalloc.start()
    found = compare(first, second)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
    assert found.count(How.ADDED) == found.count(How.GONE) == 6_000
    assert len(plan_diff.text(found)) < 1_000


def test_markdown_fits_a_comment(tmp_path: Path) -> None:
    steps = [step(Verb.INSERT, f"public.{n:04}{'t' * 100}") for n in range(900)]
    first = plan(tmp_path, "a", *((it, inserts("a")) for it in steps))
    second = plan(tmp_path, "b", *((it, inserts("b")) for it in steps))
    text = plan_diff.markdown(compare(first, second))
    assert size(text) < 65_536
    assert "more lines" in text


_ROWS = st.dictionaries(st.text("ab\u00e9\U0001f600", max_size=3), st.sampled_from("123"), max_size=8)


@settings(max_examples=40, deadline=None)
@given(_ROWS, _ROWS)
def test_counts_are_those_of_the_sets(
    tmp_path_factory: pytest.TempPathFactory, old: dict[str, str], new: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("plans")
    plans = [
        write(
            folder / f"{at}.plan.jsonl",
            Header(),
            [planned(CHANGED, [Change(CHANGED.id, (k,), {"n": "0"}, {"n": v}, "differs") for k, v in rows.items()])],
        )
        for at, rows in enumerate((old, new))
    ]
    found = compare(*plans)
    assert {how: found.count(how) for how in How} == {
        How.ADDED: len(new.keys() - old.keys()),
        How.GONE: len(old.keys() - new.keys()),
        How.DIFFERENT: sum(old[k] != new[k] for k in old.keys() & new.keys()),
        How.SAME: sum(old[k] == new[k] for k in old.keys() & new.keys()),
    }
    assert found.same == (old == new)
