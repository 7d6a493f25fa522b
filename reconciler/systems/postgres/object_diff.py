"""Declared statements against the objects a database has: what is to be created, altered or dropped.

In: the statements of every resource on one connection. Out: for each resource its changes in order, counts, notes and risks.
Invariant: nothing is run in the real schema; what is tried is tried for temporary objects and taken back. This happens before
the planning transaction is made read only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import psycopg

from reconciler.plan.declared import signature
from reconciler.plan.errors import Location, ReconcilerError
from reconciler.plan.file import Planned, planned
from reconciler.plan.lexis import Malformed
from reconciler.plan.names import quote, split_dotted
from reconciler.plan.order import Edge
from reconciler.plan.statements import ROUTINES, Statement, one_statement
from reconciler.plan.step import Change, Hazard, Image, Step, Verb
from reconciler.systems.postgres import routines
from reconciler.systems.postgres.objects import KINDS, instead, unlike_columns
from reconciler.systems.postgres.risks import lock_kind
from reconciler.systems.postgres.routines import NOT_YET, Routine
from reconciler.systems.postgres.session import Session, explain, scrub


class Declared(NamedTuple):
    """The statements of one resource; `place` gives the location of a character of their file."""

    address: str
    connection: str
    file: str
    statements: tuple[Statement, ...]
    place: Callable[[int], Location]
    replace: bool = False
    protect: bool = False


class ObjectChange(NamedTuple):
    verb: Verb
    kind: str
    name: str
    before: Image | None
    after: Image | None
    reason: str


@dataclass
class ObjectsFound:
    """One resource beside the database."""

    declared: Declared
    changes: list[ObjectChange] = field(default_factory=list[ObjectChange])
    in_sync: int = 0
    notes: list[str] = field(default_factory=list[str])
    hazards: list[Hazard] = field(default_factory=list[Hazard])

    def count(self, verb: Verb) -> int:
        return sum(change.verb is verb for change in self.changes)

    def tables(self) -> set[str]:
        """The tables that come to be."""
        return {it.name for it in self.changes if it.kind == "table" and it.verb is Verb.CREATE}

    def steps(self) -> tuple[list[Planned], list[Edge]]:
        """A step for each object, in the order of the file."""
        made: list[Planned] = []
        for it in self.changes:
            target = f"{it.kind} {it.name}"
            step_id = f"{self.declared.address}[{target}]/{it.verb.value}"
            step = Step(
                step_id, self.declared.connection, target, it.verb, key=("kind", "name"), columns={"sql": "text"}
            )
            made.append(planned(step, [Change(step_id, (it.kind, it.name), it.before, it.after, it.reason)]))
        ids = [item.step.id for item in made]
        return made, list(pairwise(ids))


def compare(session: Session, resources: Sequence[Declared]) -> list[ObjectsFound]:
    """Every resource on one connection; they are looked at together, for one may need what another creates."""
    with session.public_first():
        absent = {
            (statement.kind, statement.identity)
            for resource in resources
            for statement in resource.statements
            if not _is_there(session, statement)
        }
        seen: dict[tuple[str, str], tuple[Declared, Statement]] = {}
        return [_compare(session, resource, absent, seen) for resource in resources]


def _is_there(session: Session, statement: Statement) -> bool:
    """Whether there is anything of that kind and name, whatever its arguments."""
    if statement.kind in ROUTINES:
        return bool(routines.existing(session, statement.name.schema or "public", statement.name.name))
    return KINDS[statement.kind].now(session, statement.identity) is not None


@dataclass
class _Looking:
    """One resource being looked at; `absent` are the kinds and names of all that is still to be created."""

    session: Session
    found: ObjectsFound
    absent: set[tuple[str, str]]

    @property
    def declared(self) -> Declared:
        return self.found.declared

    def error(self, statement: Statement, what: str, *, why: str | None = None, todo: str | None = None, at: int = 0,
              details: tuple[str, ...] = ()) -> ReconcilerError:  # fmt: skip
        where = self.declared.place(statement.offset + at)
        return ReconcilerError(f"{self.declared.address}: {what}", where=where, why=why, todo=todo, details=details)

    def change(self, verb: Verb, kind: str, name: str, before: str | None, after: str | None, reason: str) -> None:
        if self.declared.protect and verb is not Verb.CREATE:
            text = f"{kind} {name}: to {verb.value} it is blocked, it is protected and left"
            self.found.hazards.append(Hazard("blocked", self.declared.address, text, 1))
            return
        was, will_be = (None if sql is None else {"sql": sql} for sql in (before, after))
        self.found.changes.append(ObjectChange(verb, kind, name, was, will_be, reason))


def _compare(
    session: Session,
    declared: Declared,
    absent: set[tuple[str, str]],
    seen: dict[tuple[str, str], tuple[Declared, Statement]],
) -> ObjectsFound:
    looking = _Looking(session, ObjectsFound(declared), absent)
    wanted: list[tuple[Statement, Routine | None]] = []
    for statement in declared.statements:
        _parse(looking, statement)
        routine = _normalised(looking, statement) if statement.kind in ROUTINES else None
        key = ("routine", routine.identity) if routine else (statement.kind, statement.identity)
        if key in seen:
            other, first = seen[key]
            raise looking.error(
                statement, f"{statement.kind} {key[1]} is created twice", todo="keep one of the statements",
                details=(f"first at {other.place(first.offset)} ({other.address})",),
            )  # fmt: skip
        seen[key] = (declared, statement)
        wanted.append((statement, routine))
    identities = {routine.identity for _, routine in wanted if routine}
    dropped: set[str] = set()
    for statement, routine in wanted:
        if routine is None:
            _named(looking, statement)
        else:
            _routine(looking, statement, routine, identities, dropped)
    return looking.found


def _parse(looking: _Looking, statement: Statement) -> None:
    """Have the server's grammar read the statement; it refuses what is no single statement."""
    try:
        with looking.session.undone():
            looking.session.parse(statement.text)
    except (psycopg.errors.SyntaxError, psycopg.errors.InvalidName) as error:
        at = int(error.diag.statement_position or 1) - 1
        raise looking.error(
            statement, f"the server does not understand this CREATE {statement.kind.upper()}", why=scrub(error.diag.message_primary or ""),
            at=at,
        ) from None  # fmt: skip
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return  # a query within it may read what is still to be created: the grammar has passed it


