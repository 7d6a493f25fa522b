"""What a plan file makes of a record: other bytes, and the very same record."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from reconciler.plan.file import change_line, dumps, parse_change
from reconciler.plan.invert import invert_change
from reconciler.plan.step import Change
from reconciler.systems.pds import records

LIMIT = (1 << 53) - 1
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = TEXT.filter(lambda key: key[:1] not in ("$", "_"))  # names that mean something of their own
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-LIMIT, LIMIT) | TEXT | st.integers(-1000, 1000).map(float),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
RECORDS = st.dictionaries(NAMES, VALUES, max_size=6).map(lambda it: {**it, "$type": "org.example.note"})


@given(RECORDS, RECORDS, st.booleans())
def test_a_record_is_the_same_after_the_plan_file(
    one: dict[str, object], other: dict[str, object], escaped: bool
) -> None:
    texts = [json.dumps(it, ensure_ascii=escaped) for it in (one, other)]
    cids = [records.read("org.example.note", "r", text).cid for text in texts]
    before, after = (records.parse(text) for text in texts)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    change = parse_change(change_line(Change("x", ("r",), before, after, "changed")))  # pyright: ignore[reportUnknownArgumentType]
    back = parse_change(change_line(invert_change(change, "x", whole=True)))
    assert [records.cid_of(dumps(it)) for it in (change.before, change.after)] == cids
    assert [records.cid_of(dumps(it)) for it in (back.after, back.before)] == cids
    assert invert_change(back, "x", whole=True) == change
