"""A server between us and the PDS that passes calls on, and does what a test wants with some of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass(frozen=True)
class Call:
    verb: str
    method: str
    token: str | None
    body: bytes
    query: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


# Gets the call and a way to pass it on; None: cut the connection.
Treatment = Callable[[Call, Callable[[], Answer]], Answer | None]


@dataclass
class Proxy:
    url: str
    calls: list[Call] = field(default_factory=list[Call])

    def count(self, method: str) -> int:
        return sum(call.method.endswith(method) for call in self.calls)


@contextmanager
def passing(
    target: str, treat: Treatment = lambda call, pass_on: pass_on(), token: str | None = None
) -> Generator[Proxy]:
    """`token` is put in place of the caller's, as an app's proxy does."""
    client = httpx.Client(timeout=60, verify=False)  # certificates are never read

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer goes out whole: sent in two parts the second waits for the first to be acknowledged
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._handle("GET")

        def do_POST(self) -> None:
            self._handle("POST")

        def _handle(self, verb: str) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            call = Call(verb, path.removeprefix("/xrpc/"), self.headers.get("authorization"), body, query)
            proxy.calls.append(call)
            answer = treat(call, lambda: self._pass(call))
            if answer is None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(2)
                return
            with suppress(OSError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

        def _pass(self, call: Call) -> Answer:
            headers = {"content-type": self.headers["content-type"]} if self.headers.get("content-type") else {}
            if call.token:
                headers["authorization"] = f"Bearer {token}" if token else call.token
            response = client.request(call.verb, f"{target}{self.path}", content=call.body, headers=headers)
            kept = {"content-type": response.headers.get("content-type", "")}
            return Answer(response.status_code, response.content, kept)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()


def directory(pds: str) -> Treatment:
    """A directory whose documents name another PDS, so that all calls come through a proxy."""

    def treat(call: Call, pass_on: Callable[[], Answer]) -> Answer:
        answer = pass_on()
        del call
        head, mark, rest = answer.body.partition(b'"serviceEndpoint":"')
        return Answer(answer.status, head + mark + pds.encode() + b'"' + rest.partition(b'"')[2], answer.headers)

    return treat
