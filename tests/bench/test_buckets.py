"""Objects and rows compared, beside a hand-written anti-join on the same database in the same run.

`pytest -n 0 -s tests/bench/test_buckets.py`; RECONCILER_BENCH_OBJECTS sets another number than 100,000. Start-up is part of the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.test_rows import _MEASURED  # pyright: ignore[reportPrivateUsage]
from tests.postgres import Database
from tests.storage.double import serving

OBJECTS = int(os.environ.get("RECONCILER_BENCH_OBJECTS", "100000"))
SPEC = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  storage: { supabase: "${env:SUPABASE_URL}", key: "${env:SUPABASE_KEY}", postgres: "${env:PRODUCTION_URL}" }
bucket_prefixes:
  images: { bucket: storage.pictures, table: production.images, column: src, form: "{bucket}/{name}", wrong_forms: ["old/{name}"],
            on_missing_row: { insert: { title: "{stem}" } } }
"""
ANTI_JOIN = """
SELECT count(*) FROM storage.objects o WHERE bucket_id = 'pictures' AND NOT EXISTS (SELECT FROM images i WHERE i.src = 'pictures/' || o.name)
UNION ALL SELECT count(*) FROM images i WHERE NOT EXISTS
  (SELECT FROM storage.objects o WHERE bucket_id = 'pictures' AND i.src = 'pictures/' || o.name)
"""


def test_objects_beside_rows(place: Path, production: Database) -> None:
    with serving(production.dsn) as double:
        production.sql("INSERT INTO storage.buckets (id, name) VALUES ('pictures', 'pictures')")
        production.sql(
            "INSERT INTO storage.objects (bucket_id, name, metadata, version) SELECT 'pictures', 'folder/' || n % 100 || '/' || n || '.jpg',"
            f' \'{{"eTag": "\\"0\\"", "size": 3, "mimetype": "image/jpeg"}}\', \'v\' FROM generate_series(1, {OBJECTS}) n'
        )
        production.sql("CREATE TABLE images (id serial PRIMARY KEY, src text, title text)")
        production.sql(
            "INSERT INTO images (src) SELECT 'pictures/folder/' || n % 100 || '/' || n || '.jpg'"
            f" FROM generate_series(1, {OBJECTS}) n WHERE n % 100 > 0"
        )
        production.sql("ANALYZE storage.objects; ANALYZE images")
        (place / "spec.yaml").write_text(SPEC)
        joined: list[float] = []
        for _ in range(3):
            begin = time.perf_counter()
            assert production.sql(ANTI_JOIN)[0][0] == OBJECTS // 100
            joined.append(time.perf_counter() - begin)
        environ = {
            **os.environ,
            "PRODUCTION_URL": production.dsn,
            "SUPABASE_URL": double.url,
            "SUPABASE_KEY": double.key,
        }
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, sys.executable, "-m", "reconciler", "plan", "spec.yaml", "-o", "a.plan.jsonl"],
            cwd=place, env=environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        took = time.perf_counter() - began
        memory = int(done.stdout.split()[-1]) // 1024
        print(
            f"\n{OBJECTS:,} objects: anti-join {min(joined):.2f} s · plan {took:.2f} s = {took / min(joined):.1f} ×, {memory} MB"
        )
