"""A server that processes call, as unkind as one likes; it knows the table and nothing of us."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

READY = "UPDATE images SET metadata_status = 'ready' WHERE id = ANY(%s)"


@dataclass
class Seen:
    at: float
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def keys(self) -> list[Any]:
        return self.body.get("ids", self.body.get("keys", []))


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    drop: bool = False
    """Close the connection without a word."""


@dataclass
class Hook:
    """`react` is asked what to do with each request; without an answer of its own it makes the rows ready."""

    dsn: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list[Seen])
    react: Callable[[Seen], Answer | None] = lambda seen: None
    sql: str = READY
    late: float = 0.0
    """Seconds that the rows take after the answer."""

    def work(self, keys: list[Any]) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as session:
            session.execute(self.sql.encode(), (keys,) if "%s" in self.sql else None)

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        told = self.react(seen)
        if told is not None:
            return told
        if self.late:
            threading.Timer(self.late, self.work, (seen.keys,)).start()
        else:
            self.work(seen.keys)
        return Answer(body={"ok": True})

    def called_for(self) -> list[Any]:
        """Every key of every call, in their order."""
        return [key for it in self.seen for key in it.keys]


@contextmanager
def serving(dsn: str) -> Generator[Hook]:
    hook = Hook(dsn)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at = time.monotonic()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = hook.answer(Seen(at, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if told.drop:
                self.close_connection = True
                self.connection.close()
                return
            data = json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, text in {**told.headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    hook.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
