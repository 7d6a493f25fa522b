"""Every mistake is answered at its place with what to do."""

from __future__ import annotations

from typing import cast

import pytest

from reconciler.plan.errors import Location, ReconcilerError, SpecErrors
from tests.spec import wrong
from tests.spec.conftest import Loader
from tests.spec.wrong import HEAD

Case = tuple[str, str, str]
LISTS = cast("dict[str, object]", vars(wrong))
ALL = [
    case
    for name, cases in sorted(LISTS.items())
    if name.isupper() and isinstance(cases, list)
    for case in cast("list[Case]", cases)
]


@pytest.mark.parametrize(("text", "said", "place"), ALL, ids=[f"{said} @{place}" for _, said, place in ALL])
def test_is_told(load_text: Loader, text: str, said: str, place: str) -> None:
    with pytest.raises(ReconcilerError) as raised:
        load_text(HEAD + text if text.startswith("\n") else text)
    errors = raised.value.errors if isinstance(raised.value, SpecErrors) else (raised.value,)
    rendered = [error.render() for error in errors]
    assert "canary" not in "".join(rendered)
    about = [error for error, shown in zip(errors, rendered, strict=True) if said in shown]
    assert about, "\n".join(rendered)
    places = [f"{error.where.line}:{error.where.column}" for error in about if isinstance(error.where, Location)]
    assert place in places, "\n".join(rendered)
