"""The public names: `from reconciler import load, plan, apply, undo`.

Nothing behind them is imported before it is used, so that `reconciler --help` stays quick. `reconciler.plan` is a function to those who
call it and the package of that name to those who import from it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.app import Applied
    from reconciler.library import Specs, apply, load, open_plan, plan, undo
    from reconciler.plan.errors import Drift, Exit, ReconcilerError
    from reconciler.plan.file import Plan

__all__ = [
    "Applied",
    "Drift",
    "Exit",
    "Plan",
    "ReconcilerError",
    "Specs",
    "apply",
    "load",
    "open_plan",
    "plan",
    "undo",
]

_PLACES = {
    "Applied": "reconciler.app",
    "Drift": "reconciler.plan.errors",
    "Exit": "reconciler.plan.errors",
    "Plan": "reconciler.plan.file",
    "ReconcilerError": "reconciler.plan.errors",
    **dict.fromkeys(("Specs", "apply", "load", "open_plan", "undo"), "reconciler.library"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)


class _Callable(ModuleType):
    """The package `reconciler.plan`, which may be called as well."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        from reconciler import library

        return library.plan(*args, **named)


def _make_callable() -> None:
    from importlib import import_module

    import_module("reconciler.plan").__class__ = _Callable


_make_callable()
