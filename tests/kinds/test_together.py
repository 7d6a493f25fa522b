"""What each is right alone, together: deletes and what they take along, protection, scopes, parents; one small world each."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from reconciler import app
from reconciler.plan.errors import ReconcilerError
from tests.kinds.bench import Bench, counts

DELETE = "source: backup, on_extra: delete, max_delete: 99, allow: [R004, R010]"
PAIR = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p {}); INSERT INTO p VALUES (1);"
HALF = (
    "CREATE TABLE p (x int, y int, PRIMARY KEY (x, y)); INSERT INTO p VALUES (5, 1), (5, 2);"
    "CREATE TABLE c (id int PRIMARY KEY, x int, y int, FOREIGN KEY (x, y) REFERENCES p)"
)


class World(NamedTuple):
    """`gives` are the counts of the plan, which keeps the law; or words of the error that refuses it."""

    both: str
    backup: str
    production: str
    spec: str
    gives: dict[str, int] | str


WORLDS = {
    "roots alone are their conditions": World(
        "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t, v text); INSERT INTO t VALUES (1, NULL, 'a')",
        "", "INSERT INTO t VALUES (5, 1, 'mine'), (6, 5, 'mine')",
        f"all: {{ into: production, roots: {{ t: id = 1 }}, {DELETE} }}", {},
    ),
    "nothing goes along with what is protected": World(
        PAIR.format("ON DELETE CASCADE") + "CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL)",
        "INSERT INTO p VALUES (3)", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2); INSERT INTO n VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE}, protect: true }}", {"insert public.p": 1},
    ),
    "what is protected does not go along": World(
        PAIR.format("ON DELETE CASCADE"), "", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE} }}\nc: {{ table: production.c, source: backup, protect: true }}",
        "1 rows of public.c that collections.c protects would go",
    ),
    "what is protected does not lose its parent": World(
        PAIR.format("ON DELETE SET NULL"), "", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE} }}\nc: {{ table: production.c, source: backup, protect: true }}",
        "or lose what they point at",
    ),
    "what is protected and extra may be pointed at": World(
        PAIR.format(""), "INSERT INTO p VALUES (3)", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE}, protect: true }}", {"insert public.p": 1},
    ),
    "set NULL on the way of a cascade": World(
        PAIR.format("ON DELETE CASCADE") + "CREATE TABLE d (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL,"
        " c int REFERENCES c ON DELETE CASCADE)",
        "", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (2, 2); INSERT INTO d VALUES (1, 2, 2)",
        f"p: {{ table: production.p, {DELETE} }}", {"delete public.c": 1, "delete public.d": 1, "delete public.p": 1},
    ),
    "set NULL behind two deletes of one table": World(
        "CREATE TABLE a (id int PRIMARY KEY, up int REFERENCES a ON DELETE CASCADE); INSERT INTO a VALUES (1, NULL);"
        "CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a ON DELETE SET NULL)",
        "", "INSERT INTO a VALUES (2, NULL), (3, 2); INSERT INTO c VALUES (1, 2), (2, 3)",
        f"a: {{ table: production.a, {DELETE}, where: id <> 3 }}", {"update public.c": 2, "delete public.a": 2},
    ),
    "set NULL where none may be": World(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int NOT NULL REFERENCES p ON DELETE SET NULL)",
        "INSERT INTO p VALUES (1)", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE} }}", "would set p to NULL in 1 rows of public.c",
    ),
    "changed elsewhere and let go of": World(
        PAIR.format("ON DELETE SET NULL") + "ALTER TABLE c ADD v text",
        "INSERT INTO c VALUES (1, 1, 'new')", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2, 'old')",
        f"p: {{ table: production.p, {DELETE} }}\nc: {{ table: production.c, source: backup, columns: [v] }}",
        {"update public.c": 2, "delete public.p": 1},
    ),
    "changed elsewhere and in the way": World(
        PAIR.format("") + "ALTER TABLE c ADD v text",
        "INSERT INTO c VALUES (1, 1, 'new')", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2, 'old')",
        f"p: {{ table: production.p, {DELETE} }}\nc: {{ table: production.c, source: backup, columns: [v] }}",
        "still referenced",
    ),
    "led away from what goes": World(
        PAIR.format("ON DELETE CASCADE"), "INSERT INTO c VALUES (1, 1)", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE} }}\nc: {{ table: production.c, source: backup }}",
        {"update public.c": 1, "delete public.p": 1},
    ),
    "left as it is, pointing at what goes": World(
        PAIR.format("ON DELETE CASCADE"), "ALTER TABLE c DROP CONSTRAINT c_p_fkey; INSERT INTO c VALUES (1, 7)",
        "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
        f"p: {{ table: production.p, {DELETE} }}\nc: {{ table: production.c, source: backup, on_missing_parent: skip }}",
        {"delete public.c": 1, "delete public.p": 1},
    ),
    "half a key filled": World(
        HALF, "INSERT INTO c VALUES (1, 5, 1)", "INSERT INTO c VALUES (1, 7, NULL)",
        "c: { table: production.c, source: backup, on_changed: fill }", "parents that are gone",
    ),
    "half a key declared": World(
        HALF, "INSERT INTO p VALUES (6, 2); INSERT INTO c VALUES (1, 6, 2)", "INSERT INTO c VALUES (1, 5, 1)",
        "c: { table: production.c, source: backup, columns: [x] }", "parents that are gone",
    ),
    "half a key filled to a whole one": World(
        HALF, "INSERT INTO c VALUES (1, 5, 2)", "INSERT INTO c VALUES (1, 5, NULL)",
        "c: { table: production.c, source: backup, on_changed: fill }", {"update public.c": 1},
    ),
    "NULL for a lost parent, and none is lost": World(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int NOT NULL REFERENCES p); INSERT INTO p VALUES (1)",
        "INSERT INTO c VALUES (1, 1)", "", 'c: { table: production.c, source: backup, on_missing_parent: "null" }',
        {"insert public.c": 1},
    ),
    "a value that others point at": World(
        "CREATE TABLE p (id int PRIMARY KEY, code int UNIQUE); CREATE TABLE c (id int PRIMARY KEY, code int REFERENCES p (code))",
        "INSERT INTO p VALUES (1, 7)", "INSERT INTO p VALUES (1, 6); INSERT INTO c VALUES (1, 6)",
        "p: { table: production.p, source: backup }", "code would change under 1 rows of public.c",
    ),
    "newer by a column that is not written": World(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at int)",
        "INSERT INTO t VALUES (1, 'new', 2), (2, 'old', 1)", "INSERT INTO t VALUES (1, 'old', 1), (2, 'new', 2)",
        "t: { table: production.t, source: backup, columns: [v], on_changed: { newer: at } }", {"update public.t": 1},
    ),
    "a copy of what is protected": World(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE copied (id int PRIMARY KEY, v text)",
        "INSERT INTO t VALUES (1, 'a')", "INSERT INTO t VALUES (1, 'kept')",
        "t: { table: production.t, source: backup, protect: true }\ncopied: { table: production.copied, source: production.t }",
        {"insert public.copied": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
def test_together(bench: Bench, name: str) -> None:
    world = WORLDS[name]
    bench.both(world.both)
    for database, text in ((bench.backup, world.backup), (bench.production, world.production)):
        if text:
            database.sql(text)
    bench.write(world.spec + "\n")
    if isinstance(world.gives, str):
        with pytest.raises(ReconcilerError) as caught:
            bench.plan()
        assert world.gives in caught.value.render()
    else:
        assert counts(bench.law()) == world.gives


@pytest.mark.parametrize(
    ("both", "theirs", "ours", "spec", "counted"),
    [
        (
            "CREATE TABLE t (id int PRIMARY KEY, g int)", "INSERT INTO t VALUES (1, 0), (2, 1), (3, 1)",
            "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)", "t: { table: production.t, source: backup, where: g = 0, on_changed: keep }",
            (3, 0, 0, 0),
        ),
        (
            PAIR.format(""), "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2), (2, 2)", "",
            "c: { table: production.c, source: backup, on_missing_parent: skip }", (0, 0, 0, 0),
        ),
        (
            PAIR.format(""), "", "INSERT INTO p VALUES (2); INSERT INTO c VALUES (1, 2)",
            f"p: {{ table: production.p, {DELETE}, protect: true }}", (1, 0, 0, 1),
        ),
    ],
)  # fmt: skip
def test_status_of(
    bench: Bench, both: str, theirs: str, ours: str, spec: str, counted: tuple[int, int, int, int]
) -> None:
    bench.both(both)
    bench.backup.sql(theirs or "SELECT")
    bench.production.sql(ours or "SELECT")
    bench.write(spec + "\n")
    [found] = app.status(bench.session())
    assert (found.in_sync, found.missing, found.changed, found.extra) == counted


def test_deletes_beside_a_unique_key_that_waits(bench: Bench) -> None:
    bench.both(
        "CREATE TABLE p (id int PRIMARY KEY, w int); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL)"
    )
    bench.backup.sql("INSERT INTO p VALUES (1, 1)")
    bench.production.sql("INSERT INTO p VALUES (1, 1), (2, 1); INSERT INTO c VALUES (1, 2)")
    bench.spec("""
        collections: { p: { table: production.p, source: backup, on_extra: delete, max_delete: 9 } }
        unique_keys: { k: { table: production.p, key: [w], keep: [{ id: highest }], references: delete, max_delete: 9 } }
    """)
    plan = bench.plan()
    assert counts(plan) == {"update public.c": 1, "delete public.p": 1}
    assert [it.address for it in plan.header.deferred] == ["unique_keys.k"]
    assert len(app.status(bench.session())) == 2
