"""What the demo walks through: one function a field report, in the order of `REPORTS`.

Each plans, applies, finds nothing left, and takes it all back, and checks with SQL and files of its own what the commands say.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reconciler.demo.walk import Walk
from reconciler.demo.world import DID
from reconciler.plan.errors import Exit, ReconcilerError

_ID = re.compile(r"\bid ([0-9a-f]{16})\b")
_NOTHING = "No changes."
_CONVERGED = "converged: nothing is left to do"


def overview(walk: Walk) -> None:
    """The damage at a glance."""
    walk.heading("What differs from what the specs say")
    walk.run("status", code=Exit.CHANGES)


def publication(walk: Walk) -> None:
    """Publications and documents deleted from a PDS; the cascade took what hung on them."""
    walk.heading(
        "A publication that was deleted, and all that went with it",
        "An outside program deleted a user's records; the deletions cascaded through ten tables. There is a backup.",
    )
    before = walk.world.state()
    plan = _plan(walk, "publication", lines=40)
    walk.run("show plans/publication.plan.jsonl --format sql", lines=12)
    _apply(walk, plan, "publication", lines=5)
    tables = ("publications", "documents", "recommends_on_documents", "comments_on_documents", "publication_subscriptions")
    for table in tables:
        sql = f"SELECT count(*) FROM {table}"
        wanted = walk.world.count(sql, "backup")
        walk.expect(f"production has the {wanted} rows of {table} that the backup has", walk.world.count(sql), wanted)
    records = walk.world.count(f"SELECT count(*) FROM documents WHERE uri LIKE 'at://{DID}/%'", "backup")
    there = len(list((walk.world.folder / "repo" / "site.standard.document").glob("*.json")))
    walk.expect(f"the repo has the {records} documents again", there, records)
    walk.run("plan specs/publication.yaml", says=_NOTHING)
    _undo(walk, "publication", lines=6)
    walk.expect("production and the repo are exactly as they were before the apply", walk.world.state(), before)


REPORTS: tuple[Callable[[Walk], None], ...] = (publication,)


def _plan(walk: Walk, name: str, *, lines: int) -> str:
    """Plan, and give the plan's id."""
    text = walk.run(f"plan specs/{name}.yaml -o plans/{name}.plan.jsonl", lines=lines)
    found = _ID.search(text)
    if found is None:
        raise ReconcilerError(f"the demo went wrong: the plan of {name} has no id", todo="please report it")
    return found[1]


def _apply(walk: Walk, plan: str, name: str, *, lines: int) -> None:
    walk.run(f"apply plans/{name}.plan.jsonl --id {plan}", lines=lines, says=_CONVERGED)


def _undo(walk: Walk, name: str, *, lines: int) -> None:
    walk.run(f"undo plans/{name}.plan.jsonl -o plans/{name}.undo.plan.jsonl", lines=lines)
    walk.run(f"apply plans/{name}.undo.plan.jsonl", lines=3, says=_CONVERGED)
