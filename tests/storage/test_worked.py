"""The two nights of the buckets, told with the worked specs as they are: the command line, a real database, a storage as unkind as the real one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli import main
from tests.postgres import Database
from tests.storage.double import Double, serving
from tests.storage.worlds import live

SPECS = Path(__file__).parents[2] / "specs"
COLLECTION = "00000000-0000-0000-0000-000000000001"


@dataclass
class Night:
    folder: Path
    production: Database
    double: Double

    def bucket(self, name: str, objects: list[str]) -> None:
        self.production.sql(f"INSERT INTO storage.buckets (id, name) VALUES ('{name}', '{name}')")
        with self.production.connect() as session:
            session.execute(
                "INSERT INTO storage.objects (bucket_id, name, metadata, version) SELECT %s, n,"
                " jsonb_build_object('eTag', '\"0\"', 'size', length(n), 'mimetype', 'image/jpeg'), gen_random_uuid()::text"
                " FROM unnest(%s::text[]) n",
                (name, objects),
            )
            session.commit()

    def run(self, *words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, words, catch_exceptions=False, prog_name="reconciler")
        assert done.exit_code == code, done.output
        for secret in (self.double.key, self.double.secret, "token="):
            assert secret not in done.output
        return done.stdout

    def value(self, text: str) -> object:
        return self.production.sql(text)[0][0]


@pytest.fixture
def night(place: Path, production: Database, monkeypatch: pytest.MonkeyPatch) -> Generator[Night]:
    if live():
        pytest.skip("the story needs a storage of its own")
    with serving(production.dsn) as double:
        for name, text in {
            "DATABASE_URL": production.dsn, "SUPABASE_URL": double.url, "SUPABASE_SERVICE_ROLE_KEY": double.key,
            "NO_COLOR": "1", "COLUMNS": "150",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, text)
        monkeypatch.chdir(place)
        yield Night(place, production, double)


def spec(night: Night, name: str, change: Callable[[str], str] = str) -> None:
    (night.folder / "specs").mkdir()
    shutil.copy(SPECS / name, night.folder / "specs" / name)
    path = night.folder / "specs" / name
    path.write_text(change(path.read_text("utf-8")), "utf-8")


def test_four_thousand_files_and_196_rows(night: Night) -> None:
    names = [f"{'A' if n % 2 else 'B'}/{n:04d} part's #{n}.jpg" for n in range(4_000)]
    night.bucket("part-images", [*names, "A/.emptyFolderPlaceholder", "readme.txt", "B/0001 part.xlsx"])
    night.production.sql(
        "CREATE TABLE part_images (id serial PRIMARY KEY, part_number text NOT NULL, file_type text, image_path text UNIQUE,"
        " size_bytes bigint, signed_url text, created_at timestamptz DEFAULT now())"
    )
    known = ", ".join(
        f"('{n}', 'jpg', '{name.replace(chr(39), chr(39) * 2)}', {len(name)})" for n, name in enumerate(names[:196])
    )
    night.production.sql(f"INSERT INTO part_images (part_number, file_type, image_path, size_bytes) VALUES {known}")
    night.production.sql("UPDATE part_images SET image_path = 'part-images/' || image_path WHERE id <= 40")
    spec(night, "part-images.yaml")

    told = night.run("status", "--csv", "found", code=2)
    assert "3,804" in told
    assert len((night.folder / "found" / "missing_in_db.csv").read_text("utf-8").splitlines()) == 3_805
    assert len((night.folder / "found" / "wrong_form.csv").read_text("utf-8").splitlines()) == 41
    assert len((night.folder / "found" / "unexpected.csv").read_text("utf-8").splitlines()) == 3
    plan = night.run("plan", "-o", "plans/parts.plan.jsonl")
    assert "+ 3,804 rows" in plan
    assert "~    40 rows" in plan
    assert "4,000" in plan
    assert len((night.folder / "plans" / "parts.plan.md").read_text("utf-8")) < 65_536
    night.run("apply", "plans/parts.plan.jsonl", "--yes")
    assert night.value("SELECT count(*) FROM part_images") == 4_000
    assert night.value("SELECT count(DISTINCT signed_url) FROM part_images WHERE signed_url LIKE '%token=%'") == 4_000
    assert (
        night.value("SELECT part_number FROM part_images WHERE image_path = 'A/3999 part''s #3999.jpg'")
        == "3999 part's #3999"
    )
    assert "No changes." in night.run("plan", "--detailed-exitcode")
    text = (night.folder / "plans" / "parts.plan.jsonl").read_text("utf-8")
    assert "token" not in text
    assert night.double.url not in text
    night.run("undo", "plans/parts.plan.jsonl", "-o", "plans/undo.plan.jsonl")
    night.run("apply", "plans/undo.plan.jsonl", "--yes")
    assert night.value("SELECT count(*) FROM part_images") == 196


def test_the_default_collection(night: Night) -> None:
    files = [f"2024/{n:03d}.jpg" for n in range(600)]
    night.bucket("cms-images", [*files, "notes.txt"])
    night.production.sql(
        "CREATE TABLE images (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), collection_id uuid NOT NULL, src text, title text,"
        " metadata_status text NOT NULL)"
    )
    # 480 rows were brought back by hand, 30 of them under the wrong bucket and 10 of files that are gone; another collection has 20 files.
    night.production.sql(
        f"INSERT INTO images (collection_id, src, metadata_status) SELECT '{COLLECTION}', CASE WHEN n < 30 THEN 'user-images/' ELSE 'cms-images/' END"
        " || '2024/' || lpad(n::text, 3, '0') || '.jpg', 'ready' FROM generate_series(0, 469) n"
    )
    night.production.sql(
        f"INSERT INTO images (collection_id, src, metadata_status) SELECT '{COLLECTION}', 'cms-images/gone/' || n || '.jpg', 'ready'"
        " FROM generate_series(1, 10) n"
    )
    night.production.sql(
        "INSERT INTO images (collection_id, src, metadata_status) SELECT gen_random_uuid(), 'https://x.example.com/storage/v1/object/public/cms-images/2024/'"
        " || n || '.jpg', 'ready' FROM generate_series(580, 599) n"
    )
    calls: list[int] = []

    def process(body: bytes) -> tuple[int, bytes]:
        ids: list[str] = json.loads(body)["ids"]
        calls.append(len(ids))
        night.production.sql(f"UPDATE images SET metadata_status = 'ready' WHERE id = ANY ('{{{','.join(ids)}}}')")
        return 200, b"{}"

    night.double.functions["process_image"] = process
    spec(night, "default-collection-images.yaml", lambda text: text.replace("rate: 20/minute", "rate: 50/second"))
    plan = night.run("plan", "-o", "plans/images.plan.jsonl")
    assert "+ 110 rows" in plan
    assert "~  40 rows" in plan
    night.run("apply", "plans/images.plan.jsonl", "--yes")
    assert night.value(f"SELECT count(*) FROM images WHERE collection_id = '{COLLECTION}'") == 590
    assert night.value("SELECT count(*) FROM images WHERE metadata_status = 'error'") == 10
    assert night.value("SELECT count(*) FROM images WHERE src LIKE 'user-images/%'") == 0
    assert (sum(calls), max(calls)) == (110, 20)
    assert "No changes." in night.run("plan", "--detailed-exitcode")
    tree = json.loads(night.run("show", "plans/images.plan.jsonl", "--format", "json"))
    assert len(tree["resource_changes"]) >= 150
