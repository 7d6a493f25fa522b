"""Buckets of many objects, beside the plain way of doing the same on the same machine in the same run.

`pytest -n 0 -s tests/bench/test_storage.py`; RECONCILER_BENCH_OBJECTS sets another size. The server is the double, in a process of its
own. Figures are printed; results and memory are asserted, times only with RECONCILER_BENCH_STRICT=1, for they vary on shared machines.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from reconciler.systems.postgres.session import connect
from reconciler.systems.storage import Storage, supabase
from tests.postgres import Database
from tests.storage.serve import Apart, serving_apart

OBJECTS = int(os.environ.get("RECONCILER_BENCH_OBJECTS", "100000"))
STRICT = bool(os.environ.get("RECONCILER_BENCH_STRICT"))
BUCKET = "images"
TIMES = 5
_FILL = """
INSERT INTO storage.objects (bucket_id, name, metadata, version)
SELECT 'images', 'collections/' || lpad((i / 1000)::text, 4, '0') || '/' || md5(i::text) || '.jpg',
       jsonb_build_object('eTag', '"' || md5(i::text) || '"', 'size', 100000 + i, 'mimetype', 'image/jpeg', 'cacheControl',
         'max-age=3600', 'lastModified', now(), 'contentLength', 100000 + i, 'httpStatusCode', 200), gen_random_uuid()::text
  FROM generate_series(1, %s) AS i
"""


@dataclass(frozen=True)
class Bench:
    server: Apart
    dsn: str

    @property
    def headers(self) -> dict[str, str]:
        return {"apikey": self.server.key, "Authorization": f"Bearer {self.server.key}"}

    def post(self, http: httpx.Client, path: str, body: object) -> Any:
        return http.post(f"{self.server.url}/storage/v1/{path}", json=body, headers=self.headers).json()


@pytest.fixture
def bench(database: Database) -> Generator[Bench]:
    with serving_apart(database.dsn) as server:
        database.sql("INSERT INTO storage.buckets (id, name) VALUES ('images', 'images')")
        database.sql(_FILL, OBJECTS)
        database.sql("VACUUM ANALYZE storage.objects")
        yield Bench(server, database.dsn)


def compare(what: str, ours: Callable[[], int], theirs: Callable[[], int], limit: float) -> None:
    """In turns, so that whatever else the machine does hurts both; the best of each counts, which was disturbed least."""
    took: tuple[list[float], list[float]] = [], []
    for _ in range(TIMES):
        for way, times in zip((ours, theirs), took, strict=True):
            begin = time.perf_counter()
            assert way() == OBJECTS
            times.append(time.perf_counter() - begin)
    first, second = map(min, took)
    ratio = first / second
    print(f"  {what:36} {first:6.2f} s, bare {second:6.2f} s: ratio {ratio:.2f}, at most {limit} is meant")
    assert not STRICT or ratio <= limit


def drained(storage: Storage) -> int:
    listing = storage.inventory_copy(BUCKET)
    for _ in listing:
        pass
    return listing.totals.count


def test_listing_by_the_api(bench: Bench) -> None:
    """Beside sequential pages of list v2 whose JSON is read and nothing else."""

    def bare() -> int:
        count, cursor = 0, None
        with httpx.Client(verify=False) as http:
            while True:
                body = {"prefix": "", "limit": 1000, **({"cursor": cursor} if cursor else {})}
                page = bench.post(http, f"object/list-v2/{BUCKET}", body)
                count += len(page["objects"])
                if not page["hasNext"]:
                    return count
                cursor = page["nextCursor"]

    storage = supabase("storage", bench.server.url, bench.server.key)
    print()
    compare(f"listing {OBJECTS:,} objects by the API", lambda: drained(storage), bare, 1.2)
    storage.close()


def test_listing_by_sql(bench: Bench) -> None:
    """Beside the query that one would write by hand."""
    query = (
        "COPY (SELECT name, metadata ->> 'size', metadata ->> 'eTag', metadata ->> 'mimetype', created_at"
        " FROM storage.objects WHERE bucket_id = 'images' ORDER BY name COLLATE \"C\") TO STDOUT"
    )

    def bare() -> int:
        count = 0
        with psycopg.connect(bench.dsn) as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
            for _ in copy:
                count += 1
        return count

    with connect("storage", bench.dsn) as session:
        storage = supabase("storage", bench.server.url, bench.server.key, session)
        print()
        compare(f"listing {OBJECTS:,} objects by SQL", lambda: drained(storage), bare, 1.5)
        storage.close()


def test_signing(bench: Bench, database: Database) -> None:
    """Beside bare batches of 1000."""
    names = [name for (name,) in database.sql("SELECT name FROM storage.objects")]

    def bare() -> int:
        count = 0
        with httpx.Client(verify=False) as http:
            for at in range(0, len(names), 1000):
                body = {"paths": names[at : at + 1000], "expiresIn": 3600}
                count += sum(bool(it["signedURL"]) for it in bench.post(http, f"object/sign/{BUCKET}", body))
        return count

    storage = supabase("storage", bench.server.url, bench.server.key)
    print()
    compare(f"signing {OBJECTS:,} objects", lambda: len(storage.sign(BUCKET, names, 3600).urls), bare, 1.2)
    storage.close()


_MEASURED = """
import sys
from pathlib import Path
from reconciler.systems.postgres.session import connect
from reconciler.systems.storage import supabase
# Not getrusage: its peak counts from the size of the process this one was forked from.
peak = lambda: int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
url, key, dsn, way = sys.argv[1:5]
with connect("storage", dsn) as session:
    storage = supabase("storage", url, key, session if way == "sql" else None)
    listing = storage.inventory_copy("images")
    seen = 0
    begun = 0
    for block in listing:
        seen += block.count(bytes([10]))
        if seen > int(sys.argv[5]) // 4 and not begun:
            begun = peak()
    print(listing.totals.count, begun, peak())
"""


@pytest.mark.parametrize("way", ["api", "sql"])
def test_memory_does_not_grow_with_the_bucket(bench: Bench, way: str) -> None:
    command = [sys.executable, "-c", _MEASURED, bench.server.url, bench.server.key, bench.dsn, way, str(OBJECTS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, begun, peak = map(int, done.stdout.split())
    print(f"\n  listing {count:,} objects, {way}: {begun // 1024} MB after a quarter, {peak // 1024} MB at most")
    assert count == OBJECTS
    assert peak - begun <= 4 * 1024
    assert peak <= 60 * 1024
