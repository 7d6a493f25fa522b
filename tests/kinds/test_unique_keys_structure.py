"""Unique keys: the archive, the constraint or index, locks, and resources that change the same rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from reconciler import app
from reconciler.plan.errors import Drift, Exit, ReconcilerError
from reconciler.systems.postgres.session import Composable, Session
from tests.kinds.bench import Bench, counts, summary
from tests.kinds.test_unique_keys import key, refused, survivors

TWICE = "CREATE TABLE t (id int PRIMARY KEY, k text, v text); INSERT INTO t VALUES (1, 'a', 'x'), (2, 'a', NULL), (3, 'b', 'z');"


def test_an_archive_is_created_and_a_second_run_appends(bench: Bench) -> None:
    bench.production.sql(TWICE)
    bench.spec(key())
    first = bench.law()
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_k_key; INSERT INTO t VALUES (4, 'b', 'w')")
    second = bench.plan()
    assert summary(second) == {"unique_keys.one[public.t]/delete": 1, "unique_keys.one[constraint t_k_key]/create": 1}
    for plan in (second, first, second):
        bench.apply(plan)
    assert bench.production.sql("SELECT id, plan_id FROM gone ORDER BY id") == [(2, first.id), (4, second.id)]
    bench.apply(bench.undo(second))
    assert bench.production.sql("SELECT id FROM gone ORDER BY id") == [(2,)]
    assert survivors(bench) == [1, 3, 4]


def test_an_archive_is_extended(bench: Bench) -> None:
    bench.production.sql(TWICE)
    bench.production.sql(
        "CREATE TABLE gone (more text DEFAULT 'm', k text, id int, plan_id text); INSERT INTO gone VALUES ('old', 'a', 9, 'by hand')"
    )
    bench.spec(key())
    plan = bench.law()
    assert [step for step in summary(plan) if "column" in step] == [
        f"unique_keys.one[column {name} of public.gone]/create" for name in ("archived_at", "rule", "survivor_key", "v")
    ]
    assert bench.production.sql("SELECT more, k, id, v, survivor_key FROM gone ORDER BY id") == [
        ("m", "a", 2, None, "1"), ("old", "a", 9, None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        ("CREATE TABLE gone (id text)", "id: text there, integer needed"),
        ("CREATE TABLE gone (more text NOT NULL)", "more: may not be NULL"),
        ("CREATE VIEW gone AS SELECT 1 AS id", "cannot be the archive"),
        ("CREATE TABLE gone (id int GENERATED ALWAYS AS (1) STORED)", "id"),
        ("CREATE TABLE gone (id int GENERATED ALWAYS AS IDENTITY)", "id"),
    ],
)
def test_an_archive_that_does_not_fit(bench: Bench, archive: str, why: str) -> None:
    bench.production.sql(TWICE + archive)
    assert why in refused(bench, key()).render()


def test_archives_that_cannot_be(bench: Bench) -> None:
    bench.production.sql(TWICE)
    assert "itself" in refused(bench, key("archive: t\n", archive=False)).render()
    assert "schema nowhere" in refused(bench, key("archive: nowhere.gone\n", archive=False)).render()
    bench.production.sql("CREATE SEQUENCE gone")
    assert "taken" in refused(bench, key()).render()
    bench.production.sql("DROP SEQUENCE gone; ALTER TABLE t ADD plan_id text")
    assert "column 'plan_id' of its own" in refused(bench, key()).render()


def test_an_archive_elsewhere(bench: Bench) -> None:
    bench.production.sql(TWICE + 'CREATE SCHEMA "Old Rows"')
    bench.spec(key('archive: \'"Old Rows"."The ""Gone"""\'\n', archive=False))
    bench.law()
    assert bench.production.sql('SELECT id FROM "Old Rows"."The ""Gone"""') == [(2,)]


