"""Whatever the schema, the rows and the damage: a plan restores the backup's rows, once, and its undo restores the damage.

`RECONCILER_LAW_EXAMPLES=2000` tries as many worlds, other ones each time; by default it is the same few dozen.
"""

from __future__ import annotations

import json
import os

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from reconciler.plan.errors import ReconcilerError
from tests.kinds.bench import Bench
from tests.laws.schemas import Row, World, worlds
from tests.laws.sql import (
    Key,
    Roots,
    Rows,
    Scope,
    build,
    damage,
    everything,
    ident,
    key_of,
    looking,
    reached,
    read,
    where,
    within,
)

EXAMPLES = os.environ.get("RECONCILER_LAW_EXAMPLES")
LAW = settings(
    max_examples=int(EXAMPLES or 15),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def quoted(text: str) -> str:
    """As a double-quoted string of YAML."""
    return json.dumps(text, ensure_ascii=False)


def law(bench: Bench, spec: str) -> None:
    note(spec)
    try:
        bench.law(spec)
    except ReconcilerError as error:
        note(error.render())
        raise


@LAW
@given(world=worlds())
def test_tables_declared_one_by_one(bench: Bench, world: World) -> None:
    build(world, bench.backup, bench.production)
    with looking(bench.backup) as session:
        wanted = read(session, world)
    damage(bench.production, world, everything(world, wanted))
    options = f"source: backup, on_extra: delete, max_delete: 1000, allow: [R010], compare: {world.compare}"
    law(
        bench,
        "\n".join(
            f"c{n}: {{ table: {quoted('production.' + ident(table.name))}, {options} }}"
            for n, table in enumerate(world.tables)
        ),
    )
    with looking(bench.production) as session:
        found = read(session, world)
    exact = world.compare == "exact"
    assert within(world, found, everything(world, found), exact=exact) == within(
        world, wanted, everything(world, wanted), exact=exact
    )


@LAW
@given(world=worlds(), roots=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=2))
def test_roots_and_all_that_depends_on_them(bench: Bench, world: World, roots: list[tuple[int, int]]) -> None:
    start, conditions = _roots(world, roots)
    if not start:
        return
    build(world, bench.backup, bench.production)
    with looking(bench.backup) as session:
        wanted = read(session, world)
    meant = reached(world, wanted, start)
    done = damage(bench.production, world, meant)
    with looking(bench.production) as session:
        damaged = read(session, world)
    if _grows(world, wanted, damaged, meant, start):
        return
    options = f"compare: {world.compare}, "
    if not done <= {"delete", "with all", "null"}:  # what is only gone or NULL comes back by default
        options += "on_changed: update, on_extra: delete, max_delete: 1000, allow: [R010], "
    named = ", ".join(f"{quoted(name)}: {quoted(text)}" for name, text in conditions.items())
    law(bench, f"all: {{ into: production, source: backup, {options}roots: {{ {named} }}, follow: dependents }}")
    with looking(bench.production) as session:
        found = read(session, world)
    exact = world.compare == "exact"
    assert within(world, found, reached(world, found, start), exact=exact) == within(world, wanted, meant, exact=exact)
    assert _outside(world, found, meant, start) == _outside(world, damaged, meant, start)


def _roots(world: World, chosen: list[tuple[int, int]]) -> tuple[dict[int, set[Key] | None], dict[str, str]]:
    """One or two tables with rows, the whole of them or one; as keys and as conditions."""
    start: dict[int, set[Key] | None] = {}
    conditions: dict[str, str] = {}
    for number, row in chosen:
        n = number % len(world.tables)
        table, rows = world.tables[n], world.rows[n]
        if not rows:
            continue
        one = rows[row] if row < len(rows) else None
        start[n] = {key_of(table, one)} if one else None
        conditions[ident(table.name)] = where(table, one) if one else "true"
    return start, conditions


def _grows(world: World, wanted: list[Rows], damaged: list[Rows], meant: Scope, start: Roots) -> bool:
    """Whether restoring rows brings others into the scope: see test_found.py."""
    before = reached(world, damaged, start)
    after = [
        [row for row in backup if key_of(table, row) in mine]
        + [row for row in rows if key_of(table, row) not in mine | here]
        for table, backup, rows, mine, here in zip(world.tables, wanted, damaged, meant, before, strict=True)
    ]
    return reached(world, after, start) != meant


def _outside(world: World, rows: list[Rows], meant: Scope, start: Roots) -> list[dict[Key, Row]]:
    """The rows that the plan is not about."""
    scope = reached(world, rows, start)
    outside = [every - mine - here for every, mine, here in zip(everything(world, rows), meant, scope, strict=True)]
    return within(world, rows, outside, exact=True)
