"""`bucket_prefixes` on a folder of buckets and a real database: every finding, every choice, from plan to undo."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from reconciler import app
from reconciler.kinds.processes import rows_of
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.plan.step import Verb
from tests.kinds.bench import Bench, summary

TABLE = """
CREATE TABLE images (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), collection_id int NOT NULL DEFAULT 1, src text, title text,
  metadata_status text NOT NULL DEFAULT 'ready', size_bytes bigint, etag text, mime text, signed_url text);
"""
STEP = "bucket_prefixes.images[public.images]"


class Images:
    """A bench whose spec has a bucket `pictures`."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.bucket = bench.folder / "media" / "pictures"
        self.bucket.mkdir(parents=True)
        bench.production.sql(TABLE)

    def put(self, *names: str, content: bytes = b"picture") -> None:
        for name in names:
            path = self.bucket / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def rows(self, *names: str, **columns: str) -> None:
        for name in names:
            given = {"src": name, **columns}
            values = ", ".join("'" + text.replace("'", "''") + "'" for text in given.values())
            self.bench.production.sql(f"INSERT INTO images ({', '.join(given)}) VALUES ({values})")

    def spec(self, more: str, *, form: str = "{bucket}/{name}", match: str = '["*.jpg", "*.png"]') -> None:
        self.bench.path.write_text(
            'version: 1\nvariables: { collection_id: { default: "1" } }\nconnections:\n'
            '  production: { postgres: "${env:PRODUCTION_URL}" }\n  media: { directory: media }\n'
            f"bucket_prefixes:\n  images:\n    bucket: media.pictures\n    match: {match}\n"
            f'    table: production.images\n    where: collection_id = :collection_id::int\n    column: src\n    form: "{form}"\n'
            + "".join(f"    {line}\n" for line in more.strip().splitlines())
        )

    def src(self) -> list[str]:
        return [row[0] for row in self.bench.production.sql("SELECT src FROM images ORDER BY src")]

    def there(self) -> list[str]:
        return sorted(str(it.relative_to(self.bucket)) for it in self.bucket.rglob("*") if it.is_file())

    def done(self, wanted: dict[str, int]) -> Plan:
        """plan → same plan → apply → nothing left → apply again: all already."""
        plan = self.bench.plan()
        assert summary(plan) == wanted
        assert self.bench.plan().path.read_bytes() == plan.path.read_bytes()
        applied = self.bench.apply(plan)
        assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
        assert summary(self.bench.plan()) == {}
        again = self.bench.apply(plan)
        assert sum(step.applied for step in again.steps) == 0
        return plan

    def back(self, plan: Plan) -> None:
        assert self.bench.apply(self.bench.undo(plan)).code is Exit.DONE


@pytest.fixture
def images(bench: Bench) -> Images:
    return Images(bench)


INSERT = 'on_missing_row: { insert: { collection_id: "${collection_id}", metadata_status: pending, title: "{stem}", mime: "{mime}" } }'


def test_objects_without_a_row_get_one(images: Images) -> None:
    images.put("a.jpg", 'sub/o\'b%20 "q".png', "ü.jpg", "notes.txt", "sub/.emptyFolderPlaceholder")
    images.rows("pictures/a.jpg")
    before = images.bench.production.dump()
    images.spec(INSERT)
    plan = images.done({f"{STEP}/insert": 2})
    assert images.src() == ["pictures/a.jpg", 'pictures/sub/o\'b%20 "q".png', "pictures/ü.jpg"]
    assert images.bench.production.sql("SELECT title, metadata_status, mime FROM images WHERE src LIKE '%ü%'") == [
        ("ü", "pending", "image/jpeg")
    ]
    images.back(plan)
    assert images.bench.production.dump() == before


def test_a_row_of_another_scope_or_spelling_is_a_row(images: Images) -> None:
    images.put("a.jpg", "b.jpg", "c d.jpg", "e.jpg")
    images.rows("pictures/a.jpg", collection_id="2")
    images.rows(
        "user-images/b.jpg", "https://x.example.com/storage/v1/object/public/pictures/c%20d.jpg", collection_id="2"
    )
    images.spec(
        INSERT + '\nwrong_forms: ["user-images/{name}", "https://{host}/storage/v1/object/public/{bucket}/{name}"]'
    )
    images.done({f"{STEP}/insert": 1})
    assert "pictures/e.jpg" in images.src()


