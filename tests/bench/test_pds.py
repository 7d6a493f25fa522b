"""Records on the real PDS, beside the plain way of doing the same on the same machine in the same run.

`pytest -n 0 -s tests/bench/test_pds.py`; RECONCILER_BENCH_RECORDS sets another size of the inventory. Figures are printed; only the
result is asserted, for times on shared machines vary.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import httpx
import libipld

from reconciler.systems.pds import inventory, records
from reconciler.systems.pds.batches import Outcome, Write
from reconciler.systems.pds.inventory import Way
from reconciler.systems.pds.write import write
from tests.pds.conftest import pds as pds  # fixtures: their place is where they can be found
from tests.pds.conftest import pds_installation as pds_installation
from tests.pds.real import Account, Pds
from tests.pds.world import COLLECTION, fill, key, session

RECORDS = int(os.environ.get("RECONCILER_BENCH_RECORDS", "20000"))
CREATES = 5_000
SAMPLE = 200


def document(number: int) -> str:
    """About 450 bytes, as a document's record has."""
    words = f"record {number} " * 20
    return f'{{"$type":"{COLLECTION}","title":"Document {number}","text":"{words}","tags":["a","b"],"cover":null}}'


def timed(label: str, begin: float, count: int) -> float:
    took = time.perf_counter() - begin
    print(f"  {label:58} {took:7.2f} s {count / took:9,.0f}/s")
    return took


def test_creates(pds: Pds) -> None:
    account, sampled = pds.account(), pds.account()
    writes = [Write(COLLECTION, key(n), None, records.read(COLLECTION, key(n), document(n))) for n in range(CREATES)]
    print()
    with session(pds, account) as owner:
        begin = time.perf_counter()
        results = [it.outcome for it in write(owner, writes, known=inventory.inventory(owner, COLLECTION))]
        ours = timed(f"{CREATES:,} creates, guarded", begin, CREATES)
        assert results == [Outcome.APPLIED] * CREATES
        begin = time.perf_counter()
        again = [it.outcome for it in write(owner, writes, known=inventory.inventory(owner, COLLECTION))]
        timed(f"{CREATES:,} creates that are already there", begin, CREATES)
        assert again == [Outcome.ALREADY] * CREATES
    bare = pds.account()
    begin = time.perf_counter()
    fill(pds, bare, {key(n): document(n) for n in range(CREATES)})
    timed(f"{CREATES:,} by bare applyWrites, 200 a call", begin, CREATES)
    headers = {"authorization": f"Bearer {sampled.access}"}
    with httpx.Client(headers=headers) as client:
        begin = time.perf_counter()
        for n in range(SAMPLE):
            body = {"repo": sampled.did, "collection": COLLECTION, "rkey": key(n), "validate": False}
            record = json.loads(document(n))
            done = client.post(f"{pds.url}/xrpc/com.atproto.repo.putRecord", json={**body, "record": record})
            assert done.status_code == 200
        theirs = timed(f"{SAMPLE} by putRecord, one by one", begin, SAMPLE)
    print(
        f"  so {theirs / SAMPLE * CREATES / ours:.1f} times as fast; putRecord would take {theirs / SAMPLE * CREATES:.0f} s"
    )


_MEASURED = """
import sys
from pathlib import Path
from reconciler.systems.pds import inventory
from reconciler.systems.pds.session import Login, Session
with Session(Login(sys.argv[1], plc=sys.argv[2])) as session:
    found = inventory.inventory(session, sys.argv[3], way=inventory.Way(sys.argv[4]))
# Not getrusage: its peak counts from the size of the process this one was forked from.
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(len(found.cids), int(peak) // 1024)
"""


def peak(pds: Pds, account: Account, way: Way) -> int:
    """Megabytes of a process of its own."""
    command = [sys.executable, "-c", _MEASURED, account.did, pds.plc, COLLECTION, way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, megabytes = map(int, done.stdout.split())
    assert count == RECORDS
    return megabytes


def bare_pages(pds: Pds, account: Account, most: int) -> int:
    found, cursor = 0, {}
    with httpx.Client() as client:
        for _ in range(most):
            params = {"repo": account.did, "collection": COLLECTION, "limit": 100, **cursor}
            page = client.get(f"{pds.url}/xrpc/com.atproto.repo.listRecords", params=params).json()
            found += len(page["records"])
            if not page["records"]:
                break
            cursor = {"cursor": page["cursor"]}
    return found


def bare_repo(pds: Pds, account: Account) -> int:
    got = httpx.get(f"{pds.url}/xrpc/com.atproto.sync.getRepo", params={"did": account.did}, timeout=120)
    return len(libipld.decode_car(got.content)[1])


def test_inventory(pds: Pds) -> None:
    account = pds.account()
    print()
    filled = 0
    for size in (500, 1_000, 2_000, 5_000, RECORDS):
        fill(pds, account, {key(n): document(n) for n in range(filled, size)})
        filled = size
        with session(pds, account) as reader:
            for way in (Way.LIST, Way.REPO):
                begin = time.perf_counter()
                assert len(inventory.inventory(reader, COLLECTION, way=way).cids) == size
                timed(f"inventory of {size:,} records, {way}", begin, size)
    begin = time.perf_counter()
    assert bare_pages(pds, account, 1 << 30) == RECORDS
    timed("bare pages, parsed", begin, RECORDS)
    begin = time.perf_counter()
    assert bare_repo(pds, account) > RECORDS
    timed("bare getRepo, decoded", begin, RECORDS)
    for way in (Way.LIST, Way.REPO):
        megabytes = peak(pds, account, way)
        print(f"  peak of a process, {way}: {megabytes} MB")
        assert megabytes <= 150
