"""One storage, its bucket, and a way past its interface to see and change what is really there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from reconciler.systems.storage import Storage
from reconciler.systems.storage.http import Patience
from tests.storage.double import Double

QUICK = Patience(first=0.005, longest=0.05, tries=14, deadline=60)
WAYS = ("list v2", "list v1", "sql", "directory")


@dataclass(frozen=True)
class Server:
    """The double, or a live server out of the environment."""

    url: str
    key: str
    dsn: str | None
    double: Double | None


def live() -> Server | None:
    """RECONCILER_TEST_STORAGE_URL, _KEY (a service role's) and, for what only SQL can do, _DSN."""
    url, key = os.environ.get("RECONCILER_TEST_STORAGE_URL"), os.environ.get("RECONCILER_TEST_STORAGE_KEY")
    return Server(url, key, os.environ.get("RECONCILER_TEST_STORAGE_DSN"), None) if url and key else None


@dataclass
class World:
    """A storage with two empty buckets. `rows` and `folder`: where its objects are, for tests that look behind it."""

    storage: Storage
    bucket: str
    other: str
    way: str
    server: Server | None = None
    folder: Path | None = None
    _rows: int = field(default=0)

    @property
    def double(self) -> Double:
        assert self.server is not None
        assert self.server.double is not None
        return self.server.double

    def seed(self, names: Iterable[str], *, size: int = 3, bucket: str | None = None) -> list[str]:
        """Objects for inventories; on a server whose database is known they are rows without bytes."""
        wanted = list(names)
        if self.folder is not None:
            for name in wanted:
                file = self.folder / (bucket or self.bucket) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"x" * size)
            return wanted
        assert self.server is not None
        if self.server.dsn is None:
            put = partial(self.storage.upload, bucket or self.bucket, content=b"x" * size, mime="image/png")
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(put, wanted))
            return wanted
        metadata = {"eTag": '"0"', "size": size, "mimetype": "image/png"}
        self.sql(
            "INSERT INTO storage.objects (bucket_id, name, metadata, version)"
            " SELECT %s, n, %s, gen_random_uuid()::text FROM unnest(%s::text[]) AS n",
            bucket or self.bucket, Jsonb(metadata), wanted,
        )  # fmt: skip
        return wanted

    def sql(self, text: str, *params: object) -> None:
        assert self.server is not None
        if self.server.dsn is None:
            pytest.skip("the live server's database is not given")
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute(text.encode(), params or None)

    def names(self, prefix: str = "", bucket: str | None = None) -> list[str]:
        return [found.name for found in self.storage.inventory(bucket or self.bucket, prefix)]

    def content(self, name: str, bucket: str | None = None) -> bytes:
        return b"".join(self.storage.download(bucket or self.bucket, name))


def fresh_name() -> str:
    return f"reconciler-test-{uuid.uuid4().hex[:12]}"
