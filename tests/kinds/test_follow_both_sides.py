"""`follow: dependents`: what is reached on either side leads to its dependents on both."""

from __future__ import annotations

import pytest

from tests.kinds.bench import Bench

THREE = """
CREATE TABLE root (id int PRIMARY KEY);
CREATE TABLE middle (id int PRIMARY KEY, root int REFERENCES root, code text UNIQUE);
CREATE TABLE leaf (id int PRIMARY KEY, middle int REFERENCES middle, code text REFERENCES middle (code));
INSERT INTO root VALUES (1);
INSERT INTO middle VALUES (1, 1, 'one'), (2, 1, NULL), (3, NULL, NULL);
"""
ALL = 'all: { into: production, source: backup, roots: { root: "true" }, follow: dependents, on_extra: delete, max_delete: 10 }'
TABLES = ("root", "middle", "leaf")


def test_a_row_reached_in_the_target_alone_leads_to_rows_of_the_source(bench: Bench) -> None:
    bench.both(THREE)
    bench.backup.sql(
        "UPDATE middle SET root = NULL WHERE id = 1; INSERT INTO leaf VALUES (1, 1, NULL), (2, NULL, 'one'), (3, 3, NULL)"
    )
    bench.production.sql("INSERT INTO leaf VALUES (4, 2), (5, 3)")
    bench.law(ALL)
    assert bench.production.sql("SELECT id FROM leaf ORDER BY id") == [(1,), (2,), (5,)]


TREE = "CREATE TABLE node (id int PRIMARY KEY, parent int REFERENCES node, name text)"
OF_TREE = ALL.replace('root: "true"', "node: id = 1").replace("follow", "on_changed: update, follow")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        # production has lost a link: what hangs below it there is reached by way of the backup
        ("(1, NULL), (2, 1), (3, 2)", "(1, NULL), (2, NULL), (3, 2), (4, 3)"),
        # each side leads on where the other has no link, three times over
        ("(1, NULL), (2, 1), (3, NULL), (4, 3), (5, NULL)", "(1, NULL), (2, NULL), (3, 2), (4, NULL), (5, 4), (6, 5)"),
        # nothing of the tree is there
        ("(1, NULL), (2, 1), (3, 2)", "(9, NULL)"),
    ],
)
def test_a_tree_whose_links_differ(bench: Bench, source: str, target: str) -> None:
    bench.both(TREE)
    bench.backup.sql(f"INSERT INTO node VALUES {source}")
    bench.production.sql(f"INSERT INTO node VALUES {target}")
    plan = bench.plan(OF_TREE)
    assert bench.apply(plan).converged
    wanted = bench.backup.sql("SELECT id, parent FROM node ORDER BY id")
    assert [row for row in bench.production.sql("SELECT id, parent FROM node ORDER BY id") if row[0] != 9] == wanted


def test_of_files(bench: Bench) -> None:
    bench.production.sql(THREE + "INSERT INTO leaf VALUES (1, 1), (3, 3)")
    folder = bench.folder / "files"
    folder.mkdir()
    for name in ("root", "middle", "leaf"):
        rows = bench.production.sql(f"SELECT row_to_json(t)::text FROM {name} t")
        (folder / f"{name}.jsonl").write_text("".join(f"{row[0]}\n" for row in rows))
    bench.production.sql("DELETE FROM leaf; UPDATE middle SET root = NULL WHERE id = 1; INSERT INTO leaf VALUES (2, 1)")
    bench.path.write_text(
        'version: 1\nconnections: { production: { postgres: "${env:PRODUCTION_URL}" }, files: { files: files } }\n'
        f"collections: {{ {ALL.replace('backup', 'files')} }}\n"
    )
    assert bench.apply(bench.plan()).converged
    assert bench.production.sql("SELECT id FROM leaf ORDER BY id") == [(1,)]
