"""The demo's world: two databases on an embedded PostgreSQL, a folder as storage and one in place of a PDS, and specs.

In: an empty folder. Out: a `World` while the context lasts. `world/X.sql` makes what was there, then `backup` is copied from
`production`, then `world/X.damage.sql` and `damage` spoil production and the folders, as in the report of that name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.embedded import cluster
from reconciler.systems.postgres.session import Session, connect, ident, lit, q, raw

HERE = Path(__file__).parent
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
NAMES = {"production": "DEMO_PRODUCTION_URL", "backup": "DEMO_BACKUP_URL"}
"""Databases, and the variables that hold their addresses: none that a user may have set for databases that matter."""


@dataclass(frozen=True)
class World:
    """Where everything is."""

    folder: Path
    urls: dict[str, str]

    def environment(self) -> dict[str, str]:
        """What the specs read from the environment."""
        return {NAMES[name]: url for name, url in self.urls.items()}

    @contextmanager
    def database(self, name: str = "production") -> Generator[Session]:
        with connect(name, self.urls[name]) as session:
            yield session

    def count(self, sql: str, database: str = "production") -> int:
        """The one number that a query of ours gives."""
        with self.database(database) as session:
            return int(session.value(raw(sql)))

    def state(self, database: str = "production") -> dict[str, str]:
        """All there is: a digest of each table's rows, of each file's content, and the names of objects."""
        with self.database(database) as session:
            return {**_tables(session), **{f"file {name}": text for name, text in self._files()}}

    def _files(self) -> Iterator[tuple[str, str]]:
        for path in sorted(path for top in ("media", "repo") for path in (self.folder / top).rglob("*")):
            if path.is_file():
                yield path.relative_to(self.folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def world(folder: Path) -> Generator[World]:
    """The damaged world in an empty folder, running until the end of the context."""
    with cluster() as server:
        made = World(folder, {name: server.dsn(name) for name in NAMES})
        shutil.copytree(HERE / "specs", folder / "specs", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "plans").mkdir()
        lines = [f"{name}={url}\n" for name, url in made.environment().items()]
        (folder / ".env").write_text("# The demo's databases, while it runs.\n" + "".join(lines), "utf-8")
        scripts = sorted(path for path in (HERE / "world").glob("*.sql"))
        damages = [path for path in scripts if path.name.endswith(".damage.sql")]
        with connect("postgres", server.dsn()) as session:
            session.run(raw("CREATE DATABASE production"))
        _run(made, [path for path in scripts if path not in damages])
        with connect("postgres", server.dsn()) as session:
            session.run(raw("CREATE DATABASE backup TEMPLATE production"))
        _repo(made)
        _run(made, damages)
        yield made


def _run(made: World, scripts: list[Path]) -> None:
    with made.database() as session:
        for path in scripts:
            session.run(raw(path.read_text("utf-8")))


def _repo(made: World) -> None:
    """The author's repo after the deletions: records of the old kind are all that is left."""
    place = made.folder / "repo" / "pub.leaflet.publication"
    place.mkdir(parents=True)
    (place / "3kold.json").write_text(json.dumps({"$type": "pub.leaflet.publication", "name": "Old Notes"}), "utf-8")


def _tables(session: Session) -> dict[str, str]:
    names = session.rows(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2"
    )
    found: dict[str, str] = {}
    for schema, table in names:
        rows = q("SELECT md5(coalesce(string_agg(t::text, {} ORDER BY t::text), '')) FROM {} t", lit("\n"), ident(schema, table))
        found[f"table {schema}.{table}"] = str(session.value(rows))
    others = session.rows(
        "SELECT 'constraint ' || conname FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname !~ '^pg_'"
        " UNION SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    )
    return {**found, **{str(name): "" for (name,) in others}}
