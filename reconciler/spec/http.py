"""`http` connections: an address that requests go to, and the headers that let them in."""

from __future__ import annotations

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


def report_http(spec: HttpSpec, at: Path, problems: Problems) -> None:
    """Note an address that is none, and secrets that are written out."""
    if "${" not in spec.http and not is_address(spec.http):
        problems.add("`http` is no address", (*at, "http"), todo='write https://…, or "${env:NAME}"')
    for name, text in spec.headers.items():
        secret = is_name_of_secret(name)
        if secret and not any(isinstance(part, EnvironmentReference) for part in parts(text)):
            problems.add(
                f"the header {name} holds a secret",
                (*at, "headers", name),
                why="a spec is committed and reviewed, and stands in every plan",
                todo='write "${env:NAME}" and set NAME in the environment or in a .env file that is not committed',
            )
