"""A storage to test on, in each of the ways there are.

RECONCILER_TEST_STORAGE_URL, _KEY and _DSN put a live server in the double's place; tests of faults are skipped then.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack

import httpx
import pytest

from reconciler.systems.postgres.session import connect
from reconciler.systems.storage import directory, supabase
from reconciler.systems.storage.project import SupabaseStorage
from tests.postgres import Database
from tests.storage.double import Double, serving
from tests.storage.worlds import QUICK, WAYS, Server, World, fresh_name, live


@pytest.fixture
def double(database: Database) -> Generator[Double]:
    """A server of the test's own."""
    with serving(database.dsn) as double:
        yield double


@pytest.fixture
def make_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Callable[[str], World]]:
    """`make_world(way)`: a storage with two buckets, gone after the test."""
    with ExitStack() as stack:

        def make(way: str) -> World:
            bucket, other = fresh_name(), fresh_name()
            if way == "directory":
                folder = tmp_path_factory.mktemp("media")
                for name in (bucket, other):
                    (folder / name).mkdir()
                return World(directory("media", folder), bucket, other, way, folder=folder)
            server = live() or _doubled(request.getfixturevalue("double"))
            if way == "sql" and server.dsn is None:
                pytest.skip("the live server's database is not given")
            if way == "list v1":
                if server.double is None:
                    pytest.skip("a live server has list v2")
                server.double.list_v2 = False
            stack.enter_context(_buckets(server, bucket, other))
            session = stack.enter_context(connect("storage", server.dsn)) if way == "sql" and server.dsn else None
            storage = supabase("storage", server.url, server.key, session, QUICK)
            stack.callback(storage.close)
            return World(storage, bucket, other, way, server)

        yield make


@pytest.fixture(params=WAYS)
def world(request: pytest.FixtureRequest, make_world: Callable[[str], World]) -> World:
    """The same contract in every way."""
    return make_world(request.param)


@pytest.fixture(params=[way for way in WAYS if way != "directory"])
def doubled(request: pytest.FixtureRequest, make_world: Callable[[str], World]) -> World:
    """Where something is to go wrong on the way: never a live server."""
    if live():
        pytest.skip("a live server does not fail on demand")
    return make_world(request.param)


@pytest.fixture
def api(make_world: Callable[[str], World]) -> World:
    """The double by its API."""
    if live():
        pytest.skip("a live server does not fail on demand")
    return make_world("list v2")


def _doubled(double: Double) -> Server:
    return Server(double.url, double.key, double.dsn, double)


class _buckets:
    """Two buckets of a server, for a context."""

    def __init__(self, server: Server, *names: str) -> None:
        self._http = httpx.Client(
            base_url=f"{server.url}/storage/v1", headers={"apikey": server.key, "Authorization": f"Bearer {server.key}"}
        )
        self._server = server
        self._names = names

    def __enter__(self) -> None:
        for name in self._names:
            self._http.post("/bucket", json={"id": name, "name": name}).raise_for_status()

    def __exit__(self, *_: object) -> None:
        with self._http:
            if self._server.double is None:
                for name in self._names:
                    self._http.post(f"/bucket/{name}/empty", json={})
                    self._http.request("DELETE", f"/bucket/{name}", json={})


def storage_of(server: Double, key: str | None = None) -> SupabaseStorage:
    """One more client of the double."""
    return SupabaseStorage("storage", server.url, key or server.key, None, QUICK)
