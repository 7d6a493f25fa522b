"""The systems a spec names, opened when first needed and closed together."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import FilesConnection, PostgresConnection, Spec
from reconciler.systems.postgres.catalog import Catalog, read_catalog
from reconciler.systems.postgres.session import Session, connect, explained

if TYPE_CHECKING:
    from reconciler.embedded import Server


@dataclass
class World:
    """Open connections by their names in the spec; while planning, each within its one snapshot."""

    spec: Spec
    _stack: ExitStack
    _sessions: dict[str, Session] = field(default_factory=dict[str, Session])
    _catalogs: dict[str, Catalog] = field(default_factory=dict[str, Catalog])
    _snapshots: bool = False

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
            session = self._stack.enter_context(connect(name, dsn))
            if self._snapshots:
                self._stack.enter_context(session.snapshot())
            self._sessions[name] = session
        return self._sessions[name]

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
def opened(spec: Spec, *, snapshots: bool) -> Generator[World]:
    """A world to read (`snapshots`) or to write."""
    with ExitStack() as stack:
        if snapshots:  # an apply explains for itself what it does not try again
            stack.enter_context(explained("reading", "a database of the spec"))
        yield World(spec, stack, _snapshots=snapshots)
