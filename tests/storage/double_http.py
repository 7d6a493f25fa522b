"""The HTTP side of the double: who asks, which route, what goes wrong, what goes out."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.storage import tokens
from tests.storage.double_objects import Objects, Refusal, Stored, connected, metadata_of
from tests.storage.faults import Fault

if TYPE_CHECKING:
    from tests.storage.double import Double

BODY_LIMIT = 1 << 20
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])


class Handler(BaseHTTPRequestHandler):
    """One connection of a client; it has a connection to the database of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    double: Double

    def setup(self) -> None:
        super().setup()
        self.database = connected(self.double.dsn)
        self.double.opened(self.connection)

    def finish(self) -> None:
        self.double.closed(self.connection)
        self.database.close()
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.double.counted(request):
            if self.double.faults.latency:
                time.sleep(self.double.faults.latency)
            fault = self.double.faults.draw(request)
            if fault in ("reset",):
                return self._reset()
            if fault and (early := _early(fault, self.double.faults.retry_after)):
                return self._send(early)
            reply = self._reply(url.path, parse_qs(url.query), body)
        if fault == "lost":
            return self._reset()
        if fault in ("truncated", "cut") and not (len(reply.body) > 1 and self.command != "HEAD"):
            return self._reset()
        self._send(reply, fault)
        return None

    def _reply(self, path: str, query: dict[str, list[str]], body: bytes) -> Reply:
        try:
            answer = self._route(path, query, body)
        except Refusal as refusal:
            return _json(refusal.body(), refusal.http)
        if isinstance(answer, Reply):
            return answer
        if tamper := self.double.faults.tamper:
            answer = tamper(path, json.loads(answer) if isinstance(answer, bytes) else answer)
        if isinstance(answer, bytes):
            return Reply(200, answer, {"content-type": "application/json; charset=utf-8"})
        return _json(answer)

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> object:
        parts = [unquote(part) for part in path.split("/")][1:]
        match self.command, parts:
            case "POST", ["functions", "v1", name]:
                return self._function(name, body)
            case "GET" | "HEAD", ["storage", "v1", "object", "sign", bucket, *name]:
                token = (query.get("token") or [""])[0]
                return self._stored(self._objects("service_role").open_signed(bucket, "/".join(name), token))
            case "GET" | "HEAD", ["storage", "v1", "object", "public", bucket, *name]:
                objects = self._objects("service_role")
                if not objects.bucket(bucket)["public"]:
                    raise Refusal(404, "Bucket not found", "Bucket not found")
                return self._stored(objects.read(bucket, "/".join(name)))
            case _, ["storage", "v1", *rest]:
                return self._storage(rest, body)
            case _:
                return _no_route(self.command, path)

    def _storage(self, parts: list[str], body: bytes) -> object:
        role = self._role()
        if isinstance(role, Reply):
            return role
        objects = self._objects(role)
        match self.command, parts:
            case "GET", ["bucket"]:
                return objects.buckets()
            case "POST", ["bucket"]:
                return objects.create_bucket(_body(body))
            case "GET", ["bucket", bucket]:
                return objects.bucket(bucket)
            case "POST", ["bucket", bucket, "empty"]:
                return objects.empty_bucket(bucket)
            case "DELETE", ["bucket", bucket]:
                return objects.delete_bucket(bucket)
            case "POST", ["object", "list", bucket]:
                return objects.list_v1(bucket, _body(body))
            case "POST", ["object", "list-v2", bucket] if self.double.list_v2:
                return objects.list_v2(bucket, _body(body))
            case "POST", ["object", "list-v2", _]:
                return _no_route(self.command, "/" + "/".join(parts))
            case "POST", ["object", "move"]:
                return objects.copy(_body(body), move=True)
            case "POST", ["object", "copy"]:
                return objects.copy(_body(body), move=False)
            case "POST", ["object", "sign", bucket]:
                asked = _body(body)
                return objects.sign_many(bucket, asked["paths"], int(asked["expiresIn"]))
            case "POST", ["object", "sign", bucket, *name]:
                return objects.sign(bucket, "/".join(name), int(_body(body)["expiresIn"]))
            case "DELETE", ["object", bucket]:
                return objects.remove(bucket, _body(body)["prefixes"])
            case "GET" | "HEAD", ["object", "info", bucket, *name]:
                return objects.info(bucket, "/".join(name))
            case "HEAD", ["object", bucket, *name] if bucket != "authenticated":
                return objects.info(bucket, "/".join(name))
            case "GET" | "HEAD", ["object", "authenticated", bucket, *name]:
                return self._stored(objects.read(bucket, "/".join(name)))
            case "GET", ["object", bucket, *name]:
                return self._stored(objects.read(bucket, "/".join(name)))
            case "POST", ["object", bucket, *name]:
                data, mime = self._uploaded(body)
                return objects.upload(bucket, "/".join(name), data, mime, self.headers.get("x-upsert") == "true")
            case "PUT", ["object", bucket, *name]:
                data, mime = self._uploaded(body)
                objects.row(bucket, "/".join(name))
                return objects.upload(bucket, "/".join(name), data, mime, True)
            case _:
                return _no_route(self.command, "/" + "/".join(parts))

    def _objects(self, role: str) -> Objects:
        return Objects(self.database, self.double.folder, self.double.secret, role)

    def _role(self) -> str | Reply:
        """Of the key; the gateway knows secret keys, the server itself reads tokens."""
        key = (self.headers.get("authorization") or "").removeprefix("Bearer ").strip()
        if key == self.double.secret_key:
            return "service_role"
        if not key or not key.startswith("eyJ"):
            return _json({"message": "Invalid API key", "hint": "Double check your Supabase API key."}, 401)
        try:
            return str(tokens.verify(key, self.double.secret).get("role"))
        except tokens.BadToken as error:
            raise Refusal(403, "Unauthorized", str(error)) from None

    def _stored(self, stored: Stored) -> Reply:
        metadata = metadata_of(stored.row)
        headers = {
            "content-type": str(metadata.get("mimetype") or "application/octet-stream"), "etag": str(metadata.get("eTag") or ""),
            "accept-ranges": "bytes",
        }  # fmt: skip
        data = stored.data
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("range") or ""):
            start = int(found[1])
            if start >= len(data):
                raise Refusal(400, "invalid_range", "invalid range provided")
            headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return Reply(206, data[start:], headers)
        return Reply(200, data, headers)

    def _uploaded(self, body: bytes) -> tuple[bytes, str]:
        kind = self.headers.get("content-type") or ""
        boundary = _BOUNDARY.search(kind)
        if not kind.startswith("multipart/form-data") or boundary is None:
            return body, kind
        for part in body.split(b"--" + boundary[1].encode()):
            head, _, data = part.partition(b"\r\n\r\n")
            if b"filename=" in head:
                mime = re.search(rb"(?i)content-type: *([^\r\n]+)", head)
                return data.removesuffix(b"\r\n"), mime[1].decode() if mime else "application/octet-stream"
        raise Refusal(400, "InvalidRequest", "No content provided")

    def _function(self, name: str, body: bytes) -> object:
        role = self._role()
        if isinstance(role, Reply):
            return role
        function = self.double.functions.get(name)
        if function is None:
            return _json({"code": "NOT_FOUND", "message": "Requested function was not found"}, 404)
        status, data = function(body)
        return Reply(status, data, {"content-type": "application/json"})

    def _send(self, reply: Reply, fault: Fault | None = None) -> None:
        body = reply.body
        head = [f"HTTP/1.1 {reply.status} -", "server: double", f"date: {self.date_time_string()}"]
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        cut = fault in ("truncated", "cut")
        if fault == "cut":
            head.append("connection: close")  # the end of the connection is the end of the body, wherever that is
        else:
            head.append(f"content-length: {len(body)}")
        sent = b"" if self.command == "HEAD" else body[: len(body) // 2] if cut else body
        self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n" + sent)
        if cut:
            self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # The descriptor goes with the last file made of it; both go as soon as the handler ends.


Function = Callable[[bytes], tuple[int, bytes]]


def _early(fault: Fault, retry_after: str) -> Reply | None:
    match fault:
        case "busy":
            return _json({"message": "Too Many Requests"}, 429)
        case "wait":
            return Reply(429, b"{}", {"content-type": "application/json", "retry-after": retry_after})
        case "500":
            return _json(Refusal(500, "InternalError", "Internal server error").body(), 500)
        case "502" | "503" | "504":
            return Reply(int(fault), b"<html>upstream</html>", {"content-type": "text/html"})
        case "redirect":
            return Reply(302, b"<html>log in</html>", {"content-type": "text/html", "location": "/login?secret-canary"})
        case "544":
            return _json(Refusal(544, "DatabaseTimeout", "The connection to the database timed out").body(), 544)
        case "400/503":
            return _json(Refusal(503, "SlowDown", "Please reduce your request rate").body(), 400)
        case _:
            return None


def _json(body: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body, default=str).encode(), {"content-type": "application/json; charset=utf-8"})


def _no_route(method: str, path: str) -> Reply:
    message = f"Route {method}:{path} not found"
    return _json({"message": message, "error": "Not Found", "statusCode": 404}, 404)


def _body(body: bytes) -> dict[str, Any]:
    if len(body) > BODY_LIMIT:
        raise Refusal(413, "Payload too large", "Request body is too large")
    try:
        return json.loads(body)
    except ValueError:
        raise Refusal(400, "Error", "Body is not valid JSON") from None
