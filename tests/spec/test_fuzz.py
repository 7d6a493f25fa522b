"""Whatever the file holds, it is read or it is an error for the user's eyes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import from_canonical
from tests.spec.loading import load_whatever
from tests.spec.worked import RESTORE
from tests.spec.wrong import CASCADES, COLLECTIONS, CONNECTIONS, HEAD, SQL, SYNTAX, TOP

CORPUS = [
    RESTORE,
    *(
        HEAD + text if text[:1] == "\n" else text
        for text, _, _ in SYNTAX + TOP + CONNECTIONS + COLLECTIONS + CASCADES + SQL
    ),
]
PIECES = [
    *[
        ":",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\n  ",
        "\t",
        "'",
        '"',
        "#",
        " #",
        "|\n",
        ">\n",
        "&a ",
        "*a",
        "<<: ",
    ],
    *["? ", "%", "@", "`", "\\", "\0", "\x85", "\u2028", "\ufeff", "😀", "é", "-", "~", "...", "---", "!!str ", "null"],
    *["${", "${did}", "${env:X}", "$${", ":did", "::", "$$", "E'\\'", "true", "1.5", "1e999"],
    *["version: 1", "collections:", "connections:", "source", "rows", "key", "where"],
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30))
@settings(max_examples=300, deadline=None)
def test_random_text(pieces: list[str]) -> None:
    load_whatever("".join(pieces))
    load_whatever("version: 1\ncollections:\n  a:\n" + "".join(pieces))


@given(st.sampled_from(CORPUS), st.integers(0, 2**32))
@settings(max_examples=500, deadline=None)
def test_mutated_specs(text: str, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 5)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 0, 1, 1, 5, 30]))
        other = chance.choice(CORPUS)
        cut = chance.randrange(len(other) + 1)
        text = text[:start] + chance.choice([chance.choice(PIECES), other[cut : cut + 20], ""]) + text[end:]
    load_whatever(text)


TREE = json.loads(
    json.dumps(
        {
            "version": 1,
            "variables": {"did": {"default": "x"}},
            "connections": {"a": {"postgres": "embedded"}, "b": {"files": "x", "tables": {"t": "u"}}},
            "collections": {
                "one": {"table": "a.t", "source": "b", "where": "x = :did", "key": ["x"], "columns": {"except": ["y"]}},
                "two": {
                    "into": "a",
                    "source": "b",
                    "roots": {"t": "true"},
                    "tables": {"t": {}},
                    "needs": ["collections.one"],
                },
                "three": {
                    "table": "a.u",
                    "source": {"rows": [{"a": {"!number": "1.0"}}]},
                    "on_changed": {"newer": "a"},
                },
            },
        }
    )
)
JUNK = st.sampled_from(
    [
        None,
        True,
        5,
        1.5,
        float("inf"),
        "",
        "x",
        "${did}",
        "${",
        "a.b.c.d",
        "\ud800",
        [],
        {},
        [None],
        {"": 1},
        [{"a": 1}],
    ]
)


def spots(tree: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path into the tree."""
    found = [path]
    if isinstance(tree, dict):
        for key, item in cast("dict[str, object]", tree).items():
            found += spots(item, (*path, key))
    if isinstance(tree, list):
        for index, item in enumerate(cast("list[object]", tree)):
            found += spots(item, (*path, index))
    return found


@given(st.sampled_from(spots(TREE)[1:]), JUNK)
@settings(max_examples=400, deadline=None)
def test_mutated_plans(path: tuple[str | int, ...], junk: Any) -> None:
    tree = json.loads(json.dumps(TREE))
    node = tree
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = junk
    try:
        from_canonical(tree, variables={}, base=Path(), environ={}).canonical()
    except ReconcilerError as error:
        error.render()
