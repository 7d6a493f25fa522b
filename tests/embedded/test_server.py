"""A server is there while it has a user, whatever befalls server and users."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

import reconciler.embedded.server
from reconciler.embedded import Server, cluster, find, start
from reconciler.plan.errors import ReconcilerError
from tests.embedded.processes import CLUSTER, USER, User, alive, eventually, processes_of


def rows(server: Server, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.dsn(), autocommit=True) as session:
        cursor = session.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("durable", [True, False])
def test_data_stays_from_one_start_to_the_next(place: Path, durable: bool) -> None:
    with start(place / "server", durable=durable) as server:
        rows(server, "CREATE TABLE kept AS SELECT 'ä' AS x")
        assert rows(server, "SHOW fsync") == [("on" if durable else "off",)]
        assert rows(server, "SHOW listen_addresses") == [("127.0.0.1",)]
        assert rows(server, "SHOW unix_socket_directories") == [("",)]
        assert rows(server, "SELECT upper(x) FROM kept") == [("Ä",)]
    assert not alive(server.pid)
    with start(place / "server", durable=durable) as server:
        assert rows(server, "SELECT x FROM kept") == [("ä",)]


def test_a_database_name_is_quoted_in_the_dsn(place: Path) -> None:
    with start(place, durable=False) as server:
        rows(server, 'CREATE DATABASE "a b/c?d"')
        with psycopg.connect(server.dsn("a b/c?d")) as session:
            assert session.info.dbname == "a b/c?d"


def test_stop_can_be_said_again(place: Path) -> None:
    with start(place, durable=False) as server:
        server.stop()
        server.stop()
    assert not alive(server.pid)


def test_clients_do_not_hold_up_the_end(place: Path) -> None:
    server = start(place, durable=False)
    with closing(psycopg.connect(server.dsn())) as session:
        session.execute("SELECT 1")
        server.stop()
        assert not alive(server.pid)


def test_threads_share_one_server_and_may_end(place: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        servers = [future.result() for future in [pool.submit(start, place, durable=False) for _ in range(4)]]
    assert len({server.pid for server in servers}) == 1
    for server in servers[:-1]:
        server.stop()
        assert rows(servers[-1], "SELECT 1") == [(1,)]
    servers[-1].stop()
    assert not alive(servers[-1].pid)


def test_folders_start_side_by_side(place: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        servers = [future.result() for future in [pool.submit(start, place / str(n), durable=False) for n in range(3)]]
    assert len({server.port for server in servers}) == 3
    for server in servers:
        assert rows(server, "SELECT 1") == [(1,)]
        server.stop()


def test_processes_share_one_server_to_the_last(place: Path) -> None:
    users = [User(USER, str(place)) for _ in range(3)]
    [(pid, port)] = {user.server() for user in users}
    with start(place, durable=False) as joined:
        assert (joined.pid, joined.port) == (pid, port)
        for user in users:
            user.leave()
        assert rows(joined, "SELECT 1") == [(1,)]
    assert not alive(pid)


def test_the_process_that_started_it_may_be_killed(place: Path) -> None:
    starter = User(USER, str(place))
    pid, _ = starter.server()
    with start(place, durable=False) as joined:
        starter.kill()
        assert joined.pid == pid
        assert rows(joined, "SELECT 1") == [(1,)]
    assert not alive(pid)


def test_a_server_ends_with_its_last_user_killed_and_starts_again_at_once(place: Path) -> None:
    user = User(USER, str(place))
    pid, _ = user.server()
    user.kill()
    with start(place, durable=False) as server:
        assert server.pid != pid
        assert not alive(pid)
        assert rows(server, "SELECT 1") == [(1,)]


def test_killed_while_starting_it_leaves_nothing_running(place: Path) -> None:
    start(place, durable=False).stop()
    for _ in range(5):
        user = User(USER, str(place))
        assert eventually(lambda: any("postgres" in command for command in processes_of(place).values()))
        user.kill()
        assert eventually(lambda: processes_of(place) == {})


def test_a_server_that_was_killed_starts_again(place: Path) -> None:
    server = start(place, durable=True)
    rows(server, "CREATE TABLE kept AS SELECT 1 AS x")
    os.kill(server.pid, signal.SIGKILL)
    with start(place, durable=True) as again:
        assert rows(again, "SELECT x FROM kept") == [(1,)]
        server.stop()
        assert rows(again, "SELECT x FROM kept") == [(1,)]


def test_a_crashed_servers_id_may_be_anothers_by_now(place: Path) -> None:
    start(place, durable=False).stop()
    (place / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n/elsewhere\n1\n1\n\n127.0.0.1\n1 1\nready   \n")
    with start(place, durable=False) as server:
        assert server.pid != os.getpid()
        assert rows(server, "SELECT 1") == [(1,)]


def test_an_unfinished_folder_is_made_anew(place: Path) -> None:
    (place / "data.new").mkdir()
    (place / "data.new" / "PG_VERSION").write_text("18")
    with start(place, durable=False) as server:
        assert rows(server, "SELECT 1") == [(1,)]
    assert not (place / "data.new").exists()


def test_a_port_may_be_taken_after_it_was_chosen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = reconciler.embedded.server.free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = iter([other.getsockname()[1], free])
        monkeypatch.setattr(reconciler.embedded.server, "free_port", lambda: next(ports))
        with start(place, durable=False) as server:
            assert server.port == free


def test_a_server_that_does_not_start_says_why(place: Path) -> None:
    start(place, durable=False).stop()
    with (place / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(ReconcilerError) as raised:
        start(place, durable=False)
    assert "no_such_setting" in raised.value.render()


def test_data_of_another_version_is_named(place: Path) -> None:
    start(place, durable=False).stop()
    (place / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ReconcilerError, match=f"of version 9, and the programs here are of version {find().major}"):
        start(place, durable=False)


def test_a_folder_that_cannot_be_made_is_named(place: Path) -> None:
    (place / "file").write_text("")
    with pytest.raises(ReconcilerError) as raised:
        start(place / "file" / "server", durable=False)
    assert str(place / "file") in raised.value.render()


def test_the_folder_may_go_before_the_server(place: Path) -> None:
    server = start(place / "server", durable=False)
    (place / "server").rename(place / "moved")
    server.stop()
    assert eventually(lambda: not alive(server.pid))


def test_a_cluster_leaves_nothing() -> None:
    with cluster() as server:
        [(data,)] = rows(server, "SHOW data_directory")
        assert rows(server, "SHOW fsync") == [("off",)]
    assert not alive(server.pid)
    assert not Path(str(data)).parent.exists()


def test_a_cluster_leaves_nothing_when_its_process_is_killed() -> None:
    user = User(CLUSTER)
    pid, port = user.server()
    with psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres") as session:
        [(data,)] = session.execute("SHOW data_directory").fetchall()
    user.kill()
    assert eventually(lambda: not alive(pid) and not Path(data).parent.exists())


@pytest.mark.parametrize("program", ["initdb", "postgres -D"])
def test_a_cluster_leaves_nothing_when_its_process_is_killed_while_it_starts(place: Path, program: str) -> None:
    temporary = place / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    user = User(CLUSTER, TMPDIR=str(temporary))
    assert eventually(lambda: any(program in command for command in processes_of(temporary).values()))
    user.kill()
    assert eventually(lambda: list(temporary.iterdir()) == [] and processes_of(temporary) == {})


def test_ctrl_c_is_not_the_servers(place: Path) -> None:
    with start(place, durable=False) as server:
        assert os.getpgid(server.pid) != os.getpgid(0)
        assert os.getsid(server.pid) != os.getsid(0)


def test_a_thread_that_started_it_may_end(place: Path) -> None:
    servers: list[Server] = []
    thread = threading.Thread(target=lambda: servers.append(start(place, durable=False)))
    thread.start()
    thread.join()
    assert rows(servers[0], "SELECT 1") == [(1,)]
    servers[0].stop()
