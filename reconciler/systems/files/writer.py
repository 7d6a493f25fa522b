"""Rows written as files that can be a source again: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reconciler.plan.errors import ReconcilerError

MANIFEST = "reconciler-extract.json"
"""Beside the files: says that every value is PostgreSQL's text form."""


def write_table(folder: Path, table: str, lines: Iterator[bytes]) -> int:
    """Write `<table>.jsonl`; how many rows it has."""
    if "/" in table or "\0" in table:
        raise ReconcilerError(
            f"{table!r} cannot be the name of a file", todo="leave the table out: it would leave the folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".reconciler-", dir=folder)
    try:
        count = 0
        with os.fdopen(handle, "wb") as file:
            for block in lines:
                count += block.count(b"\n")
                file.write(block)
        Path(name).chmod(0o600)  # a backup of users' rows is not for everybody's eyes
        Path(name).replace(folder / f"{table}.jsonl")
        return count
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_manifest(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text('{"reconciler_extract":1}\n')
