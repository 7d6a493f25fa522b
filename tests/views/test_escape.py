"""Whatever stands in somebody's data, no view lets it act."""

from __future__ import annotations

import json
import re
import unicodedata
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.views import escape
from tests.views.plans import NASTY

ANY = st.one_of(
    st.text(), st.text("`|\\<>&@#*_[]()!~$\"'-+.1 \n\t\x1b\u202e\u2066www:/ab", max_size=30), st.just(NASTY)
)
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def shown(markdown: str) -> tuple[list[str], str]:
    """The tags and the text of rendered Markdown, as GitHub's parser sees it."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    reader = Reader()
    reader.feed(MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(markdown))
    return reader.tags, reader.text


@given(ANY)
def test_plain_shows_all_and_hides_nothing(text: str) -> None:
    line = escape.plain(text)
    assert not [char for char in line if unicodedata.category(char) in HIDDEN]
    assert "\n" not in line


def test_every_character_that_has_no_picture_is_spelled_out() -> None:
    """Those that change how the one before looks, too: a change of nothing else must be seen."""
    every = map(chr, range(0x110000))
    unseen = [
        it for it in every if unicodedata.category(it) in HIDDEN or "VARIATION SELECTOR" in unicodedata.name(it, "")
    ]
    assert [hex(ord(it)) for it in unseen if not escape.has_unseen(it)] == []


@given(ANY, st.integers(5, 80))
def test_cuts_keep_their_width(text: str, width: int) -> None:
    assert len(escape.cut(text, width)) <= width
    assert len(escape.cut_middle(text, width)) <= width
    assert escape.cut_middle(text, width)[-1:] == escape.plain(text)[-1:]


@given(ANY)
def test_code_is_code_and_nothing_else(text: str) -> None:
    tags, _ = shown(f"x {escape.code(text)} y")
    assert tags == ["p", "code"]
    tags, shown_text = shown(f"| a | b |\n|---|---|\n| {escape.code(text)} | z |\n")
    assert tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "code", "td"]
    assert re.sub(r"\s+", "", escape.plain(text)) in re.sub(r"\s+", "", shown_text)


@given(ANY)
def test_prose_marks_nothing_up(text: str) -> None:
    tags, shown_text = shown(f"- risk: {escape.prose(text)}")
    assert set(tags) <= {"ul", "li", "p", "code"}
    assert re.sub(r"\s+", "", escape.plain(text)) in re.sub(r"\s+", "", shown_text)
    tags, _ = shown(f"| a |\n|---|\n| {escape.prose(text)} |\n")
    assert set(tags) <= {"table", "thead", "tr", "th", "tbody", "td", "code"}


@given(ANY)
def test_mentions_are_no_mentions(text: str) -> None:
    outside = re.sub(r"<code>.*?</code>|`[^`]*`", "", escape.prose(f"see @everyone {text} #12"))
    assert "@" not in outside
    assert "#" not in outside


@given(ANY)
def test_html_is_text(text: str) -> None:
    assert not set("<>\"'`") & set(escape.html(text))


@given(ANY)
def test_mermaid_labels_stay_labels(text: str) -> None:
    label = escape.mermaid(text)
    assert re.fullmatch(r"(?:[^\W_]|[ ._/:,]|#\d+;)*", label)


@given(ANY)
def test_dot_strings_stay_strings(text: str) -> None:
    assert re.fullmatch(r'(?:[^"\\]|\\["\\])*', escape.dot(text))


@given(ANY)
def test_json_without_hidden_characters_means_the_same(text: str) -> None:
    document = escape.escape_all_unseen(json.dumps(text, ensure_ascii=False))
    assert json.loads(document) == text
    assert not [char for char in document if unicodedata.category(char) in HIDDEN]


def test_keys_share_their_beginning() -> None:
    keys = [f"at://did:plc:abcdefgh/site.standard.document/3k{end}" for end in ("abc", "def", "xyz")]
    assert escape.shorten_keys(keys) == ["at://did:plc…/3kabc", "…/3kdef", "…/3kxyz"]
    assert escape.shorten_keys(["alpha", "beta"]) == ["alpha", "beta"]
    assert escape.shorten_keys([]) == []


@given(st.lists(st.text(max_size=200), max_size=3))
def test_shortened_keys_are_short(keys: list[str]) -> None:
    short = escape.shorten_keys(sorted(keys))
    assert len(short) == len(keys)
    assert all(len(key) <= 48 for key in short)


def test_values_are_cut_where_they_part() -> None:
    same = "x" * 500
    before, after = escape.split_values(f"{same}old{same}", f"{same}new{same}")
    assert "old" in before
    assert "new" in after
    assert len(before) <= 60


@given(st.text(max_size=300), st.text(max_size=300))
def test_cut_values_are_short(before: str, after: str) -> None:
    assert all(len(value) <= 60 for value in escape.split_values(before, after))


def test_a_space_that_is_no_common_one_is_told_from_it() -> None:
    spaces = [it for it in map(chr, range(0x110000)) if unicodedata.category(it) == "Zs" and it not in " \u3000"]
    assert [hex(ord(it)) for it in spaces if not escape.has_unseen(it)] == []
    assert escape.plain("a\xa0b") == "a\\u00a0b"
