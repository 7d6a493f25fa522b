"""A repo on a real PDS, a backup in PostgreSQL, and the command line between them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from textwrap import dedent, indent
from typing import Any
from unittest import mock

from click.testing import CliRunner

from reconciler.cli import main
from tests.pds.real import Account, Pds
from tests.postgres import Database

COLLECTION = "org.example.note"

_HEAD = """\
version: 1
variables:
  did: {{ default: "{did}" }}
connections:
  backup: {{ postgres: "${{env:BACKUP_URL}}" }}
  production: {{ postgres: "${{env:PRODUCTION_URL}}" }}
  pds: {{ atproto: "{did}", plc: "{plc}", password: "${{env:PDS_PASSWORD}}" }}
"""
NOTES = """
notes:
  repo: "pds.${did}"
  collection: org.example.note
  source: backup.notes
  where: starts_with(uri, 'at://' || :did || '/')
  rkey: uri
  record: data
"""


@dataclass
class Done:
    code: int
    out: str
    err: str


class Records:
    def __init__(self, folder: Path, pds: Pds, account: Account, backup: Database, production: Database) -> None:
        self.folder, self.pds, self.account = folder, pds, account
        self.backup, self.production = backup, production
        self._numbers = count(1)
        self.plc = pds.plc
        self.environ = {
            **os.environ,
            "BACKUP_URL": backup.dsn,
            "PRODUCTION_URL": production.dsn,
            "PDS_PASSWORD": account.password,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        backup.sql("CREATE TABLE notes (uri text PRIMARY KEY, data jsonb, title text, words integer)")
        self.write(NOTES)

    def write(self, records: str, more: str = "") -> None:
        """The spec: three connections and these records."""
        head = _HEAD.format(did=self.account.did, plc=self.plc)
        text = f"{head}{dedent(more)}pds_records:\n{indent(dedent(records), '  ')}"
        (self.folder / "spec.yaml").write_text(text, "utf-8")

    def run(self, *words: str) -> Done:
        """A command, in this process."""
        with mock.patch.dict(os.environ, self.environ, clear=True), contextlib.chdir(self.folder):
            done = CliRunner().invoke(main, words, catch_exceptions=False, prog_name="reconciler")
        assert self.account.password not in done.stdout + done.stderr
        return Done(done.exit_code, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reconciler", *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def plan(self) -> Path:
        path = self.folder / f"{next(self._numbers)}.plan.jsonl"
        done = self.run("plan", "spec.yaml", "-o", path.name)
        assert done.code == 0, done.err
        assert self.account.password not in path.read_text()
        return path

    def apply(self, plan: Path) -> dict[str, Any]:
        """What apply says, which has to end well."""
        done = self.run("apply", plan.name, "--json")
        assert done.code == 0, done.err + done.out
        return json.loads(done.out)

    def undo(self, plan: Path) -> Path:
        path = self.folder / f"{next(self._numbers)}.undo.jsonl"
        done = self.run("undo", plan.name, "-o", path.name)
        assert done.code == 0, done.err
        return path

    def rows(self, records: Mapping[str, str], table: str = "notes") -> None:
        """Rows of the backup: rkey → JSON of the record."""
        for rkey, text in records.items():
            uri = f"at://{self.account.did}/{COLLECTION}/{rkey}"
            self.backup.sql(f"INSERT INTO {table} (uri, data) VALUES (%s, %s)", uri, text)

    def repo(self, collection: str = COLLECTION) -> dict[str, Any]:
        """rkey → record, as another program reads them."""
        found: dict[str, Any] = {}
        cursor = ""
        while True:
            more = {"cursor": cursor} if cursor else {}
            answer = self.pds.get(
                "com.atproto.repo.listRecords", repo=self.account.did, collection=collection, limit=100, **more
            )
            found |= {it["uri"].rpartition("/")[2]: it["value"] for it in answer["records"]}
            cursor = answer.get("cursor", "")
            if not cursor or not answer["records"]:
                return found


def steps(plan: Path) -> dict[str, int]:
    """Step id → how many changes."""
    lines = [json.loads(line) for line in plan.read_text().splitlines()]
    return {line["step"]: line["count"] for line in lines if "step" in line}


def header(plan: Path) -> dict[str, Any]:
    return json.loads(plan.read_text().partition("\n")[0])


def totals(applied: Mapping[str, Any]) -> tuple[int, int]:
    return sum(it["applied"] for it in applied["steps"]), sum(it["already"] for it in applied["steps"])
