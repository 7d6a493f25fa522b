"""Supabase Storage: inventory by its lists or by SQL, everything else by its API.

The client library (storage3) does what it can: uploads, removals, moves and copies within a bucket, info. Plain requests do
the rest: lists, moves to another bucket, HEAD of a signed URL, downloads in blocks, and signing. The library is loaded when it is first needed.
Every action may be sent again; where an earlier answer was lost, what is there is compared with what was wanted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import quote, urlsplit

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage import copytext, pages, signed, signing, sql
from reconciler.systems.storage.content import blocks_of, digest_of, opened
from reconciler.systems.storage.entries import Entry
from reconciler.systems.storage.http import KEY_NEEDED, Garbled, Http, Json, Patience, Refused
from reconciler.systems.storage.interface import (
    Content,
    Listing,
    Object,
    Outcome,
    Removed,
    Signed,
    Verdict,
    of_one,
)  # fmt: skip
from reconciler.systems.storage.names import checked, checked_bucket, checked_new, checked_prefix, mime_of
from reconciler.systems.storage.signing import batches, quoted

if TYPE_CHECKING:
    from storage3 import SyncStorageClient

    from reconciler.systems.postgres.session import Composable, Session

T = TypeVar("T")
_PROJECT = re.compile(r"([a-z0-9]+)\.(?:storage\.)?supabase\.(?:co|in|red)")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_PROBE_SECONDS = 600


class SupabaseStorage:
    """One project's storage. With a `session` on its database, inventories are read there."""

    def __init__(
        self, name: str, url: str, key: str, session: Session | None = None, patience: Patience | None = None
    ) -> None:
        self.name = name
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ReconcilerError(
                f"the address behind connections.{name} is not one of a Supabase project",
                todo="it looks like https://<project>.supabase.co",
            )
        if not key.isascii() or not key.isprintable() or not key:
            raise ReconcilerError(f"the key behind connections.{name} is empty or holds characters that no key has")
        if role := signed.weak_role(key):
            raise ReconcilerError(
                f"the key behind connections.{name} is of the role {role}, which would not see every object",
                todo=KEY_NEEDED.format(name=name),
            )
        base = url.rstrip("/").removesuffix("/storage/v1") + "/storage/v1/"
        self._host = urlsplit(base).netloc.rpartition("@")[2].lower()
        self.http = Http(name, base, key, patience or Patience())
        self._library: SyncStorageClient | None = None
        self._session = session
        self._buckets: dict[str, str] = {}
        self._same: set[str] = set()

    @property
    def _client(self) -> SyncStorageClient:
        if self._library is None:
            from storage3 import SyncStorageClient

            self._library = SyncStorageClient(self.http.url, self.http.headers, http_client=self.http.client)
        return self._library

    def close(self) -> None:
        self.http.close()

    def fingerprint(self, bucket: str) -> str:
        project = _PROJECT.fullmatch(self._host)
        parts = ("supabase", project[1] if project else self._host, checked_bucket(bucket))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def inventory(self, bucket: str, prefix: str = "") -> Listing[Object]:
        self._found(bucket, prefix)
        if (session := self._database(bucket)) is not None:
            return Listing(sql.objects(session, bucket, prefix), of_one)
        return Listing(self._listed(bucket, prefix), of_one)

    def inventory_copy(self, bucket: str, prefix: str = "") -> Listing[bytes]:
        self._found(bucket, prefix)
        if (session := self._database(bucket)) is not None:
            return Listing(sql.copy(session, bucket, prefix), copytext.measure)
        return Listing(self._copied(bucket, prefix), copytext.measure)

    def inventory_query(self, session: Session, bucket: str, prefix: str = "") -> Composable:
        """The inventory as a SELECT, for a session of the storage's own database."""
        self._found(bucket, prefix)
        self._database(bucket)
        return sql.query(session, bucket, prefix)

    def head(self, bucket: str, name: str) -> Object | None:
        self._found(bucket)
        return self._head(bucket, checked(name))

    def upload(
        self, bucket: str, name: str, content: Content, *, mime: str | None = None, overwrite: bool = False
    ) -> Outcome:
        self._found(bucket)
        options = {"content-type": mime or mime_of(name), "x-upsert": "true" if overwrite else "false"}
        objects = self._client.from_(bucket)

        def attempt(again: bool) -> Outcome:
            with opened(content) as file:
                try:
                    self._by_client(lambda: objects.upload(name, file, cast("object", options)))  # pyright: ignore[reportArgumentType]
                except Refused as refused:
                    if not refused.exists:
                        raise
                    return self._stood_there(bucket, name, content, again)
            return Outcome.APPLIED

        outcome = self.http.patiently(f"uploading {bucket}/{checked_new(name)}", attempt)
        if outcome is Outcome.ALREADY and dict(self.verify(bucket, [name]))[name] is Verdict.BYTES_GONE:
            return self.upload(bucket, name, content, mime=mime, overwrite=True)
        return outcome

    def _stood_there(self, bucket: str, name: str, content: Content, again: bool) -> Outcome:
        """An upload that met an object: of these bytes (perhaps our own, sent before) or of others."""
        ours = digest_of(blocks_of(content))
        found = self._head(bucket, name)
        if found is not None and found.size == ours.size:
            etag = _MD5.fullmatch(found.etag or "")
            same = etag[1] == ours.md5 if etag else digest_of(self.download(bucket, name)).md5 == ours.md5
            if same:
                return Outcome.APPLIED if again else Outcome.ALREADY
        raise _taken(self.name, bucket, name)

    def download(self, bucket: str, name: str) -> Iterator[bytes]:
        self._found(bucket)
        from reconciler.systems.storage import downloads

        path = f"object/authenticated/{quoted(bucket, checked(name))}"
        return downloads.blocks(self.http, bucket, name, path, lambda: _size(self._head(bucket, name)))

    def copy(self, bucket: str, source: str, target: str, *, to_bucket: str | None = None) -> Outcome:
        def met(again: bool, refused: Refused) -> Outcome:
            if not refused.exists:
                raise refused
            here, there = self._head(bucket, source), self._head(to_bucket or bucket, target)
            if here is None or there is None or (here.size, here.etag) != (there.size, there.etag):
                raise _taken(self.name, to_bucket or bucket, target)
            return Outcome.APPLIED if again else Outcome.ALREADY

        return self._transfer("copy", bucket, source, target, to_bucket, met)

    def move(self, bucket: str, source: str, target: str, *, to_bucket: str | None = None) -> Outcome:
        def met(again: bool, refused: Refused) -> Outcome:
            if refused.exists:
                raise _taken(self.name, to_bucket or bucket, target)
            if refused.absent and self._head(to_bucket or bucket, target) is not None:
                return Outcome.APPLIED if again else Outcome.ALREADY
            raise refused

        return self._transfer("move", bucket, source, target, to_bucket, met)

    def _transfer(
        self,
        verb: str,
        bucket: str,
        source: str,
        target: str,
        to_bucket: str | None,
        met: Callable[[bool, Refused], Outcome],
    ) -> Outcome:
        self._found(bucket)
        other = to_bucket or bucket
        self._found(other)
        doing = (
            f"{'moving' if verb == 'move' else 'copying'} {bucket}/{checked(source)} to {other}/{checked_new(target)}"
        )
        if (bucket, source) == (other, target):
            return Outcome.ALREADY
        body = {"bucketId": bucket, "sourceKey": source, "destinationBucket": other, "destinationKey": target}
        objects = self._client.from_(bucket)

        def attempt(again: bool) -> Outcome:
            try:
                if other != bucket:
                    self.http.send("POST", f"object/{verb}", json=body)
                else:
                    self._by_client(lambda: (objects.move if verb == "move" else objects.copy)(source, target))
            except Refused as refused:
                return met(again, refused)
            return Outcome.APPLIED

        return self.http.patiently(doing, attempt)

    def remove(self, bucket: str, names: Sequence[str]) -> Removed:
        self._found(bucket)
        removed: list[str] = []
        absent: list[str] = []
        for batch in batches(dict.fromkeys(map(checked, list(names)))):
            went, was_absent = self._remove(bucket, batch)
            removed += went
            absent += was_absent
        return Removed(tuple(removed), tuple(absent))

    def _remove(self, bucket: str, batch: list[str]) -> tuple[list[str], list[str]]:
        """Looks first: an answer that is lost would otherwise leave open what was there."""
        doing = f"removing {len(batch)} objects of {bucket}"
        before = signing.sign_batch(self.http, bucket, batch, _PROBE_SECONDS, doing)
        batch = list(before.urls)
        if not batch:
            return [], list(before.missing)
        objects = self._client.from_(bucket)
        unseen = False

        def attempt(again: bool) -> list[Json]:
            nonlocal unseen
            unseen = unseen or again
            return self._by_client(lambda: objects.remove(batch))

        answer = self.http.patiently(doing, attempt)
        named = {str(entry.get("name")) for entry in answer}
        silent = [name for name in batch if name not in named]
        if silent and (left := signing.sign_batch(self.http, bucket, silent, _PROBE_SECONDS, doing).urls):
            raise ReconcilerError(
                f"removing objects of {bucket} failed on {self.name}",
                why=f"the server said nothing of {len(left)} of them, and they are still there",
                details=tuple(sorted(left)[:5]),
                todo=KEY_NEEDED.format(name=self.name),
            )
        if unseen:  # the answer to an earlier request may be lost: what is gone now, we asked to go
            return batch, list(before.missing)
        return [name for name in batch if name in named], [*before.missing, *silent]

    def sign(self, bucket: str, names: Sequence[str], seconds: int) -> Signed:
        self._found(bucket)
        if seconds < 1:
            raise ReconcilerError("a signed URL lasts at least a second")
        return signing.sign(self.http, bucket, names, seconds)

    def verify(self, bucket: str, names: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
        self._found(bucket)
        from reconciler.systems.storage.verify import verify

        return verify(
            self.http,
            bucket,
            batches(names),
            sign=lambda batch: signing.sign_batch(self.http, bucket, batch, _PROBE_SECONDS),
            head=lambda name: self._head(bucket, name),
            others=lambda: (found.name for found in self._listed(bucket, "")),
        )

    def _head(self, bucket: str, name: str) -> Object | None:
        objects = self._client.from_(bucket)

        def attempt(_again: bool) -> Object | None:
            try:
                info = cast("Json", self._by_client(lambda: objects.info(name)))
            except Refused as refused:
                if refused.absent:
                    return None
                raise
            entry: Json = {
                "metadata": {"size": info.get("size"), "eTag": info.get("etag"), "mimetype": info.get("content_type")},
                "created_at": info.get("created_at"),
                "updated_at": info.get("updated_at") or info.get("last_modified"),
            }
            return Entry.of(name, entry).described()

        return self.http.patiently(f"looking up {bucket}/{name}", attempt)

    def _listed(self, bucket: str, prefix: str) -> Iterator[Object]:
        try:
            yield from pages.objects(self.http, bucket, prefix)
        except pages.NoSuchRouteError:
            from reconciler.systems.storage import crawl

            yield from crawl.objects(self.http, bucket, prefix, lambda name: self._head(bucket, name))

    def _copied(self, bucket: str, prefix: str) -> Iterator[bytes]:
        try:
            yield from pages.copy(self.http, bucket, prefix)
        except pages.NoSuchRouteError:
            from reconciler.systems.storage import crawl

            found = crawl.objects(self.http, bucket, prefix, lambda name: self._head(bucket, name))
            yield from copytext.blocks(found)

    def _database(self, bucket: str) -> Session | None:
        if self._session is not None and bucket not in self._same:
            sql.check_same_bucket(self._session, bucket, self._buckets[bucket])
            self._same.add(bucket)
        return self._session

    def _found(self, bucket: str, prefix: str = "") -> None:
        """The bucket is there: lists, signing and removal would answer as if it were empty."""
        checked_prefix(prefix)
        if checked_bucket(bucket) in self._buckets:
            return

        def attempt(_again: bool) -> str | None:
            try:
                found = cast("Json", self.http.send("GET", f"bucket/{quote(bucket, safe='')}").json())
                return datetime.fromisoformat(str(found["created_at"])).isoformat()
            except Refused as refused:
                if refused.status == 404:
                    return None
                raise
            except (KeyError, TypeError):
                raise Garbled("not a bucket") from None

        created_at = self.http.patiently(f"looking up bucket {bucket}", attempt)
        if created_at is None:
            raise ReconcilerError(
                f"{self.name} has no bucket {bucket}, or its key may not see it",
                todo=f"check the bucket's name; or {KEY_NEEDED.format(name=self.name)}",
            )
        self._buckets[bucket] = created_at

    def _by_client(self, call: Callable[[], T]) -> T:
        """The library's own error, as everybody else's."""
        from storage3.exceptions import StorageApiError

        try:
            return call()
        except StorageApiError as error:
            status = int(error.status) if str(error.status).isdigit() else 400
            raise Refused(status, str(error.code), str(error.message)) from None
        except (KeyError, TypeError) as error:
            raise Garbled(f"not an answer of the storage: {type(error).__name__}") from None


def _size(found: Object | None) -> int | None:
    return found.size if found else None


def _taken(connection: str, bucket: str, name: str) -> ReconcilerError:
    return ReconcilerError(
        f"{bucket}/{name} on {connection} holds other bytes already",
        why="an object is not overwritten unless that was asked for",
        todo="plan again: somebody put it there since",
    )
