"""The test server itself: real, ours alone, and gone when we are."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from reconciler.embedded.pds import Installation
from tests.embedded.processes import ROOT, eventually, processes_of
from tests.pds.real import Account, Pds

_HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from reconciler.embedded.pds import Installation
from tests.pds.real import running
with running(Installation(Path(sys.argv[2]), Path(sys.argv[3]))) as pds:
    print(pds.folder, flush=True)
    sys.stdin.readline()
"""


def test_an_account_has_a_document_naming_the_server(pds: Pds, account: Account) -> None:
    described = pds.get("com.atproto.repo.describeRepo", repo=account.did)
    assert described["handle"] == account.handle
    assert described["didDoc"]["service"][0]["serviceEndpoint"] == pds.url


def test_a_killed_owner_leaves_nothing(pds_installation: Installation) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _HOLD, ROOT, pds_installation.node, pds_installation.packages],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    assert processes_of(folder)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert eventually(lambda: not folder.exists() and not processes_of(folder))
