"""Records on the real PDS, beside the plain way of doing the same on the same machine in the same run.

`pytest -n 0 -s tests/bench/test_pds.py`; RECONCILER_BENCH_RECORDS sets another size of the inventory. Figures are printed; only the
result is asserted, for times on shared machines vary.
"""

from __future__ import annotations

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
SAMPLE = 60


def document(number: int) -> str:
    """About 450 bytes, as a document's record has."""
    words = f"record {number} " * 20
    return f'{{"$type":"{COLLECTION}","title":"Document {number}","text":"{words}","tags":["a","b"],"cover":null}}'


def timed(label: str, begin: float, count: int) -> float:
    took = time.perf_counter() - begin
    print(f"  {label:58} {took:7.2f} s {count / took:9,.0f}/s")
    return took


class Took:
    """Prints how long the work took, and who worked."""

    def __init__(self, label: str, pds: Pds) -> None:
        self.label, self.pds = label, pds

    def __enter__(self) -> Took:
        self.begin, self.own, self.server = time.perf_counter(), time.process_time(), self.pds.cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.own = time.perf_counter() - self.begin, time.process_time() - self.own
        self.server = self.pds.cpu() - self.server
        print(
            f"  {self.label:46} {self.seconds:7.2f} s, of the processor {self.own:6.2f} s ours {self.server:6.2f} s the server's"
        )


def test_creates(pds: Pds) -> None:
    account, one_by_one, bare = pds.account(), pds.account(), pds.account()
    texts = {key(n): document(n) for n in range(CREATES)}
    writes = [Write(COLLECTION, rkey, None, records.read(COLLECTION, rkey, text)) for rkey, text in texts.items()]
    print()
    fill(pds, pds.account(), texts)  # the server's first thousands are slower than all that follow
    with session(pds, account) as owner:
        with Took(f"{CREATES:,} creates, guarded", pds) as ours:
            results = [it.outcome for it in write(owner, writes, known=inventory.inventory(owner, COLLECTION))]
        assert results == [Outcome.APPLIED] * CREATES
        with Took(f"{CREATES:,} creates that are already there", pds):
            again = [it.outcome for it in write(owner, writes, known=inventory.inventory(owner, COLLECTION))]
        assert again == [Outcome.ALREADY] * CREATES
    with Took(f"{CREATES:,} by bare applyWrites, 200 a call", pds):
        fill(pds, bare, texts)
    with Took(f"{CREATES:,} by bare applyWrites, 50 a call", pds):
        fill(pds, pds.account(), texts, most=50)
    theirs = used = 0.0
    # A write costs more the larger the repo is, so the sample is taken all along the way.
    for at in range(0, CREATES, CREATES // 5):
        fill(pds, one_by_one, {key(n): document(n) for n in range(at, at + CREATES // 5 - SAMPLE)})
        with Took(f"{SAMPLE} by putRecord, one by one, after {at + CREATES // 5 - SAMPLE:,}", pds) as took:
            for n in range(at + CREATES // 5 - SAMPLE, at + CREATES // 5):
                where = f'"repo":"{one_by_one.did}","collection":"{COLLECTION}","rkey":"{key(n)}"'
                text = f'{{{where},"validate":false,"record":{document(n)}}}'
                pds.send("com.atproto.repo.putRecord", text, one_by_one)
        theirs, used = theirs + took.seconds, used + took.server
    share = CREATES / (5 * SAMPLE)
    print(
        f"  so {theirs * share / ours.seconds:.1f} times as fast as putRecord, which would take {theirs * share:.0f} s; "
        f"the server does {used * share / ours.server:.1f} times less"
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