def _named(looking: _Looking, statement: Statement) -> None:
    """An object that is created when absent, and never altered."""
    session, kind, name = looking.session, statement.kind, statement.identity
    if KINDS[kind].now(session, name) is not None:
        looking.found.in_sync += 1
        if kind == "table" and (unlike := unlike_columns(session, name, statement)):
            looking.found.notes.append(f"table {name} is left as it is, and its columns differ: {'; '.join(unlike)}")
        return
    if other := instead(session, kind, name):
        raise looking.error(
            statement, f"{name} is a {other}, not a {kind}", todo="give one of them another name, or drop what is there"
        )
    looking.change(Verb.CREATE, kind, name, None, statement.text, "missing")
    if kind != "index" or not statement.on:
        return
    for (rows,) in session.rows(
        "SELECT greatest(c.reltuples, 0)::int8 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        (statement.on.schema, statement.on.name),
    ):
        text = f"{statement.on} takes no writes while index {name} is built"
        looking.found.hazards.append(Hazard(lock_kind(rows, online=False), looking.declared.address, text, rows))


def _normalised(looking: _Looking, statement: Statement) -> Routine:
    """What the server would make of a routine; where it needs what is still to be created, its words as they stand."""
    there = _is_there(looking.session, statement)
    name = f"{statement.kind} {statement.identity}"
    try:
        return routines.normalised(looking.session, statement)
    except NOT_YET as error:
        if _comes_with_this_plan(looking, statement, error):
            return Routine(statement.kind, signature(statement), "")
        why = error.diag.message_primary
        raise looking.error(
            statement, f"{name} cannot be created", why=why, todo="create what it needs first, in this file or before it",
            at=_inside(statement, error),
        ) from None  # fmt: skip
    except psycopg.errors.InsufficientPrivilege as error:
        if not there:
            return Routine(statement.kind, signature(statement), "")
        raise looking.error(
            statement, f"{name} cannot be compared with what {looking.session.name} has", why=error.diag.message_primary,
            todo="grant it to the role that plans: TEMP on the database, USAGE on the language and on the schemas of its types",
        ) from None  # fmt: skip
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        why = scrub(error.diag.message_primary or "")
        raise looking.error(statement, f"{name} cannot be created", why=why, at=_inside(statement, error)) from None


