"""`processes`: rows that a function, a request or a command is called for until they are done."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import Discriminator, Field, Tag

from reconciler.plan.names import TableName
from reconciler.spec.collection import ColumnNames, Condition, connection_and_table
from reconciler.spec.credentials import is_name_of_secret
from reconciler.spec.models import Resource, Strict
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.references import NAME
from reconciler.spec.values import Path, Value, describe

KEYS = "{keys}"
_FUNCTION = re.compile(rf"({NAME})\.([A-Za-z][A-Za-z0-9_-]*)")
_URL = re.compile(r"https?://[^\s/?#@]+(?:[/?][^\s#]*)?", re.IGNORECASE)
_OF_CONNECTION = re.compile(rf"({NAME})(/[^\s?#]*(?:\?[^\s#]*)?)?")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SET_BY_US = frozenset({"content-length", "content-type", "host", "transfer-encoding", "connection"})
_RATE = r"[1-9][0-9]{0,5}/(?:second|minute|hour)"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "second": 1, "minute": 60, "hour": 3600}

Payload: TypeAlias = dict[str, object]
_PAYLOAD = (
    'What is sent, as JSON. A value that is "{keys}" becomes the list of the batch\'s keys. '
    'Default: { keys: "{keys}" }, with `batch: 0` an empty mapping.'
)


class FunctionCall(Strict):
    """A function of a Supabase project."""

    function: str = Field(
        min_length=1, description="connection.name: a supabase connection and its function.", examples=["storage.f"]
    )
    payload: Payload | None = Field(None, description=_PAYLOAD, examples=[{"force": True, "ids": KEYS}])


class HttpCall(Strict):
    """A request to any server."""

    http: str = Field(
        min_length=1,
        description="An address; or an `http` connection, with or without a path after it.",
        examples=["hooks/resize"],
    )
    method: Literal["POST", "PUT", "PATCH"] = Field("POST", description="The request's method.")
    headers: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Headers of the request. Those that hold a secret stand under an `http` connection.",
    )
    payload: Payload | None = Field(None, description=_PAYLOAD)


class CommandCall(Strict):
    """A program on this machine."""

    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)] = Field(
        description="The program and its arguments; no shell reads them. The payload stands on its input, and it ends with 0 "
        "when all went well.",
        examples=[["./make-thumbnails", "--force"]],
    )
    payload: Payload | None = Field(None, description=_PAYLOAD)


def _form(value: object) -> str:
    if isinstance(value, FunctionCall | HttpCall | CommandCall):
        return _TAGS[type(value)]
    forms = [tag for kind, tag in _TAGS.items() if isinstance(value, dict) and next(iter(kind.model_fields)) in value]
    return forms[0] if len(forms) == 1 else describe(cast(object, value))


_TAGS: dict[type[Strict], str] = {FunctionCall: "a function", HttpCall: "a request", CommandCall: "a command"}
CALL_TODO = "a call is { function: connection.name }, { http: address } or { command: [program, argument] }"
Call: TypeAlias = Annotated[
    Annotated[FunctionCall, Tag("a function")]
    | Annotated[HttpCall, Tag("a request")]
    | Annotated[CommandCall, Tag("a command")],
    Discriminator(_form, custom_error_type="shape", custom_error_message=CALL_TODO),
]


class Process(Resource):
    """Rows that need something called until they are done."""

    table: str = Field(
        min_length=1, description="connection.[schema.]table that holds the rows.", examples=["production.images"]
    )
    where: Condition | None = Field(None, description="The scope: an SQL condition, variables as :name.")
    pending: Condition = Field(
        description="Which rows still have to be called for: an SQL condition.", examples=["metadata_status <> 'ready'"]
    )
    done: Condition = Field(
        description="When a row is done: an SQL condition. A row that is still pending is not.",
        examples=["metadata_status = 'ready'"],
    )
    key: ColumnNames | None = Field(
        None, description="Columns that tell the rows apart and that calls name them by; default: the primary key."
    )
    call: Call = Field(description="What is called.")
    batch: int = Field(20, ge=0, le=10_000, description="How many rows a call is for; 0: one call is for all of them.")
    rate: str = Field(
        "20/minute", pattern=f"^{_RATE}$", description="How many calls at most: 5/second, 20/minute, 100/hour."
    )
    timeout: str = Field(
        "30m",
        pattern="^[1-9][0-9]{0,5}[smhd]$",
        description="How long a call's rows may take until they are done: 90s, 30m, 2h. Then they are called for again in "
        "halves; a row that was called for alone is left, and named.",
    )

    def target(self) -> tuple[str, TableName]:
        """The connection and the table."""
        connection, table = connection_and_table(self.table)
        if table is None:
            raise ValueError(f"`{self.table}` names no table")
        return connection, table

    def payload(self) -> Payload:
        """What a call sends, with `{keys}` where the keys belong."""
        if self.call.payload is not None:
            return self.call.payload
        return {"keys": KEYS} if self.batch else {}

    def names_keys(self) -> bool:
        """Whether a call says which rows it is for."""
        return any(text == KEYS for text, _ in _texts(self.payload(), ()))

    def interval(self) -> Fraction:
        """Seconds between two calls."""
        count, _, unit = self.rate.partition("/")
        return Fraction(_SECONDS[unit], int(count))

    def seconds(self) -> int:
        """The timeout."""
        return int(self.timeout[:-1]) * _SECONDS[self.timeout[-1]]

    def calls(self, rows: int) -> int:
        """How many calls so many rows take."""
        return math.ceil(rows / self.batch) if self.batch else min(rows, 1)

    def called(self) -> str:
        """What is called, in a few words."""
        match self.call:
            case FunctionCall(function=name):
                return name
            case HttpCall(http=address):
                return address
            case CommandCall(command=argv):
                return " ".join(argv)

    def connection(self) -> tuple[str, str] | None:
        """The connection that is called through, and what stands behind it: a function's name, or a path."""
        match self.call:
            case FunctionCall(function=name) if match := _FUNCTION.fullmatch(name):
                return match[1], match[2]
            case HttpCall(http=address) if match := _OF_CONNECTION.fullmatch(address):
                return match[1], match[2] or ""
            case _:
                return None


