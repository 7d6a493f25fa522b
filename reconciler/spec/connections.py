"""`connections`: how a spec names access to a system, and what that becomes once the environment is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from reconciler.plan.errors import Location, ReconcilerError
from reconciler.spec.environment import Environment
from reconciler.spec.http import HttpSpec
from reconciler.spec.models import Strict
from reconciler.spec.problems import Problems
from reconciler.spec.references import EnvironmentReference, VariableReference, parts
from reconciler.spec.storages import ADDRESS_TODO, DirectorySpec, SupabaseSpec, is_address
from reconciler.spec.values import Path as Path_

TYPES = ("postgres", "files", "atproto", "supabase", "directory", "http")


class PostgresSpec(Strict):
    """A PostgreSQL database."""

    postgres: Annotated[str, Field(min_length=1)] = Field(
        description="A URI or keyword=value string as psql takes it, with its password from the environment: "
        '"${env:DATABASE_URL}". Or `embedded`: a PostgreSQL that reconciler starts under .reconciler/.',
        examples=["${env:DATABASE_URL}", "embedded"],
    )
    description: str | None = Field(None, description="What it is, for readers.")


class FilesSpec(Strict):
    """Rows kept in files; they can be a source, never a target."""

    files: Annotated[str, Field(min_length=1)] = Field(
        description="A folder of <table>.jsonl, .json or .csv, or one JSON file that maps names to lists of rows. "
        "A relative path stands against the spec's folder.",
        examples=["backup-data", "data.json"],
    )
    tables: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict[str, str],
        description="Where a table has another name in the files: table (as in SQL) to that name.",
        examples=[{"documents_in_publications": "documentsInPublications"}],
    )
    description: str | None = Field(None, description="What it is, for readers.")


class AtprotoSpec(Strict):
    """A repo on a PDS of the AT Protocol."""

    atproto: Annotated[str, Field(min_length=1)] = Field(
        description="A handle or DID, whose PDS is looked up; or the address of a PDS, with `identifier`.",
        examples=["alice.example.com", "did:plc:abc"],
    )
    identifier: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The handle or DID, where `atproto` is the address of a PDS."
    )
    password: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description='An app password, from the environment: "${env:PDS_APP_PASSWORD}". Planning needs none.',
        examples=["${env:PDS_APP_PASSWORD}"],
    )
    plc: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The address of another directory of DIDs than the public one."
    )
    via: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The address of an app's XRPC proxy, which writes go through under `token`."
    )
    token: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="The proxy's token, from the environment.", examples=["${env:PDS_PROXY_TOKEN}"]
    )
    directory: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A folder that stands in for the PDS of the DID in `atproto`: a record is COLLECTION/RKEY.json, a blob is blobs/CID.",
    )
    description: str | None = Field(None, description="What it is, for readers.")


ConnectionSpec: TypeAlias = PostgresSpec | FilesSpec | AtprotoSpec | SupabaseSpec | DirectorySpec | HttpSpec


class Secret:
    """Text that only `reveal()` gives away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, format_spec: str) -> str:
        return format("***", format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not written down")


@dataclass(frozen=True)
class PostgresConnection:
    """`dsn` is empty where the database is the embedded one."""

    name: str
    dsn: Secret
    embedded: bool


@dataclass(frozen=True)
class FilesConnection:
    """`path` is absolute; `tables` maps a table's name, as written, to its name in the files."""

    name: str
    path: Path
    tables: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class AtprotoConnection:
    """`identifier` is a handle or DID; `pds` is None where it is looked up."""

    name: str
    identifier: str
    pds: str | None = None
    password: Secret | None = None
    plc: str | None = None
    via: str | None = None
    token: Secret | None = None
    directory: Path | None = None


@dataclass(frozen=True)
class SupabaseConnection:
    """`dsn` is that of the project's database, where objects are listed by SQL."""

    name: str
    url: str
    key: Secret
    dsn: Secret | None = None


@dataclass(frozen=True)
class DirectoryConnection:
    """`path` is absolute; each of its subfolders is a bucket."""

    name: str
    path: Path


@dataclass(frozen=True)
class HttpConnection:
    """A server to send requests to; the headers may be secrets."""

    name: str
    url: str
    headers: Mapping[str, Secret] = field(default_factory=dict[str, Secret])


ResolvedConnection: TypeAlias = (
    PostgresConnection | FilesConnection | AtprotoConnection | SupabaseConnection | DirectoryConnection | HttpConnection
)

_PASSWORD_BEFORE = re.compile(r"://[^\s/@]*:$")
_UNSAFE_IN_URI = re.compile(r"[@/?#\s:]|%(?![0-9A-Fa-f]{2})")
_DSN = re.compile(r"postgres(?:ql)?://|\s*\w+\s*=", re.IGNORECASE)


def resolve(
    name: str, spec: ConnectionSpec, environment: Environment, base: Path, where: Location | str | None
) -> ResolvedConnection:
    """The connection with the environment's values; what is not set is an error saying which variable."""
    match spec:
        case PostgresSpec():
            dsn = _expanded(name, spec.postgres, environment, where)
            if dsn == "embedded":
                return PostgresConnection(name, Secret(""), embedded=True)
            if not _DSN.match(dsn):
                raise ReconcilerError(
                    f"connection {name} is no PostgreSQL address", where=where, why=_why(dsn), todo=DSN_TODO
                )
            return PostgresConnection(name, Secret(dsn), embedded=False)
        case FilesSpec():
            path = _expanded(name, spec.files, environment, where)
            tables = {table: _expanded(name, text, environment, where) for table, text in spec.tables.items()}
            return FilesConnection(name, (base / path).absolute(), MappingProxyType(tables))
        case AtprotoSpec():
            return _atproto(name, spec, environment, base, where)
        case SupabaseSpec():
            return _supabase(name, spec, environment, where)
        case DirectorySpec():
            path = _expanded(name, spec.directory, environment, where)
            return DirectoryConnection(name, (base / path).absolute())
        case HttpSpec():
            url = _expanded(name, spec.http, environment, where)
            if not is_address(url):
                todo = "write https://…, without a password in it"
                raise ReconcilerError(f"connection {name} is no address of a server", where=where, todo=todo)
            headers = {it: Secret(_expanded(name, text, environment, where)) for it, text in spec.headers.items()}
            return HttpConnection(name, url, headers)


def type_of(spec: ConnectionSpec) -> str:
    """The word that says which type a connection is of."""
    match spec:
        case PostgresSpec():
            return "postgres"
        case FilesSpec():
            return "files"
        case AtprotoSpec():
            return "atproto"
        case SupabaseSpec():
            return "supabase"
        case DirectorySpec():
            return "directory"
        case HttpSpec():
            return "http"


def _supabase(
    name: str, spec: SupabaseSpec, environment: Environment, where: Location | str | None
) -> SupabaseConnection:
    url = _expanded(name, spec.supabase, environment, where)
    if not is_address(url):
        raise ReconcilerError(f"connection {name} is no address of a project", where=where, todo=ADDRESS_TODO)
    dsn = None if spec.postgres is None else _expanded(name, spec.postgres, environment, where)
    if dsn is not None and (dsn == "embedded" or not _DSN.match(dsn)):
        raise ReconcilerError(
            f"`postgres` of the connection {name} is no PostgreSQL address", where=where, why=_why(dsn), todo=DSN_TODO
        )
    key = Secret(_expanded(name, spec.key, environment, where))
    return SupabaseConnection(name, url, key, None if dsn is None else Secret(dsn))


def _atproto(
    name: str, spec: AtprotoSpec, environment: Environment, base: Path, where: Location | str | None
) -> AtprotoConnection:
    """Secrets that nothing is set for are left out: planning needs none, and whoever does says so."""

    def read(text: str | None) -> str | None:
        return None if text is None else _expanded(name, text, environment, where)

    def secret(text: str | None) -> Secret | None:
        if text is None:
            return None
        names = [part for part in parts(text) if isinstance(part, EnvironmentReference)]
        if any(not (environment.get(part.name) or part.default) for part in names):
            return None
        return Secret(_expanded(name, text, environment, where))

    account = _expanded(name, spec.atproto, environment, where)
    is_url = account.startswith(("http://", "https://"))
    identifier = read(spec.identifier)
    if is_url and identifier is None:
        raise ReconcilerError(
            f"connection {name} lacks `identifier`", where=where, why="`atproto` is the address of a PDS",
            todo="write identifier: and the handle or DID",
        )  # fmt: skip
    return AtprotoConnection(
        name,
        identifier if is_url and identifier else account,
        account if is_url else None,
        secret(spec.password),
        read(spec.plc),
        read(spec.via),
        secret(spec.token),
        (base / path).absolute() if (path := read(spec.directory)) else None,
    )


def report_atproto(spec: AtprotoSpec, at: Path_, problems: Problems) -> None:
    """Note what a connection to a PDS says against itself."""
    text = spec.atproto
    if text.startswith(("http://", "https://")):
        if spec.identifier is None:
            todo = "write identifier: and the handle or DID"
            problems.add("`identifier` is missing", (*at, "identifier"), why="`atproto` is an address", todo=todo)
    elif spec.identifier is not None and "${" not in text:
        todo = "leave one of them out; with the address of a PDS, write atproto: https://…"
        problems.add("`atproto` names the account already", (*at, "identifier"), key=True, todo=todo)
    if spec.directory is not None:
        beside = next(
            (word for word in ("identifier", "password", "plc", "via", "token") if getattr(spec, word) is not None),
            None,
        )
        if beside:
            problems.add(
                f"`{beside}` means nothing beside `directory`", (*at, beside), key=True, todo="leave one of them out"
            )
        if not text.startswith(("did:", "${")):
            problems.add(
                "`directory` needs a DID in `atproto`",
                (*at, "atproto"),
                todo="write atproto: did:…, whose records the folder holds",
            )
    if spec.via is not None and spec.token is None:
        problems.add("`via` needs `token`", (*at, "via"), key=True, todo='write token: "${env:NAME}"')
    if spec.token is not None and spec.via is None:
        todo = "write via: and the address of the app's proxy, or a password instead of the token"
        problems.add("`token` goes with `via`", (*at, "token"), key=True, todo=todo)


DSN_TODO = "write postgresql://user@host/database, host=… dbname=…, or embedded; a password comes from ${env:NAME}"


def looks_like_dsn(text: str) -> bool:
    """Whether PostgreSQL's client library could understand the text as an address."""
    return text == "embedded" or _DSN.match(text) is not None


def _why(dsn: str) -> str:
    if dsn.lower().startswith(("http://", "https://")):
        return "it is a web address; the database has one of its own (postgresql://…)"
    return "it is neither a postgresql:// URI nor keyword=value text (its content is not shown)"


def _expanded(name: str, text: str, environment: Environment, where: Location | str | None) -> str:
    """The text with the environment's values; an empty one counts as not set, as in the shell's `:-`."""
    pieces: list[str] = []
    rest = text
    for part in parts(text):
        if isinstance(part, str):
            pieces.append(part)
            continue
        assert not isinstance(part, VariableReference)
        assert isinstance(part, EnvironmentReference)
        value = environment.get(part.name) or part.default
        if not value:
            state = "not set" if environment.get(part.name) is None else "empty"
            raise ReconcilerError(
                f"connection {name} needs the environment variable {part.name}, which is {state}",
                where=where,
                todo=f"export {part.name}=…, or write it into a .env file",
            )
        rest = text[part.start :].partition("}")[2]
        if _PASSWORD_BEFORE.search(text[: part.start]) and rest.startswith("@") and _UNSAFE_IN_URI.search(value):
            raise ReconcilerError(
                f"the value of {part.name} cannot stand as a password inside a URI as it is",
                where=where,
                why="it holds a character that means something there, such as @ / : ? # or %",
                todo="percent-encode it, or put the whole URI into one environment variable",
            )
        pieces.append(value)
    return "".join(pieces)
