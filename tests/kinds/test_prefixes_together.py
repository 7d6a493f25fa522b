"""`bucket_prefixes` and what else touches their rows and objects: cascades, secrets, limits, other prefixes, odd shapes of tables."""

from __future__ import annotations

import pytest

from reconciler import app
from reconciler.plan.errors import Exit, ReconcilerError
from tests.kinds.bench import Bench, counts

HEAD = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  media: { directory: media }
"""
TABLE = "CREATE TABLE t (id serial PRIMARY KEY, src text, size int, mime text, url text, note text);"
SIGN = "signed_url: { column: url, expires_in: 1d }"


class Media:
    """A bench with buckets in folders; a spec is its prefixes by name, and what stands beside them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.production = bench.production

    def put(self, *names: str) -> None:
        (self.bench.folder / "media" / "pictures").mkdir(parents=True, exist_ok=True)
        for name in names:
            path = self.bench.folder / "media" / "pictures" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"picture")

    def there(self) -> list[str]:
        bucket = self.bench.folder / "media" / "pictures"
        return sorted(it.relative_to(bucket).as_posix() for it in bucket.rglob("*") if it.is_file())

    def spec(self, beside: str = "", /, **prefixes: str) -> None:
        head = "bucket: media.pictures, table: production.t"
        lines = [
            f"  {name}: {{ {head}, {'' if 'column: note' in it else 'column: src, '}{it} }}\n"
            for name, it in prefixes.items()
        ]
        self.bench.path.write_text(f"{HEAD}{beside}bucket_prefixes:\n{''.join(lines)}")

    def done(self) -> dict[str, int]:
        """plan → apply → nothing left → apply again: nothing more; the counts of the plan."""
        plan = self.bench.plan()
        applied = self.bench.apply(plan)
        assert (applied.code, applied.converged, applied.remaining) == (Exit.DONE, True, ())
        assert counts(self.bench.plan()) == {}
        assert sum(step.applied for step in self.bench.apply(plan).steps) == 0
        return counts(plan)

    def refused(self) -> str:
        with pytest.raises(ReconcilerError) as caught:
            self.bench.plan()
        return caught.value.render()


@pytest.fixture
def media(bench: Bench) -> Media:
    return Media(bench)


PARENTS = "collections: { par: { table: production.par, source: { rows: [{ id: 2, n: y }] }, on_extra: delete, max_delete: 9 } }\n"


@pytest.mark.parametrize("chosen", [(), ("collections.par",)])
def test_rows_that_go_along_are_told_apart_by_their_key_and_no_token_stands_in_a_plan(
    media: Media, chosen: tuple[str, ...]
) -> None:
    media.production.sql(
        "CREATE TABLE par (id int PRIMARY KEY, n text); INSERT INTO par VALUES (1, 'x'), (2, 'y');"
        + TABLE
        + "ALTER TABLE t ADD p int REFERENCES par ON DELETE CASCADE;"
        "INSERT INTO t (src, p, url) VALUES ('a.jpg', 1, 'https://h/x?token=a.CANARY.c'), ('a.jpg', 2, NULL), (NULL, 1, NULL), ('b.jpg', 1, NULL)"
    )
    media.put("a.jpg", "b.jpg")
    media.spec(PARENTS, x=SIGN)
    plan = app.plan(media.bench.session(), out=media.bench.folder / "a.plan.jsonl", only=chosen)
    assert counts(plan)["delete public.t"] == 3
    assert "CANARY" not in plan.path.read_text("utf-8")
    if chosen:
        assert media.bench.apply(plan).code is Exit.DONE
        assert media.production.sql("SELECT id FROM t") == [(2,)]


