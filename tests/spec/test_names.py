"""Names of tables are read and written as PostgreSQL does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.plan.names import TableName, quote, split_dotted


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("production.publications", ("production", "publications")),
        ('production."my schema".t', ("production", "my schema", "t")),
        ("Production.Users", ("production", "users")),
        ('"Users"', ("Users",)),
        ('"a""b".c', ('a"b', "c")),
        ('"a.b".c', ("a.b", "c")),
        ("straße.Ä", ("straße", "Ä")),
        ("a$1", ("a$1",)),
    ],
)
def test_splits(text: str, parts: tuple[str, ...]) -> None:
    assert split_dotted(text) == parts


@pytest.mark.parametrize(
    "text", ["", " ", ".", "a.", ".a", "a..b", "a b", "a .b", '"a', 'a"b"', '""', "1a", "a-b", "$a", "x" * 64]
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split_dotted(text)


def test_refuses_more_than_schema_and_name() -> None:
    with pytest.raises(ValueError, match="has 3 parts"):
        TableName.parse("a.b.c")


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15), min_size=1
    )
)
def test_quoting_is_undone_by_splitting(names: list[str]) -> None:
    assert split_dotted(".".join(quote(name) for name in names)) == tuple(names)


def test_quotes_only_where_needed() -> None:
    assert str(TableName("public", "users")) == "public.users"
    assert str(TableName(None, "user")) == '"user"'
    assert str(TableName("My", 'a"b')) == '"My"."a""b"'


def test_orders_names_without_a_schema_first() -> None:
    names = [TableName("b", "a"), TableName(None, "z"), TableName("a", "c"), TableName("a", "b")]
    assert [str(name) for name in sorted(names)] == ["z", "a.b", "a.c", "b.a"]
