"""The worked spec of a user's deleted publication: rows of ten tables and records of two collections, there and back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import click
import pytest

from tests.pds import publication
from tests.pds.real import Account, Pds
from tests.postgres import Database
from tests.scenarios.runner import Outcome, Runner, difference

STORY = Path(__file__).with_name("publication_restore.txt")
SPEC = Path(__file__).parents[2] / "specs" / "publication-restore.yaml"
DID = "did:plc:her234567234567234567234"


class Told(Runner):
    """Also `repo`: how many records it has; `repo as before`; `rows as destroyed`: all rows of production beside a dump of that name.

    The account's DID is always the same in what is printed.
    """

    pds: Pds
    account: Account
    production: Database
    dumps: Mapping[str, dict[str, list[str]]]
    repo: dict[str, dict[str, str]]

    def _run(self, text: str) -> Outcome:
        if text.startswith("rows as "):
            told, now = self.dumps[text.removeprefix("rows as ")], self.production.dump()
            return Outcome("".join(f"{name} differs\n" for name in told if told[name] != now[name]) or "the same\n")
        if text == "repo as before":
            now = {name: listed(self.pds, self.account, name) for name in self.repo}
            return Outcome("the same\n" if now == self.repo else "otherwise\n")
        if text != "repo":
            return super()._run(text)
        names = self.pds.get("com.atproto.repo.describeRepo", repo=self.account.did)["collections"]
        counts = {name: len(listed(self.pds, self.account, name)) for name in names}
        return Outcome("".join(f"{name}: {count}\n" for name, count in sorted(counts.items())))

    def _normalised(self, text: str) -> str:
        text = super()._normalised(text.replace(self.account.did, DID))
        # Long keys are shown in part.
        for size in range(len(DID), 8, -1):
            text = text.replace(f"{self.account.did[:size]}…", f"{DID[:size]}…")
            text = text.replace(f"…{self.account.did[-size:]}/", f"…{DID[-size:]}/")
        return text


def listed(pds: Pds, account: Account, collection: str) -> dict[str, str]:
    """rkey → CID."""
    answer = pds.get("com.atproto.repo.listRecords", repo=account.did, collection=collection, limit=100)
    return {it["uri"].rpartition("/")[2]: it["cid"] for it in answer["records"]}


def test_a_publication_comes_back(
    place: Path, pds: Pds, account: Account, production: Database, backup: Database, request: pytest.FixtureRequest
) -> None:
    world = publication.contents(account.did)
    for database in (production, backup):
        database.sql(world.sql)
    publication.publish(pds, account, world)
    collections = (publication.PUBLICATION, publication.DOCUMENT, "pub.leaflet.document")
    rows = production.dump()
    repo = {name: listed(pds, account, name) for name in collections}
    publication.destroy(pds, account, world, production)
    dumps = {"before": rows, "destroyed": production.dump()}
    (place / "specs").mkdir()
    shutil.copy(SPEC, place / "specs")
    publication.write_blobs(place / "specs" / "media" / "blobs", world)

    main: object = import_module("reconciler.cli").main
    assert isinstance(main, click.Command)
    environment = {
        "ACCOUNT": account.did, "PLC": pds.plc, "PDS_APP_PASSWORD": account.password, "RECONCILER_VAR_DID": account.did,
    }  # fmt: skip
    runner = Told(place, {"production": production, "backup": backup}, main, environment)
    runner.pds, runner.account, runner.production, runner.dumps, runner.repo = pds, account, production, dumps, repo
    if found := difference(STORY, runner, update=bool(request.config.getoption("--update"))):
        pytest.fail(found, pytrace=False)
