"""Where a quote or a comment ends is what PostgreSQL says it is."""

from __future__ import annotations

from collections.abc import Generator
from typing import LiteralString, cast

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.embedded import Server
from reconciler.plan.names import TableName, quote, split_dotted
from reconciler.spec.sql import Malformed, parse


@pytest.fixture(scope="module")
def connection(postgres_server: Server) -> Generator[psycopg.Connection]:
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        yield connection


def run(connection: psycopg.Connection, query: str) -> psycopg.Cursor:
    return connection.execute(cast("LiteralString", query))


PIECES = ["'", "''", "\\", "\\'", "a", " ", "\n", "--", "/*", "*/", "$$", "$a$", '"', "E'"]


@st.composite
def lists_of_quoted(draw: st.DrawFn) -> str:
    """Texts between quotes that may end elsewhere than they seem to."""
    items: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        opened = draw(st.sampled_from(["'", "E'", "e'", "$$", "$a$", "U&'", "N'", "/* ", "1 -- "]))
        closed = draw(st.sampled_from(["'", "$$", "$a$", " */ 1", "\n"]))
        items.append(opened + "".join(draw(st.lists(st.sampled_from(PIECES), max_size=6))) + closed)
    return draw(st.sampled_from([",", "\n", " "])).join(items)


@given(text=lists_of_quoted())
@settings(max_examples=1000, deadline=None)
def test_nothing_that_is_accepted_is_unterminated_and_the_other_way_round(
    connection: psycopg.Connection, text: str
) -> None:
    try:
        parse(text)
        complaint = None
    except Malformed as malformed:
        complaint = malformed.what
    try:
        run(connection, f"SELECT {text}")
        answer = ""
    except psycopg.Error as error:
        answer = str(error)
    if complaint is None:
        assert "unterminated" not in answer
    elif "never closed" in complaint:
        assert answer


@given(name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_names_are_quoted_as_the_server_quotes_them(connection: psycopg.Connection, name: str) -> None:
    assert connection.execute("SELECT quote_ident(%s)", (name,)).fetchone() == (quote(name),)


def test_every_keyword_is_quoted_as_the_server_quotes_it(connection: psycopg.Connection) -> None:
    for word, quoted_word in connection.execute("SELECT word, quote_ident(word) FROM pg_get_keywords()"):
        assert quote(word) == quoted_word


@given(name=st.from_regex(r"[A-Za-z_\u00c0-\u00ff][A-Za-z0-9_$\u00c0-\u00ff]{0,10}", fullmatch=True))
@settings(max_examples=300, deadline=None)
def test_names_fold_as_the_server_folds_them(connection: psycopg.Connection, name: str) -> None:
    described = run(connection, f"SELECT 1 AS {name}x").description
    assert described is not None
    assert split_dotted(f"{name}x") == (described[0].name,)
    assert TableName.parse(f"{name}x").name == described[0].name
