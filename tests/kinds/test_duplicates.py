"""Unique keys on real databases: who survives, what points at losers, the archive, the constraint, and the way back."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.plan.file import Plan
from tests.kinds.bench import Bench, changes, counts
from tests.postgres import Database

TABLE = """
CREATE TYPE st AS ENUM ('pending', 'receiving', 'complete', 'failed');
CREATE TABLE img (id int PRIMARY KEY, dev int, name text, status st, at timestamptz, n int, note text,
  twice int GENERATED ALWAYS AS (n * 2) STORED);
"""
HEAD = """\
version: 1
connections:
  production: { postgres: "${env:PRODUCTION_URL}" }
  backup: { postgres: "${env:BACKUP_URL}" }
"""
BEST = """
  keep:
    - status: [complete, receiving]
    - at: newest
    - n: highest
  references: repoint
  archive: img_archive
"""


class Keys(Bench):
    def key(self, options: str, more: str = "") -> Plan:
        """Plan one unique key on `img`."""
        text = "unique_keys:\n  one:\n    table: production.img\n    key: [dev, name]\n" + indent(
            dedent(options), "    "
        )
        self.path.write_text(HEAD + text + "\n" + dedent(more), "utf-8")
        return self.plan()

    def kept(self) -> list[int]:
        return [row[0] for row in self.production.sql("SELECT id FROM img ORDER BY 1")]

    def there_and_back(self, plan: Plan, *, online: bool = False) -> None:
        """apply → plan is empty → again: all already → undo: as it was → apply."""
        before, shape = self.production.dump(), self.shape()
        applied = self.apply(plan)
        assert (applied.code, applied.converged) == (Exit.DONE, True), applied
        assert self.plan().empty
        after = self.production.dump("img")
        again = self.apply(plan)
        assert sum(step.applied for step in again.steps) == 0
        assert self.production.dump("img") == after
        back = self.undo(plan)
        assert self.apply(back).code is Exit.DONE
        assert (self.production.dump(), self.shape()) == (before, shape)
        assert self.apply(plan).code is Exit.DONE
        assert self.production.dump("img") == after

    def shape(self) -> list[tuple[object, ...]]:
        return self.production.sql(
            "SELECT c.relname, c.relkind::text, coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = c.oid), true)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' ORDER BY 1"
        )


@pytest.fixture
def keys(place: Path, production: Database, backup: Database) -> Keys:
    production.sql(TABLE)
    return Keys(place, production, backup)


def insert(keys: Keys, *rows: str) -> None:
    keys.production.sql("INSERT INTO img (id, dev, name, status, at, n, note) VALUES " + ", ".join(rows))


@pytest.mark.each_postgres
def test_the_whole_way(keys: Keys) -> None:
    insert(
        keys,
        "(1, 1, 'a', 'failed', '2025-01-09', 9, 'x')",
        "(2, 1, 'a', 'complete', '2025-01-01', NULL, 'y')",
        "(3, 1, 'a', 'complete', '2025-01-02', 1, NULL)",
        "(4, 1, 'a', 'complete', '2025-01-02', NULL, 'emptier')",
        "(5, 1, 'b', NULL, NULL, NULL, NULL)",
        "(6, 1, 'b', 'pending', NULL, NULL, 'unlisted before NULL')",
        "(7, 2, 'a', 'failed', NULL, NULL, 'alone')",
        "(8, NULL, 'a', 'failed', NULL, NULL, 'NULL is no duplicate')",
        "(9, NULL, 'a', 'failed', NULL, NULL, 'NULL is no duplicate')",
    )
    keys.production.sql("""
        CREATE TABLE child (id int PRIMARY KEY, img int REFERENCES img ON DELETE SET NULL);
        CREATE TABLE other (img int REFERENCES img ON DELETE CASCADE, tag text, PRIMARY KEY (img, tag));
        INSERT INTO child VALUES (1, 1), (2, 2), (3, 3), (4, NULL), (5, 5);
        INSERT INTO other VALUES (1, 'a'), (2, 'b'), (3, 'c');
    """)
    plan = keys.key(BEST)
    reasons = {change.key[0]: (change.reason, change.kept) for change in changes(plan, "delete", "public.img")}
    assert {key: reason for key, (reason, _) in reasons.items()} == {
        "1": "duplicate: loses by status",
        "2": "duplicate: loses by at",
        "4": "duplicate: loses by n",
        "5": "duplicate: loses by status",
    }
    kept = reasons["1"][1]
    assert kept and (kept.key, kept.has, kept.over) == (("3",), "complete", "failed")
    assert counts(plan)["update public.child"] == 3
    keys.there_and_back(plan)
    assert keys.kept() == [3, 6, 7, 8, 9]
    assert keys.production.sql("SELECT * FROM child ORDER BY 1") == [(1, 3), (2, 3), (3, 3), (4, None), (5, 6)]
    assert keys.production.sql("SELECT * FROM other ORDER BY 2") == [(3, "a"), (3, "b"), (3, "c")]
    archived = keys.production.sql("SELECT id, note, twice, survivor_key, rule, plan_id FROM img_archive ORDER BY id")
    assert archived[0] == (1, "x", 18, "3", "duplicate: loses by status", plan.id)
    assert [row[0] for row in archived] == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("rule", "survivor"),
    [
        ("n: highest", 2), ("n: lowest", 3), ("at: newest", 3), ("at: oldest", 2), ("note: filled", 3), ("note: longest", 4),
        ("status: [failed]", 4), ("coalesce(n, 0) % 5", 3), ("note = 'b'", 3), ("length(:word) + n", 2),
    ],
)  # fmt: skip
def test_every_rule_ranks_null_last(keys: Keys, rule: str, survivor: int) -> None:
    insert(
        keys,
        "(1, 1, 'a', NULL, NULL, NULL, NULL)",
        "(2, 1, 'a', 'pending', '2025-01-01', 9999, NULL)",
        "(3, 1, 'a', 'complete', '2025-01-03', 14, 'b')",
        "(4, 1, 'a', 'failed', '2025-01-02', 15, 'longer')",
    )
    if "9999" not in rule:
        keys.production.sql("UPDATE img SET n = 20 WHERE id = 2")
    quoted = f'"{rule}"' if "(" in rule or "=" in rule else f"{{ {rule} }}"
    more = "variables: { word: { default: x } }\n" if ":word" in rule else ""
    plan = keys.key(f"  keep: [{quoted}]\n  archive: img_archive\n", more)
    assert {change.key[0] for change in changes(plan, "delete", "public.img")} == {"1", "2", "3", "4"} - {str(survivor)}
    keys.there_and_back(plan)


def test_ties_go_to_the_primary_key(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (10, 9, 2)))
    keys.there_and_back(keys.key("  archive: img_archive\n"))
    assert keys.kept() == [2]


def test_losers_without_an_archive_need_a_limit(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2, 3)))
    with pytest.raises(ReconcilerError) as caught:
        keys.key("")
    assert caught.value.code is Exit.LIMIT
    keys.there_and_back(keys.key("  max_delete: 2\n"))


@pytest.mark.parametrize("references", ["fail", "delete"])
def test_references_that_are_not_led_on(keys: Keys, references: str) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2, 3)))
    keys.production.sql("CREATE TABLE child (id int PRIMARY KEY, img int REFERENCES img)")
    keys.production.sql("INSERT INTO child VALUES (1, 1), (2, 2)")
    options = f"  references: {references}\n  archive: img_archive\n"
    if references == "fail":
        with pytest.raises(ReconcilerError, match=r"1 rows of public.child point at rows that would go"):
            keys.key(options)
        return
    keys.there_and_back(keys.key(options))
    assert keys.production.sql("SELECT id FROM child") == [(1,)]


def test_no_room_at_the_survivor(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2, 3)))
    keys.production.sql("""
        CREATE TABLE child (id int PRIMARY KEY, img int REFERENCES img, tag text, UNIQUE (img, tag));
        INSERT INTO child VALUES (1, 1, 'x'), (2, 2, 'x'), (3, 3, 'y'), (4, 2, 'y'), (5, 2, NULL), (6, 3, NULL);
    """)
    with pytest.raises(ReconcilerError, match="have no room at the survivor"):
        keys.key("  references: repoint\n  archive: img_archive\n")
    keys.there_and_back(keys.key("  references: repoint\n  on_collision: drop_child\n  archive: img_archive\n"))
    assert keys.production.sql("SELECT * FROM child ORDER BY 1") == [
        (1, 1, "x"), (4, 1, "y"), (5, 1, None), (6, 1, None)
    ]  # fmt: skip


def test_rows_that_point_at_their_own_table_and_two_ways_at_once(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, '{name}', 'failed', NULL, NULL, NULL)" for n, name in enumerate("aabbc", 1)))
    keys.production.sql("""
        ALTER TABLE img ADD COLUMN prev int REFERENCES img; UPDATE img SET prev = 2 WHERE id IN (1, 5); UPDATE img SET prev = 4 WHERE id = 2;
        CREATE TABLE pair (id int PRIMARY KEY, l int REFERENCES img, r int REFERENCES img);
        INSERT INTO pair VALUES (1, 2, 4), (2, 1, 4), (3, 5, 5);
    """)
    keys.there_and_back(keys.key("  references: repoint\n  archive: img_archive\n"))
    assert keys.production.sql("SELECT id, prev FROM img ORDER BY 1") == [(1, 1), (3, None), (5, 1)]
    assert keys.production.sql("SELECT * FROM pair ORDER BY 1") == [(1, 1, 3), (2, 1, 3), (3, 5, 5)]


def test_a_reference_to_another_unique_column(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, 'c{n}')" for n in (1, 2)))
    keys.production.sql("""
        ALTER TABLE img ADD UNIQUE (note, id); CREATE TABLE child (id int PRIMARY KEY, code text, img int,
          FOREIGN KEY (code, img) REFERENCES img (note, id)); INSERT INTO child VALUES (1, 'c2', 2)
    """)
    keys.there_and_back(keys.key("  references: repoint\n  archive: img_archive\n"))
    assert keys.production.sql("SELECT * FROM child") == [(1, "c1", 1)]


def test_a_partial_key_and_nulls_that_are_equal(keys: Keys) -> None:
    insert(
        keys,
        "(1, NULL, 'a', 'complete', NULL, NULL, NULL)", "(2, NULL, 'a', 'complete', NULL, NULL, NULL)",
        "(3, NULL, 'a', 'failed', NULL, NULL, NULL)", "(4, 1, 'a', 'complete', NULL, NULL, NULL)",
    )  # fmt: skip
    plan = keys.key("  where: status in ('complete','receiving') AND n is null\n  nulls: not_distinct\n  archive: a\n")
    keys.there_and_back(plan)
    assert keys.kept() == [1, 3, 4]
    ((text,),) = keys.production.sql("SELECT indexdef FROM pg_indexes WHERE indexname = 'img_dev_name_idx'")
    assert "NULLS NOT DISTINCT" in text
    assert "WHERE" in text


def test_what_keeps_the_key_already_is_left(keys: Keys) -> None:
    insert(keys, "(1, 1, 'a', NULL, NULL, NULL, NULL)")
    keys.production.sql("CREATE UNIQUE INDEX mine ON img (name, dev)")
    plan = keys.key("")
    assert plan.empty
    assert [hazard.text for hazard in plan.header.hazards] == [
        "public.img: kept unique already by a unique index only: mine, not img_dev_name_key"
    ]


def test_a_taken_name_is_refused(keys: Keys) -> None:
    keys.production.sql("CREATE INDEX wanted ON img (n)")
    with pytest.raises(ReconcilerError, match="the name wanted is taken"):
        keys.key("  constraint: wanted\n")


def test_online(keys: Keys) -> None:
    insert(keys, *(f"({n}, {n % 3}, 'a', 'failed', NULL, NULL, NULL)" for n in range(12)))
    plan = keys.key("  lock: online\n  archive: img_archive\n")
    assert [step.apart for step in plan.steps] == [False, False, True, False]
    keys.there_and_back(plan)
    assert keys.kept() == [0, 1, 2]


def test_online_duplicates_that_come_meanwhile_are_drift_and_the_next_plan_goes_on(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2)))
    plan = keys.key("  lock: online\n  archive: img_archive\n")
    insert(keys, "(3, 2, 'b', NULL, NULL, NULL, NULL)", "(4, 2, 'b', NULL, NULL, NULL, NULL)")
    with pytest.raises(Drift, match="rows with the same key have come"):
        keys.apply(plan)
    assert keys.kept() == [1, 3, 4]
    assert ("img_dev_name_key", "i", False) not in keys.shape()
    assert keys.apply(keys.plan()).code is Exit.DONE
    assert keys.kept() == [1, 3]


def test_an_invalid_index_of_an_earlier_attempt_is_built_again(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2)))
    with pytest.raises(Exception, match="could not create unique index"):
        keys.production.sql("CREATE UNIQUE INDEX CONCURRENTLY img_dev_name_key ON img (dev, name)")
    for lock in ("online", "brief"):
        plan = keys.key(f"  lock: {lock}\n  archive: img_archive\n")
        assert any("is left from an earlier attempt" in hazard.text for hazard in plan.header.hazards)
        if lock == "online":
            continue
        assert keys.apply(plan).code is Exit.DONE


def test_brief_duplicates_that_come_meanwhile_are_drift(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2)))
    plan = keys.key("  archive: img_archive\n")
    insert(keys, "(3, 2, 'b', NULL, NULL, NULL, NULL)", "(4, 2, 'b', NULL, NULL, NULL, NULL)")
    before = keys.production.dump()
    with pytest.raises(Drift, match="rows with the same key have come"):
        keys.apply(plan)
    assert keys.production.dump() == before


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM img WHERE id = 1", "UPDATE img SET name = 'other' WHERE id = 1", "UPDATE img SET note = 'x' WHERE id = 2"],
)  # fmt: skip
def test_a_survivor_that_is_gone_and_a_loser_that_changed_are_drift(keys: Keys, change: str) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2)))
    plan = keys.key("  archive: img_archive\n")
    keys.production.sql(change)
    before = keys.production.dump()
    with pytest.raises(Drift):
        keys.apply(plan)
    assert keys.production.dump() == before


def test_the_archive_grows_and_never_doubles(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2)))
    options = "  archive: img_archive\n"
    assert keys.apply(keys.key(options)).code is Exit.DONE
    keys.production.sql("ALTER TABLE img DROP CONSTRAINT img_dev_name_key; ALTER TABLE img ADD COLUMN more jsonb")
    insert(keys, "(3, 1, 'a', 'failed', NULL, NULL, 'second')")
    keys.production.sql("UPDATE img SET more = '[1]' WHERE id = 3")
    keys.there_and_back(keys.key(options))
    assert keys.production.sql("SELECT id, more FROM img_archive ORDER BY id") == [(2, None), (3, [1])]
    keys.production.sql(
        "ALTER TABLE img DROP CONSTRAINT img_dev_name_key; ALTER TABLE img_archive ALTER note TYPE varchar(30)"
    )
    insert(keys, "(4, 1, 'a', 'failed', NULL, NULL, 'third')")
    with pytest.raises(ReconcilerError, match="cannot be the archive") as caught:
        keys.key(options)
    assert caught.value.details == ("note: character varying(30) there, text needed",)


@pytest.mark.parametrize(
    ("options", "said", "line"),
    [
        ("  keep: [{ status: [completed] }]\n", "a value of status does not fit", 9),
        ("  keep: [{ nope: newest }]\n", "has no column 'nope'", 9),
        ("  keep: ['n); DROP TABLE img; --']\n", "", 9),
        ("  keep: [n +]\n", "cannot stand in SQL", 9),
        ("  where: random() < 1\n", "cannot be that of a partial key", 9),
    ],
)  # fmt: skip
def test_mistakes_are_told_at_their_place(keys: Keys, options: str, said: str, line: int) -> None:
    with pytest.raises(ReconcilerError) as caught:
        keys.key(options)
    assert said in caught.value.what
    assert getattr(caught.value.where, "line", None) == line


def test_awkward_names(bench: Bench) -> None:
    long = "n" * 63
    bench.production.sql(f"""
        CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."Ta""ble" ("I d" int PRIMARY KEY, "select" text, {long} text);
        CREATE TABLE "Chi%ld" ("K" int REFERENCES "My Schema"."Ta""ble", PRIMARY KEY ("K"));
        INSERT INTO "My Schema"."Ta""ble" VALUES (1, 'a', 'b'), (2, 'a', 'b'); INSERT INTO "Chi%ld" VALUES (2);
    """)
    bench.path.write_text(
        HEAD
        + f"""
