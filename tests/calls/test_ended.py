"""A process may end at any instant, by itself or not, and goes on where it was; no secret is in anything it says or writes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from reconciler import cli
from reconciler.plan.errors import Exit, ReconcilerError
from reconciler.plan.file import Plan
from reconciler.systems.calls.caller import FailedError
from reconciler.systems.calls.command import Command
from reconciler.systems.postgres.pending import hold
from reconciler.systems.postgres.session import connect
from tests.calls.hook import Answer, Hook, Seen
from tests.calls.test_processes import ROWS, left, plan, spec
from tests.kinds.bench import Bench

SECRETS = ("sb_secret_canary-of-functions", "canary-of-functions", "canary-of-hooks")


def start(bench: Bench, *args: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", *map(str, args)],
        env={**os.environ, **bench.environ, "RECONCILER_DEBUG": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=bench.folder,
    )


def await_calls(hook: Hook, count: int) -> None:
    for _ in range(2000):
        if len(hook.seen) >= count:
            return
        time.sleep(0.01)
    raise AssertionError("waited for too long")


def apply_until(bench: Bench, hook: Hook, made: Plan, calls: int, how: signal.Signals) -> tuple[int, str, str]:
    process = start(bench, "apply", made.path)
    try:
        await_calls(hook, calls)
        process.send_signal(how)
        out, told = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, out, told


def test_killed_in_the_middle_and_applied_again(bench: Bench, hook: Hook) -> None:
    """The rate holds over the end of one and the start of the next, and no row that is done is called for again."""
    bench.production.sql(ROWS % 24)
    hook.late = 0.05
    made = plan(bench, spec(more="batch: 2", rate="5/second"))
    for calls in (2, 3):
        apply_until(bench, hook, made, len(hook.seen) + calls, signal.SIGKILL)
    applied = bench.apply(made)
    assert (applied.code, applied.converged, left(bench.production)) == (Exit.DONE, True, [])
    assert sum(len(it.keys) for it in hook.seen) <= 24 + 2 * 2  # at most the batch that was on its way, each time
    pauses = [after.at - before.at for before, after in zip(hook.seen, hook.seen[1:], strict=False)]
    assert min(pauses) > 0.2 - 0.03, pauses  # a request's own way takes a moment, more or less


@pytest.mark.parametrize("where", ["calling", "waiting"])
def test_interrupted(bench: Bench, hook: Hook, where: str) -> None:
    bench.production.sql(ROWS % 6)
    hook.react = lambda seen: (time.sleep(3 if where == "calling" else 0), Answer())[1] if 3 in seen.keys else None
    made = plan(bench, spec(more="batch: 2", timeout="60s"))
    code, _, told = apply_until(bench, hook, made, 2, signal.SIGINT)
    assert code == Exit.INTERRUPTED, told
    assert "processes.thumbnails: 2 rows done in 2 calls; run the same plan again to go on" in told
    assert "Traceback" not in told
    hook.react = lambda seen: None
    assert bench.apply(made).code is Exit.DONE
    assert [it.keys for it in hook.seen] == [[1, 2], [3, 4], [3, 4], [5, 6]]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_ends_with_us(bench: Bench, how: signal.Signals) -> None:
    bench.production.sql(ROWS % 2)
    script = bench.folder / "sleep.sh"
    script.write_text("#!/bin/sh\necho $$ > pid\nexec sleep 600\n")
    script.chmod(0o755)
    made = plan(bench, spec("{ command: [./sleep.sh] }"))
    process, pid = start(bench, "apply", made.path), bench.folder / "pid"
    try:
        for _ in range(2000):
            if pid.exists() and pid.read_text().strip():
                break
            time.sleep(0.01)
        process.send_signal(how)
        assert process.wait(30) == Exit.INTERRUPTED
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)
    finally:
        process.kill()
        process.communicate()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def test_what_a_late_command_started_ends_with_it(tmp_path: Path) -> None:
    script = "trap '' TERM; sh -c 'echo $$ > pid; exec sleep 600' & trap - TERM; wait"
    command = Command(["/bin/sh", "-c", script], tmp_path, os.environ, str, name="sh")
    with pytest.raises(FailedError, match="did not end within"):
        command.call("{}", 0.5)
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("it is still there")


def test_two_at_once(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 2)
    made = plan(bench, spec())
    with connect("other", bench.production.dsn) as session:
        session.run("BEGIN")
        hold(session, "processes.thumbnails")
        with pytest.raises(ReconcilerError, match="is being run by another apply"):
            bench.apply(made)
    assert hook.seen == []
    assert bench.apply(made).code is Exit.DONE


def test_a_lost_connection_to_the_database_is_opened_again(bench: Bench, hook: Hook) -> None:
    bench.production.sql(ROWS % 6)
    made = plan(bench, spec(more="batch: 2"))

    def cut(seen: object) -> None:
        with psycopg.connect(bench.production.dsn, autocommit=True) as session:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN (%s, 'reconciler') AND datname = %s"
            session.execute(query, (f"reconciler/{made.id}", bench.production.name))

    hook.react = lambda seen: cut(seen) if len(hook.seen) == 2 else None
    assert bench.apply(made).code is Exit.DONE
    assert [it.keys for it in hook.seen] == [[1, 2], [3, 4], [5, 6]]


def test_no_secret_is_said_or_written(bench: Bench, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.production.sql(ROWS % 5)
    monkeypatch.chdir(bench.folder)
    everything = ""
    for call in ("{ function: storage.process_image, payload: { ids: '{keys}' } }", "{ http: hooks/resize }"):
        bench.production.sql("UPDATE images SET metadata_status = 'pending'")
        made = plan(bench, spec(call, timeout="1s"))
        answers = iter([200, 500, 500])

        def react(seen: Seen, answers: Iterator[int] = answers) -> Answer | None:
            status = next(answers, 401)
            return None if status == 200 else Answer(status, {"message": " ".join(seen.headers.values())})

        hook.react = react
        for args in (
            ("plan", bench.path, "-o", "x.plan.jsonl"), ("show", made.path, "--format", "json"), ("status", bench.path),
            ("apply", made.path), ("apply", made.path, "--json"), ("undo", made.path, "-o", "undo.plan.jsonl"),
        ):  # fmt: skip
            done = CliRunner().invoke(cli.main, list(map(str, args)), env={"RECONCILER_DEBUG": "", **bench.environ})
            everything += done.output
    assert "the server answered 401" in everything and "the server answered 500" in everything and "***" in everything
    for path in bench.folder.rglob("*"):
        everything += path.read_text("utf-8", "replace") if path.is_file() else ""
    assert [it for it in SECRETS if it in everything] == []
    assert any(SECRETS[0] in " ".join(it.headers.values()) for it in hook.seen)
