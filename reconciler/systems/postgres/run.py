"""A run under way: its steps, which of their rows are copied directly, which are staged at once, and which only later or not at all.

In: the steps of a run and the catalog as the transaction finds it. Out: staged steps.
Invariant: what is copied without a look fails where something is in the way, and then everything is staged and looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from reconciler.plan.file import Plan
from reconciler.plan.names import TableName
from reconciler.plan.step import Step, Verb
from reconciler.systems.postgres.catalog import Catalog, Table, read_catalog
from reconciler.systems.postgres.guard import judge
from reconciler.systems.postgres.object_run import ObjectRun
from reconciler.systems.postgres.rows import full_name
from reconciler.systems.postgres.session import Session
from reconciler.systems.postgres.staging import Staged, stage

Advance = Callable[[int], None]
Secrets = Callable[[Session, Catalog, Staged], None]
"""Puts the real values of sensitive columns, read again from the source, into a staged step."""

ROW_VERBS = frozenset({Verb.INSERT, Verb.UPDATE, Verb.DELETE})


@dataclass
class Work:
    """A run on its way: every row step stands in `staged`, or for now in `direct`.

    Rows of a table that the run itself creates can only be staged once it is there; of a table that it drops and that is gone already,
    all rows are gone too.
    """

    session: Session
    plan: Plan
    steps: Sequence[Step]
    catalog: Catalog
    objects: ObjectRun
    secrets: Secrets
    advance: Advance
    staged: dict[str, Staged] = field(default_factory=dict[str, Staged])
    direct: dict[str, Table] = field(default_factory=dict[str, Table])
    """Inserts that are copied from the plan's file into their tables, without a look first."""
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    made: set[str] = field(default_factory=set[str])
    dropped: set[str] = field(default_factory=set[str])
    gone: dict[str, int] = field(default_factory=dict[str, int])
    """Steps of rows whose table this run had dropped before, with their counts."""
    looked: bool = False
    """Everything was judged with others locked out: a row in the way is the work of a trigger of this transaction."""

    def __post_init__(self) -> None:
        there = {full_name(name) for name in self.catalog.tables}
        self.numbers = {step.id: number for number, step in enumerate(self.steps)}
        self.made = {table for step in self.steps if (table := self.objects.table(step, Verb.CREATE))} - there
        self.dropped = {table for step in self.steps if (table := self.objects.table(step, Verb.DROP))}
        self.gone = {
            step.id: step.count
            for step in self.steps
            if step.verb is Verb.DELETE and step.target in self.dropped - there
        }
        # An object made on the way may be a trigger.
        self.direct = {} if self.objects.of_step else _direct(self.catalog, self.steps)

    @property
    def items(self) -> list[Staged]:
        return list(self.staged.values())

    @property
    def may_look_again(self) -> tuple[type[psycopg.Error], ...]:
        """What a write that did not look first may stumble over; then everything is looked at."""
        if self.looked:
            return ()
        if self.direct:
            return (psycopg.IntegrityError, psycopg.DataError)
        return (psycopg.errors.UniqueViolation,) if any(item.taken_as_new for item in self.items) else ()

    def stage_rest(self, advance: Advance) -> None:
        """Stage every step of rows that can be, is not copied directly and is not staged yet."""
        for step in self.steps:
            known = step.id in self.direct or step.id in self.gone or step.id in self.staged
            if step.verb in ROW_VERBS and not known and step.target not in self.made:
                self._stage(step, self.catalog, advance)

    def stage_direct(self) -> None:
        """Nothing is copied directly any more."""
        self.direct.clear()
        self.stage_rest(lambda _: None)

    def stage_late(self, step: Step) -> None:
        """Rows of a table that this transaction has made: nobody else sees it, so they are all new."""
        catalog = read_catalog(self.session)
        item = self._stage(step, catalog, self.advance)
        judge(self.session, [item])
        if step.sensitive:
            self.secrets(self.session, catalog, item)

    def _stage(self, step: Step, catalog: Catalog, advance: Advance) -> Staged:
        self.staged[step.id] = stage(self.session, catalog, self.plan, step, self.numbers[step.id], advance)
        return self.staged[step.id]


def _direct(catalog: Catalog, steps: Sequence[Step]) -> dict[str, Table]:
    """Inserts that need no temporary table: a row that is there makes them fail, and nothing can rewrite what they write."""
    tables = {step.target: catalog.find(TableName.parse(step.target)) for step in steps if step.verb in ROW_VERBS}
    if any(trigger.fires for table in tables.values() if table for trigger in table.triggers):
        return {}
    return {
        step.id: table
        for step in steps
        if step.verb is Verb.INSERT
        and not step.archived_by
        and (table := tables[step.target])
        and table.unique_on(step.key)
        and table.kind == "r"
        and not (step.together or step.sensitive or table.row_security or table.rules)
    }
