"""The systems a spec names, opened when first needed and closed together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeVar

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import AtprotoConnection, AtprotoSpec, FilesConnection, PostgresConnection, Spec
from reconciler.systems.postgres.catalog import Catalog, read_catalog
from reconciler.systems.postgres.session import Session, connect, explained

if TYPE_CHECKING:
    from reconciler.embedded import Server
    from reconciler.systems.pds.session import Session as Repo

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
    now: str | None = None
    """The present as it was given; else the clock of each system."""
    _sessions: dict[str, Session] = field(default_factory=dict[str, Session])
    _catalogs: dict[str, Catalog] = field(default_factory=dict[str, Catalog])
    _snapshots: bool = False
    _repos: dict[str, Repo] = field(default_factory=dict[str, "Repo"])
    _tell: Tell = field(default=_silent)

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

    def pds(self, name: str) -> Repo:
        """The repo behind a connection; it is found now and logged in to when first written to, once."""
        if name not in self._repos:
            from reconciler.systems.pds.session import Login
            from reconciler.systems.pds.session import Session as Repo

            it = self.spec.connection(name)
            if not isinstance(it, AtprotoConnection):
                raise ReconcilerError(f"connections.{name} is no PDS", where=self.spec.locate("connections", name))
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

    def fingerprint(self, name: str) -> str:
        """What tells this system from any other of its type."""
        return self.pds(name).did if self.is_pds(name) else self.session(name).fingerprint()

    def fingerprints(self) -> dict[str, dict[str, str]]:
        """Type and fingerprint of everything that was opened so far."""
        types = {**dict.fromkeys(self._sessions, "postgres"), **dict.fromkeys(self._repos, "atproto")}
        return {name: {"type": types[name], "fingerprint": self.fingerprint(name)} for name in sorted(types)}

    def scratch(self) -> IO[bytes]:
        """A temporary file that goes with the world."""
        return self._stack.enter_context(tempfile.TemporaryFile(prefix="reconciler-"))

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
def opened(spec: Spec, *, snapshots: bool, tell: Tell | None = None, now: str | None = None) -> Generator[World]:
    """A world to read (`snapshots`) or to write."""
    with ExitStack() as stack:
        if snapshots:  # an apply explains for itself what it does not try again
            stack.enter_context(explained("reading", "a database of the spec"))
        yield World(spec, stack, now, _snapshots=snapshots, _tell=tell or _silent)
