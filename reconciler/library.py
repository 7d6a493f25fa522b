"""The library: what the command line does, for programs. Errors are `ReconcilerError`, with the exit code the command would leave with.

In: paths, variables, an environment (the process's own unless another is given). Out: plans and what was applied.
Invariant: nothing is printed, and a plan that was saved nowhere goes with the object that stands for it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from reconciler import app
from reconciler.app import Applied, Session
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Plan
from reconciler.spec import Spec

AnyPath: TypeAlias = "str | PathLike[str]"


@dataclass(frozen=True)
class Specs:
    """Specs that were read and are free of contradictions; `spec` is what they say."""

    spec: Spec
    session: Session

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every resource that is declared."""
        return tuple(self.spec.resources())


def load(
    *paths: AnyPath,
    variables: Mapping[str, str] | None = None,
    connections: AnyPath | None = None,
    environ: Mapping[str, str] | None = None,
) -> Specs:
    """Read specs without connecting to anything; without a path, `specs/`."""
    given = tuple(Path(path) for path in paths) or (Path("specs"),)
    session = Session(given, dict(variables or {}), Path(connections) if connections else None, _environ(environ))
    return Specs(app.load(session), session)


def plan(
    specs: Specs,
    *,
    out: AnyPath | None = None,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    now: str | None = None,
) -> Plan:
    """Read the world and find what would change. Nothing is written but `out`."""
    made = app.plan(specs.session, out=Path(out) if out else None, only=only, exclude=exclude, now=now)
    return made if out else _passing(made)


def open_plan(path: AnyPath) -> Plan:
    """A saved plan; one that was edited is refused."""
    return app.open_plan(Path(path))


def apply(
    plan: Plan | AnyPath,
    specs: Specs | None = None,
    *,
    id: str | None = None,
    rehearse: bool = False,
    lock_timeout: str = "10s",
    statement_timeout: str = "0",
    connections: AnyPath | None = None,
    environ: Mapping[str, str] | None = None,
) -> Applied:
    """Carry out exactly this plan, and say what was done and whether anything is left; `id` refuses any other plan.

    A plan has its spec within; `specs`, where it is given, says where relative paths start and how the environment is.
    """
    opened = plan if isinstance(plan, Plan) else open_plan(plan)
    if id is not None and opened.id != id:
        raise ReconcilerError(f"this is plan {opened.id}, not {id}", todo="find the plan that was reviewed")
    session = specs.session if specs else Session((), {}, Path(connections) if connections else None, _environ(environ))
    return app.apply(opened, session, rehearse=rehearse, lock_timeout=lock_timeout, statement_timeout=statement_timeout)


def undo(plan: Plan | AnyPath, *, out: AnyPath | None = None, only_key: str | None = None) -> Plan:
    """The plan that takes this one back, to be reviewed and applied like any other."""
    opened = plan if isinstance(plan, Plan) else open_plan(plan)
    made = app.undo(opened, Path(out) if out else None, only_key=only_key)
    return made if out else _passing(made)


def _environ(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return dict(os.environ if environ is None else environ)


def _passing(made: Plan) -> Plan:
    """Its file goes when nobody holds the plan any more."""
    weakref.finalize(made, Path.unlink, made.path, missing_ok=True)
    return made
