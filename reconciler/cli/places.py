"""Where resources stand in the specs, for what is shown beside a spec: SARIF and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors

if TYPE_CHECKING:
    from reconciler.app import Session


def errors_of(error: ReconcilerError) -> list[ReconcilerError]:
    """Each of several errors, its file named relative to the working directory."""
    for it in error.errors if isinstance(error, SpecErrors) else (error,):
        if isinstance(it.where, Location):
            it.where = relative(it.where)
    return list(error.errors if isinstance(error, SpecErrors) else (error,))


def places(session: Session) -> Mapping[str, Location]:
    """The place of every resource by its address; none where the specs cannot be read."""
    from reconciler import app

    try:
        spec = app.load(session)
    except ReconcilerError:
        return {}
    found = {address: spec.locate(*address.split(".", 1)) for address in spec.resources()}
    return {address: relative(place) for address, place in found.items() if place}


def relative(place: Location) -> Location:
    """The file from the working directory, with slashes; of a file elsewhere its name alone."""
    path = Path(place.file)
    if path.is_absolute():
        here = Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else Path(path.name)
    return replace(place, file=path.as_posix())
