"""The demo's world: databases on an embedded PostgreSQL, a folder as storage, the author's repo, and specs.

In: an empty folder, and a repo with nothing in it. Out: a `World` while the context lasts. `world/DATABASE/world.sql` makes what was
there, then `backup` is copied from `production`, then `world/DATABASE/damage.sql` spoils it as a field report tells.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.demo.repo import Repo
from reconciler.embedded import cluster
from reconciler.plan.errors import ReconcilerError
from reconciler.systems.postgres.session import Session, connect, explained, ident, lit, q, raw

HERE = Path(__file__).parent
DAMAGED = tuple(sorted(path.name for path in (HERE / "world").iterdir()))
BACKUP, BACKED_UP = "backup", "production"
NAMES = {name: f"DEMO_{name.upper()}_URL" for name in (*DAMAGED, BACKUP)}
"""Databases, and the variables that hold their addresses: none that a user may have set for databases that matter."""


@dataclass(frozen=True)
class World:
    """Where everything is."""

    folder: Path
    urls: dict[str, str]
    repo: Repo

    def environment(self) -> dict[str, str]:
        """What the specs read from the environment."""
        return {NAMES[name]: url for name, url in self.urls.items()} | self.repo.environment()

    @contextmanager
    def database(self, name: str) -> Generator[Session]:
        with connect(name, self.urls[name]) as session:
            yield session

    def count(self, database: str, sql: str) -> int:
        """The one number that a query of ours gives."""
        return int(self.value(database, sql))

    def value(self, database: str, sql: str) -> str:
        with self.database(database) as session:
            return str(session.value(raw(sql)))

    def refused(self, database: str, sql: str) -> str:
        """What the database says to a statement that it does not carry out; nothing if it does."""
        with self.database(database) as session:
            try:
                with explained("trying it", database):
                    session.run(raw(sql))
            except ReconcilerError as error:
                return error.why or ""
            return ""

    def script(self, database: str, name: str) -> None:
        """Run one of the database's own files."""
        with self.database(database) as session:
            session.run(raw(self.repo.told((HERE / "world" / database / name).read_text("utf-8"))))

    def state(self, *, besides: str = "") -> dict[str, str]:
        """All there is, besides one column: digests of each table's rows, each file's content and each record, names of other objects."""
        found = {f"file {name}": text for name, text in self._files()}
        found |= {f"record {name}": text for name, text in self.repo.records().items()}
        for name in DAMAGED:
            with self.database(name) as session:
                found |= {f"{name}: {thing}": text for thing, text in _things(session, besides)}
        return found

    def _files(self) -> Iterator[tuple[str, str]]:
        for path in sorted((self.folder / "media").rglob("*")):
            if path.is_file():
                yield path.relative_to(self.folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def world(folder: Path, repo: Repo) -> Generator[World]:
    """The damaged world in an empty folder, running until the end of the context."""
    with cluster() as server:
        made = World(folder, {name: server.dsn(name) for name in NAMES}, repo)
        shutil.copytree(HERE / "specs", folder / "specs", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (folder / "specs").glob("*.yaml"):
            path.write_text(repo.told(path.read_text("utf-8")), "utf-8")
        (folder / "plans").mkdir()
        with connect("postgres", server.dsn()) as session:
            for name in DAMAGED:
                session.run(q("CREATE DATABASE {}", ident(name)))
                made.script(name, "world.sql")
            session.run(q("CREATE DATABASE {} TEMPLATE {}", ident(BACKUP), ident(BACKED_UP)))
        for name in DAMAGED:
            made.script(name, "damage.sql")
        # The author's repo after the deletions: records of the old kind are all that is left.
        repo.create("pub.leaflet.publication", "3kold", {"$type": "pub.leaflet.publication", "name": "Old Notes"})
        _media(made)
        _tool(made)
        addresses = folder / ".env"
        try:
            lines = [f"{name}={it}\n" for name, it in made.environment().items() if name.startswith("DEMO_")]
            addresses.write_text("# The demo's servers, while it runs.\n" + "".join(lines), "utf-8")
            yield made
        finally:
            addresses.unlink(missing_ok=True)


def _media(made: World) -> None:
    """Pictures; a few that rows speak of are not there."""
    names = [f"cms-images/garden/{n:03}.jpg" for n in range(1, 58)] + [f"cms-images/other/{n}.jpg" for n in range(1, 6)]
    names += [f"part-images/part-{n:04}.jpg" for n in range(1, 238)]
    for name in names:
        path = made.folder / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"picture {name}", "utf-8")


def _tool(made: World) -> None:
    """The program that the specs' processes call, with this Python."""
    path = made.folder / "specs" / "tools" / "process_image"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m reconciler.demo.process_image "$@"\n', "utf-8")
    path.chmod(0o755)


def _things(session: Session, besides: str) -> Iterator[tuple[str, str]]:
    tables = session.rows(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2"
    )
    for schema, table in tables:
        rows = "SELECT md5(coalesce(string_agg(line, ' ' ORDER BY line), '')) FROM (SELECT (to_jsonb(t) - {})::text FROM {} t) l (line)"
        yield f"table {schema}.{table}", str(session.value(q(rows, lit(besides), ident(schema, table))))
    objects = session.rows(
        "SELECT 'constraint ' || conname FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = 'public'"
        " UNION SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = 'public'"
    )
    yield from ((str(name), "") for (name,) in objects)
