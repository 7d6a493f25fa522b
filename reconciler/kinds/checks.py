"""`checks`: facts that must hold after apply, asked of the databases.

In: the checks of a spec. Out: at plan and in `status` how each stands now; at apply what to look at at the end of a run, within
its transaction, and what only after everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.kinds.tables import bound
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.step import Check, Step
from reconciler.spec import Check as CheckSpec
from reconciler.spec import PostgresSpec, Spec
from reconciler.spec.sql import parse_condition, parse_query
from reconciler.systems.postgres.checks import Between, Empty, Equal, Filled, NotThereError, Query, Question, ask
from reconciler.systems.postgres.session import Session

_WORD = re.compile(r"\w+")


class FailedCheckError(ReconcilerError):
    """Checks that do not hold at the end of an apply."""


def chosen(spec: Spec, addresses: Iterable[str]) -> dict[str, CheckSpec]:
    """The checks among these addresses."""
    resources = spec.resources()
    return {address: it for address in addresses if isinstance(it := resources.get(address), CheckSpec)}


def question(spec: Spec, address: str, check: CheckSpec) -> Question:
    """What a check asks, of whom."""
    connection, table = check.place()
    place = spec.locate(*address.split(".", 1))
    if check.coverage is not None:
        assert table is not None
        where = check.coverage.where
        parts = None if where is None else bound(spec, parse_condition(where))
        asks = Filled(table, check.coverage.column, check.coverage.at_least.removesuffix("%"), parts)
        return Question(address, connection, asks, place)
    text = check.query or ""
    expect = check.expectation()
    wanted = (
        Empty() if check.wants_nothing()
        else Equal(expect.equal) if expect.at_least is None and expect.at_most is None
        else Between(expect.at_least, expect.at_most)
    )  # fmt: skip
    asks = Query(bound(spec, parse_query(text)), wanted, _may_be_secret(spec, text))
    return Question(address, connection, asks, place)


def _may_be_secret(spec: Spec, text: str) -> bool:
    """Whether the query names a sensitive column of any collection, or takes columns without naming them."""
    names = {name.lower() for name in spec.sensitive()}
    if not names:
        return False
    return (
        bool(names & {word.lower() for word in _WORD.findall(text)})
        or re.search(r"(?<!\()\*(?!\s*\))", text) is not None
    )


def stand(world: World, addresses: Iterable[str], *, created: bool = False) -> tuple[Check, ...]:
    """How checks stand now; `created`: the plan makes things, so that what is not there may come to be."""
    found: list[Check] = []
    for address, it in sorted(chosen(world.spec, addresses).items()):
        asked = question(world.spec, address, it)
        try:
            holds, text = ask(world.session(asked.connection), asked)
        except NotThereError as error:
            if not created:
                raise
            found.append(Check(address, it.severity, None, error.why or ""))
        else:
            found.append(Check(address, it.severity, holds, text))
    return tuple(found)


@dataclass
class Watch:
    """The checks of a plan while it is applied: each is asked once, as late as it can be."""

    spec: Spec
    checks: Mapping[str, CheckSpec]
    found: list[Check] = field(default_factory=list[Check])

    @classmethod
    def of(cls, spec: Spec, planned: Iterable[Check]) -> Watch:
        return cls(spec, chosen(spec, (it.address for it in planned)))

    def connections(self) -> set[str]:
        return {it.place()[0] for it in self.checks.values()}

    def within(self, runs: Sequence[tuple[str, list[Step]]], at: int) -> Callable[[Session], None]:
        """What to look at before the run at this position commits: where no later one can change what is asked."""
        connection, steps = runs[at]
        later = runs[at + 1 :]
        declared = self.spec.document.connections
        elsewhere = all(name != connection and isinstance(declared.get(name), PostgresSpec) for name, _ in later)
        last = elsewhere and not steps[0].apart
        mine = [address for address, it in self.checks.items() if last and it.place()[0] == connection]

        def look(session: Session) -> None:
            self.found = [it for it in self.found if it.address not in mine]  # of an attempt that was not kept
            found = [self._ask(session, address) for address in sorted(mine)]
            self.found += found
            refuse(found, f"nothing was changed on {connection}")

        return look

    def _ask(self, session: Session, address: str) -> Check:
        holds, text = ask(session, question(self.spec, address, self.checks[address]))
        return Check(address, self.checks[address].severity, holds, text)

    def answers(self) -> tuple[Check, ...]:
        return tuple(sorted(self.found, key=lambda it: it.address))

    def rest(self) -> list[str]:
        """What no run could look at."""
        asked = {it.address for it in self.found}
        return sorted(self.checks.keys() - asked)


def refuse(found: Iterable[Check], kept: str) -> None:
    """Stop where checks of severity error do not hold."""
    failed = [it for it in found if it.failed]
    if failed:
        raise FailedCheckError(
            f"{len(failed)} {'check does' if len(failed) == 1 else 'checks do'} not hold; {kept}",
            details=tuple(it.text for it in failed),
            todo="mend what the check names, or say severity: warn",
        )
