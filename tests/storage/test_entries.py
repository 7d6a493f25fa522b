"""An answer of list v2 is read object by object, and says what it says as one tree; cut anywhere it says nothing."""

from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.systems.storage.entries import Entry, read

Json = dict[str, object]
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_SIMPLE = st.none() | st.booleans() | st.integers() | _TEXTS
# What anybody may write into the metadata of an object, the words of the answer itself among them.
_METADATA = st.dictionaries(
    st.sampled_from(["size", "eTag", "mimetype", "name", "id", "metadata", "objects", "hasNext"]) | _TEXTS,
    _SIMPLE | st.dictionaries(_TEXTS, _SIMPLE, max_size=3) | st.lists(_SIMPLE, max_size=3),
    max_size=5,
)
_OBJECTS = st.fixed_dictionaries(
    {"name": _TEXTS, "id": _TEXTS},
    optional={
        "metadata": st.none() | _METADATA,
        "created_at": _SIMPLE,
        "updated_at": _SIMPLE,
        "user_metadata": _METADATA,
    },
)
_ANSWERS = st.fixed_dictionaries(
    {"hasNext": st.booleans(), "objects": st.lists(_OBJECTS, max_size=4)},
    optional={"nextCursor": st.none() | _TEXTS, "nextCursorKey": _TEXTS, "folders": st.lists(_METADATA, max_size=2)},
).flatmap(lambda answer: st.permutations(list(answer.items())).map(lambda items: cast("Json", dict(items))))
_FORMS = st.sampled_from([{"separators": (",", ":")}, {"indent": 2}, {"indent": "\t", "ensure_ascii": False}, {}])


def _meant(tree: Json) -> Entry:
    metadata = tree.get("metadata")
    told = cast("Json", metadata) if isinstance(metadata, dict) else {}
    times = tree.get("created_at"), tree.get("updated_at")
    return Entry(str(tree["name"]), told.get("size"), told.get("eTag"), told.get("mimetype"), *times)


@given(_ANSWERS, _FORMS)
def test_it_says_what_the_tree_says(answer: Json, form: dict[str, object]) -> None:
    text = json.dumps(answer, **form)  # pyright: ignore[reportArgumentType]
    members, entries = read(text)
    assert entries == [_meant(tree) for tree in cast("list[Json]", answer["objects"])]
    assert members == {name: value for name, value in answer.items() if name != "objects"}


@given(_ANSWERS, _FORMS)
def test_cut_anywhere_it_says_nothing(answer: Json, form: dict[str, object]) -> None:
    text = json.dumps(answer, **form)  # pyright: ignore[reportArgumentType]
    for end in range(len(text)):
        with pytest.raises(ValueError):
            read(text[:end])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"hasNext":false}',
        '{"hasNext":false,"objects":null}',
        '{"hasNext":false,"objects":{}}',
        '{"hasNext":false,"objects":[],}',
        '{"hasNext":false,"objects":[,]}',
        '{"hasNext":false,"objects":[{"name":"a","id":"1"},]}',
        '{"hasNext":false,"objects":[{"name":"a","id":"1"}{"name":"b","id":"2"}]}',
        '{"hasNext":false,"objects":["a"]}',
        '{"hasNext":false,"objects":[null]}',
        '{"hasNext":false,"objects":[{"name":"folder/","id":null}]}',
        '{"hasNext":false,"objects":[{"name":1,"id":"1"}]}',
        '{"hasNext":false,"objects":[{"id":"1"}]}',
        '{"hasNext":false,"objects":[]}]',
        '{"hasNext":false,"objects":[]}{"hasNext":false,"objects":[]}',
        '{1:2,"objects":[]}',
        '{"hasNext":false,"objects":[{"name":"a","id":"1"}],"objects":[]}',
        '{"hasNext":true,"objects":[],"hasNext":false}',
        pytest.param(
            f'{{"hasNext":false,"objects":[{{"name":"a","id":"1","metadata":{"[" * 100_000}{"]" * 100_000}}}]}}',
            id="deep",
        ),
        '{"hasNext" false,"objects":[]}',
        '[{"hasNext":false,"objects":[]}]',
        "null",
        "",
        "<html></html>",
    ],
)
def test_anything_else_is_no_page(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)
