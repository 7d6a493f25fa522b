"""An app that reads the network writes what we wrote back into its tables: apply ends by looking, and names what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pds.bench import COLLECTION, NOTES, Records, steps
from tests.pds.proxy import Answer, Call
from tests.pds.real import Account, Pds
from tests.pds.test_session import behind
from tests.pds.world import note
from tests.postgres import Database

ROWS = """\
collections:
  rows:
    table: production.notes
    source: backup
"""


@pytest.fixture
def records(place: Path, pds: Pds, account: Account, backup: Database, production: Database) -> Records:
    return Records(place, pds, account, backup, production)


@pytest.mark.parametrize("rows", ["in the plan", "there before"])
def test_rows_that_an_app_echoed_are_named(records: Records, rows: str) -> None:
    records.rows({f"k{n}": note(f"{n}") for n in range(6)})
    records.backup.sql("UPDATE notes SET title = 'ours', words = 3")
    records.production.sql("CREATE TABLE notes (uri text PRIMARY KEY, data jsonb, title text, words integer)")
    if rows == "there before":
        for row in records.backup.sql("SELECT uri, data::text, title, words FROM notes"):
            records.production.sql("INSERT INTO notes VALUES (%s, %s, %s, %s)", *row)

    def echo(call: Call, pass_on: Callable[[], Answer]) -> Answer:
        answer = pass_on()
        if call.method.endswith("applyWrites"):
            for it in json.loads(call.body)["writes"]:
                uri = f"at://{records.account.did}/{COLLECTION}/{it['rkey']}"
                records.production.sql("UPDATE notes SET title = 'the app’s', words = NULL WHERE uri = %s", uri)
        return answer

    with behind(records.pds, echo) as (_, records.plc):
        records.write(NOTES + "  needs: [collections.rows]\n", ROWS)
        plan = records.plan()
        assert ("collections.rows[public.notes]/insert" in steps(plan)) == (rows == "in the plan")
        done = records.run("apply", plan.name, "--json")
        applied = json.loads(done.out)
        assert (done.code, applied["converged"]) == (1, False)
        (left,) = applied["remaining"]
        first = f"at://{records.account.did}/{COLLECTION}/k0"
        assert left.startswith(f"collections.rows[public.notes]/update: 6 changes: {first} (title, words), ")
        assert left.endswith("(title, words), 3 more")
        assert f"left: {left}" in done.err
        # A plan of what is left puts it right.
        assert records.run("apply", records.plan().name).code == 0
        assert records.production.dump() == records.backup.dump()
