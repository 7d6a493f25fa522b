"""Where the demo's author keeps records: a folder, or with `--with-pds` an account on a real PDS, started for it on this machine.

In: what the user asked for. Out: a `Repo` while the context lasts. Invariant: a PDS that cannot be had is said in one line, and the
folder takes its place, with the same verbs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from reconciler.embedded.pds import Account, Pds

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
"""The author, as the specs and the databases' files name them; an account on a PDS has a DID of its own."""

_FOLDER = "directory: ../repo } # a folder in place of the PDS"
_PDS = (
    'plc: "${env:DEMO_PLC_URL}", password: "${env:DEMO_PDS_PASSWORD}" } # on this machine, with a directory of its own'
)


class Repo(Protocol):
    """The author's records."""

    @property
    def place(self) -> str:
        """What it is, in a few words."""
        ...

    def told(self, text: str) -> str:
        """A spec or a file of SQL, as it is for this repo."""
        ...

    def environment(self) -> dict[str, str]:
        """What the specs read from the environment."""
        ...

    def create(self, collection: str, rkey: str, record: Mapping[str, object]) -> None: ...

    def records(self) -> dict[str, str]:
        """COLLECTION/RKEY → a digest of each record."""
        ...


@dataclass(frozen=True)
class FolderRepo:
    folder: Path
    place: str = "repo/ in place of a PDS"

    def told(self, text: str) -> str:
        return text

    def environment(self) -> dict[str, str]:
        return {}

    def create(self, collection: str, rkey: str, record: Mapping[str, object]) -> None:
        path = self.folder / collection / f"{rkey}.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record), "utf-8")

    def records(self) -> dict[str, str]:
        paths = sorted(self.folder.glob("*/*.json"))
        return {
            f"{path.parent.name}/{path.name.removesuffix('.json')}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
        }


@dataclass(frozen=True)
class PdsRepo:
    pds: Pds
    account: Account

    @property
    def place(self) -> str:
        return f"a PDS on {self.pds.url}"

    def told(self, text: str) -> str:
        author = self.account.did.removeprefix("did:plc:")
        return text.replace(DID.removeprefix("did:plc:"), author).replace(_FOLDER, _PDS)

    def environment(self) -> dict[str, str]:
        # The server is on this machine, and no proxy of the user's leads there.
        here = dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1")
        return {"DEMO_PLC_URL": self.pds.plc, "DEMO_PDS_PASSWORD": self.account.password, **here}

    def create(self, collection: str, rkey: str, record: Mapping[str, object]) -> None:
        call = {"repo": self.account.did, "collection": collection, "rkey": rkey, "record": record, "validate": False}
        self.pds.post("com.atproto.repo.createRecord", call, self.account.access)

    def records(self) -> dict[str, str]:
        found: dict[str, str] = {}
        did = self.account.did
        for collection in self.pds.get("com.atproto.repo.describeRepo", repo=did)["collections"]:
            listed = self.pds.get("com.atproto.repo.listRecords", repo=did, collection=collection, limit=100)
            assert len(listed["records"]) < 100  # else there are more
            found |= {it["uri"].removeprefix(f"at://{did}/"): it["cid"] for it in listed["records"]}
        return found


@contextmanager
def repo(folder: Path, *, with_pds: bool, say: Callable[[str], None], warn: Callable[[str], None]) -> Generator[Repo]:
    """The author's, with nothing in it; `warn` is told before something is downloaded."""
    with ExitStack() as stack:
        if with_pds:
            from reconciler.embedded.pds import UnavailableError, installation, running

            try:
                pds = stack.enter_context(running(installation(warn)))
                made: Repo = PdsRepo(pds, pds.account())
            except UnavailableError as error:
                say(f"{error.what} ({error.why}): the PDS part works on a folder of records.")
                made = FolderRepo(folder)
        else:
            made = FolderRepo(folder)
        yield made
