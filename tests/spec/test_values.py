"""Plain YAML values mean what they look like, and numbers keep their digits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.spec.values import Number, Value, from_canonical, json_text, ordered, scalar, to_canonical

TEXT = [
    *["nUll", "True", "yes", "no", "on", "off", "y", "0123", "1_000", "0x1f", "0o17", "1:30", "12:30:45", "2024-01-01"],
    *["2024-01-01T00:00:00Z", "01.5", ".", "-", "1.2.3", ".nan", ".inf", "-.inf", "=", "<<"],
]
PLAIN: dict[str, Value] = {
    "": None,
    "~": None,
    "null": None,
    "NULL": None,
    "Null": None,
    "true": True,
    "false": False,
    "0": 0,
    "12": 12,
    "-12": -12,
    "+12": 12,
    "1.10": Number("1.10"),
    "-1.5e+10": Number("-1.5e+10"),
    "1e400": Number("1e400"),
    "-0": Number("-0"),
    ".5": Number("0.5"),
    "5.": Number("5"),
    "+1.5": Number("1.5"),
    **{text: text for text in TEXT},
}


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_plain_scalars(text: str, value: Value) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_a_number_of_any_length_keeps_its_digits() -> None:
    assert json_text(scalar("9" * 5000)) == "9" * 5000
    assert json_text(scalar("9" * 500)) == "9" * 500


def test_json_keeps_digits_and_text() -> None:
    assert json_text({"a": [Number("1.10"), 1, True, None, 'ü"']}) == '{"a":[1.10,1,true,null,"ü\\""]}'


numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,20}", fullmatch=True).map(Number)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(values)
def test_canonical_json_loses_nothing(value: Value) -> None:
    assert from_canonical(json.loads(json.dumps(to_canonical(value)))) == value


@given(st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_order_leaves_no_trace(value: dict[str, Value]) -> None:
    backwards = dict(reversed(value.items()))
    assert json.dumps(to_canonical(ordered(value))) == json.dumps(to_canonical(ordered(backwards)))
