"""The systems a spec names, opened when first needed and closed together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeVar

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import (
    AtprotoConnection,
    AtprotoSpec,
    DirectoryConnection,
    DirectorySpec,
    FilesConnection,
    PostgresConnection,
    Spec,
    SupabaseConnection,
    SupabaseSpec,
    type_of,
)
from reconciler.systems.postgres.catalog import Catalog, read_catalog
from reconciler.systems.postgres.session import Composable, Session, connect, explained

if TYPE_CHECKING:
    from reconciler.embedded import Server
    from reconciler.systems.pds.session import Session as Repo
    from reconciler.systems.storage import Storage

_Entered = TypeVar("_Entered")
Tell = Callable[[float, str], None]
"""Told before a pause: how many seconds, and why."""


def _silent(seconds: float, reason: str) -> None:
    del seconds, reason


@dataclass
class World:
    """Open connections by their names in the spec; while planning, each within its one snapshot."""

    spec: Spec
    _stack: ExitStack
    _sessions: dict[str, Session] = field(default_factory=dict[str, Session])
    _catalogs: dict[str, Catalog] = field(default_factory=dict[str, Catalog])
    _snapshots: bool = False
    _repos: dict[str, Repo] = field(default_factory=dict[str, "Repo"])
    _tell: Tell = field(default=_silent)
    _application_name: str = "reconciler"
    now: int = 0
    """The clock, in seconds since 1970; part of the world that a plan is made on."""
    _storages: dict[str, Storage] = field(default_factory=dict[str, "Storage"])
    _buckets: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def files(self, name: str) -> FilesConnection | None:
        """The connection, if it is a folder or file of rows."""
        connection = self.spec.connection(name)
        return connection if isinstance(connection, FilesConnection) else None

    def session(self, name: str) -> Session:
        """The connection to a database; while planning it is within its snapshot already."""
        if name not in self._sessions:
            connection = self.spec.connection(name)
            if not isinstance(connection, PostgresConnection):
                raise ReconcilerError(
                    f"connections.{name} is not a database", where=self.spec.locate("connections", name),
                    todo="rows can only be written to a postgres connection",
                )  # fmt: skip
            dsn = self._embedded().dsn(name) if connection.embedded else connection.dsn.reveal()
            session = self._stack.enter_context(connect(name, dsn, application_name=self._application_name))
            if self._snapshots:
                self._stack.enter_context(session.snapshot())
            self._sessions[name] = session
        return self._sessions[name]

    def pds(self, name: str) -> Repo:
        """The repo behind a connection; it is found now and logged in to when first written to, once."""
        if name not in self._repos:
            from reconciler.systems.pds.session import Login
            from reconciler.systems.pds.session import Session as Repo

            it = self.spec.connection(name)
            if not isinstance(it, AtprotoConnection):
                raise ReconcilerError(f"connections.{name} is no PDS", where=self.spec.locate("connections", name))
            if it.directory:
                from reconciler.systems.pds.folder import FolderSession

                self._repos[name] = self._stack.enter_context(FolderSession(it.directory, it.identifier))
                return self._repos[name]
            login = Login(
                it.identifier,
                it.password.reveal() if it.password else None,
                it.pds,
                it.plc,
                it.via,
                it.token.reveal() if it.token else None,
            )
            repo = Repo(login, waiting=lambda wait: self._tell(wait.seconds, wait.reason))
            self._repos[name] = self._stack.enter_context(repo)
        return self._repos[name]

    def is_pds(self, name: str) -> bool:
        """Whether records are behind a connection, and not rows."""
        return isinstance(self.spec.document.connections.get(name), AtprotoSpec)

    def storage(self, name: str, *buckets: str) -> Storage:
        """The storage behind a connection. A plan belongs to the `buckets` that were named here, as well as to the project."""
        if name not in self._storages:
            self._storages[name] = self._stack.enter_context(closing(self._open_storage(name)))
        self._buckets.setdefault(name, set()).update(buckets)
        return self._storages[name]

    def inventory_query(self, name: str, bucket: str, prefix: str, connection: str) -> Composable | None:
        """The inventory as a SELECT for a database connection, where the storage names that very database as its own."""
        storage, database = self.spec.connection(name), self.spec.connection(connection)
        if not isinstance(storage, SupabaseConnection) or not isinstance(database, PostgresConnection):
            return None
        if storage.dsn is None or storage.dsn != database.dsn:
            return None
        from reconciler.systems.storage.project import SupabaseStorage

        opened = self.storage(name, bucket)
        assert isinstance(opened, SupabaseStorage)
        return opened.inventory_query(self.session(connection), bucket, prefix)

    def _open_storage(self, name: str) -> Storage:
        from reconciler.systems import storage

        it = self.spec.connection(name)
        if isinstance(it, DirectoryConnection):
            return storage.directory(name, it.path)
        if not isinstance(it, SupabaseConnection):
            todo = "name a supabase or directory connection"
            raise ReconcilerError(
                f"connections.{name} holds no buckets", where=self.spec.locate("connections", name), todo=todo
            )
        session = None
        if it.dsn is not None:  # a session of the storage's own: an inventory occupies it
            session = self._stack.enter_context(connect(name, it.dsn.reveal()))
            if self._snapshots:
                self._stack.enter_context(session.snapshot())
        return storage.supabase(name, it.url, it.key.reveal(), session)

    def is_storage(self, name: str) -> bool:
        """Whether objects are behind a connection."""
        return isinstance(self.spec.document.connections.get(name), SupabaseSpec | DirectorySpec)

    def fingerprint(self, name: str) -> str:
        """What tells this system from any other of its type; of a storage, one `bucket:digits` for each bucket used."""
        if self.is_storage(name):
            storage = self.storage(name)
            return " ".join(f"{it}:{storage.fingerprint(it)}" for it in sorted(self._buckets[name]))
        return self.pds(name).did if self.is_pds(name) else self.session(name).fingerprint()

    def is_same(self, name: str, fingerprint: str) -> bool:
        """Whether that is this system's fingerprint; of a storage, for whichever buckets it was made."""
        if self.is_storage(name):
            made_for = (it.partition(":")[0] for it in fingerprint.split())
            self.storage(name, *made_for)
        return bool(fingerprint) and self.fingerprint(name) == fingerprint

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Type and fingerprint of everything that was opened so far."""
        types = {**dict.fromkeys(self._sessions, "postgres"), **dict.fromkeys(self._repos, "atproto")}
        types |= {name: type_of(self.spec.document.connections[name]) for name in self._storages}
        return {name: {"type": types[name], "fingerprint": self.fingerprint(name)} for name in sorted(types)}

    def scratch(self) -> IO[bytes]:
        """A temporary file that goes with the world."""
        return self._stack.enter_context(tempfile.TemporaryFile(buffering=1 << 16, prefix="reconciler-"))

    def enter(self, it: AbstractContextManager[_Entered]) -> _Entered:
        """Something that stays open as long as the world."""
        return self._stack.enter_context(it)

    def catalog(self, name: str) -> Catalog:
        """The tables of a database, read once."""
        if name not in self._catalogs:
            self._catalogs[name] = read_catalog(self.session(name))
        return self._catalogs[name]

    @property
    def sessions(self) -> Mapping[str, Session]:
        """What was opened so far."""
        return dict(sorted(self._sessions.items()))

    def _embedded(self) -> Server:
        from reconciler.embedded import start

        return self._stack.enter_context(start(self.spec.base / ".reconciler" / "postgres", durable=True))


@contextmanager
def opened(
    spec: Spec,
    *,
    snapshots: bool,
    tell: Tell | None = None,
    application_name: str = "reconciler",
    now: int | None = None,
) -> Generator[World]:
    """A world to read (`snapshots`) or to write, under a name that the server shows and logs."""
    with ExitStack() as stack:
        if snapshots:  # an apply explains for itself what it does not try again
            stack.enter_context(explained("reading", "a database of the spec"))
        yield World(
            spec,
            stack,
            _snapshots=snapshots,
            _tell=tell or _silent,
            _application_name=application_name,
            now=int(time.time()) if now is None else now,
        )
