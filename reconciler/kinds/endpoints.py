"""What a process calls: found in the spec's connections, told apart by a fingerprint, opened with its keys."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.spec import (
    AtprotoConnection,
    CommandCall,
    FunctionCall,
    HttpCall,
    HttpConnection,
    PostgresConnection,
    Process,
    SupabaseConnection,
)
from reconciler.spec.credentials import mask

_HEADER_VALUE = re.compile(r"[ -~\t]*")
_PASSWORD = re.compile(r"(?<=:)[^\s:@/]{4,}(?=@)|(?<=password=)\S{4,}")

if TYPE_CHECKING:
    from reconciler.systems.calls.caller import Caller


def fingerprint_of(world: World, process: Process) -> str:
    """What tells this endpoint from any other of the same name; empty where the plan itself holds the address."""
    through = process.connection()
    if through is None:
        return ""
    connection = world.spec.connection(through[0])
    assert isinstance(connection, SupabaseConnection | HttpConnection)
    return hashlib.sha256(f"calls\0{connection.url.rstrip('/')}".encode()).hexdigest()[:16]


@contextmanager
def opened_caller(world: World, process: Process) -> Generator[Caller]:
    """Whatever takes the payload."""
    match process.call:
        case CommandCall(command=argv):
            from reconciler.systems.calls.command import Command

            yield Command(argv, world.spec.base.absolute(), os.environ, _clean(_known(world)), name=argv[0])
        case FunctionCall() | HttpCall():
            from reconciler.systems.calls.http import HttpCaller

            url, headers, secrets, todo = _address(world, process)
            method = process.call.method if isinstance(process.call, HttpCall) else "POST"
            with HttpCaller(url, headers, _clean(secrets), method=method, name=process.called(), todo=todo) as caller:
                yield caller


def _address(world: World, process: Process) -> tuple[str, dict[str, str], list[str], str]:
    """Where to, with which headers, which secrets they hold, and what to do where the door is shut."""
    call, through = process.call, process.connection()
    own = dict(call.headers) if isinstance(call, HttpCall) else {}
    if through is None:
        assert isinstance(call, HttpCall)
        return call.http, own, [], "see what it wants; secrets stand in the headers of an http connection"
    name, rest = through
    connection = world.spec.connection(name)
    if isinstance(connection, SupabaseConnection):
        key = connection.key.reveal()
        url = f"{connection.url.rstrip('/')}/functions/v1/{rest}"
        todo = f"see that the function {rest} is deployed, and that connections.{name}.key is the service role's or a secret key"
        return url, {"apikey": key, "Authorization": f"Bearer {key}"}, [key], todo
    assert isinstance(connection, HttpConnection)
    headers = {**own, **{header: secret.reveal() for header, secret in connection.headers.items()}}
    if wrong := next((it for it, text in headers.items() if not _HEADER_VALUE.fullmatch(text)), None):
        raise ReconcilerError(
            f"the header {wrong} of connections.{name} cannot be sent",
            where=world.spec.locate("connections", name, "headers"),
            why="its value holds a line break, a control character or one that is not ASCII",
            todo="correct the environment variable that it comes from",
        )
    secrets = _with_words([secret.reveal() for secret in connection.headers.values()])
    return connection.url.rstrip("/") + rest, headers, secrets, f"see that connections.{name} has the headers it wants"


def _known(world: World) -> list[str]:
    """Every secret of the spec's connections: a command has the same environment, and may say what stands in it."""
    found: list[str] = []
    for name in world.spec.document.connections:
        with suppress(ReconcilerError):  # one whose variables are not set has none
            match world.spec.connection(name):
                case PostgresConnection(dsn=dsn):
                    found += [dsn.reveal(), *_PASSWORD.findall(dsn.reveal())]
                case SupabaseConnection(key=key, dsn=dsn):
                    found += [key.reveal(), *([dsn.reveal(), *_PASSWORD.findall(dsn.reveal())] if dsn else [])]
                case AtprotoConnection(password=password, token=token):
                    found += [it.reveal() for it in (password, token) if it]
                case HttpConnection(headers=headers):
                    found += [it.reveal() for it in headers.values()]
                case _:
                    pass
    return _with_words(found)


def _with_words(secrets: list[str]) -> list[str]:
    """`Bearer X` is a secret, and so is X."""
    return [*secrets, *(word for text in secrets for word in text.split() if len(word) >= 8)]


def _clean(secrets: list[str]) -> Callable[[str], str]:
    """Takes these secrets, and whatever looks like one, out of what was said."""
    ordered = sorted(filter(None, secrets), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in ordered:
            text = text.replace(secret, "***")
        return mask(text)

    return clean
