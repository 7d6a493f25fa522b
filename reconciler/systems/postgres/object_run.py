"""The object steps of a run: each change judged before anything is written, judged again when its turn comes, and carried out.

In: the steps of a run with `create`, `alter` or `drop`. Out: counts in the outcome; or `Drift` with planned beside found.
Invariant: an object is written only from the state the plan saw, and only to the state the plan says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import psycopg

from reconciler.plan.errors import Drift, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.kept import KEPT, text_of
from reconciler.plan.lexis import Malformed
from reconciler.plan.names import TableName, split_dotted
from reconciler.plan.statements import ROUTINES, Statement, one_statement
from reconciler.plan.step import Change, Image, Step, Verb
from reconciler.systems.postgres.kept import KEPT_KINDS, image_now
from reconciler.systems.postgres.objects import KINDS, Kind, instead
from reconciler.systems.postgres.session import Session, explain
from reconciler.systems.postgres.structure import STRUCTURE, clear, duplicates_came, locked_by

OBJECT_VERBS = frozenset({Verb.CREATE, Verb.ALTER, Verb.DROP})
_LONGEST = 200


@dataclass
class Judged:
    change: Change
    already: bool = False
    loses: bool = False
    """Whether what it holds goes with it."""

    @property
    def kind(self) -> str:
        return self.change.key[0]

    @property
    def name(self) -> str:
        return self.change.key[1]

    @property
    def what(self) -> str:
        return f"{self.kind} {self.name}"


class ObjectRun:
    """The object changes of one run, in order; what was judged stays judged when the run is tried again from its savepoint."""

    def __init__(self, session: Session, plan: Plan, steps: Sequence[Step]) -> None:
        self.secret = any(step.sensitive for step in plan.steps)
        self.session = session
        self.of_step = {
            step.id: [Judged(change, loses=bool(step.loses)) for change in plan.changes(step)]
            for step in steps
            if step.verb in OBJECT_VERBS
        }
        self.notes: list[str] = []
        for item in self._all():
            if item.kind not in STRUCTURE:
                _check(item)

    def _all(self) -> list[Judged]:
        return [item for items in self.of_step.values() for item in items]

    def table(self, step: Step, verb: Verb) -> str | None:
        """The table that a step of this verb creates or drops, as the steps of its rows call it."""
        items = self.of_step.get(step.id, []) if step.verb is verb else []
        return next((it.name for it in items if it.kind == "table"), None)

    def locked(self) -> list[TableName]:
        """Tables whose rows must stay as they are looked at until a constraint over them stands."""
        names = {locked_by(item.change) for item in self._all() if item.change.after is not None}
        return sorted(name for name in names if name)

    def judge(self) -> list[str]:
        """Mark what is so already; a line for each object that is neither as planned before nor as planned after."""
        chains: dict[tuple[str, ...], list[Judged]] = {}
        for item in self._all():
            chains.setdefault(item.change.key, []).append(item)
        with self.session.public_first():
            return [line for chain in chains.values() for line in self._judge(chain)]

    def _judge(self, chain: Sequence[Judged]) -> list[str]:
        """An object may be changed more than once: what counts is how far along its way it is."""
        first = chain[0]
        now = _kind(first).now(self.session, first.name)
        if self._is_left(chain[-1]):
            for item in chain:
                item.already = True
            return []
        states = [first.change.before, *(item.change.after for item in chain)]
        reached = [place for place, state in enumerate(states) if self._is(first, now, state)]
        # What is as it was before is to be done, even where before and after cannot be told apart.
        done = max(reached) if reached else None
        if done is None:
            return [self._drifted(first, now)]
        for place, item in enumerate(chain):
            item.already = place < done
        return []

    def _is_left(self, item: Judged, *, last: bool = False) -> bool:
        """Whether what is to be dropped holds records, and stays for them."""
        if item.kind not in KEPT or item.change.after is not None or item.loses:
            return False
        if why := KEPT_KINDS[item.kind].left(self.session, item.name, last=last):
            self.notes += [why] if why not in self.notes else []
        return why is not None

    def _is(self, item: Judged, now: str | None, state: Image | None) -> bool:
        if now is None or state is None:
            return now is None and state is None
        return _kind(item).unlike(self.session, item.name, now, _said(state)) is None

    def _drifted(self, item: Judged, now: str | None) -> str:
        before, after = item.change.before, item.change.after
        if now is None:
            return f"{item.what}: planned to be there, found no such {item.kind}"
        wanted = before if before is not None else after
        how = _kind(item).unlike(self.session, item.name, now, _said(wanted)) if wanted else None
        if before is None:
            return f"{item.what}: planned absent, found one of that name{f': {how}' if how else ''}"
        planned, found = _parting(_kind(item).spelled(self.session, _said(before)), now)
        return f"{item.what}: planned {planned}, found {found}" if now else f"{item.what}: {how}"

    def carry_out(self, step: Step) -> tuple[int, int]:
        """Do what is to be done of a step: how many changes were applied, and how many were so already."""
        applied = 0
        with self.session.public_first():
            for item in self.of_step[step.id]:
                applied += self._carry_out(item)
        return applied, len(self.of_step[step.id]) - applied

    def _carry_out(self, item: Judged) -> int:
        if item.already:
            return 0
        kind, before, after = _kind(item), item.change.before, item.change.after
        try:
            if before is not None:
                kind.hold(self.session, item.name)
            now = kind.now(self.session, item.name)
            if not self._is(item, now, before):
                raise Drift(f"{item.what} was changed while this plan was applied", details=(self._drifted(item, now),))
            if before is None and (other := instead(self.session, item.kind, item.name)):
                raise Drift(f"{item.name} is there already", details=(f"{item.what}: planned absent, found a {other}",))
            if after is None and self._is_left(item, last=True):
                return 0
            if after is None:
                self._drop(kind, item)
            elif item.kind in KEPT:
                KEPT_KINDS[item.kind].make(
                    self.session, item.name, image_now(self.session, item.kind, item.name), after
                )
                _expect_text(self.session, item, text_of(after))
            else:
                if item.kind in STRUCTURE and item.kind != "column":
                    clear(self.session, item.name)
                self.session.single(str(after["sql"]))
                _expect(self.session, kind, item)
        except psycopg.errors.UniqueViolation as error:
            if item.kind not in STRUCTURE:
                raise _explained(error, item, self.session) from None
            raise duplicates_came(item.name, error, secret=self.secret) from None
        except psycopg.Error as error:
            raise _explained(error, item, self.session) from None
        return 1

    def _drop(self, kind: Kind, item: Judged) -> None:
        if why := kind.in_use(self.session, item.name):
            raise Drift(
                f"{item.what} is not dropped: {why}; nothing was kept",
                details=(f"{item.what}: planned to go while it is empty and unused, found that {why}",),
                todo="take out what is in it if it is not needed, then apply again",
            )
        kind.drop(self.session, item.name)


def _kind(item: Judged) -> Kind:
    if item.kind in KEPT:
        return KEPT_KINDS[item.kind]
    return STRUCTURE[item.kind] if item.kind in STRUCTURE else KINDS[item.kind]


def _said(image: Image) -> str:
    """What an object is to be like: its definition where the plan says it, else the statement itself."""
    return str(image["definition"]) if "definition" in image else text_of(image)


def _expect(session: Session, kind: Kind, item: Judged) -> None:
    if kind.now(session, item.name) is None:
        raise ReconcilerError(
            f"{item.what} is not there after its statement was run; nothing was kept",
            why="its name in the plan is not the one that the statement gives it, or an event trigger took it away",
            todo="plan again",
        )


def _expect_text(session: Session, item: Judged, wanted: str) -> None:
    now = KEPT_KINDS[item.kind].now(session, item.name)
    if now != wanted:
        planned, found = _parting(wanted, now or "nothing")
        raise ReconcilerError(
            f"{item.what} is not as planned after its statement was run; nothing was kept",
            why=f"planned {planned}, found {found}", todo="look for an event trigger that changes it, then plan again",
        )  # fmt: skip


def _check(item: Judged) -> None:
    """A plan says of each object what its statements are: whatever else stands there is not run."""
    for image in (item.change.before, item.change.after):
        if image is None:
            continue
        try:
            statement = one_statement(str(image["sql"]))
        except Malformed as error:
            raise _refused(item, error.what) from None
        if item.kind not in (*KINDS, *KEPT) or not _names(statement, item):
            raise _refused(item, f"its statement creates {statement.kind} {statement.identity}")


def _names(statement: Statement, item: Judged) -> bool:
    if item.kind in KEPT:
        made, named = (split_dotted(name.removesuffix("()")) for name in (statement.identity, item.name))
        return statement.kind == KEPT[item.kind] and made == named
    if statement.kind in ROUTINES:
        return item.kind in ROUTINES and item.name.startswith(f"{statement.identity}(")
    return (statement.kind, statement.identity) == item.change.key


def _refused(item: Judged, why: str) -> ReconcilerError:
    return ReconcilerError(f"the plan's change of {item.what} is refused", why=why, todo="plan again")


def _explained(error: psycopg.Error, item: Judged, session: Session) -> Exception:
    """What the server says against an object's statement; what may go well another time stays as it is."""
    diag = error.diag
    match error:
        case psycopg.errors.SerializationFailure() | psycopg.errors.DeadlockDetected():
            return error
        case psycopg.OperationalError() if not isinstance(
            error, psycopg.errors.LockNotAvailable | psycopg.errors.QueryCanceled
        ):
            return error
        case psycopg.errors.DependentObjectsStillExist():
            lines = tuple((diag.message_detail or "").splitlines())
            return Drift(
                f"{item.what} is not dropped: something uses it; nothing was kept",
                details=lines,
                todo="take away what uses it, or leave it, and plan again",
            )
        case (
            psycopg.errors.DuplicateTable()
            | psycopg.errors.DuplicateObject()
            | psycopg.errors.DuplicateFunction()
            | psycopg.errors.DuplicateSchema()
        ):
            said = diag.message_primary or "it is there"
            return Drift(f"{item.what} cannot be created", details=(f"planned absent, found: {said}",))
        case psycopg.errors.InternalError() if "concurrently" in (diag.message_primary or ""):
            return Drift(f"{item.what} was changed by somebody else at the same moment")
        case psycopg.errors.UniqueViolation():
            return ReconcilerError(
                f"{item.what} cannot be created: rows have the same key twice; nothing was kept",
                why=diag.message_primary,
                todo="take the duplicates out first",
            )
        case _:
            doing = f"writing {item.what}"
            return explain(error, doing, session.name)


def _parting(planned: str, found: str) -> tuple[str, str]:
    """The lines from which on two definitions are not the same."""
    pairs = zip_longest(planned.splitlines(), found.splitlines(), fillvalue="")
    one, other = next(((a, b) for a, b in pairs if a != b), (planned, found))
    return _line(one), _line(other)


def _line(sql: str) -> str:
    text = "".join(c if c.isprintable() else "·" for c in " ".join(sql.split()))
    return f"'{text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…'}'"