@pytest.mark.parametrize(
    "beside",
    [
        "collections: { t: { table: production.t, source: { rows: [{ id: 2, src: b.jpg, url: here }] }, on_extra: delete, max_delete: 9 } }\n",
        "unique_keys: { t: { table: production.t, key: [src], keep: [{ id: highest }], max_delete: 9 } }\n",
    ],
)
def test_no_token_stands_in_a_plan_whoever_deletes_its_row(media: Media, beside: str) -> None:
    media.production.sql(
        TABLE + "INSERT INTO t (src, url) VALUES ('b.jpg', 'https://h/x?token=a.CANARY.c'), ('b.jpg', 'https://h/y')"
    )
    media.put("b.jpg")
    media.spec(beside, x=SIGN)
    plan = media.bench.plan()
    assert counts(plan)["delete public.t"] == 1
    assert "CANARY" not in plan.path.read_text("utf-8")
    assert media.bench.apply(plan).code in (Exit.DONE, Exit.ERROR)
    assert media.production.sql("SELECT id FROM t") == [(2,)]
    assert media.production.sql("SELECT count(*) FROM t WHERE url = 'here'") == [(0,)]
    assert media.bench.apply(media.bench.undo(plan)).code is Exit.DONE
    assert media.production.sql("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


def test_a_url_goes_into_its_own_row_of_a_partitioned_table(media: Media) -> None:
    media.production.sql("""
        CREATE TABLE t (id int NOT NULL, part int NOT NULL, src text, url text, UNIQUE (part, id)) PARTITION BY LIST (part);
        CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2);
        INSERT INTO t VALUES (1, 1, 'a.jpg'), (1, 2, 'not meant.txt')
    """)
    media.put("a.jpg")
    media.spec(x=f'match: ["*.jpg"], {SIGN}')
    assert media.done() == {"sign pictures": 1}
    assert media.production.sql("SELECT part, url IS NULL FROM t ORDER BY part") == [(1, False), (2, True)]


def test_max_delete_holds_for_objects_beside_rows(media: Media) -> None:
    media.production.sql(TABLE + "INSERT INTO t (src) VALUES ('a.jpg'), ('gone.jpg')")
    media.put("a.jpg", *(f"x{n}.jpg" for n in range(9)))
    media.spec(x="on_missing_object: delete, on_extra_object: remove, max_delete: 1")
    assert "would delete 9 objects" in media.refused()


@pytest.mark.parametrize(
    ("column", "more"),
    [("src varchar(12)", "form: 'pics/{name}', wrong_forms: ['o/{name}']"), ("mime varchar(5)", "form: 'o/{name}', columns: { mime: mime }")],
)  # fmt: skip
def test_no_value_is_cut_to_its_column(media: Media, column: str, more: str) -> None:
    name, kind = column.split(" ", 1)
    media.production.sql(TABLE + f"ALTER TABLE t ALTER {name} TYPE {kind}; INSERT INTO t (src) VALUES ('o/abcdef.jpg')")
    media.put("abcdef.jpg")
    media.spec(x=more)
    with pytest.raises(ReconcilerError, match=f"too long|does not fit|{name}"):
        media.bench.apply(media.bench.plan())
    assert media.production.sql("SELECT src, mime FROM t") == [("o/abcdef.jpg", None)]


def test_two_prefixes_do_not_take_each_others_objects(media: Media) -> None:
    media.production.sql(TABLE + "INSERT INTO t (src, note) VALUES ('a.jpg', NULL), (NULL, 'b.jpg')")
    media.put("a.jpg", "b.jpg")
    media.spec(p="on_extra_object: { quarantine: lost/ }", q="column: note, on_extra_object: { quarantine: lost/ }")
    assert "take objects of media.pictures away" in media.refused()


@pytest.mark.parametrize("where", ["url <> 'never'", "name = 'x'"])
def test_a_condition_may_use_any_name(media: Media, where: str) -> None:
    media.production.sql(
        TABLE.replace("note text", "note text, name text") + "INSERT INTO t (src, url, name) VALUES ('a.jpg', 'x', 'x')"
    )
    media.put("a.jpg")
    media.spec(x=f'where: "{where}", {SIGN}')
    assert media.done() == {"sign pictures": 1}


def test_a_refusal_while_urls_are_written_is_told(media: Media) -> None:
    media.production.sql(TABLE + "ALTER TABLE t ADD CHECK (url = 'none'); INSERT INTO t (src) VALUES ('a.jpg')")
    media.put("a.jpg")
    media.spec(x=SIGN)
    with pytest.raises(ReconcilerError, match="writing URLs"):
        media.bench.apply(media.bench.plan())


def test_a_text_of_two_meanings_names_both(media: Media) -> None:
    media.production.sql(TABLE + "INSERT INTO t (src) VALUES ('pictures/a.jpg'), ('b.jpg')")
    media.put("a.jpg", "pictures/a.jpg", "b.jpg", "extra.jpg")
    media.spec(x="form: '{name}', wrong_forms: ['{bucket}/{name}'], on_extra_object: remove, max_delete: 9")
    assert media.done() == {"remove pictures": 1}
    assert media.there() == ["a.jpg", "b.jpg", "pictures/a.jpg"]


def test_what_was_set_aside_is_not_meant_any_more(media: Media) -> None:
    media.production.sql(TABLE + "INSERT INTO t (src) VALUES ('a.jpg')")
    media.put("a.jpg", "b.jpg", "lost+found/c.jpg")
    media.spec(x="on_extra_object: { quarantine: lost+found/ }")
    assert media.done() == {"move pictures": 1}
    assert media.there() == ["a.jpg", "lost+found/b.jpg", "lost+found/c.jpg"]


def test_an_object_whose_place_aside_is_taken_stays(media: Media) -> None:
    media.production.sql(TABLE + "INSERT INTO t (src) VALUES ('a.jpg')")
    media.put("a.jpg", "b.jpg", "lost/b.jpg")
    media.spec(x="on_extra_object: { quarantine: lost/ }")
    assert counts(media.bench.plan()) == {}
    assert "taken" in " ".join(app.status(media.bench.session())[0].notes)


def test_status_knows_of_moves_and_a_moved_object_is_signed_under_its_new_name(media: Media) -> None:
    media.production.sql(TABLE + "INSERT INTO t (src) VALUES ('old/b.jpg')")
    media.put("b.jpg")
    media.spec(x="form: '{name}', wrong_forms: ['old/{name}'], move: true")
    [found] = app.status(media.bench.session())
    assert (found.changed, found.differs) == (1, True)
    media.spec(x=f"form: '{{name}}', wrong_forms: ['old/{{name}}'], move: true, {SIGN}")
    assert media.done() == {"move pictures": 1, "sign pictures": 1}
    assert media.there() == ["old/b.jpg"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("on_missing_object: { set: { id: '7' } }", "told apart by 'id'"),
        ("on_missing_object: { set: { must: null } }", "'must' may not be NULL"),
        ("on_missing_row: { insert: { must: null } }", "'must' may not be NULL"),
        ("columns: { small: size, parent: mime }", "does not fit"),
        ("signed_url: { column: src, expires_in: 1d }", "names the object"),
        ("columns: { url: mime }, signed_url: { column: url, expires_in: 1d }", "brought up to date"),
        ("on_missing_row: { insert: { must: x, parent: '9' } }", "parents that are gone"),
    ],
)
def test_what_cannot_be_is_said_at_plan(media: Media, more: str, said: str) -> None:
    media.production.sql(
        "CREATE TABLE par (id int PRIMARY KEY);"
        + TABLE
        + "ALTER TABLE t ADD must text NOT NULL DEFAULT '', ADD small smallint, ADD parent int REFERENCES par;"
        "INSERT INTO t (src) VALUES ('gone.jpg'), ('b.jpg')"
    )
    media.put("a.jpg", "b.jpg")
    media.spec(x=more)
    assert said in media.refused()