def _comes_with_this_plan(looking: _Looking, statement: Statement, error: psycopg.Error) -> bool:
    """Whether what the server misses may be something that this plan creates: by its name, or out of an extension."""
    said = error.diag.message_primary or ""
    others = looking.absent - {(statement.kind, statement.identity)}
    names = [re.escape(split_dotted(name)[-1]) for _, name in others]
    return any(kind == "extension" for kind, _ in others) or bool(
        names and re.search(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", said)
    )


def _inside(statement: Statement, error: psycopg.Error) -> int:
    """Where in the statement the server sees the error; it was shown one with OR REPLACE and another name."""
    shown = statement.renamed(f"pg_temp.{quote(statement.name.name)}")
    at = int(error.diag.statement_position or 1) - 1 - (len(shown) - len(statement.text))
    return at if statement.span[1] <= at < len(statement.text) else 0


def _routine(looking: _Looking, statement: Statement, wanted: Routine, identities: set[str], dropped: set[str]) -> None:
    """Created when absent, replaced where the definition differs; another signature is another routine."""
    session = looking.session
    now = routines.find(session, wanted.identity)
    if now is None:
        others = [it for it in routines.existing(session, statement.name.schema or "public", statement.name.name)
                  if it.identity not in identities | dropped]  # fmt: skip
        if others:
            dropped |= {it.identity for it in others}
            if not _drop(looking, statement, others, f"has other arguments: {', '.join(it.identity for it in others)}"):
                return
        looking.change(Verb.CREATE, statement.kind, wanted.identity, None, statement.text, "missing")
        return
    if now.definition == wanted.definition:
        looking.found.in_sync += 1
        return
    _refuse_foreign(looking, statement, now)
    if why := _not_replaceable(looking, statement, wanted, now):
        if _drop(looking, statement, [now], f"cannot be replaced ({why})"):
            looking.change(Verb.CREATE, statement.kind, wanted.identity, None, statement.text, "signature differs")
        return
    # In the server's own words where it can be: a reviewer sees what differs and nothing else.
    sql = wanted.definition or statement.replacing()
    looking.change(Verb.ALTER, statement.kind, wanted.identity, now.definition, sql, "definition differs")


def _not_replaceable(looking: _Looking, statement: Statement, wanted: Routine, now: Routine) -> str | None:
    if now.word != statement.kind:
        return f"it is a {now.word}"
    if not wanted.definition:
        return None
    try:
        return routines.replaceable(looking.session, now.definition, statement)
    except psycopg.errors.InsufficientPrivilege as error:
        raise explain(error, f"comparing {now.word} {now.identity}", looking.session.name) from None


def _drop(looking: _Looking, statement: Statement, others: Sequence[Routine], how: str) -> bool:
    """What has another signature goes only where the spec says so; False where it is protected."""
    if not looking.declared.replace:
        raise looking.error(
            statement, f"{statement.kind} {statement.identity} {how}",
            why="with another signature it is another function, and what uses the one that is there stays with it",
            todo="say replace: true to drop what is there, or give the new one another name",
        )  # fmt: skip
    for other in others:
        _refuse_foreign(looking, statement, other)
        if users := routines.users(looking.session, other.identity):
            raise looking.error(
                statement, f"{other.word} {other.identity} cannot be dropped: something uses it", details=tuple(users[:20]),
                todo="give the new one another name, or take away what uses the old one first",
            )  # fmt: skip
        looking.change(Verb.DROP, other.word, other.identity, other.definition, None, "signature differs")
        text = f"{other.word} {other.identity} is dropped: its owner, grants and comment go with it, and undo does not bring them back"
        if not looking.declared.protect:
            looking.found.hazards.append(Hazard("drop", looking.declared.address, text))
    return not looking.declared.protect


def _refuse_foreign(looking: _Looking, statement: Statement, there: Routine) -> None:
    """What belongs to an extension, or is code in a file, is not ours to change."""
    if there.extension:
        raise looking.error(
            statement, f"{there.word} {there.identity} belongs to the extension {there.extension}",
            todo="give yours another name or schema",
        )  # fmt: skip
    try:
        one_statement(there.definition)
    except Malformed as error:
        raise looking.error(
            statement,
            f"{there.word} {there.identity} cannot be replaced",
            why=error.what,
            todo="give yours another name",
        ) from None
