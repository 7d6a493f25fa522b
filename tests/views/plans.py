"""Plans for the tests of views, made by the plan's own writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from reconciler.plan.file import Header, Plan, planned, write
from reconciler.plan.step import Change, Image, Step, Verb

PRODUCTION: Mapping[str, Mapping[str, str]] = {"production": {"type": "postgres"}}
NASTY = "</details><script>alert(1)</script> `x` | @everyone [a](http://evil.example) \n\u202e\x1b[31m ```\n# h"


Row = tuple[tuple[str, ...], Image | None, Image | None]


def step(
    verb: Verb,
    target: str = "public.documents",
    *,
    address: str = "collections.documents",
    connection: str = "production",
    key: tuple[str, ...] = ("uri",),
    columns: Mapping[str, str] | None = None,
    needs: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    together: str | None = None,
    triggers: str = "fire",
) -> Step:
    """A step on `public.documents` unless told otherwise."""
    return Step(
        id=f"{address}[{target}]/{verb.value}",
        connection=connection,
        target=target,
        verb=verb,
        key=key,
        columns=columns if columns is not None else {"uri": "text", "data": "jsonb", "n": "integer"},
        needs=needs,
        notes=notes,
        together=together,
        triggers=triggers,
    )


def make(path: Path, steps: Iterable[tuple[Step, Iterable[Row]]], header: Header | None = None) -> Plan:
    """A plan of these steps and changes; a change's reason follows from its images."""
    return write(
        path / "x.plan.jsonl",
        header or Header(connections=PRODUCTION),
        [planned(it, [_change(it, *row) for row in rows]) for it, rows in steps],
    )


def _change(it: Step, key: tuple[str, ...], before: Image | None, after: Image | None) -> Change:
    reason = "missing" if before is None else "extra" if after is None else "differs"
    return Change(it.id, key, before, after, reason)


def inserts(keys: Iterable[str]) -> list[Row]:
    """Rows to insert, with these keys."""
    return [((key,), None, {"uri": key, "data": '{"a": 1}', "n": None}) for key in keys]
