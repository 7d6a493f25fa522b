"""Fixtures every test may use: a real server, and fresh databases on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from reconciler.embedded import Server
from tests.embedded.processes import processes_of
from tests.pooler import pooler as pooler  # a fixture: its place is where it can be found
from tests.postgres import DEFAULT, Database, Servers, versions


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write what the scenarios give as what they are to give")


def pytest_configure(config: pytest.Config) -> None:
    # How long an example takes says more about the machine than about the program.
    settings.register_profile("whatever the machine", deadline=None)
    settings.load_profile("whatever the machine")
    config.addinivalue_line(
        "markers", "each_postgres: run on every version of PostgreSQL there is, not the default only"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames and metafunc.definition.get_closest_marker("each_postgres"):
        metafunc.parametrize("server", versions(), indirect=True)


@pytest.fixture(scope="session")
def postgres_servers() -> Generator[Servers]:
    """The servers of this test process; under xdist each worker has its own."""
    servers = Servers()
    try:
        yield servers
    finally:
        servers.close()


@pytest.fixture(scope="session")
def postgres_server(postgres_servers: Servers) -> Server:
    """The server of the default version."""
    return postgres_servers.of(DEFAULT)


@pytest.fixture
def server(request: pytest.FixtureRequest, postgres_servers: Servers) -> Server:
    """The server to test on: of the default version, or with `@pytest.mark.each_postgres` of each in turn."""
    version: str = getattr(request, "param", DEFAULT)
    return postgres_servers.of(version)


@pytest.fixture
def create_database(postgres_servers: Servers, server: Server) -> Generator[Callable[[str], Database]]:
    """Makes databases by name; all are dropped after the test."""
    created: list[Database] = []

    def create(name: str) -> Database:
        created.append(postgres_servers.create(server, name))
        return created[-1]

    yield create
    for database in created:
        postgres_servers.drop(database)


@pytest.fixture
def databases(create_database: Callable[[str], Database]) -> Callable[[int], list[Database]]:
    """`databases(n)`: n fresh databases of one server."""
    return lambda n: [create_database("database") for _ in range(n)]


@pytest.fixture
def database(create_database: Callable[[str], Database]) -> Database:
    """A fresh, empty database."""
    return create_database("database")


@pytest.fixture
def production(create_database: Callable[[str], Database]) -> Database:
    """A fresh, empty database, on the same server as `backup`."""
    return create_database("production")


@pytest.fixture
def backup(create_database: Callable[[str], Database]) -> Database:
    """A fresh, empty database, on the same server as `production`."""
    return create_database("backup")


@pytest.fixture
def place() -> Generator[Path]:
    """A folder everyone may enter, unlike `tmp_path`; servers started in it must have ended with the test."""
    path = Path(tempfile.mkdtemp(prefix="reconciler-test-"))
    path.chmod(0o755)
    yield path
    leftover = processes_of(path)
    shutil.rmtree(path)
    assert leftover == {}