def test_names_that_need_quotes(bench: Bench) -> None:
    table, column, name = 'My "Table" 1', "Käse; --", "ö" * 31 + "x"
    quoted, other = '"' + table.replace('"', '""') + '"', '"' + column + '"'
    bench.production.sql(
        f'CREATE TABLE {quoted} ("order" int, "Id" int, {other} text, PRIMARY KEY ("order", "Id"));'
        f"INSERT INTO {quoted} VALUES (1, 1, 'a'), (1, 2, 'a'), (2, 1, 'b');"
        f'CREATE TABLE "user" (id int PRIMARY KEY, "Select" int, "From" int, FOREIGN KEY ("Select", "From") REFERENCES {quoted} ON DELETE CASCADE);'
        'INSERT INTO "user" VALUES (1, 1, 2)'
    )
    bench.spec(
        "unique_keys:\n  one:\n"
        f"    table: 'production.{quoted}'\n    key: ['{column}']\n    archive: '\"{'A' * 63}\"'\n    references: repoint\n"
        f"    constraint: '{name}'\n    keep: [{{ 'Id': lowest }}]\n"
    )
    bench.law()
    assert bench.production.sql('SELECT "From" FROM "user"') == [(1,)]
    assert any(f'"{name}" UNIQUE ("{column}")' in line or f"{name} UNIQUE" in line for line in bench.structure())
    bench.production.sql(f'ALTER TABLE {quoted} DROP CONSTRAINT "{name}"')
    error = refused(
        bench,
        f"unique_keys:\n  one:\n    table: 'production.{quoted}'\n    key: ['{column}']\n    constraint: {'x' * 64}\n",
    )
    assert "63 bytes" in error.render()


def test_a_default_name_that_is_long_or_taken(bench: Bench) -> None:
    table = "t" * 60
    bench.production.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, k text)")
    bench.spec(key(table=table))
    assert summary(bench.law())
    bench.production.sql(TWICE + "CREATE TABLE t_k_key ()")
    assert "is taken" in refused(bench, key()).render()
    bench.production.sql("DROP TABLE t_k_key; CREATE UNIQUE INDEX t_k_key ON t (v)")
    assert "is taken" in refused(bench, key()).render()
    bench.production.sql("DROP INDEX t_k_key; ALTER TABLE t ADD CONSTRAINT t_k_key CHECK (v <> 'q')")
    assert "is taken" in refused(bench, key()).render()


@pytest.mark.parametrize(
    ("there", "notes"),
    [
        ("ALTER TABLE t ADD CONSTRAINT t_k_key UNIQUE (k)", []),
        ("ALTER TABLE t ADD CONSTRAINT other UNIQUE (k)", ["public.t: kept unique already by the constraint other, not t_k_key"]),
        ("CREATE UNIQUE INDEX t_k_key ON t (k)", ["public.t: kept unique already by a unique index only: t_k_key"]),
        ("CREATE UNIQUE INDEX other ON t (k) INCLUDE (v)", ["public.t: kept unique already by a unique index only: other, not t_k_key"]),
    ],
)  # fmt: skip
def test_a_key_that_is_kept_already(bench: Bench, there: str, notes: list[str]) -> None:
    bench.production.sql(TWICE + "DELETE FROM t WHERE id = 2;" + there)
    bench.spec(key())
    plan = bench.plan()
    assert (summary(plan), [it.text for it in plan.header.hazards]) == ({}, notes)
    assert not any(it.differs for it in app.status(bench.session()))


def test_a_key_that_is_kept_is_not_searched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.production.sql(TWICE)
    bench.spec(key())
    bench.law()
    searched: list[str] = []
    fill = Session.fill

    def watched(session: Session, into: Composable, query: Composable) -> int:
        searched.append(query.as_string(None))
        return fill(session, into, query)

    monkeypatch.setattr(Session, "fill", watched)
    assert (summary(bench.plan()), searched) == ({}, [])
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_k_key")
    bench.plan()
    assert len(searched) == 1


@pytest.mark.parametrize(
    "there",
    [
        "CREATE UNIQUE INDEX other ON t (k) WHERE v IS NOT NULL",
        "CREATE UNIQUE INDEX other ON t (lower(k))",
        "CREATE UNIQUE INDEX other ON t (k, v)",
        "CREATE INDEX other ON t (k)",
    ],
)
def test_other_indexes_do_not_keep_it(bench: Bench, there: str) -> None:
    bench.production.sql(TWICE + "DELETE FROM t WHERE id = 2;" + there)
    bench.spec(key())
    assert summary(bench.law()) == {"unique_keys.one[constraint t_k_key]/create": 1}


def test_columns_of_a_key_in_another_order(bench: Bench) -> None:
    bench.production.sql(TWICE + "CREATE UNIQUE INDEX other ON t (v, k)")
    bench.spec(key(columns="k, v"))
    assert summary(bench.plan()) == {}


def test_an_index_that_compares_otherwise_than_its_column_does_not_keep_the_key(bench: Bench) -> None:
    bench.production.sql(
        "CREATE COLLATION loose (provider = libc, locale = 'C');"
        "UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose';"
        "CREATE TABLE t (id int PRIMARY KEY, k text COLLATE loose, v text); INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', NULL);"
        'CREATE UNIQUE INDEX other ON t (k COLLATE "C")'
    )
    bench.spec(key())
    assert summary(bench.law()) == {"unique_keys.one[constraint t_k_key]/create": 1}


