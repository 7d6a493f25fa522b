"""Where the demo's author keeps records: a folder, or with `--with-pds` an account on a real PDS, started for it on this machine.

In: what the user asked for. Out: a `Repo` while the context lasts. Invariant: a PDS that cannot be had is said in one line, and the
folder takes its place, with the same verbs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
"""The author, as the specs and the databases' files name them; an account on a PDS has a DID of its own."""

_FOLDER = "directory: ../repo } # a folder in place of the PDS"
_PDS = 'plc: "${env:DEMO_PLC_URL}", password: "${env:DEMO_PDS_PASSWORD}" } # on this machine, with a directory of its own'


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


class Server(Protocol):
    """What is asked of a PDS."""

    url: str
    plc: str

    def post(self, method: str, body: object, token: str | None = None) -> dict[str, str]: ...
