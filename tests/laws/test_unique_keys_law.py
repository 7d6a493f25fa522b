"""The law of unique keys, over generated tables: one row a key remains and it is the right one, no reference is lost, archive and
survivors are the original rows, two plans are the same bytes, undo restores everything."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.plan.errors import Exit
from tests.kinds.bench import Bench

EXAMPLES = int(os.environ.get("RECONCILER_LAW_EXAMPLES", "25"))
STATES = ("best", "good", "bad", "odd")
small = st.one_of(st.none(), st.integers(-2, 2))
words = st.one_of(st.none(), st.sampled_from(["", "a", "Ab", "zzz", 'it\'s\n"q"\t\\', "🙂"]))
rows = st.lists(
    st.tuples(st.sampled_from([1, 2, None]), words, st.one_of(st.none(), st.sampled_from(STATES)), small, words),
    min_size=1, max_size=14,
)  # fmt: skip
RULES: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "{ state: [best, good] }": lambda row: 4 if row[3] is None else {"best": 0, "good": 1}.get(row[3], 3),
    "{ n: highest }": lambda row: (row[4] is None, -(row[4] or 0)),
    "{ n: oldest }": lambda row: (row[4] is None, row[4] or 0),
    "{ note: filled }": lambda row: row[5] is None,
    "{ note: longest }": lambda row: (row[5] is None, -len(row[5] or "")),
    '"n * n"': lambda row: (row[4] is None, -((row[4] or 0) ** 2)),
}
rules = st.lists(st.sampled_from(sorted(RULES)), unique_by=lambda text: text.split(":")[0], max_size=3)
children = st.lists(st.tuples(st.integers(0, 13), st.sampled_from("xy")), max_size=12)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows, rules=rules, children=children, equal=st.booleans(), action=st.sampled_from(["SET NULL", "CASCADE", "NO ACTION", "RESTRICT"]),
    online=st.booleans(),
)  # fmt: skip
def test_one_row_a_key_and_nothing_is_lost(
    bench: Bench,
    rows: list[tuple[Any, ...]],
    rules: list[str],
    children: list[tuple[int, str]],
    equal: bool,
    action: str,
    online: bool,
) -> None:
    table = [(number, *row) for number, row in enumerate(rows, 1)]
    _fill(bench, table, children, action)
    bench.path.write_text(
        f"""\
version: 1
connections: {{ production: {{ postgres: "${{env:PRODUCTION_URL}}" }} }}
unique_keys:
  one:
    {{ table: production.t, key: [k, w], nulls: {"not_distinct" if equal else "distinct"}, keep: [{", ".join(rules)}], archive: kept,
      references: repoint, on_collision: drop_child, lock: {"online" if online else "brief"} }}
""",
        "utf-8",
    )
    survivor = {row[0]: _survivor(row, table, rules, equal) for row in table}
    before = bench.production.dump()
    plan = bench.plan()
    assert bench.plan().path.read_bytes() == plan.path.read_bytes()
    applied = bench.apply(plan)
    assert (applied.code, applied.converged) == (Exit.DONE, True)
    left = bench.production.sql("SELECT * FROM t ORDER BY id")
    assert left == [row for row in table if survivor[row[0]] == row[0]]
    losers = [row for row in table if survivor[row[0]] != row[0]]
    if losers:
        archived = bench.production.sql("SELECT id, k, w, state, n, note, survivor_key FROM kept ORDER BY id")
        assert archived == [(*row, str(survivor[row[0]])) for row in losers]
    pointing = [(number, parent % len(table) + 1, tag) for number, (parent, tag) in enumerate(children, 1)]
    assert bench.production.sql("SELECT * FROM c ORDER BY id") == [(n, survivor[p], tag) for n, p, tag in pointing]
    pairs = {(survivor[parent], tag) for _, parent, tag in pointing}
    assert set(bench.production.sql("SELECT * FROM j")) == pairs
    assert bench.plan().empty
    again = bench.apply(plan)
    assert sum(step.applied for step in again.steps) == 0
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert bench.production.dump() == before


def _fill(bench: Bench, table: list[tuple[Any, ...]], children: list[tuple[int, str]], action: str) -> None:
    bench.production.sql(f"""
        DROP SCHEMA public CASCADE; CREATE SCHEMA public;
        CREATE TABLE t (id int PRIMARY KEY, k int, w text, state text, n int, note text);
        CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE {action}, tag text);
        CREATE TABLE j (t int REFERENCES t ON DELETE CASCADE, tag text, PRIMARY KEY (t, tag));
    """)
    for row in table:
        bench.production.sql("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s)", *row)
    for number, (parent, tag) in enumerate(children, 1):
        bench.production.sql("INSERT INTO c VALUES (%s, %s, %s)", number, parent % len(table) + 1, tag)
        bench.production.sql("INSERT INTO j VALUES (%s, %s) ON CONFLICT DO NOTHING", parent % len(table) + 1, tag)


def _survivor(row: tuple[Any, ...], table: list[tuple[Any, ...]], rules: list[str], equal: bool) -> int:
    """Who stays for a row, worked out without a database."""
    if not equal and None in row[1:3]:
        return row[0]
    same = [other for other in table if other[1:3] == row[1:3]]
    return min(same, key=lambda it: (*(RULES[rule](it) for rule in rules), it[0]))[0]