def _texts(value: object, at: Path) -> Iterator[tuple[str, Path]]:
    match value:
        case str():
            yield value, at
        case dict():
            for key, item in cast("dict[str, object]", value).items():
                yield from _texts(item, (*at, key))
        case list() | tuple():
            for index, item in enumerate(cast("list[object]", value)):
                yield from _texts(item, (*at, index))
        case _:
            pass


def filled(payload: Value, keys: str) -> str:
    """The payload as JSON text; `keys` is a JSON list, put in untouched."""
    from reconciler.spec.values import json_text

    match payload:
        case str() if payload == KEYS:
            return keys
        case dict():
            return "{" + ",".join(f"{json_text(name)}:{filled(item, keys)}" for name, item in payload.items()) + "}"
        case list():
            return "[" + ",".join(filled(item, keys) for item in payload) + "]"
        case _:
            return json_text(payload)


def report_process(process: Process, at: Path, problems: Problems) -> None:
    """Note everything in the resource that contradicts itself."""
    try:
        process.target()
    except ValueError as error:
        problems.add(str(error), (*at, "table"), todo="write table: connection.table")
    call = process.call
    place: Path = (*at, "call")
    if isinstance(call, FunctionCall) and process.connection() is None:
        todo = "write function: connection.name, as in storage.process_image"
        problems.add(f"`{call.function}` is no function of a connection", (*place, "function"), todo=todo)
    if isinstance(call, HttpCall):
        if process.connection() is None and not _URL.fullmatch(call.http):
            todo = "write https://…, or an http connection and a path, as in hooks/resize"
            problems.add(f"{dotted((*place, 'http'))} is no address", (*place, "http"), todo=todo)
        _report_headers(call.headers, (*place, "headers"), problems)
    for text, path in _texts(call.payload or {}, (*place, "payload")):
        if KEYS in text and text != KEYS:
            todo = 'write "{keys}" alone: the whole value becomes the list of keys'
            problems.add("`{keys}` is a part of this text", path, todo=todo)
        elif is_name_of_secret(str(path[-1])) and text != KEYS:
            why = "a spec is committed and reviewed, and stands in every plan"
            todo = 'put it under an http connection: headers: { Authorization: "Bearer ${env:NAME}" }'
            problems.add(f"{dotted(path)} holds a {path[-1]}", path, why=why, todo=todo)
    if process.batch and not process.names_keys():
        problems.add(
            "no value of the payload is {keys}",
            (*place, "payload"),
            why="a call for a batch has to say which rows it is for",
            todo='write ids: "{keys}" in it, or batch: 0 where the function finds its rows itself',
        )


def _report_headers(headers: dict[str, str], at: Path, problems: Problems) -> None:
    for name, text in headers.items():
        if not _HEADER.fullmatch(name) or any(character in text for character in "\r\n\0"):
            problems.add(f"`{name}` is no header", (*at, name), todo="write Name: text, on one line")
        elif name.lower() in _SET_BY_US:
            problems.add(f"`{name}` is set by the request itself", (*at, name), key=True, todo="leave it out")
        elif is_name_of_secret(name):
            why = "a spec is committed and reviewed, and stands in every plan"
            todo = 'put it under an http connection: headers: { Authorization: "Bearer ${env:NAME}" }'
            problems.add(f"the header {name} holds a secret", (*at, name), why=why, todo=todo)