def test_wrong_forms_are_fixed_and_other_rows_left(images: Images) -> None:
    images.put("a.jpg", "100% ü/b.jpg", "c.jpg")
    url = "https://x.example.com/storage/v1/object/public/pictures"
    images.rows(
        "user-images/a.jpg",
        f"{url}/100%25%20%C3%BC/b.jpg",
        "pictures/c.jpg",
        "elsewhere:c.jpg",
        "user-images/gone.jpg",
        f"{url}/%FF.jpg",
    )
    before = images.bench.production.dump()
    images.spec('wrong_forms: ["user-images/{name}", "https://{host}/storage/v1/object/public/{bucket}/{name}"]')
    plan = images.done({f"{STEP}/update": 2})
    assert {"pictures/a.jpg", "pictures/100% ü/b.jpg", "elsewhere:c.jpg", "user-images/gone.jpg"} < set(images.src())
    images.back(plan)
    assert images.bench.production.dump() == before


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("keep", {}),
        ("{ set: { metadata_status: error, title: null } }", {"update": 1}),
        ("delete\nmax_delete: 1", {"delete": 1}),
    ],
)
def test_rows_without_their_object(images: Images, choice: str, wanted: dict[str, int]) -> None:
    images.put("a.jpg")
    images.rows("pictures/a.jpg", "pictures/gone.jpg", "pictures/not.txt", title="t")
    before = images.bench.production.dump()
    images.spec(f"on_missing_object: {choice}")
    plan = images.done({f"{STEP}/{verb}": count for verb, count in wanted.items()})
    images.back(plan)
    assert images.bench.production.dump() == before


def test_rows_whose_key_is_of_a_domain(images: Images) -> None:
    images.bench.production.sql("CREATE DOMAIN ident AS uuid NOT NULL; ALTER TABLE images ALTER id TYPE ident")
    images.put("a.jpg", "b.jpg")
    images.rows("pictures/a.jpg", "pictures/gone.jpg")
    images.spec("on_missing_object: { set: { metadata_status: error } }")
    images.done({f"{STEP}/update": 1})


def test_deletes_have_a_limit(images: Images) -> None:
    images.put("a.jpg")
    images.rows("pictures/a.jpg", "pictures/gone.jpg")
    images.spec("on_missing_object: delete")
    with pytest.raises(ReconcilerError) as caught:
        images.bench.plan()
    assert caught.value.code is Exit.LIMIT
    assert app.status(images.bench.session())[0].wrong == 1


def test_a_limit_is_a_share_of_the_rows_in_scope(images: Images) -> None:
    images.put(*(f"{number}.jpg" for number in range(19)))
    images.rows(*(f"pictures/{number}.jpg" for number in range(20)))
    images.rows(*(f"pictures/{number}.jpg" for number in range(9)), collection_id="2")
    images.spec('on_missing_object: delete\nmax_delete: "4%"')
    with pytest.raises(ReconcilerError) as caught:
        images.bench.plan()
    assert caught.value.code is Exit.LIMIT
    images.spec('on_missing_object: delete\nmax_delete: "5%"')
    assert summary(images.bench.plan()) == {f"{STEP}/delete": 1}


