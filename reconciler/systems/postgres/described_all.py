"""Every resource of objects on one connection, found one after another; no two may write the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.described import Described, Objects, RowsOf
from reconciler.systems.postgres.described_find import Finding
from reconciler.systems.postgres.rows import Intent, full_name, on_keys
from reconciler.systems.postgres.session import Session, q, raw
from reconciler.systems.postgres.spellings import meant


def find_described(session: Session, intents: Sequence[Intent]) -> list[Objects]:
    """Every `Described` intent, with the intent of its rows."""
    rows = {it.finds.of.number: it for it in intents if isinstance(it.finds, RowsOf)}
    found = [Finding(session, it, rows[it.number], it.finds).run() for it in intents if isinstance(it.finds, Described)]
    for one, other in combinations(found, 2):
        _refuse_shared(session, one, other)
    return found


def _refuse_taken(session: Session, one: Objects, other: Objects) -> None:
    mine, its = one.intent.finds, other.intent.finds
    assert isinstance(mine, Described)
    assert isinstance(its, Described)
    # Of what the other means, only what it lacks a row for is listed.
    if (
        one.intent.source_name != other.intent.source_name
        or one.intent.protect
        or not (mine.extra != "keep" or mine.move)
    ):
        return
    name = session.value(
        q("SELECT min(f.name) FROM {} f WHERE f.kind IN ('remove', 'quarantine', 'move') AND {} AND (EXISTS (SELECT FROM {g} g WHERE g.name = f.name"
          " AND g.kind IN ('remove', 'quarantine', 'move')) OR NOT EXISTS (SELECT FROM {g} g WHERE g.name = f.name AND g.kind = 'missing_in_db'))",
          one.intent.temp("f"), meant(raw("f.name"), its.prefix, its.match), g=other.intent.temp("f"))
    )  # fmt: skip
    if name is not None:
        raise ReconcilerError(
            f"{one.intent.address} would take objects of {one.intent.source_name} away that {other.intent.address} means too, e.g. {name}",
            where=one.intent.place, why="they are named by rows there, or would go twice",
            todo="narrow `prefix` or `match` of one of them",
        )  # fmt: skip


def _refuse_shared(session: Session, one: Objects, other: Objects) -> None:
    """Two resources must not write the same rows, nor one take an object away that the other has a row for."""
    _refuse_taken(session, one, other)
    _refuse_taken(session, other, one)
    if one.intent.target.name != other.intent.target.name:
        return
    for first, second in ((one.new, other.new), (one.rows, other.rows)):
        if first.intent.key != second.intent.key:
            continue
        same = on_keys("a", first.keys, "b", second.keys)
        if session.value(
            q("SELECT EXISTS (SELECT FROM {} a JOIN {} b ON {})", first.intent.temp("d"), second.intent.temp("d"), same)
        ):
            raise ReconcilerError(
                f"{one.intent.address} and {other.intent.address} would write the same rows of {full_name(one.intent.target.name)}",
                where=other.intent.place, why="both mean the same objects", todo="narrow `prefix`, `match` or `where` of one of them",
            )  # fmt: skip