@pytest.mark.parametrize(
    ("type_", "one", "other", "operators", "kept"),
    [
        ("pair", "ROW(1.0, 1)", "ROW(1.00, 1)", "record_image_ops", False),
        ("pair", "ROW(1.0, 1)", "ROW(2.00, 1)", "", True),
        ("citext", "'a@b.c'", "'A@b.c'", "text_pattern_ops", False),
        ("citext", "'a@b.c'", "'A@b.c'", "text_ops", False),
        ("address", "'a@b.c'", "'A@b.c'", "text_ops", False),
        ("address", "'a'", "'b'", "", True),
        ("text", "'a'", "'A'", "text_pattern_ops", True),
        ("varchar(9)", "'a'", "'A'", "", True),
        ("int[]", "'{1}'", "'{2}'", "", True),
    ],
)
def test_an_index_with_other_operators(
    bench: Bench, type_: str, one: str, other: str, operators: str, kept: bool
) -> None:
    bench.production.sql(
        "CREATE EXTENSION citext; CREATE TYPE pair AS (a numeric, b int); CREATE DOMAIN address AS citext;"
        f"CREATE TABLE t (id int PRIMARY KEY, k {type_}); INSERT INTO t VALUES (1, {one}), (2, {other});"
        f"CREATE UNIQUE INDEX other ON t (k {operators})"
    )
    bench.spec(key())
    plan = bench.plan()
    assert bool(summary(plan)) is not kept
    if not kept:
        bench.law()
        assert survivors(bench) == [1]


@pytest.mark.parametrize("lock", ["brief", "online"])
def test_an_invalid_index_that_was_left_is_built_again(bench: Bench, lock: str) -> None:
    bench.production.sql(TWICE)
    with pytest.raises(Exception, match="could not create unique index"):
        bench.production.sql("CREATE UNIQUE INDEX CONCURRENTLY t_k_key ON t (k)")
    bench.spec(key(f"lock: {lock}\n"))
    plan = bench.plan()
    assert any("an invalid index t_k_key is left" in it.text for it in plan.header.hazards)
    applied = bench.apply(plan)
    assert applied.converged
    assert "t t_k_key UNIQUE (k)" in bench.structure()
    assert all("false" not in line for line in bench.structure())
    bench.apply(bench.undo(plan))
    assert survivors(bench) == [1, 2, 3]
    assert not any("t_k_key" in line for line in bench.structure())


PARTIAL = """
CREATE TYPE st AS ENUM ('open', 'closed');
CREATE FUNCTION plain(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT lower($1) $$;
CREATE TABLE t (id int PRIMARY KEY, k text, s st, n int, "W" text);
INSERT INTO t VALUES (1, 'a', 'open', 1, 'X'), (2, 'a', 'open', 2, 'x'), (3, 'a', 'closed', 3, 'x'), (4, 'a', 'closed', 4, 'X'),
  (5, 'b', 'open', 5, 'x');
"""


@pytest.mark.parametrize("lock", ["brief", "online"])
@pytest.mark.parametrize(
    ("where", "stay"),
    [
        ("s = 'open'", [1, 3, 4, 5]),
        ("s IN ('closed')", [1, 2, 3, 5]),
        ("n between 2 and 3 and \\\"W\\\" = 'x'", [1, 2, 4, 5]),
        ("plain(\\\"W\\\") = 'x'", [1, 5]),
        ("public.plain(\\\"W\\\") like 'x%' and n::text <> :never", [1, 5]),
        ("not (n > 100 or n is null)", [1, 5]),
    ],
)
def test_a_partial_key(bench: Bench, where: str, stay: list[int], lock: str) -> None:
    bench.production.sql(PARTIAL)
    bench.spec('variables:\n  never: { default: "it\'s" }\n' + key(f'where: "{where}"\nlock: {lock}\n'))
    plan = bench.law()
    assert survivors(bench) == stay
    assert "unique_keys.one[index t_k_idx]/create" in summary(plan)
    bench.production.sql("DROP INDEX t_k_idx")
    assert list(summary(bench.plan())) == ["unique_keys.one[index t_k_idx]/create"]


def test_a_predicate_that_no_index_can_have(bench: Bench) -> None:
    bench.production.sql(PARTIAL)
    for where in ("n > random()", "n > (SELECT 1)", "now() > '2020-01-01'"):
        error = refused(bench, key(f'where: "{where}"\n'))
        assert error.where is not None


