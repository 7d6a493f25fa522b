"""The files that a spec names, so that a saved plan finds the folder they start from.

In: a spec as plans hold it. Out: its relative paths, as far as they are written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast


def paths_in(spec: Mapping[str, object]) -> list[str]:
    """Every path; those that a variable or the environment completes are not known here."""
    connections = _map(spec.get("connections"))
    found = [_map(it).get(word) for it in connections.values() for word in ("files", "directory")]
    found += [_map(it).get("file") for it in _map(spec.get("sql_objects")).values()]
    for it in _map(spec.get("pds_records")).values():
        found.append(_map(_map(it).get("source")).get("car"))
        blobs = _map(_map(it).get("blobs")).get("from")
        found += [blobs] if str(blobs).partition(".")[0] not in connections else []
    for it in _map(spec.get("processes")).values():
        argv = _map(_map(it).get("call")).get("command")
        found += [name for name in cast("list[object]", argv)[:1] if "/" in str(name)] if isinstance(argv, list) else []
    return [text for text in found if isinstance(text, str) and "${" not in text]


def _map(it: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", it) if isinstance(it, dict) else {}
