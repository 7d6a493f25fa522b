"""A storage to test on, in each of the ways there are. The README beside it says how a live server takes the double's place."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from reconciler.embedded import Server as Postgres
from reconciler.systems.postgres.session import connect
from reconciler.systems.storage import directory, supabase
from reconciler.systems.storage.project import SupabaseStorage
from tests.postgres import Servers
from tests.storage.double import Double, serving
from tests.storage.worlds import QUICK, WAYS, Server, World, fresh_name, live


@pytest.fixture(scope="session")
def shared_double(postgres_servers: Servers, postgres_server: Postgres) -> Generator[Double]:
    """One server for all tests of this process; each has buckets of its own."""
    database = postgres_servers.create(postgres_server, "storage")
    try:
        with serving(database.dsn) as double:
            yield double
    finally:
        postgres_servers.drop(database)


@pytest.fixture
def double(shared_double: Double) -> Generator[Double]:
    """The server, well again after the test."""
    if live():
        pytest.skip("a live server does not fail on demand")
    shared_double.reset()
    yield shared_double
    shared_double.reset()


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
def doubled(request: pytest.FixtureRequest, make_world: Callable[[str], World], double: Double) -> World:
    """Where something is to go wrong on the way: never a live server."""
    del double
    return make_world(request.param)


@pytest.fixture
def api(make_world: Callable[[str], World], double: Double) -> World:
    """The double by its API."""
    del double
    return make_world("list v2")


def _doubled(double: Double) -> Server:
    return Server(double.url, double.key, double.dsn, double)


@contextmanager
def _buckets(server: Server, *names: str) -> Generator[None]:
    """Two buckets of a server."""
    headers = {"apikey": server.key, "Authorization": f"Bearer {server.key}"}
    base = f"{server.url}/storage/v1"
    with httpx.Client(base_url=base, headers=headers, timeout=60, verify=base.startswith("https:")) as http:
        for name in names:
            http.post("/bucket", json={"id": name, "name": name}).raise_for_status()
        yield
        if server.double is not None:
            server.double.heal()
        for name in names:
            http.post(f"/bucket/{name}/empty", json={})
            for _ in range(20):  # a live server empties it in its own time
                if http.request("DELETE", f"/bucket/{name}", json={}).is_success:
                    break
                time.sleep(0.5)


@pytest.fixture
def client_of(double: Double) -> Generator[Callable[[str], SupabaseStorage]]:
    """`client_of(key)`: one more client of the double."""
    with ExitStack() as stack:

        def make(key: str) -> SupabaseStorage:
            storage = SupabaseStorage("storage", double.url, key, None, QUICK)
            stack.callback(storage.close)
            return storage

        yield make
