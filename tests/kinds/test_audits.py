"""Audits: every change leaves a record, whoever makes it and however; planned, found again, repaired, taken back."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, summary

_OBJECTS = """
SELECT 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') FROM pg_proc p
 JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_|^information_schema$'
UNION ALL SELECT c.relkind::text, c.oid::regclass::text, concat_ws(' ', (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
   || a.attnotnull || a.attidentity::text, ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
   c.relacl::text, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid)) FROM pg_class c
 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_|^information_schema$'
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1, 2
"""
_IMAGES = """
CREATE TABLE images (id int PRIMARY KEY, path text NOT NULL, size int);
CREATE TABLE thumbs (id int PRIMARY KEY, image int REFERENCES images ON DELETE CASCADE, path text);
INSERT INTO images VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);
INSERT INTO thumbs VALUES (10, 1, 'x'), (20, 2, 'y');
"""
_BOTH = "audits:\n  mine: { tables: [production.images, production.thumbs], log: production.audit_log }\n"


class Audits(Bench):
    def objects(self) -> list[tuple[str, ...]]:
        return self.production.sql(_OBJECTS)

    def records(
        self, columns: str = "operation, table_name, key, old, new", log: str = "audit_log"
    ) -> list[tuple[Any, ...]]:
        return self.production.sql(f"SELECT {columns} FROM {log} ORDER BY id")

    def installed(self, spec: str = _BOTH) -> Plan:
        self.spec(spec)
        plan = self.plan()
        assert self.apply(plan).code is Exit.DONE
        return plan

    def whole_law(self, spec: str) -> Plan:
        """plan writes nothing → apply → plan is empty → again: all already → undo: as it was → apply: as it was to be."""
        self.spec(spec)
        before = self.objects()
        plan = self.plan()
        assert self.plan().path.read_bytes() == plan.path.read_bytes()
        assert self.objects() == before
        applied = self.apply(plan)
        assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
        assert counted(applied) == (plan.changes_count, 0)
        after = self.objects()
        assert summary(self.plan()) == {}
        assert counted(self.apply(plan)) == (0, plan.changes_count)
        assert self.objects() == after
        back = self.undo(plan)
        undone = self.apply(back)
        assert (undone.code, undone.converged, undone.remaining) == (Exit.DONE, True, ())
        assert self.objects() == before
        assert counted(self.apply(back)) == (0, plan.changes_count)
        assert counted(self.apply(self.undo(back))) == (plan.changes_count, 0)
        assert self.objects() == after
        return plan


def counted(applied: app.Applied) -> tuple[int, int]:
    return sum(step.applied for step in applied.steps), sum(step.already for step in applied.steps)


@pytest.fixture
def bench(bench: Bench) -> Audits:
    bench.production.sql(_IMAGES)
    return Audits(bench.folder, bench.production, bench.backup)


@pytest.mark.each_postgres
def test_an_audit_is_planned_applied_found_again_and_taken_back(bench: Audits) -> None:
    plan = bench.whole_law(_BOTH)
    targets = [step.target for step in plan.steps]
    assert targets[0] == "audit log public.audit_log"
    assert targets[-4:] == [
        f"audit trigger public.thumbs.reconciler_audit_{e}" for e in ("insert", "update", "delete", "truncate")
    ]
    assert sum(target.startswith("audit partition") for target in targets) == 5
