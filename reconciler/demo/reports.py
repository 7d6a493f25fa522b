"""What the demo walks through: one function a field report, in the order of `REPORTS`.

Each plans, applies, finds nothing left, and takes it all back, and checks with SQL and files of its own what the commands say.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reconciler.demo.repo import DID
from reconciler.demo.walk import Walk
from reconciler.plan.errors import Exit, ReconcilerError

_ID = re.compile(r"\bid ([0-9a-f]{16})\b")
_NOTHING = "No changes."
TABLES = (
    "publications", "documents", "documents_in_publications", "publication_subscriptions", "publication_domains",
    "leaflets_in_publications", "leaflets_to_documents", "recommends_on_documents", "comments_on_documents",
    "document_mentions_in_bsky",
)  # fmt: skip
_CONVERGED = "converged: nothing is left to do"


def overview(walk: Walk) -> None:
    """The damage at a glance."""
    walk.heading(
        "What differs from what the specs say: `status` counts, and changes nothing; it ends with 1, for checks fail"
    )
    walk.run("status", code=Exit.ERROR, says="0 resources are in sync")


def publication(walk: Walk) -> None:
    """Publications and documents deleted from a PDS; the cascade took what hung on them."""
    walk.heading(
        "1/5 A publication deleted, and all that hung on it",
        "An outside program deleted a user's records; the deletions cascaded through ten tables. There is a backup.",
    )
    before = walk.world.state()
    plan = _plan(walk, "publication-restore", lines=15)
    walk.run(
        "show plans/publication-restore.plan.jsonl --format markdown", told="The same plan for a pull request:", lines=6
    )
    _apply(walk, plan, "publication-restore", told="Reviewed, it is applied, this plan and no other:")
    counts = [f"(SELECT count(*) FROM {table})" for table in TABLES]
    sql = f"SELECT array_to_string(ARRAY[{', '.join(counts)}], ' ')"
    walk.expect(
        "ten tables have as many rows as in the backup",
        walk.world.value("production", sql),
        walk.world.value("backup", sql),
    )
    records = walk.world.count(
        "backup", walk.world.repo.told(f"SELECT count(*) FROM documents WHERE uri LIKE 'at://{DID}/%'")
    )
    there = sum(name.startswith("site.standard.document/") for name in walk.world.repo.records())
    walk.expect(f"the repo has the {records} documents again", there, records)
    _settled(walk, "publication-restore")
    _undo(walk, "publication-restore", before)


def device_images(walk: Walk) -> None:
    """The same image sent several times, so that a unique constraint cannot be added."""
    walk.heading(
        "2/5 Images that devices sent more than once",
        "The best row of each image stays, the others go to an archive, and the database refuses more of them from then on.",
    )
    before = walk.world.state()
    _apply(walk, _plan(walk, "device-images"), "device-images")
    twice = "SELECT count(*) - count(DISTINCT (device_id, image_name)) FROM device_images"
    walk.expect("no image is there twice", walk.world.count("devices", twice), 0)
    archived = walk.world.count("devices", "SELECT count(*) FROM device_images_duplicates_backup")
    walk.expect("65 rows are in the archive", archived, 65)
    _settled(walk, "device-images")
    _undo(walk, "device-images", before)


def parts(walk: Walk) -> None:
    """Pictures of parts, of which a script saw the first page only."""
    walk.heading(
        "3/5 Pictures without rows and signed URLs",
        "A script saw the first page of a bucket only. Rows are made of what the bucket has, and URLs are signed.",
    )
    before = walk.world.state(besides="signed_url")
    _apply(walk, _plan(walk, "part-images"), "part-images")
    files = len(list((walk.world.folder / "media" / "part-images").glob("*.jpg")))
    signed = walk.world.count("parts", "SELECT count(*) FROM part_images WHERE signed_url IS NOT NULL")
    walk.expect(f"each of {files} pictures has a row with a signed URL", signed, files)
    _settled(walk, "part-images")
    _undo(walk, "part-images", before, besides="signed_url")


def images(walk: Walk) -> None:
    """The default collection of a CMS, wiped and badly restored."""
    walk.heading(
        "4/5 A collection whose rows were wiped, and then half restored",
        "Rows come back from the bucket, wrong prefixes are corrected, and the app's own function is called for what lacks metadata.",
    )
    _apply(walk, _plan(walk, "default-collection-images"), "default-collection-images")
    ready = walk.world.count(
        "cms", "SELECT count(*) FROM images WHERE src LIKE 'cms-images/garden/%' AND metadata_status = 'ready'"
    )
    walk.expect("57 images of the collection are ready", ready, 57)
    _settled(walk, "default-collection-images")
    told = "The function has worked on the new rows since, and undo does not delete what others have changed:"
    walk.run(
        "undo plans/default-collection-images.plan.jsonl -o plans/default-collection-images.undo.plan.jsonl",
        told=told,
        lines=2,
    )
    before = walk.world.state()
    walk.run("apply plans/default-collection-images.undo.plan.jsonl", lines=4, code=Exit.DRIFT)
    walk.expect("nothing was changed by it", walk.world.state(), before)


def thumbnails(walk: Walk) -> None:
    """Thumbnails that seemed lost, and had never been made; images and jobs that were."""
    walk.heading(
        "5/5 Thumbnails that seemed lost",
        "One statement deleted half of a catalogue's images, and the proof that thumbnails had been made was cleaned away.",
    )
    walk.run("investigate catalog --log audit_log", lines=28, says="1,111 rows, none had thumbnail_path or dhash")
    told = "The rows come back out of the log; every change is recorded and the database guarded from now on:"
    _apply(walk, _plan(walk, "catalog-thumbnails", lines=8), "catalog-thumbnails", told=told)
    images = walk.world.value("catalog", "SELECT count(*) || ' ' || count(thumbnail_path) FROM images")
    walk.expect("all 2,073 images are there, and have a thumbnail", images, "2073 2073")
    for statement, why in _AGAIN.items():
        walk.expect(f"refused by the database: {statement}", why in walk.world.refused("catalog", statement), True)
    _settled(walk, "catalog-thumbnails")


_AGAIN = {
    "DELETE FROM images WHERE dhash IS NULL": "guard images: this DELETE takes 1,111 rows of public.images, and 1,000 is the most",
    "DELETE FROM jobs WHERE status = 'SUCCESS'": "guard thumbnail_jobs: this DELETE takes 3 protected rows of public.jobs",
}
"""What happened in that night, and what the database says to it now."""

REPORTS: tuple[Callable[[Walk], None], ...] = (publication, device_images, parts, images, thumbnails)


def _plan(walk: Walk, name: str, *, lines: int = 0) -> str:
    """Plan, and give the plan's id."""
    text = walk.run(f"plan specs/{name}.yaml -o plans/{name}.plan.jsonl", lines=lines)
    found = _ID.search(text)
    if found is None:
        raise ReconcilerError(f"the demo went wrong: the plan of {name} has no id", todo="please report it")
    return found[1]


def _apply(walk: Walk, plan: str, name: str, *, told: str = "") -> None:
    walk.run(f"apply plans/{name}.plan.jsonl --id {plan}", told=told, lines=4, says=_CONVERGED)


def _settled(walk: Walk, name: str) -> None:
    walk.run(f"plan specs/{name}.yaml", says=_NOTHING)


def _undo(walk: Walk, name: str, before: dict[str, str], *, besides: str = "") -> None:
    """Take the plan back, and compare everything with what was there before it."""
    walk.run(f"undo plans/{name}.plan.jsonl -o plans/{name}.undo.plan.jsonl", lines=3 if besides else 1)
    walk.run(f"apply plans/{name}.undo.plan.jsonl", lines=1, says=_CONVERGED)
    but = f", {besides} aside" if besides else ""
    walk.expect(f"all rows, files and records are as they were before{but}", walk.world.state(besides=besides), before)
