"""Laws of the pure core: order, inversion, file."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.plan.body import Digest
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.file import Header, Planned, change_line, parse_change, planned, read, write
from reconciler.plan.invert import invert, invert_change
from reconciler.plan.order import arrange, runs
from reconciler.plan.step import Change, Deferred, Hazard, Step, Verb

TEXT = st.text(max_size=12)
VALUES = st.one_of(st.none(), TEXT)
IMAGES = st.dictionaries(TEXT, VALUES, min_size=1, max_size=4)


@st.composite
def change_of(draw: st.DrawFn, verb: Verb) -> Change:
    key = (draw(TEXT),)
    if verb is Verb.INSERT:
        return Change("s", key, None, draw(IMAGES), "missing")
    if verb is Verb.DELETE:
        return Change("s", key, draw(IMAGES), None, "extra")
    after = draw(IMAGES)
    before = {name: draw(VALUES) for name in after} | draw(IMAGES)
    return Change("s", key, before, after, "differs")


CHANGES = st.sampled_from([Verb.INSERT, Verb.UPDATE, Verb.DELETE]).flatmap(change_of)


def step(name: str, verb: Verb = Verb.INSERT, connection: str = "production") -> Step:
    return Step(f"collections.{name}[public.{name}]/{verb.value}", connection, f"public.{name}", verb, ("id",))


@settings(deadline=None)  # the first example that has an order imports networkx
@given(st.integers(2, 12), st.data())
def test_the_order_keeps_every_edge_and_does_not_depend_on_the_order_of_input(size: int, data: st.DataObject) -> None:
    steps = [step(f"t{n}", connection=data.draw(st.sampled_from(["one", "two"]))) for n in range(size)]
    pairs = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=20))
    edges = [(steps[min(pair)].id, steps[max(pair)].id) for pair in pairs if pair[0] != pair[1]]
    ordered = arrange(steps, edges)
    position = {it.id: n for n, it in enumerate(ordered)}
    assert all(position[before] < position[after] for before, after in edges)
    shuffled, mixed = list(steps), list(edges)
    random.Random(size).shuffle(shuffled)
    random.Random(size).shuffle(mixed)
    assert arrange(shuffled, mixed) == ordered
    assert [it for _, run in runs(ordered) for it in run] == ordered


def test_a_cycle_of_inserts_is_one_node_and_other_cycles_are_refused() -> None:
    a, b, c = step("a"), step("b"), step("c")
    ordered = arrange([c, b, a], [(a.id, b.id), (b.id, a.id), (b.id, c.id)])
    assert [(it.id, it.together) for it in ordered] == [(a.id, a.id), (b.id, a.id), (c.id, None)]
    assert ordered[2].needs == (b.id,)
    update = step("a", Verb.UPDATE)
    with pytest.raises(ReconcilerError, match="wait for each other"):
        arrange([a, update], [(a.id, update.id), (update.id, a.id)])


def test_a_preference_gives_way_to_what_must_be() -> None:
    insert, delete, child = step("p"), step("p", Verb.DELETE), step("c", Verb.UPDATE)
    ordered = arrange([insert, delete, child], [(insert.id, child.id), (child.id, delete.id)], [(delete.id, insert.id)])
    assert [it.id for it in ordered] == [insert.id, child.id, delete.id]
    assert [it.id for it in arrange([insert, delete], [], [(delete.id, insert.id)])] == [delete.id, insert.id]


@given(CHANGES)
def test_inverting_twice_is_the_identity(change: Change) -> None:
    assert invert_change(invert_change(change, "u"), "s") == change


@given(CHANGES)
def test_a_change_comes_back_from_its_line(change: Change) -> None:
    line = change_line(change)
    assert parse_change(line) == change
    assert change_line(parse_change(line)) == line
    assert "\n" not in line


@settings(max_examples=50)
@given(st.lists(change_of(Verb.INSERT), max_size=5, unique_by=lambda change: change.key), TEXT)
def test_a_file_comes_back_byte_for_byte(changes: list[Change], text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.plan.jsonl"
        one = Step("s", "production", "public.t", Verb.INSERT, ("id",), {"id": "text"}, notes=(text,))
        header = Header({"version": 1}, {"v": text}, {}, {}, (Deferred("a", text),), (Hazard("delete", "a", text, 2),))
        written = write(path, header, [planned(one, changes)])
        again = read(path)
        assert (again.id, again.steps, again.offsets) == (written.id, written.steps, written.offsets)
        copied = write(
            Path(folder) / "b.plan.jsonl", again.header, [planned(it, again.changes(it)) for it in again.steps]
        )
        assert copied.path.read_bytes() == path.read_bytes()
        assert [change.key for change in again.changes(again.steps[0])] == sorted(change.key for change in changes)
        _, undone = invert(again)
        assert [item.step.verb for item in undone] == [Verb.DELETE]


@settings(max_examples=50)
@given(st.data())
def test_an_edited_plan_is_refused(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.plan.jsonl"
        one = step("t")
        write(path, Header({"version": 1}), [planned(one, [Change(one.id, ("1",), None, {"id": "1"}, "missing")])])
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        other = bytes([data.draw(st.integers(32, 126).filter(lambda byte: byte != whole[at]))])
        path.write_bytes(whole[:at] + other + whole[at + 1 :])
        try:
            edited = read(path)
        except ReconcilerError:
            return
        # Only what the digest does not speak of may differ: how JSON spells the same value in the end line.
        assert edited.id == json.loads(whole.split(b"\n", 1)[0])["id"]
        assert whole.splitlines()[:-1] == path.read_bytes().splitlines()[:-1]


@given(st.integers(1, 200))
def test_a_plan_cut_anywhere_is_refused(cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.plan.jsonl"
        one = step("t")
        write(path, Header(), [planned(one, [Change(one.id, ("1",), None, {"id": "1"}, "missing")])])
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(ReconcilerError, match="refused"):
            read(path)


@pytest.mark.parametrize(
    "more", [b"\n", b" ", b"x", b"{}\n", b"\n\n", b'{"end":true}', b" " * (1 << 20), b"\0" * 600_000]
)
def test_a_plan_with_more_behind_its_end_is_refused(tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "a.plan.jsonl"
    one = step("t")
    write(path, Header(), [planned(one, [Change(one.id, ("1",), None, {"id": "1"}, "missing")])])
    whole = path.read_bytes()
    path.write_bytes(whole + more)
    with pytest.raises(ReconcilerError, match="refused"):
        read(path)
    path.write_bytes(whole + whole.splitlines(keepends=True)[-1])
    with pytest.raises(ReconcilerError, match="refused"):
        read(path)


def test_the_digest_is_of_the_file_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of another that stands under its name by then."""
    path, good = tmp_path / "a.plan.jsonl", tmp_path / "good.plan.jsonl"
    one = step("t")
    write(good, Header(), [planned(one, [Change(one.id, ("1",), None, {"id": "1"}, "missing")])])
    path.write_bytes(good.read_bytes().replace(b'"verb":"insert"', b'"verb":"delete"'))
    taken = Digest.__enter__

    def swap(digest: object) -> object:
        good.replace(path)
        return taken(digest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("reconciler.plan.body.Digest.__enter__", swap)
    with pytest.raises(ReconcilerError, match="refused"):
        read(path)


def test_nobody_waits_for_the_digest_of_a_plan_that_is_not_wanted_any_more(tmp_path: Path) -> None:
    path = tmp_path / "a.plan.jsonl"
    one = step("t")
    write(path, Header(), [planned(one, [Change(one.id, ("1",), None, {"id": "1"}, "missing")])])
    slow = (
        "import os, sys, time\nfrom pathlib import Path\nfrom reconciler.cli.saved import opening\n"
        "os.pread = lambda *_: time.sleep(60)\nopening(Path(sys.argv[1]))\ntime.sleep(0.2)\n"
    )
    subprocess.run([sys.executable, "-c", slow, path], check=True, timeout=30)


def test_a_plan_that_nests_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.plan.jsonl"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(ReconcilerError, match="refused"):
        read(path)


def test_a_plan_in_a_pipe_is_told_to_be_saved(tmp_path: Path) -> None:
    source = write(tmp_path / "a.plan.jsonl", Header(), [])
    reads, writes = os.pipe()
    os.write(writes, source.path.read_bytes())
    os.close(writes)
    try:
        with pytest.raises(ReconcilerError, match="it is a pipe") as caught:
            read(Path(f"/dev/fd/{reads}"))
    finally:
        os.close(reads)
    assert caught.value.todo


@pytest.fixture
def small_disk() -> Iterator[int]:
    """No file may become larger than this: a full disk, as far as a write is told."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = 3_000_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield most
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("short_by", [10, 10_000_000])
def test_a_full_disk_leaves_the_plan_that_was_there(tmp_path: Path, small_disk: int, short_by: int) -> None:
    path = tmp_path / "a.plan.jsonl"
    path.write_text("the one before")
    threads = threading.active_count()

    def lines(sink: Callable[[bytes], object]) -> None:
        left = small_disk + short_by
        while left > 0:
            sink(b"x" * min(left, 100_000))
            left -= 100_000

    with pytest.raises(ReconcilerError, match="cannot write the plan: File too large") as caught:
        write(path, Header(), [Planned(step("t"), lines)])
    assert (caught.value.where, bool(caught.value.todo)) == (str(path), True)
    assert [it.name for it in tmp_path.iterdir()] == ["a.plan.jsonl"]
    assert path.read_text() == "the one before"
    assert threading.active_count() == threads


@pytest.mark.parametrize("sent", [0, 1, 100_000])
@pytest.mark.parametrize("error", [ReconcilerError, KeyboardInterrupt, OSError])
def test_lines_that_end_in_an_error_leave_nothing(tmp_path: Path, sent: int, error: type[BaseException]) -> None:
    mine = error("the source went away")
    threads = threading.active_count()

    def lines(sink: Callable[[bytes], object]) -> None:
        for _ in range(sent):
            sink(b"a line of a change\n")
        raise mine

    with pytest.raises(error) as caught:
        write(tmp_path / "a.plan.jsonl", Header(), [Planned(step("t"), lines)])
    assert caught.value is mine
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads
