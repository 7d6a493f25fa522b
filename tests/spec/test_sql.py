"""SQL fragments are cut as PostgreSQL's own lexer cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.spec.sql import Malformed, Parameter, parameters, parse, patterns_over_parameters

NAMES: list[tuple[str, list[str]]] = [
    ("uri = :did", ["did"]),
    ("uri = 'at://' || :did || '/x'", ["did"]),
    ("a = ':did'", []),
    ("a = 'it''s :did'", []),
    ("a = E'it\\'s :did' AND b = :x", ["x"]),
    ("a = e'\\\\' AND b = :x", ["x"]),
    ("a = 'back\\' AND b = :x", ["x"]),
    ("a = U&'\\0061:did' AND b = :x", ["x"]),
    ('U&":did" = :x', ["x"]),
    ("a = E'1'\n'\\' :y' AND b = :x", ["x"]),
    ("a = E'1' -- c\n  '\\' :y' AND b = :x", ["x"]),
    ("a = b'01' AND c = :x", ["x"]),
    ('":did" = :x', ["x"]),
    ('"a""b:did" = :x', ["x"]),
    ("a = $$:did$$ AND b = :x", ["x"]),
    ("a = $q$ $$:did$$ $q$ AND b = :x", ["x"]),
    ("a$1$:x", ["x"]),
    ("a = 1 -- :did\n AND b = :x", ["x"]),
    ("a = /* :did /* :y */ :z */ :x", ["x"]),
    ("a::text = :x::text", ["x"]),
    ("f(a := :x)", ["x"]),
    ("a[1:n] = :x", ["x"]),
    ("a[lo:hi] = :x", ["x"]),
    ("a[:x]", ["x"]),
    ("a[1 : :x]", ["x"]),
    ("a[:x:n]", ["x"]),
    ("a[f(b):c]", []),
    ("a[b[1]:c]", []),
    ("a[f(:x)]", ["x"]),
    ("a = ANY(ARRAY[:x, :y])", ["x", "y"]),
    ("ARRAY[[:x, 1], [2, :y]]", ["x", "y"]),
    ("a ? 'b' AND c @> :x", ["x"]),
    ("data->>'a:b' = :x", ["x"]),
    ("a = :x_1 AND b = :y", ["x_1", "y"]),
    ("a=:x", ["x"]),
    ("now() - interval '1 day' > :x", ["x"]),
    ("größe = :x", ["x"]),
    ("1.5e3 < :x", ["x"]),
]


@pytest.mark.parametrize(("text", "names"), NAMES, ids=[text for text, _ in NAMES])
def test_finds_parameters(text: str, names: list[str]) -> None:
    assert [parameter.name for parameter in parameters(text)] == names


def test_cuts_into_literal_sql_and_parameters() -> None:
    assert parse("a = :x AND b = ':x'") == ("a = ", Parameter("x", 4), " AND b = ':x'")


def test_comments_become_spaces_so_that_nothing_after_them_is_lost() -> None:
    assert parse("a -- x\n= 1 /* :y */ -- end") == ("a     \n= 1" + " " * 16,)


REFUSED = [
    "a = E'\\'",
    "a = E'x''y\\'",
    "a = 'x''",
    '"a',
    "$a$ $b$",
    "/* /* */",
    "((a)",
    "(a))",
    "[(])",
    "a;b",
    "$1",
    "",
]


@pytest.mark.parametrize(
    "text", [*REFUSED, " ", "-- a", "a \\ b", "${x}", "'${x}'", "$$ ${x} $$", ":'x'", "a : b", "a \u201cb\u201d"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse(text)
    assert 0 <= raised.value.offset <= len(text)


@given(st.text(alphabet="aEU&'\"$:;-/*\\()[] \n1{}=é", max_size=40))
def test_keeps_every_character_but_comments(text: str) -> None:
    try:
        parts = parse(text)
    except Malformed:
        return
    whole = "".join(f":{part.name}" if isinstance(part, Parameter) else part for part in parts)
    assert len(whole) == len(text)
    assert all(mine in (theirs, " ") for mine, theirs in zip(whole, text, strict=True))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("uri LIKE 'at://' || :did || '/%'", ["did"]),
        ("uri ilike :a AND b = :c", ["a"]),
        ("uri NOT LIKE (:a || '%')", ["a"]),
        ("uri ~~ :a", ["a"]),
        ("(uri LIKE 'x') AND a = :b", []),
        ("starts_with(uri, :did)", []),
        ("uri ~ :a", []),
    ],
)
def test_sees_patterns_made_of_parameters(text: str, names: list[str]) -> None:
    assert [parameter.name for parameter in patterns_over_parameters(text)] == names
