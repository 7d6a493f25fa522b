"""The keys of what differs, as CSV: one file a kind of finding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.systems.postgres.differ import Found
from reconciler.systems.postgres.rows import full_name, on_keys
from reconciler.systems.postgres.session import Session, ident, join, lit, q

_KINDS = {"m": "missing", "c": "changed", "x": "extra"}
_HEAD = b"resource,table,key\n"


def write_findings(founds: Sequence[tuple[Session, Found]], folder: Path) -> tuple[Path, ...]:
    """missing.csv, changed.csv, extra.csv (only rows that would be deleted are told one by one)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for kind, name in _KINDS.items():
        path = folder / f"{name}.csv"
        with path.open("wb") as file:
            file.write(_HEAD)
            for session, found in founds:
                key = join([q("{}::text", ident(k)) for k in found.keys])
                query = q(
                    "COPY (SELECT {}, {}, concat_ws(', ', {}) FROM {} WHERE kind = {} ORDER BY 3) TO STDOUT (FORMAT csv)",
                    lit(found.intent.address), lit(full_name(found.intent.target.name)), key, found.intent.temp("d"), lit(kind)
                )  # fmt: skip
                for block in session.copy_out(query):
                    file.write(block)
        paths.append(path)
    return tuple(paths)


def write_duplicates(founds: Sequence[tuple[Session, Found]], folder: Path) -> tuple[Path, ...]:
    """duplicates.csv: each row that shares a key with a better one, and that one's key."""
    path = folder / "duplicates.csv"
    with path.open("wb") as file:
        file.write(b"resource,table,key,survivor,reason\n")
        for session, found in founds:
            keys = join([q("r.{}::text", ident(k)) for k in found.keys])
            survivors = join([q("r.{}::text", ident("v" + k[1:])) for k in found.keys])
            query = q(
                "COPY (SELECT {}, {}, concat_ws(', ', {}), concat_ws(', ', {}), d.reason FROM {} r JOIN {} d ON {} ORDER BY 3)"
                " TO STDOUT (FORMAT csv)", lit(found.intent.address), lit(full_name(found.intent.target.name)), keys, survivors,
                found.intent.temp("r"), found.intent.temp("d"), on_keys("r", found.keys, "d", found.keys)
            )  # fmt: skip
            for block in session.copy_out(query):
                file.write(block)
    return (path,)