def test_more_urls_than_a_batch_holds(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.kinds.bucket_prefixes_run.BATCH", 3)
    images.put(*(f"{number}.jpg" for number in range(10)))
    images.rows(*(f"pictures/{number}.jpg" for number in range(10)))
    images.spec("signed_url: { column: signed_url, expires_in: 365d, renew_within: 30d }")
    plan = images.bench.plan()
    (images.bucket / "4.jpg").unlink()  # it goes after the plan
    applied = images.bench.apply(plan)
    assert applied.code is Exit.ERROR
    assert any("4.jpg has no object to sign for" in text for text in applied.remaining)
    images.put("4.jpg")
    assert images.bench.apply(plan).converged
    urls = [url for (url,) in images.bench.production.sql("SELECT signed_url FROM images")]
    assert len({*urls}) == 10
    assert None not in urls


def test_an_empty_bucket_is_an_error(images: Images) -> None:
    images.rows("pictures/a.jpg")
    images.spec("on_missing_object: { set: { metadata_status: error } }")
    with pytest.raises(ReconcilerError, match="holds no object"):
        images.bench.plan()


def test_missing_objects_come_from_another_bucket(images: Images) -> None:
    backup = images.bench.folder / "media" / "backup"
    backup.mkdir()
    (backup / "lost.jpg").write_bytes(b"the very bytes")
    images.put("a.jpg")
    images.rows("pictures/a.jpg", "pictures/lost.jpg", "pictures/nowhere.jpg")
    images.spec("on_missing_object: { copy_from: media.backup }")
    plan = images.done({"bucket_prefixes.images[pictures]/copy": 1})
    assert (images.bucket / "lost.jpg").read_bytes() == b"the very bytes"
    images.back(plan)
    assert images.there() == ["a.jpg"]


def test_measures_are_brought_up_to_date(images: Images) -> None:
    images.put("a.jpg", content=b"12345")
    images.put("b.jpg", content=b"1")
    images.rows("pictures/a.jpg", size_bytes="4")
    images.rows("pictures/b.jpg", size_bytes="1")
    images.spec("columns: { size_bytes: size }")
    images.done({f"{STEP}/update": 1})
    assert images.bench.production.sql("SELECT size_bytes FROM images ORDER BY src") == [(5,), (1,)]


def test_extra_objects_go_aside_and_come_back(images: Images) -> None:
    images.put("a.jpg", "x/extra.jpg", "notes.txt")
    images.rows("pictures/a.jpg")
    images.spec("on_extra_object: { quarantine: lost/ }", match='["*.jpg", "!lost/*"]')
    plan = images.done({"bucket_prefixes.images[pictures]/move#2": 1})
    assert images.there() == ["a.jpg", "lost/x/extra.jpg", "notes.txt"]
    images.back(plan)
    assert images.there() == ["a.jpg", "notes.txt", "x/extra.jpg"]


def test_extra_objects_are_removed_within_the_limit(images: Images) -> None:
    images.put("a.jpg", "extra.jpg", "notes.txt")
    images.rows("pictures/a.jpg")
    images.spec("on_extra_object: remove")
    with pytest.raises(ReconcilerError, match="would delete 1 objects"):
        images.bench.plan()
    images.spec("on_extra_object: remove\nmax_delete: 1")
    images.done({"bucket_prefixes.images[pictures]/remove": 1})
    assert images.there() == ["a.jpg", "notes.txt"]


def test_an_object_that_a_row_names_by_now_is_not_removed(images: Images) -> None:
    images.put("a.jpg", "extra.jpg")
    images.rows("pictures/a.jpg")
    images.spec("on_extra_object: remove\nmax_delete: 1")
    plan = images.bench.plan()
    images.rows("pictures/extra.jpg")
    with pytest.raises(Drift) as caught:
        images.bench.apply(plan)
    assert "a row names it now" in caught.value.render()
    assert images.there() == ["a.jpg", "extra.jpg"]


@pytest.mark.parametrize("where", ["", "https://x.example.com"])
def test_an_object_that_a_row_names_by_an_address_is_not_removed(images: Images, where: str) -> None:
    images.put("a.jpg", "an extra.jpg")
    images.rows("pictures/a.jpg")
    host = where or "https://{host}"
    images.spec(f'wrong_forms: ["{host}/o/{{bucket}}/{{name}}"]\non_extra_object: remove\nmax_delete: 1')
    plan = images.bench.plan()
    images.rows("https://x.example.com/o/pictures/an%20extra.jpg")
    with pytest.raises(Drift, match="as the plan saw"):
        images.bench.apply(plan)
    assert images.there() == ["a.jpg", "an extra.jpg"]


@pytest.mark.parametrize("choice", ["remove", "{ quarantine: lost/ }"])
def test_another_object_of_the_same_size_is_drift(images: Images, choice: str) -> None:
    images.put("a.jpg", "extra.jpg", content=b"1 picture")
    images.rows("pictures/a.jpg")
    images.spec(f"on_extra_object: {choice}\nmax_delete: 1", match='["*.jpg", "!lost/*"]')
    plan = images.bench.plan()
    images.put("extra.jpg", content=b"2 picture")
    with pytest.raises(Drift):
        images.bench.apply(plan)
    assert images.there() == ["a.jpg", "extra.jpg"]


def test_another_object_of_the_same_size_is_not_moved_back(images: Images) -> None:
    images.put("a.jpg", "extra.jpg", content=b"1 picture")
    images.rows("pictures/a.jpg")
    images.spec("on_extra_object: { quarantine: lost/ }", match='["*.jpg", "!lost/*"]')
    plan = images.bench.plan()
    images.bench.apply(plan)
    images.put("lost/extra.jpg", content=b"2 picture")
    with pytest.raises(Drift):
        images.back(plan)
    assert images.there() == ["a.jpg", "lost/extra.jpg"]


def test_another_object_by_now_is_drift(images: Images) -> None:
    images.put("a.jpg", "extra.jpg")
    images.rows("pictures/a.jpg")
    images.spec("on_extra_object: remove\nmax_delete: 1")
    plan = images.bench.plan()
    images.put("extra.jpg", content=b"somebody's new picture")
    with pytest.raises(Drift):
        images.bench.apply(plan)
    assert images.there() == ["a.jpg", "extra.jpg"]


def test_objects_move_to_where_the_rows_say(images: Images) -> None:
    images.put("a.jpg", "b.jpg", "old/b.jpg")
    images.rows("old/a.jpg", "old/b.jpg")
    images.spec('wrong_forms: ["old/{name}"]\nmove: true', form="{name}")
    plan = images.done({"bucket_prefixes.images[pictures]/move": 1})
    assert images.there() == ["b.jpg", "old/a.jpg", "old/b.jpg"]
    images.back(plan)
    assert images.there() == ["a.jpg", "b.jpg", "old/b.jpg"]


def test_signed_urls(images: Images) -> None:
    images.put("a.jpg", "b.jpg", "new.jpg", "o'd ü.jpg")
    images.rows("pictures/a.jpg", "pictures/b.jpg", "pictures/o'd ü.jpg", signed_url="https://x.example.com/no-token")
    images.spec(INSERT + "\nsigned_url: { column: signed_url, expires_in: 365d, renew_within: 30d }")
    plan = images.done({f"{STEP}/insert": 1, "bucket_prefixes.images[pictures]/sign": 4})
    urls = images.bench.production.sql("SELECT signed_url FROM images ORDER BY src")
    assert len({url for (url,) in urls}) == 4
    text = plan.path.read_text("utf-8")
    assert "token" not in text
    assert '"path":"pictures/a.jpg"' in text
    images.bench.production.sql(
        "UPDATE images SET signed_url = (SELECT signed_url FROM images WHERE src LIKE '%/b.jpg') WHERE src LIKE '%/a.jpg'"
    )
    images.done({"bucket_prefixes.images[pictures]/sign": 1})
    later = app.plan(images.bench.session(), out=images.bench.folder / "later.plan.jsonl", now="2100-01-01T00:00:00Z")
    assert summary(later) == {"bucket_prefixes.images[pictures]/sign": 4}


def test_findings_as_files(images: Images, tmp_path: Path) -> None:
    images.put("a.jpg", "b.jpg", "b.png", "c.jpg", "d.jpg", "x.txt")
    images.rows("pictures/a.jpg", "pictures/a.jpg", "pictures/gone.jpg", "user-images/c.jpg")
    images.rows("pictures/d.jpg", metadata_status="pending")
    images.spec("wrong_forms: [\"user-images/{name}\"]\nstale: metadata_status <> 'ready'")
    files = {
        path.stem: list(csv.DictReader(path.read_text("utf-8").splitlines()))
        for path in app.status_csv(images.bench.session(), tmp_path)
    }
    assert {name: [row["object"] for row in rows] for name, rows in files.items()} == {
        "missing_in_db": ["b.jpg", "b.png"], "missing_in_storage": ["gone.jpg"], "stale": ["pictures/d.jpg"],
        "wrong_form": ["c.jpg"], "duplicates": ["a.jpg", "b.jpg", "b.png"], "unexpected": ["x.txt"],
    }  # fmt: skip


def test_bytes_that_are_gone(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.systems.storage.folder import DirectoryStorage
    from reconciler.systems.storage.interface import Verdict

    images.put("a.jpg", "b.jpg")
    images.rows("pictures/a.jpg", "pictures/b.jpg")
    images.spec("verify: bytes\non_missing_object: { set: { metadata_status: error } }")
    assert summary(images.bench.plan()) == {}

    def verify(_storage: DirectoryStorage, _bucket: str, names: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
        return ((it, Verdict.BYTES_GONE if it == "b.jpg" else Verdict.PRESENT) for it in names)

    monkeypatch.setattr(DirectoryStorage, "verify", verify)
    images.done({f"{STEP}/update": 1})
    assert images.bench.production.sql("SELECT src FROM images WHERE metadata_status = 'error'") == [
        ("pictures/b.jpg",)
    ]


def test_protected(images: Images) -> None:
    images.put("a.jpg", "extra.jpg")
    images.rows("pictures/a.jpg", "pictures/gone.jpg")
    images.spec(
        "protect: true\non_missing_object: delete\nmax_delete: 5\non_extra_object: { quarantine: lost/ }",
        match='["*.jpg", "!lost/*"]',
    )
    plan = images.bench.plan()
    assert summary(plan) == {}
    assert any(it.kind == "blocked" for it in plan.header.hazards)


def test_names_and_values_are_never_sql(images: Images) -> None:
    names = ["it's.jpg", "a b; DROP TABLE images.jpg", "100$.jpg", "{stem}.jpg", "sub/x'.y.jpg", "tab\t\\n.jpg"]
    images.put(*names)
    images.spec('on_missing_row: { insert: { title: "{folder}|{stem}|{ext}|{size}" } }')
    images.done({f"{STEP}/insert": len(names)})
    titles = dict(images.bench.production.sql("SELECT src, title FROM images"))
    assert titles["pictures/sub/x'.y.jpg"] == "sub|x'.y|jpg|7"
    assert set(titles) == {f"pictures/{name}" for name in names}


def test_a_value_that_does_not_fit_is_told(images: Images) -> None:
    images.put("a.jpg")
    images.spec('on_missing_row: { insert: { size_bytes: "{stem}" } }')
    with pytest.raises(ReconcilerError, match="does not fit") as caught:
        images.bench.plan()
    assert caught.value.where


def test_a_signed_url_stands_in_no_plan(images: Images) -> None:
    """Not as the image of a row that goes either."""
    images.put("a.jpg")
    images.rows("pictures/a.jpg", "pictures/gone.jpg", signed_url="https://x.example.com/y?token=a.canary.c")
    images.spec(
        "on_missing_object: delete\nmax_delete: 1\nsigned_url: { column: signed_url, expires_in: 365d, renew_within: 30d }"
    )
    plan = images.done({f"{STEP}/delete": 1, "bucket_prefixes.images[pictures]/sign": 1})
    assert "canary" not in plan.path.read_text("utf-8")
    images.back(plan)
    assert images.bench.production.sql("SELECT signed_url FROM images WHERE src = 'pictures/gone.jpg'") == [(None,)]


def test_rows_that_go_along_count(images: Images) -> None:
    images.bench.production.sql("CREATE TABLE tags (image_id uuid REFERENCES images ON DELETE CASCADE, tag text)")
    images.bench.production.sql("ALTER TABLE tags ADD PRIMARY KEY (image_id, tag)")
    images.put("a.jpg")
    images.rows("pictures/a.jpg", "pictures/gone.jpg")
    images.bench.production.sql(
        "INSERT INTO tags SELECT id, t FROM images, unnest(ARRAY['x', 'y']) t WHERE src LIKE '%gone%'"
    )
    images.spec("on_missing_object: delete\nmax_delete: 2")
    with pytest.raises(ReconcilerError) as caught:
        images.bench.plan()
    assert caught.value.code is Exit.LIMIT
    before = images.bench.production.dump()
    images.spec("on_missing_object: delete\nmax_delete: 3")
    plan = images.bench.plan()
    assert images.bench.apply(plan).converged
    images.back(plan)
    assert images.bench.production.dump() == before


def test_every_measure_has_its_column(images: Images) -> None:
    images.put("a.jpg", "b.png", "new.jpg")
    images.rows("pictures/a.jpg", size_bytes="7", mime="image/jpeg")
    images.rows("pictures/b.png", size_bytes="6", mime="image/jpeg")
    images.bench.production.sql("ALTER TABLE images ADD taken timestamptz")
    before = images.bench.production.dump()
    images.spec(INSERT.replace(', mime: "{mime}"', "")
                + "\ncolumns: { size_bytes: size, etag: etag, mime: content_type, taken: created_at }")  # fmt: skip
    plan = images.done({f"{STEP}/insert": 1, f"{STEP}/update": 2})
    assert images.bench.production.sql(
        "SELECT src, size_bytes, mime, etag IS NOT NULL AND taken IS NOT NULL FROM images ORDER BY src"
    ) == [
        ("pictures/a.jpg", 7, "image/jpeg", True), ("pictures/b.png", 7, "image/png", True), ("pictures/new.jpg", 7, "image/jpeg", True),
    ]  # fmt: skip
    images.back(plan)
    assert images.bench.production.dump() == before


def test_a_copy_that_changed_since_is_drift(images: Images) -> None:
    backup = images.bench.folder / "media" / "backup"
    backup.mkdir()
    (backup / "lost.jpg").write_bytes(b"the very bytes")
    images.put("a.jpg")
    images.rows("pictures/a.jpg", "pictures/lost.jpg")
    images.spec("on_missing_object: { copy_from: media.backup }")
    plan = images.bench.plan()
    (backup / "lost.jpg").write_bytes(b"others, of another length")
    with pytest.raises(Drift):
        images.bench.apply(plan)
    assert images.there() == ["a.jpg"]


def test_nothing_is_extra_where_no_row_names_anything(images: Images) -> None:
    images.put("a.jpg", "b.jpg")
    images.rows("other-bucket/a.jpg")
    images.spec("on_extra_object: { quarantine: lost/ }", match='["*.jpg", "!lost/*"]')
    with pytest.raises(ReconcilerError, match=r"no row of public\.images names any of the 2 objects"):
        images.bench.plan()


def test_a_table_that_another_resource_changes_waits(images: Images) -> None:
    images.put("a.jpg", "b.jpg")
    images.bench.backup.sql(TABLE + "INSERT INTO images (src) VALUES ('pictures/b.jpg')")
    images.spec(INSERT)
    text = images.bench.path.read_text().replace(
        "connections:\n", 'connections:\n  backup: { postgres: "${env:BACKUP_URL}" }\n'
    )
    images.bench.path.write_text(text + "collections: { images: { table: production.images, source: backup } }\n")
    plan = images.bench.plan()
    assert summary(plan) == {"collections.images[public.images]/insert": 1}
    assert [it.address for it in plan.header.deferred] == ["bucket_prefixes.images"]
    images.bench.apply(plan)
    assert summary(images.bench.plan()) == {f"{STEP}/insert": 1}


def test_two_prefixes_of_one_table(images: Images) -> None:
    images.put("x/a.jpg", "y/b.jpg", "y/c.jpg")
    images.rows("pictures/y/c.jpg", "pictures/x/gone.jpg")
    images.spec(INSERT + "\non_missing_object: { set: { metadata_status: error } }\nprefix: x/")
    text = images.bench.path.read_text()
    body = text.partition("  images:\n")[2]
    images.bench.path.write_text(text + "  others:\n" + body.replace("prefix: x/", "prefix: y/"))
    images.done({f"{STEP}/insert": 1, f"{STEP}/update": 1, "bucket_prefixes.others[public.images]/insert": 1})
    images.put("x/new.jpg")
    images.bench.path.write_text(text + "  others:\n" + body.replace("prefix: x/", "prefix: x"))
    with pytest.raises(ReconcilerError, match="would write the same rows"):
        images.bench.plan()


def test_objects_alike_but_for_case_or_ending(images: Images) -> None:
    images.put("A.jpg", "a.png", "sub/.x.jpg", "sub/y.jpg", "v1.2/n.jpg", "v1.2/m.jpg", "n.a.jpg", "n.b.jpg", "n.A.png")
    images.spec(INSERT)
    notes = " ".join(note for it in app.status(images.bench.session()) for note in it.notes)
    assert "4 objects differ from another in case or extension alone" in notes


def test_rows_that_are_signed_for_count_for_a_process(images: Images) -> None:
    images.put("a.jpg", "b.jpg", "new.jpg")
    images.rows("pictures/a.jpg", "pictures/b.jpg")
    images.rows("pictures/b.jpg", collection_id="2")
    images.spec(INSERT + "\nsigned_url: { column: signed_url, expires_in: 365d, renew_within: 30d }")
    text = images.bench.path.read_text()
    images.bench.path.write_text(
        text + "processes:\n  thumbs: { table: production.images, pending: \"signed_url IS NOT NULL AND title <> 'done'"
        " OR signed_url IS NOT NULL AND title IS NULL\", done: title = 'done', call: { command: ['true', '{keys}'] },"
        " needs: [bucket_prefixes.images] }\n"
    )
    plan = images.bench.plan()
    (call,) = [step for step in plan.steps if step.verb is Verb.CALL]
    assert rows_of(plan, call) == {"pending": 0, "added": 3, "ceiling": 3}


def test_what_comes_after_a_process_waits_whole(images: Images) -> None:
    """Its rows and its objects: neither is planned on what the process is about to change."""
    images.put("a.jpg", "extra.jpg")
    images.rows("pictures/a.jpg")
    images.spec(
        "on_extra_object: { quarantine: lost/ }\nneeds: [processes.thumbs]\nsigned_url: { column: signed_url, expires_in: 1d }",
        match='["*.jpg", "!lost/*"]',
    )
    text = images.bench.path.read_text()
    images.bench.path.write_text(
        text + "processes:\n  thumbs: { table: production.images, pending: title IS NULL, done: title = 'done',"
        " call: { command: ['true', '{keys}'] } }\n"
    )
    plan = images.bench.plan()
    assert [it.address for it in plan.header.deferred] == ["bucket_prefixes.images"]
    assert {step.verb for step in plan.steps} == {Verb.CALL}


def test_bytes_that_are_gone_come_from_another_bucket(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.systems.storage.folder import DirectoryStorage
    from reconciler.systems.storage.interface import Verdict

    def verify(storage: DirectoryStorage, bucket: str, names: Iterable[str]) -> Iterator[tuple[str, Verdict]]:
        """A file without bytes stands for an object of a server that has lost them."""
        for name in names:
            found = storage.head(bucket, name)
            yield name, Verdict.PRESENT if found and found.size else Verdict.BYTES_GONE

    monkeypatch.setattr(DirectoryStorage, "verify", verify)
    backup = images.bench.folder / "media" / "backup"
    backup.mkdir()
    for name in ("b.jpg", "lost.jpg", "a.jpg"):
        (backup / name).write_bytes(b"the very bytes")
    images.put("a.jpg")
    images.put("b.jpg", content=b"")
    images.rows("pictures/a.jpg", "pictures/b.jpg", "pictures/lost.jpg")
    images.spec("verify: bytes\non_missing_object: { copy_from: media.backup }")
    images.done({"bucket_prefixes.images[pictures]/copy": 2})
    assert {name: (images.bucket / name).read_bytes() for name in images.there()} == {
        "a.jpg": b"picture", "b.jpg": b"the very bytes", "lost.jpg": b"the very bytes"
    }  # fmt: skip
