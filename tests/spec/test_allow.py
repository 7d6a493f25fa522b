"""`# reconciler: allow R004` stands for `allow: [R004]` at the resource it is written at, and nowhere else."""

from __future__ import annotations

import pytest

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.spec import from_canonical
from tests.spec.conftest import Loader
from tests.spec.wrong import HEAD

SPEC = (
    HEAD
    + """
collections:
  # reconciler: allow R004, R010 the backup is right
  a:
    table: production.a
    source: backup
    description: "text # reconciler: allow R001"
  b:  # reconciler: allow R001
    table: production.b
    source: backup
    where: |
      x = '
      # reconciler: allow R002
      '
    # reconciler: allow R005
    # and more of it

  # another one
  c: { table: production.c, source: backup, allow: [R010] } # reconciler: allow R010 R011
  d:
    table: production.d
    source: backup
"""
)


def test_belongs_to_the_resource_it_stands_at(load_text: Loader) -> None:
    spec = load_text(SPEC)
    assert {name: it.allow for name, it in spec.resources().items()} == {
        "collections.a": ("R004", "R010"),
        "collections.b": ("R001", "R005"),
        "collections.c": ("R010", "R011"),
        "collections.d": (),
    }


def test_stands_in_the_plan(load_text: Loader) -> None:
    spec = load_text(SPEC)
    again = from_canonical(spec.canonical(), variables={}, base=spec.base, environ={})
    assert {name: it.allow for name, it in again.resources().items()} == {
        name: it.allow for name, it in spec.resources().items()
    }


def test_a_resource_that_is_copied_is_not_allowed_along(load_text: Loader) -> None:
    spec = load_text(HEAD + """
collections:
  a: &a
    table: production.a  # reconciler: allow R004
    source: backup
  b: *a
""")  # fmt: skip
    assert [it.allow for it in spec.resources().values()] == [("R004",), ()]


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("\n# reconciler: allow R004\n", "allows nothing", 6),
        ("\ncollections: # reconciler: allow R004\n  a: { table: production.t, source: backup }\n", "allows nothing", 6),
        ("\ncollections:\n  a: { table: production.t, source: backup } # reconciler: allow\n", "names no rule", 7),
        ("\ncollections:\n  a: { table: production.t, source: backup } # reconciler: allow R4\n", "no rule R4", 7),
        ("\ncollections:\n  a: { table: production.t, source: backup } # reconciler: allow R004,R999\n", "no rule R999", 7),
        ("\ncollections:\n  a: { table: production.t, source: backup, allow: [R999] }\n", "R999", 7),
        ("\ncollections:\n  a: { table: production.t, source: backup, allow: R004 }\n", "allow", 7),
    ],
)  # fmt: skip
def test_a_comment_that_allows_nothing_is_an_error(load_text: Loader, text: str, said: str, line: int) -> None:
    with pytest.raises(ReconcilerError) as raised:
        load_text(HEAD + text)
    assert said in raised.value.render()
    assert isinstance(raised.value.where, Location)
    assert raised.value.where.line == line