def test_a_survivor_that_left_the_partial_key_is_drift(bench: Bench) -> None:
    bench.production.sql(PARTIAL)
    bench.spec(key("where: s = 'open'\n"))
    plan = bench.plan()
    bench.production.sql("UPDATE t SET s = 'closed' WHERE id = 1")
    with pytest.raises(Drift, match="rows that were to stay"):
        bench.apply(plan)
    assert survivors(bench) == [1, 2, 3, 4, 5]


def test_a_partitioned_table(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int, region text, k text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);"
        "CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a'); CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b');"
        "CREATE TABLE c (id int PRIMARY KEY, region text, t int, FOREIGN KEY (region, t) REFERENCES t ON DELETE CASCADE);"
        "INSERT INTO t VALUES (1, 'a', 'x'), (2, 'a', 'x'), (3, 'b', 'x'), (4, 'b', 'y'); INSERT INTO c VALUES (1, 'a', 2)"
    )
    bench.spec(key("references: repoint\n", columns="k, region"))
    bench.law()
    assert survivors(bench) == [1, 3, 4]
    assert bench.production.sql("SELECT t FROM c") == [(1,)]
    bench.production.sql("ALTER TABLE t DROP CONSTRAINT t_k_region_key")
    assert "lock: brief" in refused(bench, key("lock: online\n", columns="k, region")).render()
    error = refused(bench, key("references: repoint\n"))
    assert "region" in error.render()


def test_one_partition(bench: Bench) -> None:
    bench.production.sql(
        "CREATE TABLE t (id int, region text, k text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);"
        "CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');"
        "CREATE TABLE c (id int PRIMARY KEY, region text, t int, FOREIGN KEY (region, t) REFERENCES t ON DELETE CASCADE);"
        "INSERT INTO t VALUES (1, 'a', 'x'), (2, 'a', 'x'); INSERT INTO c VALUES (1, 'a', 2)"
    )
    assert "partition" in refused(bench, key("references: repoint\n", table="t_a")).render()


COPIES = "CREATE TABLE t (id int PRIMARY KEY, k text, v text); CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t);"
RESTORE = "collections:\n  {0}: {{ table: production.{0}, source: backup }}\n"


def test_rows_that_another_resource_restores_are_deferred(bench: Bench) -> None:
    bench.both(COPIES)
    bench.backup.sql("INSERT INTO t VALUES (1, 'a'), (2, 'a'), (3, 'b')")
    bench.production.sql("INSERT INTO t VALUES (3, 'b'), (4, 'b')")
    bench.spec(RESTORE.format("t") + key())
    plan = bench.plan()
    assert summary(plan) == {"collections.t[public.t]/insert": 2}
    assert [(it.address, it.reason) for it in plan.header.deferred] == [
        ("unique_keys.one", "rows of public.t are changed by collections.t; plan again after apply")
    ]
    assert bench.plan().path.read_bytes() == plan.path.read_bytes()
    assert bench.apply(plan).converged
    again = bench.plan()
    assert summary(again)["unique_keys.one[public.t]/delete"] == 2
    assert not again.header.deferred


@pytest.mark.parametrize("rows", ["(1, 'a'), (2, 'a')", "(1, 'a'), (2, 'b')"])
def test_references_that_another_resource_restores(bench: Bench, rows: str) -> None:
    bench.both(COPIES + f"INSERT INTO t VALUES {rows};")
    bench.backup.sql("INSERT INTO c VALUES (1, 2)")
    bench.spec(RESTORE.format("c") + key("references: repoint\n"))
    plan = bench.plan()
    duplicates = "'b'" not in rows
    assert [it.address for it in plan.header.deferred] == (["unique_keys.one"] if duplicates else [])
    assert bench.apply(plan).code is Exit.DONE
    if not duplicates:
        assert summary(bench.plan()) == {}
        return
    again = bench.plan(None)
    bench.apply(again)
    assert bench.production.sql("SELECT t FROM c") == [(1,)]


def test_a_key_that_stands_defers_nothing(bench: Bench) -> None:
    bench.both(COPIES + "ALTER TABLE t ADD UNIQUE (k)")
    bench.backup.sql("INSERT INTO t VALUES (1, 'a')")
    bench.spec(RESTORE.format("t") + key())
    plan = bench.plan()
    assert plan.header.deferred == ()
    assert bench.apply(plan).converged


def test_two_keys_of_one_table(bench: Bench) -> None:
    bench.production.sql(TWICE + "INSERT INTO t VALUES (4, 'c', 'z')")
    two = key() + "  two:\n    table: production.t\n    key: [v]\n    archive: gone\n"
    bench.spec(two)
    plan = bench.plan()
    assert [it.address for it in plan.header.deferred] == ["unique_keys.two"]
    applied = bench.apply(plan)
    assert applied.code is Exit.DONE
    bench.apply(bench.plan())
    assert survivors(bench) == [1, 3]
    assert summary(bench.plan()) == {}


