"""`http` connections: an address that requests go to, and the headers that let them in."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from reconciler.spec.credentials import is_name_of_secret
from reconciler.spec.models import Strict
from reconciler.spec.problems import Problems
from reconciler.spec.references import EnvironmentReference, parts
from reconciler.spec.storages import is_address
from reconciler.spec.values import Path


class HttpSpec(Strict):
    """A server that processes call."""

    http: Annotated[str, Field(min_length=1)] = Field(
        description="Its address; a process may add a path.", examples=["${env:HOOK_URL}"]
    )
    headers: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict[str, str],
        description="Headers of every request; their secrets come from the environment.",
        examples=[{"Authorization": "Bearer ${env:HOOK_TOKEN}"}],
    )
    description: str | None = Field(None, description="What it is, for readers.")


_SCHEME = re.compile(r"\s*(?:[A-Za-z][A-Za-z-]{0,15}\s+)?")


def _written_out(text: str) -> bool:
    """Whether more stands there than references without a default, after a word such as Bearer."""
    found = list(parts(text))
    literal = "".join(part for part in found if isinstance(part, str))
    references = [part for part in found if isinstance(part, EnvironmentReference)]
    return not references or any(part.default for part in references) or not _SCHEME.fullmatch(literal)


def report_http(spec: HttpSpec, at: Path, problems: Problems) -> None:
    """Note an address that is none, and secrets that are written out."""
    if "${" not in spec.http and not is_address(spec.http):
        problems.add("`http` is no address", (*at, "http"), todo='write https://…, or "${env:NAME}"')
    for name, text in spec.headers.items():
        if is_name_of_secret(name) and _written_out(text):
            problems.add(
                f"the header {name} holds a secret",
                (*at, "headers", name),
                why="a spec is committed and reviewed, and stands in every plan",
                todo='write "${env:NAME}" and set NAME in the environment or in a .env file that is not committed',
            )
