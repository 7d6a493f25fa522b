"""The commands on many records of a real repo, beside the plain way of reading and writing them, in the same run.

`pytest -n 0 -s tests/bench/test_pds_commands.py`; RECONCILER_BENCH_RECORDS sets another size. Times on shared machines vary, so that what
a process used of the processor is printed beside them: ours, and the server's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.test_pds import RECORDS, Took, bare_repo, document
from tests.pds.bench import NOTES, Records, totals
from tests.pds.conftest import account as account  # fixtures: their place is where they can be found
from tests.pds.conftest import pds as pds
from tests.pds.conftest import pds_installation as pds_installation
from tests.pds.real import Account, Pds
from tests.pds.world import COLLECTION, key
from tests.postgres import Database


@pytest.fixture
def records(place: Path, pds: Pds, account: Account, backup: Database, production: Database) -> Records:
    return Records(place, pds, account, backup, production)


_MEASURED = """
import sys
from pathlib import Path
from reconciler.cli import main
try:
    main(sys.argv[1:], prog_name="reconciler")
except SystemExit as end:
    # Not getrusage: its peak counts from the size of the process this one was forked from.
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(end.code, int(peak) // 1024, file=sys.stderr)
"""


_BARE = """
import sys
import httpx, libipld
got = httpx.get(f"{sys.argv[1]}/xrpc/com.atproto.sync.getRepo", params={"did": sys.argv[2]}, timeout=120)
print(len(libipld.decode_car(got.content)[1]))
"""


def process(records: Records, label: str, *command: str) -> tuple[float, str]:
    """Seconds that a process of its own takes, start-up and all, and what it says at last."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], check=True, capture_output=True, text=True, cwd=records.folder, env=records.environ
    )
    seconds = time.perf_counter() - begin
    print(f"  {label:46} {seconds:7.2f} s")
    return seconds, (done.stderr or done.stdout).splitlines()[-1]


def peak(records: Records, *words: str) -> float:
    """Prints the megabytes of a process of its own; its seconds come back."""
    seconds, told = process(records, f"{words[0]}, a process of its own", "-c", _MEASURED, *words)
    code, megabytes = told.split()
    assert code in ("0", "None")
    print(f"  peak of a process, {words[0]}: {megabytes} MB")
    assert int(megabytes) <= 150
    return seconds


def test_commands(records: Records) -> None:
    records.write(NOTES + "  allow: [R011]  # more points than a PDS that counts them gives in a day\n")
    prefix = f"at://{records.account.did}/{COLLECTION}/"
    with (
        records.backup.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY notes (uri, data) FROM STDIN") as copy,
    ):
        for n in range(RECORDS):
            copy.write_row((f"{prefix}{key(n)}", document(n)))
    records.backup.sql("ANALYZE notes")
    print()
    with Took(f"plan of {RECORDS:,} creates", records.pds):
        plan = records.plan()
    with Took(f"apply of {RECORDS:,} creates", records.pds):
        assert totals(records.apply(plan)) == (RECORDS, 0)
    with Took("apply again", records.pds):
        assert totals(records.apply(plan)) == (0, RECORDS)
    ours, bare = list[float](), list[float]()
    for _ in range(3):
        with Took("plan, nothing to do", records.pds) as took:
            assert records.run("plan", "spec.yaml").code == 0
        ours.append(took.seconds)
        with Took("bare getRepo, decoded", records.pds) as took:
            assert bare_repo(records.pds, records.account) > RECORDS
        bare.append(took.seconds)
    print(f"  so at best a plan takes {min(ours) / min(bare):.2f} times as long as the bare reading")
    ours, bare = list[float](), list[float]()
    for _ in range(3):
        ours.append(peak(records, "plan", "spec.yaml"))
        seconds, told = process(
            records, "bare, a process of its own", "-c", _BARE, records.pds.url, records.account.did
        )
        assert int(told) > RECORDS
        bare.append(seconds)
    print(f"  as processes of their own, start-up and all, {min(ours) / min(bare):.2f} times")
    peak(records, "apply", plan.name)
    assert json.loads(records.run("status", "spec.yaml", "--json").out)["resources"][0]["in_sync"] == RECORDS
