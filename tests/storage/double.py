"""A test double for Supabase Storage: HTTP on 127.0.0.1, rows in a real PostgreSQL, bytes in a folder.

As unkind as the real one was seen to be: silent caps, folders without an id, `[]` for a missing bucket, signing that
looks at the row alone, 500 for a row without bytes, statuses hidden in the body of a 400. It knows nothing of reconciler;
the real client drives it. A live server can take its place (see conftest).
"""

from __future__ import annotations

import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path

import psycopg

from tests.storage import tokens
from tests.storage.double_http import Function, Handler
from tests.storage.double_schema import SCHEMA
from tests.storage.faults import EVERY, Fault, Faults

FAR = 4_000_000_000


class Double:
    """The server, and the hand of the test in it."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.folder = folder
        self.secret = secrets.token_hex(20)
        self.secret_key = f"sb_secret_{secrets.token_hex(12)}"
        self.key = self.token("service_role")
        self.anon_key = self.token("anon")
        self.list_v2 = True
        self.functions: dict[str, Function] = {}
        self.faults = Faults()
        self.requests: list[str] = []
        self.peak = 0
        self._now = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"double": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def token(self, role: str, expires: int = FAR) -> str:
        return tokens.sign({"role": role, "iss": "supabase", "iat": 1_700_000_000, "exp": expires}, self.secret)

    def fail(self, rate: float, seed: int = 0, kinds: Sequence[Fault] = EVERY, only: str = "") -> None:
        """From now on so many of the requests that fit `only` go wrong."""
        self.faults.at_random(rate, seed, kinds, only)

    def once(self, fault: Fault, only: str = "", times: int = 1) -> None:
        """The next requests (`METHOD /path`) that fit go wrong."""
        self.faults.once(fault, only, times)

    def tamper(self, change: Callable[[str, object], object]) -> None:
        """Answers pass through this on their way out."""
        self.faults.tamper = change

    def heal(self) -> None:
        """Nothing goes wrong any more; the count of requests starts again."""
        self.faults.clear()
        end = time.monotonic() + 5
        while self._now and time.monotonic() < end:  # requests whose client has given up
            time.sleep(0.01)
        with self._lock:
            self.requests.clear()
            self.peak = 0

    def reset(self) -> None:
        """As it was at first, but for its buckets."""
        self.heal()
        self.list_v2 = True
        self.functions.clear()

    @contextmanager
    def counted(self, request: str) -> Generator[None]:
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.peak = max(self.peak, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self._server.shutdown()
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error of ours; anything else is shown as ever."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]


@contextmanager
def serving(dsn: str) -> Generator[Double]:
    """A double over an empty database, until the end of the context."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
    with tempfile.TemporaryDirectory(prefix="reconciler-storage-") as folder:
        double = Double(dsn, Path(folder))
        thread = threading.Thread(target=double.serve)
        thread.start()
        try:
            yield double
        finally:
            double.stop()
            thread.join()
