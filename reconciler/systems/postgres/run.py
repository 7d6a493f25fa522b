"""A run under way: its steps, which of their rows can be staged at once, and which only later or not at all.

In: the steps of a run and the catalog as the transaction finds it. Out: staged steps.
Invariant: rows of a table that the run itself creates are staged once it is there; rows of a table that it drops and that is gone
already are gone too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reconciler.plan.file import Plan
from reconciler.plan.step import Step, Verb
from reconciler.systems.postgres.catalog import Catalog, read_catalog
from reconciler.systems.postgres.guard import judge
from reconciler.systems.postgres.object_run import ObjectRun
from reconciler.systems.postgres.rows import full_name
from reconciler.systems.postgres.session import Session
from reconciler.systems.postgres.staging import Staged, stage

Advance = Callable[[int], None]
Secrets = Callable[[Session, Catalog, Staged], None]
"""Puts the real values of sensitive columns, read again from the source, into a staged step."""

_ROW_VERBS = frozenset({Verb.INSERT, Verb.UPDATE, Verb.DELETE})


@dataclass
class Run:
    """A run under way. Rows of a table that the run itself creates can only be staged once it is there."""

    session: Session
    plan: Plan
    steps: Sequence[Step]
    objects: ObjectRun
    secrets: Secrets
    advance: Advance
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    dropped: set[str] = field(default_factory=set[str])
    gone_before: dict[str, int] = field(default_factory=dict[str, int])

    def stage_first(self, catalog: Catalog) -> dict[str, Staged]:
        """Every step of rows whose table is there; of a table that this run drops and that is gone, all rows are too."""
        there = {full_name(name) for name in catalog.tables}
        made = {table for step in self.steps if (table := self.objects.table(step, Verb.CREATE))} - there
        self.dropped = {table for step in self.steps if (table := self.objects.table(step, Verb.DROP))}
        rows = [step for step in self.steps if step.verb in _ROW_VERBS]
        self.numbers = {step.id: number for number, step in enumerate(rows)}
        gone = {it.id for it in rows if it.verb is Verb.DELETE and it.target in self.dropped - there}
        self.gone_before = {it.id: it.count for it in rows if it.id in gone}
        return {it.id: self.stage(it, catalog) for it in rows if it.id not in gone and it.target not in made}

    def stage(self, step: Step, catalog: Catalog) -> Staged:
        return stage(self.session, catalog, self.plan, step, self.numbers[step.id], self.advance)

    def stage_late(self, step: Step) -> Staged:
        """Rows of a table that this transaction has made: nobody else sees it, so they are all new."""
        catalog = read_catalog(self.session)
        item = self.stage(step, catalog)
        judge(self.session, [item])
        if step.sensitive:
            self.secrets(self.session, catalog, item)
        return item
