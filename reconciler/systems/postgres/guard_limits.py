"""Guards that stand in a database: how they are known, what they refuse, and their refusal in words.

In: the tables of a plan. Out: the limits of the guards that are awake on each, as their triggers' arguments tell them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import LiteralString, NamedTuple

import psycopg

from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.systems.postgres.session import Row, Session, lit, q

PREFIX = "reconciler_guard"
SQLSTATE = "RCG01"
"""Of a statement that a guard refuses."""


class Limits(NamedTuple):
    """What a guard refuses; `protect` is a condition over the table's columns, as the server spells it with all names qualified."""

    guard: str
    max_rows_per_delete: int | None = None
    max_rows_per_update: int | None = None
    no_truncate: bool = False
    protect: str | None = None

    def told(self) -> str:
        """As the argument of a trigger, to be read again from the catalog."""
        members = {name: value for name, value in self._asdict().items() if value not in (None, False)}
        return json.dumps(members, sort_keys=True)

    @property
    def events(self) -> dict[str, LiteralString]:
        """The triggers it needs."""
        made: dict[str, LiteralString] = {}
        if self.max_rows_per_delete is not None or self.protect:
            made["delete"] = "AFTER DELETE ON {} REFERENCING OLD TABLE AS old_rows"
        if self.max_rows_per_update is not None or self.protect:
            made["update"] = "AFTER UPDATE ON {} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"
        if self.max_rows_per_delete is not None or self.protect or self.no_truncate:
            made["truncate"] = "BEFORE TRUNCATE ON {}"
        return made


def standing(session: Session, tables: Sequence[int]) -> dict[int, list[Limits]]:
    """The guards that stand in the database and are awake, by table."""
    rows: list[Row] = session.rows(
        q("SELECT t.tgrelid::int8, t.tgargs FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid WHERE t.tgrelid = ANY(%s)"
          " AND starts_with(t.tgname, {p}) AND starts_with(f.proname, {p}) AND t.tgenabled IN ('O', 'A') ORDER BY t.tgname",
          p=lit(f"{PREFIX}_")), (list(tables),)
    )  # fmt: skip
    found: dict[int, dict[str, Limits]] = {}
    for oid, arguments in rows:
        try:
            limits = Limits(**json.loads(bytes(arguments).rstrip(b"\0")))
        except (ValueError, TypeError):
            continue  # a trigger of somebody else's
        found.setdefault(oid, {})[limits.guard] = limits
    return {oid: list(limits.values()) for oid, limits in found.items()}


def refused(error: psycopg.Error, connection: str) -> ReconcilerError:
    """What a guard said against a plan that does not pass it."""
    return ReconcilerError(
        f"a guard of the database refused this plan on {connection}; nothing was kept", why=error.diag.message_primary,
        todo="plan again: the new plan says that it passes the guard, and is reviewed", code=Exit.LIMIT,
    )  # fmt: skip
