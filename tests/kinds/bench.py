"""A production to repair and a backup to repair it from, and the law that every plan obeys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from textwrap import dedent, indent

from reconciler import app
from reconciler.plan.errors import Exit
from reconciler.plan.file import Plan
from reconciler.plan.step import Change
from tests.postgres import Database

Dump = dict[str, list[str]]

_HEAD = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
"""

_MOMENT = re.compile(r'"2[-0-9]{9} [:.0-9]{8,15}\+00"')
_ARCHIVES = """
SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns WHERE column_name = 'archived_at'
"""

# Constraints and indexes: what a dump of rows does not show.
_STRUCTURE = """
SELECT k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_|^information_schema$' AND k.contype <> 'n'
UNION SELECT pg_get_indexdef(i.indexrelid) || ' ' || i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' ORDER BY 1
"""


class Bench:
    def __init__(self, folder: Path, production: Database, backup: Database) -> None:
        self.folder = folder
        self.production = production
        self.backup = backup
        self.path = folder / "spec.yaml"
        self.environ: dict[str, str] = {"PRODUCTION_URL": production.dsn, "BACKUP_URL": backup.dsn}
        self._numbers = count(1)

    def both(self, text: str) -> None:
        """Run SQL on either side."""
        self.backup.sql(text)
        self.production.sql(text)

    def write(self, collections: str) -> None:
        """The spec: two connections and these collections."""
        self.spec("collections:\n" + indent(dedent(collections), "  "))

    def spec(self, sections: str) -> None:
        """The spec: two connections and these sections."""
        self.path.write_text(_HEAD + dedent(sections), "utf-8")

    def dump(self) -> Dump:
        """Every row of the production; when rows were archived is no part of how it is to be."""
        archives = {name for (name,) in self.production.sql(_ARCHIVES)}
        return {
            name: [_MOMENT.sub("", row) if name in archives else row for row in rows]
            for name, rows in self.production.dump().items()
        }

    def structure(self) -> list[str]:
        """Every constraint and index of the production."""
        return [row[0] for row in self.production.sql(_STRUCTURE)]

    def session(self, **environ: str) -> app.Session:
        return app.Session((self.path,), {}, None, {**self.environ, **environ})

    def plan(self, collections: str | None = None) -> Plan:
        if collections is not None:
            self.write(collections)
        return app.plan(self.session(), out=self.folder / f"{next(self._numbers)}.plan.jsonl")

    def apply(self, plan: Plan) -> app.Applied:
        return app.apply(app.open_plan(plan.path), self.session())

    def undo(self, plan: Plan) -> Plan:
        return app.undo(app.open_plan(plan.path), out=self.folder / f"{next(self._numbers)}.plan.jsonl")

    def law(self, collections: str | None = None, *, same: tuple[str, ...] = (), triggers: bool = False) -> Plan:
        """plan → apply → plan is empty → apply again: all already → undo: as it was → apply: as it was to be.

        `same` are tables that have to be the same on both sides then; with `triggers` only these are looked at, because
        what triggers write elsewhere is not undone.
        """
        before, structure = self.dump(), self.structure()
        source = self.backup.dump()
        plan = self.plan(collections)
        assert self.plan().path.read_bytes() == plan.path.read_bytes()
        assert self.dump() == before
        applied = self.apply(plan)
        assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
        assert sum(step.applied for step in applied.steps) == sum(step.count for step in plan.steps)
        assert summary(self.plan()) == {}
        after = self.dump()
        if same:
            wanted = self.backup.dump(*same)
            assert {
                name: (rows, wanted[name]) for name, rows in self.production.dump(*same).items() if rows != wanted[name]
            } == {}
        again = self.apply(plan)
        assert (sum(s.applied for s in again.steps), sum(s.already for s in again.steps)) == (
            0,
            sum(step.count for step in plan.steps),
        )
        assert self.dump() == after
        back = self.undo(plan)
        undone = self.apply(back)
        assert undone.code is Exit.DONE
        if not triggers:
            assert self.dump() == before
        assert self.structure() == structure
        assert self.apply(plan).code is Exit.DONE
        assert self.dump() == after
        assert self.backup.dump() == source
        return plan


def summary(plan: Plan) -> dict[str, int]:
    """Step id -> how many changes, sequences aside."""
    return {step.id: step.count for step in plan.steps if step.verb != "setval"}


def counts(plan: Plan) -> dict[str, int]:
    """`insert public.a` -> how many changes."""
    result: dict[str, int] = {}
    for step in plan.steps:
        name = f"{step.verb.value} {step.target}"
        result[name] = result.get(name, 0) + step.count
    return result


def changes(plan: Plan, verb: str, table: str) -> list[Change]:
    return [
        change
        for step in plan.steps
        if (step.verb.value, step.target) == (verb, table)
        for change in plan.changes(step)
    ]


def images(plan: Plan, verb: str, table: str) -> list[tuple[tuple[str, ...], Mapping[str, object] | None]]:
    """The key and after-image of each change."""
    return [(change.key, change.after) for change in changes(plan, verb, table)]
