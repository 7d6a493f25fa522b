"""The plan's core alone: 50,000 steps with edges, ordered and written. `pytest -n 0 tests/bench/test_plan_core.py`."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

from reconciler.plan.file import Header, planned, read, write
from reconciler.plan.order import arrange
from reconciler.plan.step import Change, Step, Verb

STEPS = 50_000


def test_fifty_thousand_steps(tmp_path: Path) -> None:
    choice = random.Random(7)
    steps = [
        Step(f"collections.r{n:05}[public.t]/insert", "production", "public.t", Verb.INSERT, ("id",))
        for n in range(STEPS)
    ]
    edges = [(steps[choice.randrange(n)].id, steps[n].id) for n in range(1, STEPS) for _ in range(3)]
    choice.shuffle(steps)
    begin = time.perf_counter()
    ordered = arrange(steps, edges)
    changes = ([Change(step.id, ("1",), None, {"id": "1", "name": "x"}, "missing")] for step in ordered)
    path = tmp_path / "big.plan.jsonl"
    written = write(path, Header(), (planned(step, some) for step, some in zip(ordered, changes, strict=True)))
    took = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"\n50,000 steps, 150,000 edges: ordered and written in {took:.2f} s, process peak {memory} MiB")
    position = {step.id: n for n, step in enumerate(written.steps)}
    assert all(position[before] < position[after] for before, after in edges)
    assert read(path).id == written.id
    assert took < 5
    assert memory < 500