def test_two_keys_without_duplicates_are_made_at_once(bench: Bench) -> None:
    bench.production.sql(TWICE + "DELETE FROM t WHERE id = 2")
    bench.spec(key() + "  two:\n    table: production.t\n    key: [v]\n")
    assert len(bench.law().steps) == 2


def test_two_tables_that_would_create_one_archive(bench: Bench) -> None:
    bench.production.sql(TWICE + "CREATE TABLE u (id int PRIMARY KEY, k text, v text); INSERT INTO u SELECT * FROM t")
    bench.spec(key() + "  two:\n    table: production.u\n    key: [k]\n    archive: gone\n")
    plan = bench.plan()
    assert [(it.address, it.reason) for it in plan.header.deferred] == [
        ("unique_keys.two", "its archive public.gone is created by unique_keys.one; plan again after apply")
    ]
    bench.apply(plan)
    bench.apply(bench.plan())
    assert bench.production.sql("SELECT count(*) FROM gone") == [(2,)]
    assert summary(bench.plan()) == {}


def test_a_collection_that_reads_what_a_key_cleans_is_deferred(bench: Bench) -> None:
    bench.production.sql(TWICE + "CREATE TABLE u (LIKE t INCLUDING ALL)")
    bench.spec("collections:\n  u: { table: production.u, source: production.t }\n" + key())
    plan = bench.plan()
    assert [it.address for it in plan.header.deferred] == ["collections.u"]
    bench.apply(plan)
    bench.apply(bench.plan())
    assert survivors(bench, "u") == [1, 3]


def test_what_is_protected_stays(bench: Bench) -> None:
    bench.production.sql(
        TWICE + "CREATE TABLE c (t int REFERENCES t, x text, PRIMARY KEY (t, x)); INSERT INTO c VALUES (2, 'x')"
    )
    bench.spec(key("references: repoint\nprotect: true\n"))
    plan = bench.plan()
    assert summary(plan) == {}
    assert {it.kind for it in plan.header.hazards} == {"blocked"}
    bench.production.sql("DELETE FROM c; DELETE FROM t WHERE id = 2")
    assert summary(bench.law()) == {"unique_keys.one[constraint t_k_key]/create": 1}


def test_status_counts_and_tells_what_no_plan_would_do(bench: Bench, tmp_path: Path) -> None:
    bench.production.sql(TWICE + "CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t); INSERT INTO c VALUES (1, 2)")
    bench.spec(key("keep: [{ v: filled }]\n", archive=False))
    (status,) = app.status(bench.session())
    assert (status.in_sync, status.extra, status.wrong, status.differs) == (2, 1, 1, True)
    paths = app.status_csv(bench.session(), tmp_path / "found")
    duplicates = next(path for path in paths if path.name == "duplicates.csv")
    with duplicates.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["resource", "table", "key", "survivor", "reason"],
            ["unique_keys.one", "public.t", "2", "1", "duplicate: loses by v"],
        ]
    with pytest.raises(ReconcilerError):
        bench.plan()


def test_status_when_nothing_is_wrong(bench: Bench) -> None:
    bench.production.sql(TWICE)
    bench.spec(key())
    bench.apply(bench.plan())
    (status,) = app.status(bench.session())
    assert (status.in_sync, status.extra, status.wrong, status.differs) == (2, 0, 0, False)


def test_extract_leaves_keys_alone(bench: Bench, tmp_path: Path) -> None:
    bench.both(TWICE)
    bench.spec(RESTORE.format("t") + key())
    assert app.extract(bench.session(), tmp_path / "saved") == ("saved/t.jsonl: 3 rows",)
    bench.spec(key())
    assert app.extract(bench.session(), tmp_path / "nothing") == ()


def test_rehearsed_nothing_is_kept(bench: Bench) -> None:
    bench.production.sql(TWICE)
    for lock in ("brief", "online"):
        bench.spec(key(f"lock: {lock}\n"))
        plan = bench.plan()
        before = (bench.dump(), bench.structure())
        app.apply(plan, bench.session(), rehearse=True)
        assert (bench.dump(), bench.structure()) == before


def test_a_plan_says_what_it_locks_and_what_it_keeps_nowhere(bench: Bench) -> None:
    bench.production.sql(TWICE)
    bench.spec(key("max_delete: 1\n", archive=False))
    assert {it.kind for it in bench.plan().header.hazards} >= {"lock", "missing-archive", "delete"}
    assert counts(bench.law()) == {"delete public.t": 1, "create constraint t_k_key": 1}
