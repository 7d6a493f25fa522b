"""The keys of what differs, as CSV: one file a kind of finding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import full_name, on_keys
from reconciler.systems.postgres.session import Composable, Session, ident, join, lit, q, raw

_KINDS = {"m": "missing", "cC": "changed", "xX": "extra"}
"""In capitals: of rows that are protected."""
_HEAD = b"resource,table,key\n"


def write_findings(
    founds: Sequence[tuple[Session, Found]], keys: Sequence[tuple[Session, Found]], folder: Path
) -> tuple[Path, ...]:
    """missing.csv, changed.csv, extra.csv (only rows that would be deleted are told one by one); of unique keys duplicates.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for kind, name in _KINDS.items():
        path = folder / f"{name}.csv"
        with path.open("wb") as file:
            file.write(_HEAD)
            for session, found in founds:
                key = join([q("{}::text", ident(k)) for k in found.keys])
                query = q(
                    "COPY (SELECT {}, {}, concat_ws(', ', {}) FROM {} WHERE strpos({}, kind::text) > 0 ORDER BY 3) TO STDOUT (FORMAT csv)",
                    lit(found.intent.address), lit(full_name(found.intent.target.name)), key, found.intent.temp("d"), lit(kind)
                )  # fmt: skip
                for block in session.copy_out(query):
                    file.write(block)
        paths.append(path)
    if keys:
        paths.append(folder / "duplicates.csv")
        with paths[-1].open("wb") as file:
            file.write(b"resource,table,key,survivor,reason\n")
            for session, found in keys:
                for block in session.copy_out(_duplicates(found)):
                    file.write(block)
    return tuple(paths)


def _duplicates(found: Found) -> Composable:
    key, stays = (
        join([q("{}.{}::text", raw(letter), ident(prefix + k[1:])) for k in found.keys])
        for letter, prefix in (("d", "k"), ("r", "v"))
    )
    return q(
        "COPY (SELECT {}, {}, concat_ws(', ', {}), concat_ws(', ', {}), d.reason FROM {} d JOIN {} r ON {} ORDER BY 3) TO STDOUT (FORMAT csv)",
        lit(found.intent.address), lit(full_name(found.intent.target.name)), key, stays, found.intent.temp("d"), found.intent.temp("r"),
        on_keys("d", found.keys, "r", found.keys)
    )  # fmt: skip
