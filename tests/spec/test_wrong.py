"""Every mistake is answered at its place with what to do."""

from __future__ import annotations

import pytest

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from tests.spec.conftest import Loader
from tests.spec.wrong import (
    AUDITS,
    CASCADES,
    COLLECTIONS,
    CONNECTIONS,
    GUARDS,
    HEAD,
    OBJECTS,
    RECORDS,
    SQL,
    SYNTAX,
    TOP,
)

ALL = [*SYNTAX, *TOP, *CONNECTIONS, *COLLECTIONS, *CASCADES, *OBJECTS, *AUDITS, *GUARDS, *RECORDS, *SQL]


@pytest.mark.parametrize(("text", "said", "place"), ALL, ids=[f"{said} @{place}" for _, said, place in ALL])
def test_is_told(load_text: Loader, text: str, said: str, place: str) -> None:
    with pytest.raises(ReconcilerError) as raised:
        load_text(HEAD + text if text.startswith("\n") else text)
    errors = raised.value.errors if isinstance(raised.value, SpecErrors) else (raised.value,)
    rendered = [error.render() for error in errors]
    about = [error for error, shown in zip(errors, rendered, strict=True) if said in shown]
    assert about, "\n".join(rendered)
    places = [f"{error.where.line}:{error.where.column}" for error in about if isinstance(error.where, Location)]
    assert place in places, "\n".join(rendered)