unique_keys:
  one: {{ table: 'production."My Schema"."Ta""ble"', key: [select, {long}], keep: [{{ select: longest }}][0:0], archive: '"Arc hive"' }}
""".replace(", keep: [{ select: longest }][0:0]", ", references: repoint"),
        "utf-8",
    )
    before = bench.production.dump()
    plan = bench.plan()
    assert bench.apply(plan).converged
    assert bench.production.sql('SELECT * FROM "Chi%ld"') == [(1,)]
    assert bench.plan().empty
    assert bench.apply(bench.undo(plan)).code is Exit.DONE
    assert bench.production.dump() == before


def test_a_collection_that_changes_the_table_comes_first(keys: Keys) -> None:
    keys.backup.sql(TABLE)
    keys.backup.sql("INSERT INTO img (id, dev, name) VALUES (1, 1, 'a'), (2, 1, 'a')")
    more = "collections:\n  rows: { table: production.img, source: backup }\n"
    plan = keys.key("  archive: img_archive\n", more)
    assert [deferred.address for deferred in plan.header.deferred] == ["unique_keys.one"]
    assert counts(plan) == {"insert public.img": 2}
    keys.apply(plan)
    again = keys.key("  archive: img_archive\n")
    assert counts(again)["delete public.img"] == 1


def test_status_findings_and_extract_know_unique_keys(keys: Keys) -> None:
    insert(keys, *(f"({n}, 1, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2)))
    keys.key("  archive: img_archive\n")
    (status,) = app.status(keys.session())
    assert (status.address, status.in_sync, status.extra, status.wrong) == ("unique_keys.one", 1, 1, 1)
    written = app.status_csv(keys.session(), keys.folder / "csv")
    assert any("duplicates" in path.name and "2" in path.read_text() for path in written)
    app.extract(keys.session(), keys.folder / "out")


def test_one_duplicate_is_brought_back(keys: Keys) -> None:
    insert(keys, *(f"({n}, {n % 2}, 'a', 'failed', NULL, NULL, NULL)" for n in (1, 2, 3, 4, 5)))
    keys.production.sql("""
        CREATE TABLE child (id int PRIMARY KEY, img int REFERENCES img);
        CREATE TABLE other (img int REFERENCES img, tag text, PRIMARY KEY (img, tag));
        INSERT INTO child VALUES (1, 3), (2, 5); INSERT INTO other VALUES (3, 'x'), (5, 'y');
    """)
    plan = keys.key("  references: repoint\n  archive: img_archive\n")
    keys.apply(plan)
    with pytest.raises(ReconcilerError, match="no duplicate with the key 9") as caught:
        app.undo(plan, only_key="9")
    assert caught.value.todo == "such keys are 3, 4, 5"
    back = app.undo(plan, keys.folder / "one.plan.jsonl", only_key="3")
    assert [hazard.kind for hazard in back.header.hazards] == ["key-shared-again"]
    assert keys.apply(back).code is Exit.DONE
    assert keys.kept() == [1, 2, 3]
    assert keys.production.sql("SELECT * FROM child ORDER BY 1") == [(1, 3), (2, 1)]
    assert keys.production.sql("SELECT * FROM other ORDER BY tag") == [(3, "x"), (1, "y")]
    assert keys.production.sql("SELECT id FROM img_archive ORDER BY 1") == [(4,), (5,)]
    assert not keys.production.sql("SELECT FROM pg_constraint WHERE conname = 'img_dev_name_key'")
