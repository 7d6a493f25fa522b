"""What the sources hold, in scope, as files: every value in PostgreSQL's text form, so that nothing is lost on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler.plan.names import TableName
from reconciler.systems.files.writer import write_manifest, write_table
from reconciler.systems.postgres.differ import source_relation
from reconciler.systems.postgres.emit import COPY_LINES
from reconciler.systems.postgres.found import Found
from reconciler.systems.postgres.rows import TableSource, alias, json_object, order_by_key
from reconciler.systems.postgres.session import Session, ident, q, raw


def extract_rows(founds: Sequence[tuple[Session, Found]], folder: Path) -> tuple[str, ...]:
    """One `<table>.jsonl` for each table, and the manifest that says how values are spelled."""
    folder.mkdir(parents=True, exist_ok=True)
    by_table: dict[TableName, list[tuple[Session, Found]]] = {}
    for session, found in founds:
        by_table.setdefault(found.intent.target.name, []).append((session, found))
    bare = [name.name for name in by_table]
    said: list[str] = []
    for name, members in sorted(by_table.items()):
        file = name.name if bare.count(name.name) == 1 else f"{name.schema}.{name.name}"
        count = write_table(folder, file, (line for session, found in members for line in _lines(session, found)))
        said.append(f"{folder.name}/{file}.jsonl: {count} rows")
    write_manifest(folder)
    return tuple(said)


def _lines(session: Session, found: Found) -> Iterator[bytes]:
    intent = found.intent
    here = alias(intent.target.name)
    scope = intent.source.scope
    on = intent.source.session if isinstance(intent.source, TableSource) else session
    image = json_object([(c.name, q("{}.{}", here, ident(c.name)), None) for c in found.written])
    where = q(" WHERE {}", scope.where) if scope.where else raw("")
    order = order_by_key([q("{}.{}", here, ident(c)) for c in intent.key])
    query = q(
        "{}SELECT {} FROM {} AS {}{} ORDER BY {}",
        scope.with_ or raw(""),
        image,
        source_relation(intent),
        here,
        where,
        order,
    )
    yield from on.copy_out(q(COPY_LINES, query))
