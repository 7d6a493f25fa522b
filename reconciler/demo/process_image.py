"""What stands in for the app's own image processing: `tools/process_image KIND`, with {"ids": […]} on its input.

In: which of the two kinds of work, and the keys of rows. Out: those rows, done as the app would have done them. It is a program of its
own, called by `processes` of the demo's specs in their folder, and finds its database in the environment or in `.env` beside `specs/`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from reconciler.systems.postgres.session import connect, raw

WORK = {
    "metadata": (
        "DEMO_CMS_URL",
        "UPDATE images SET palette = 'green', metadata_status = 'ready' WHERE id::text = ANY(%s)",
    ),
    "thumbnails": (
        "DEMO_CATALOG_URL",
        "UPDATE images SET thumbnail_path = 'thumbnails/' || id || '.webp' WHERE id::text = ANY(%s)",
    ),
}


def main() -> None:
    ids = [str(it) for it in json.load(sys.stdin)["ids"]]
    variable, statement = WORK[sys.argv[1]]
    written = dict(line.split("=", 1) for line in Path("../.env").read_text("utf-8").splitlines() if "=" in line)
    with connect(variable, os.environ.get(variable) or written[variable]) as session:
        session.run(raw(statement), (ids,))


if __name__ == "__main__":
    main()
