"""Connections to buckets of objects, as they are written: a Supabase project, or a folder that stands in for one."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import Field

from reconciler.spec.models import Strict
from reconciler.spec.problems import Problems
from reconciler.spec.values import Path

_ADDRESS = re.compile(r"https?://[^\s/?#]+(?:/[^\s?#]*)?", re.IGNORECASE)
ADDRESS_TODO = 'write https://<project>.supabase.co, or "${env:SUPABASE_URL}"'


class SupabaseSpec(Strict):
    """The storage of a Supabase project."""

    supabase: Annotated[str, Field(min_length=1)] = Field(
        description="The project's address.", examples=["${env:SUPABASE_URL}"]
    )
    key: Annotated[str, Field(min_length=1)] = Field(
        description="Its service role's key, or a secret key, from the environment; any other sees only part of the objects.",
        examples=["${env:SUPABASE_SERVICE_ROLE_KEY}"],
    )
    postgres: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="The address of the project's database: objects are then listed by SQL, which is faster.",
        examples=["${env:DATABASE_URL}"],
    )
    description: str | None = Field(None, description="What it is, for readers.")


class DirectorySpec(Strict):
    """A folder that stands in for a storage."""

    directory: Annotated[str, Field(min_length=1)] = Field(
        description="A folder; each subfolder is a bucket. A relative path stands against the spec's folder.",
        examples=["./media"],
    )
    description: str | None = Field(None, description="What it is, for readers.")


def is_address(text: str) -> bool:
    """Whether this could be a project's."""
    return _ADDRESS.fullmatch(text) is not None


def report_supabase(spec: SupabaseSpec, at: Path, looks_like_dsn: bool, problems: Problems) -> None:
    """Note what a connection to a project says against itself; `looks_like_dsn`: of what stands as `postgres`."""
    if "${" not in spec.supabase and not is_address(spec.supabase):
        problems.add("`supabase` is no address of a project", (*at, "supabase"), todo=ADDRESS_TODO)
    if spec.postgres == "embedded":
        why = "it is the database that lists the project's objects, and an embedded one knows none"
        problems.add(
            "`postgres` cannot be embedded here", (*at, "postgres"), why=why, todo='write "${env:DATABASE_URL}"'
        )
    elif spec.postgres is not None and "${" not in spec.postgres and not looks_like_dsn:
        problems.add("`postgres` is no PostgreSQL address", (*at, "postgres"), todo='write "${env:DATABASE_URL}"')


def report_folder(path: str, at: Path, problems: Problems) -> None:
    """Note a folder that cannot be meant, or that holds on one machine only."""
    if path.startswith("~"):
        problems.add("`~` is not expanded", at, todo="write ${env:HOME} instead")
    elif PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        todo = "write it relative to the folder of the spec, or as ${env:NAME}"
        problems.warn("this path stands in every plan and holds on one machine only", at, todo=todo)
