"""What a unique key must not do, known before any step is made: exceed its limit, lose a row that is to stay, leave a reference nowhere.

In: everything found on one connection, cascades listed. Out: nothing; or the first error. `status` never asks.
Invariant: of each key exactly one row stays, whatever goes along with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.limit import most
from reconciler.plan.step import Hazard
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import Duplicates, References, full_name, relation
from reconciler.systems.postgres.session import Session, join, lit, q, raw


def check_losers(session: Session, founds: Sequence[Found]) -> list[Hazard]:
    """Every unique key of these; what exceeds its limit and is allowed to comes back as a risk."""
    over: list[Hazard] = []
    for found in founds:
        source = found.intent.finds
        if found.refused:
            raise found.refused
        if isinstance(source, Duplicates) and found.extra and not found.intent.protect:
            _check_survivors(session, found, founds)
            over += _check_limit(session, found, source, founds)
    return over


def protected(session: Session, found: Found) -> bool:
    """Whether duplicates stay because nothing of this resource may go: then no constraint can stand either."""
    return found.intent.protect and session.value(q("SELECT EXISTS (SELECT FROM {})", found.intent.temp("r")))


def _check_survivors(session: Session, found: Found, founds: Sequence[Found]) -> None:
    table = found.intent.target
    for other in founds:
        if (
            other.intent.target.name != table.name
            or other is found
            or not other.extra
            or other.intent.key != found.intent.key
        ):
            continue
        pairs = [q("d.{0} = r.{1}", raw(k), raw("v" + k[1:])) for k in found.keys]
        # A row that leaves under its old key and comes back under another stays.
        count = session.value(
            q("SELECT count(DISTINCT ({k})) FROM {d} d JOIN {r} r ON {on} WHERE d.kind = 'x'", k=join([raw(f"d.{k}") for k in found.keys]),
              d=other.intent.temp("d"), r=found.intent.temp("r"), on=join(pairs, " AND "))
        )  # fmt: skip
        if count:
            raise ReconcilerError(
                f"{found.intent.address}: {count} rows of {full_name(table.name)} that are to stay would go with the others",
                where=found.intent.place,
                why="they point at rows that go, and then no row would be left with that key",
                todo="say references: repoint",
            )


def _check_limit(session: Session, found: Found, source: Duplicates, founds: Sequence[Found]) -> list[Hazard]:
    """Losers that are archived have no limit unless one is given, nor has what the spec says may go with them; a cascade always counts."""
    intent = found.intent
    asked = cascaded = 0
    for other in founds:
        if not other.extra:
            continue
        by_cascade, else_ = session.one(
            q("SELECT count(*) FILTER (WHERE starts_with(reason, {})), count(*) FILTER (WHERE NOT starts_with(reason, 'cascade of '))"
              " FROM {} WHERE kind = 'x'", lit(f"cascade of {intent.address} "), other.intent.temp("d"))
        )  # fmt: skip
        own = isinstance(other.intent.finds, References) and other.intent.finds.of is intent
        asked += else_ - other.missing if own else 0
        cascaded += by_cascade
    along = asked + cascaded
    going = found.extra + along
    if source.limit is None:
        limit = found.extra + asked if source.archive else 0
    else:
        everything = q("SELECT count(*) FROM {}", relation(intent.target.name))
        limit = most(source.limit, partial(session.value, everything))
    if going > limit and intent.unlimited:
        text = f"{going} rows are deleted, and max_delete allows {limit}"
        return [Hazard("delete-over-limit", intent.address, text, going)]
    if going > limit:
        raise ReconcilerError(
            f"{intent.address} would delete {going} rows; max_delete allows {limit}",
            where=intent.place,
            why=" and ".join(
                [f"{found.extra} duplicates{'' if source.archive else ', which no archive keeps'}"]
                + ([f"{along} rows that go along with them, which no archive keeps"] if along else [])
            ),
            todo=f"{'' if source.archive else 'name an `archive`, or '}say max_delete: {going} if that is meant",
            code=Exit.LIMIT,
            rule="R001",
        )
    return []
