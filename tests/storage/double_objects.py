"""What the storage server does with rows and bytes. It trusts rows where the real one does, and nothing more."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.storage import tokens
from tests.storage.double_schema import LIST_V1, LIST_V1_DOWN, LIST_V2, LIST_V2_DOWN

V1_DEFAULT, V1_CAP, V2_CAP = 100, 1500, 1000
BATCH = 1000
_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$@=;:+,?-]+")
Json = dict[str, Any]


class Refusal(Exception):
    """How the server says no: the status stands in the body, HTTP says 400 but for 500."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message

    @property
    def http(self) -> int:
        return self.status if self.status in (500, 544) else 400

    def body(self) -> Json:
        return {"statusCode": str(self.status), "code": self.error, "error": self.error, "message": self.message}


NOT_FOUND = (404, "not_found", "Object not found")
NO_BUCKET = (404, "Bucket not found", "Bucket not found")


@dataclass(frozen=True)
class Stored:
    """An object's row and its bytes."""

    row: Json
    data: bytes


@dataclass
class Objects:
    """One connection to the database and the folder of bytes, for one client's requests as one role."""

    connection: psycopg.Connection[Json]
    folder: Path
    secret: str
    role: str = "service_role"

    @contextmanager
    def _transaction(self) -> Generator[psycopg.Cursor[Json]]:
        try:
            with self.connection.transaction(), self.connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(f"SET LOCAL ROLE {self.role}".encode())
                cursor.execute("SELECT set_config('storage.can_delete', 'true', true)")
                yield cursor
        except psycopg.errors.UniqueViolation:
            raise Refusal(409, "Duplicate", "The resource already exists") from None
        except psycopg.errors.ForeignKeyViolation as error:
            raise Refusal(
                409, "ResourceReferenced", f"The resource is referenced: {error.diag.message_primary}"
            ) from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise Refusal(403, "Unauthorized", error.diag.message_primary or "access denied") from None

    def buckets(self) -> list[Json]:
        with self._transaction() as cursor:
            return [_bucket(row) for row in cursor.execute("SELECT * FROM storage.buckets ORDER BY id")]

    def bucket(self, bucket: str) -> Json:
        with self._transaction() as cursor:
            row = cursor.execute("SELECT * FROM storage.buckets WHERE id = %s", (bucket,)).fetchone()
        if row is None:
            raise Refusal(*NO_BUCKET)
        return _bucket(row)

    def create_bucket(self, body: Json) -> Json:
        name = str(body.get("id") or body["name"])
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO storage.buckets (id, name, public, file_size_limit, allowed_mime_types) VALUES (%s, %s, %s, %s, %s)",
                (name, name, bool(body.get("public")), body.get("file_size_limit"), body.get("allowed_mime_types")),
            )
        return {"name": name}

    def empty_bucket(self, bucket: str) -> Json:
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM storage.objects WHERE bucket_id = %s", (bucket,))
        return {"message": "Empty bucket has been queued. Completion may take up to an hour."}

    def delete_bucket(self, bucket: str) -> Json:
        self.bucket(bucket)
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM storage.buckets WHERE id = %s", (bucket,))
        return {"message": "Successfully deleted"}

    def list_v1(self, bucket: str, body: Json) -> list[Json]:
        """A missing bucket, or one the role may not see, has no entries."""
        if "prefix" not in body:
            raise Refusal(400, "Error", "body must have required property 'prefix'")
        prefix = str(body["prefix"])
        prefix = f"{prefix}/" if prefix and not prefix.endswith("/") else prefix
        with self._transaction() as cursor:
            rows = cursor.execute(
                LIST_V1_DOWN if cast("Json", body.get("sortBy") or {}).get("order") == "desc" else LIST_V1,
                {
                    "bucket": bucket, "prefix": prefix + str(body.get("search") or ""), "level": prefix.count("/") + 1,
                    "limit": min(int(body.get("limit") or V1_DEFAULT), V1_CAP), "offset": int(body.get("offset") or 0),
                },
            ).fetchall()  # fmt: skip
        return [_entry(row) for row in rows]

    def list_v2(self, bucket: str, body: Json) -> bytes:
        """As v1, but C-ordered, true to letters' case, recursive; the cap is as silent. Its JSON is the database's, to be quick."""
        limit = min(int(body.get("limit") or V2_CAP), V2_CAP)
        after = None
        if cursor_text := body.get("cursor"):
            after = base64.b64decode(str(cursor_text)).decode().removeprefix("l:")
        down = cast("Json", body.get("sortBy") or {}).get("order") == "desc"  # `sort_by` is nobody's option
        wanted = {"bucket": bucket, "prefix": str(body.get("prefix") or ""), "after": after, "limit": limit + 1}
        with self._transaction() as cursor:
            rows = cursor.execute(LIST_V2_DOWN if down else LIST_V2, wanted).fetchall()
        more, rows = len(rows) > limit, rows[:limit]
        last = str(rows[-1]["name"]) if rows else ""
        leads = {"nextCursor": base64.b64encode(f"l:{last}".encode()).decode(), "nextCursorKey": last} if more else {}
        head = json.dumps({"hasNext": more, "folders": [], **leads})[:-1]
        return f'{head}, "objects": [{",".join(row["entry"] for row in rows)}]}}'.encode()

    def upload(self, bucket: str, name: str, data: bytes, mime: str, upsert: bool) -> Json:
        _check(name)
        found = self.bucket(bucket)
        if (limit := found["file_size_limit"]) is not None and len(data) > limit:
            raise Refusal(413, "Payload too large", "The object exceeded the maximum allowed size")
        if (allowed := found["allowed_mime_types"]) and mime not in allowed:
            raise Refusal(415, "invalid_mime_type", f"mime type {mime} is not supported")
        version = str(uuid.uuid4())
        before = self._version(bucket, name)
        row = self._insert(bucket, name, _metadata(data, mime), version, upsert=upsert)
        self._file(bucket, name, version).write_bytes(data)
        if before is not None:
            self._file(bucket, name, before).unlink(missing_ok=True)
        return {"Key": f"{bucket}/{name}", "Id": row["id"]}

    def row(self, bucket: str, name: str) -> Json:
        with self._transaction() as cursor:
            row = cursor.execute(
                "SELECT *, id::text AS id FROM storage.objects WHERE bucket_id = %s AND name = %s", (bucket, name)
            ).fetchone()
        if row is None:
            raise Refusal(*NOT_FOUND)
        return row

    def _version(self, bucket: str, name: str) -> str | None:
        try:
            return self.row(bucket, name)["version"]
        except Refusal:
            return None

    def info(self, bucket: str, name: str) -> Json:
        """Of the row alone; nobody looks for the bytes."""
        row = self.row(bucket, name)
        metadata = metadata_of(row)
        return {
            "id": row["id"], "name": row["name"], "version": row["version"], "bucket_id": bucket, "size": metadata.get("size"),
            "content_type": metadata.get("mimetype"), "cache_control": metadata.get("cacheControl"), "etag": metadata.get("eTag"),
            "metadata": row["user_metadata"], "last_modified": _time(row["updated_at"]), "created_at": _time(row["created_at"]),
        }  # fmt: skip

    def read(self, bucket: str, name: str) -> Stored:
        row = self.row(bucket, name)
        try:
            return Stored(row, self._file(bucket, name, row["version"]).read_bytes())
        except FileNotFoundError:
            raise Refusal(500, "InternalError", "Internal server error") from None

    def copy(self, body: Json, *, move: bool) -> Json:
        source, target = str(body["sourceKey"]), str(body["destinationKey"])
        bucket = str(body["bucketId"])
        other = str(body.get("destinationBucket") or bucket)
        _check(target)
        row = self.row(bucket, source)
        if (bucket, source) == (other, target):
            return {"message": "Successfully moved", "Key": target}
        self.bucket(other)
        version = str(uuid.uuid4())
        try:
            data = self._file(bucket, source, row["version"]).read_bytes()
        except FileNotFoundError:
            raise Refusal(500, "InternalError", "Internal server error") from None
        self._file(other, target, version).write_bytes(data)
        if move:
            with self._transaction() as cursor:
                cursor.execute(
                    "UPDATE storage.objects SET bucket_id = %s, name = %s, version = %s WHERE id = %s::uuid",
                    (other, target, version, row["id"]),
                )
            self._file(bucket, source, row["version"]).unlink(missing_ok=True)
            return {"message": "Successfully moved", "Id": row["id"], "Key": target}
        self._insert(other, target, row["metadata"], version, upsert=False)
        return {"Key": f"{other}/{target}"}

    def remove(self, bucket: str, names: list[str]) -> list[Json]:
        """Names without a row are passed over, a missing bucket has none."""
        if len(names) > BATCH:
            raise Refusal(400, "InvalidRequest", f"Bulk object requests are limited to {BATCH} objects per request.")
        with self._transaction() as cursor:
            rows = cursor.execute(
                "DELETE FROM storage.objects WHERE bucket_id = %s AND name = ANY(%s) RETURNING *, id::text AS id",
                (bucket, names),
            ).fetchall()
        for row in rows:
            self._file(bucket, row["name"], row["version"]).unlink(missing_ok=True)
        return [{**_entry(row), "bucket_id": bucket, "version": row["version"]} for row in rows]

    def sign(self, bucket: str, name: str, seconds: int) -> Json:
        self.row(bucket, name)
        return {"signedURL": self._signed(bucket, name, seconds)}

    def sign_many(self, bucket: str, names: list[str], seconds: int) -> list[Json]:
        if len(names) > BATCH:
            raise Refusal(400, "InvalidRequest", f"body/paths must NOT have more than {BATCH} items")
        with self._transaction() as cursor:
            rows = cursor.execute(
                "SELECT name FROM storage.objects WHERE bucket_id = %s AND name = ANY(%s)", (bucket, names)
            )
            known = {row["name"] for row in rows}
        error = "Either the object does not exist or you do not have access to it"
        return [
            {
                "error": None if name in known else error,
                "path": name,
                "signedURL": self._signed(bucket, name, seconds) if name in known else None,
            }
            for name in names
        ]

    def open_signed(self, bucket: str, name: str, token: str) -> Stored:
        try:
            claims = tokens.verify(token, self.secret)
        except tokens.BadToken as error:
            raise Refusal(400, "InvalidJWT", str(error)) from None
        if claims.get("url") != f"{bucket}/{name}":
            raise Refusal(400, "InvalidSignature", "Invalid signature")
        return self.read(bucket, name)

    def _signed(self, bucket: str, name: str, seconds: int) -> str:
        """The path stands in it as it is, unquoted."""
        now = int(time.time())
        claims = {"url": f"{bucket}/{name}", "scope": "download", "iat": now, "exp": now + seconds}
        return f"/object/sign/{bucket}/{name}?token={tokens.sign(claims, self.secret)}"

    def _insert(self, bucket: str, name: str, metadata: Mapping[str, object], version: str, *, upsert: bool) -> Json:
        conflict = (
            " ON CONFLICT (bucket_id, name) DO UPDATE SET metadata = excluded.metadata, version = excluded.version"
            if upsert
            else ""
        )
        with self._transaction() as cursor:
            cursor.execute(
                (
                    "INSERT INTO storage.objects (bucket_id, name, metadata, version) VALUES (%s, %s, %s, %s)"
                    f"{conflict} RETURNING id::text"
                ).encode(),
                (bucket, name, Jsonb(metadata), version),
            )
            return cast("Json", cursor.fetchone())

    def _file(self, bucket: str, name: str, version: str | None) -> Path:
        """Bytes are found by the name and version of the row: a row renamed by SQL has lost them."""
        return self.folder / hashlib.sha256(f"{bucket}/{name}/{version}".encode()).hexdigest()


def connected(dsn: str) -> psycopg.Connection[Json]:
    return psycopg.Connection[Json].connect(dsn, autocommit=True, row_factory=dict_row)


def metadata_of(row: Json) -> Json:
    return cast("Json", row["metadata"] or {})


def _check(name: str) -> None:
    if not _KEY.fullmatch(name):
        raise Refusal(400, "InvalidKey", f"Invalid key: {name}")


def _metadata(data: bytes, mime: str) -> Json:
    return {
        "eTag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"', "size": len(data), "mimetype": mime,
        "cacheControl": "max-age=3600", "lastModified": _time(datetime.now(UTC)), "contentLength": len(data), "httpStatusCode": 200,
    }  # fmt: skip


def _entry(row: Json) -> Json:
    times = {column: _time(row[column]) for column in ("updated_at", "created_at", "last_accessed_at")}
    return {"name": row["name"], "id": row["id"], **times, "metadata": row["metadata"]}


def _bucket(row: Json) -> Json:
    return {
        **row,
        "owner": row["owner"] or "",
        "created_at": _time(row["created_at"]),
        "updated_at": _time(row["updated_at"]),
    }


def _time(value: datetime | None) -> str | None:
    """As JavaScript writes it: milliseconds."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
