"""The command line alone: what is behind it is a double that remembers how it was called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reconciler import cli
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.file import Header, Plan, planned, read, write
from reconciler.plan.step import Change, Check, Step, Verb
from reconciler.systems.postgres.investigate import Investigation


@dataclass(frozen=True)
class Session:
    paths: tuple[Path, ...]
    variables: dict[str, str]
    connections: Path | None
    environ: dict[str, str]
    progress: object


@dataclass(frozen=True)
class StepOutcome:
    step_id: str
    applied: int = 0
    already: int = 0
    blocked: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Applied:
    steps: tuple[StepOutcome, ...] = ()
    notes: tuple[str, ...] = ()
    converged: bool | None = True
    remaining: tuple[str, ...] = ()
    code: Exit = Exit.DONE
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Status:
    address: str
    target: str = "production public.t"
    in_sync: int = 0
    missing: int = 0
    changed: int = 0
    extra: int = 0
    wrong: int = 0
    notes: tuple[str, ...] = ()
    failed: bool = False

    @property
    def differs(self) -> bool:
        return bool(self.missing or self.changed or self.wrong)


@dataclass(frozen=True)
class Node:
    table: str
    constraint: str | None = None
    action: str = ""
    columns: tuple[str, ...] = ()
    rows: int | None = None
    indexed: bool = True
    repeated: bool = False
    children: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Spec:
    warnings: tuple[ReconcilerError, ...] = ()
    addresses: tuple[str, ...] = ()

    def locate(self, *path: str | int) -> None:
        return None

    def resources(self) -> dict[str, None]:
        return dict.fromkeys(self.addresses)


@dataclass
class FakeApp:
    """What the commands call; `calls` remembers, the other fields are what it answers."""

    folder: Path
    keys: tuple[str, ...] = ("k1", "k2")
    error: BaseException | None = None
    applied: Applied = field(default_factory=Applied)
    statuses: tuple[Status, ...] = ()
    investigation: Investigation = field(
        default_factory=lambda: Investigation("public.audit_log", "supa_audit", None, 0, None, None, 0)
    )
    tree: Node = field(default_factory=lambda: Node("public.t"))
    spec: Spec = field(default_factory=lambda: Spec(addresses=("collections.t",)))
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])

    Session = Session

    def called(self, name: str) -> list[dict[str, Any]]:
        return [arguments for called, arguments in self.calls if called == name]

    def _note(self, name: str, **arguments: Any) -> None:
        self.calls.append((name, arguments))
        if self.error is not None:
            raise self.error

    def make(self, path: Path | None = None) -> Plan:
        step = Step("collections.t[public.t]/insert", "production", "public.t", Verb.INSERT, ("k",), {"k": "text"})
        changes = [Change(step.id, (key,), None, {"k": key}, "missing") for key in self.keys]
        header = Header(spec={"collections": {"t": {}}}, connections={"production": {"type": "postgres"}})
        return write(path or self.folder / "temporary.plan.jsonl", header, [planned(step, changes)] if changes else [])

    def load(self, session: Session) -> Spec:
        self._note("load", session=session)
        return self.spec

    def plan(self, session: Session, *, out: Path | None, only: object, exclude: object, now: object) -> Plan:
        self._note("plan", session=session, out=out, only=only, exclude=exclude, now=now)
        return self.make(out)

    def discard(self, plan: Plan) -> None:
        self._note("discard", plan=plan)

    def open_plan(self, path: Path) -> Plan:
        self._note("open_plan", path=path)
        return read(path)

    def apply(self, plan: Plan, session: Session, **options: object) -> Applied:
        self._note("apply", plan=plan, session=session, **options)
        return self.applied

    def undo(self, plan: Plan, out: Path | None, only_key: str | None = None) -> Plan:
        self._note("undo", plan=plan, out=out, only_key=only_key)
        return self.make(out)

    def status(self, session: Session) -> tuple[Status, ...]:
        self._note("status", session=session)
        return self.statuses

    def status_csv(self, session: Session, folder: Path) -> tuple[Path, ...]:
        self._note("status_csv", session=session, folder=folder)
        return (folder / "missing.csv",)

    def extract(self, session: Session, out: Path) -> tuple[str, ...]:
        self._note("extract", session=session, out=out)
        return ("3 rows of public.t",)

    def cascade(self, session: Session, connection_table: str) -> Node:
        self._note("cascade", session=session, table=connection_table)
        return self.tree

    def investigate(self, session: Session, connection: str, **options: object) -> Investigation:
        self._note("investigate", session=session, connection=connection, **options)
        return self.investigation

    def graph(self, session: Session) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        self._note("graph", session=session)
        return ("collections.a", "collections.b"), (("collections.a", "collections.b"),)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApp:
    """The double, in the place of the real one; the working folder is an empty one with specs/."""
    import reconciler

    (tmp_path / "work" / "specs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    fake = FakeApp(tmp_path)
    monkeypatch.setitem(sys.modules, "reconciler.app", fake)
    monkeypatch.setattr(reconciler, "app", fake, raising=False)
    return fake


@pytest.fixture
def run() -> Callable[..., Result]:
    """Call the command line."""

    def call(*args: str, stdin: str | None = None, **environ: str) -> Result:
        return CliRunner().invoke(cli.main, args, input=stdin, env={"RECONCILER_DEBUG": "", **environ})

    return call
