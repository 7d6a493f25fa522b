"""`collections`: rows of a table, within a scope, as a source has them.

In: a collection of the spec and the catalogs of both sides. Out: an intent for each table, for the row differ to compare.
Nothing is decided here about rows; only which relations are meant, and what the spec wants done where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.kinds.tables import Compiled, find_table, place_of, proven, signed_columns
from reconciler.kinds.world import World
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.names import TableName
from reconciler.spec import (
    AuditSource,
    Cascade,
    Collection,
    ColumnsExcept,
    Newer,
    OneTable,
    RowOptions,
    SourceAudit,
    SourceRows,
    SourceTable,
    json_text,
)
from reconciler.systems.files import find
from reconciler.systems.postgres.as_of import AsOf, as_of
from reconciler.systems.postgres.audit_log import find_log
from reconciler.systems.postgres.catalog import Catalog, Table
from reconciler.systems.postgres.closure import cyclic, dependents, scopes
from reconciler.systems.postgres.exchange import Reached
from reconciler.systems.postgres.rows import (
    Compare,
    Intent,
    LinesSource,
    OnChanged,
    OnExtra,
    Parent,
    Scope,
    TableSource,
    ValuesAre,
    full_name,
    relation,
)
from reconciler.systems.postgres.session import Composable, ident


def compile_collection(world: World, address: str, collection: Collection, first: int) -> Compiled:
    """One collection, its intents numbered from `first`."""
    match collection.scope():
        case OneTable(connection=connection, table=name, where=where):
            reaches: list[AsOf] = []
            intent = _one(world, address, collection, connection, name, where, first, reaches)
            return Compiled([intent], _gaps(reaches), reaches)
        case Cascade(connection=connection, roots=roots, follow=follow):
            return _cascade(world, address, collection, connection, roots, follow, first)


def _one(
    world: World, address: str, collection: Collection, connection: str, name: TableName, where: str | None, number: int,
    reaches: list[AsOf],
) -> Intent:  # fmt: skip
    place = place_of(world, address, "table")
    target = find_table(world, connection, name, place)
    session = world.session(connection)
    scope_place = place_of(world, address, "where")
    scope = Scope(proven(world, session, where, target, scope_place)) if where else Scope()
    source = _source(world, address, collection, target, connection, number, reaches)
    if source is None:
        raise ReconcilerError(
            f"{address}: the source has no table {target.name.name}", where=place_of(world, address, "source"),
            todo="name the table: source: connection.table, or map it under the connection's `tables`",
        )  # fmt: skip
    if where and isinstance(source, TableSource):
        condition = proven(world, source.session, where, source.table, scope_place)
        source = TableSource(source.session, source.table, Scope(condition))
    elif where:
        assert isinstance(source, LinesSource)
        source = LinesSource(source.lines, source.values, source.place, scope, source.header)
    return _intent(
        world, address, collection, collection.options(target.name), connection, target, source, scope, number
    )


def _source(
    world: World, address: str, collection: Collection, target: Table, connection: str, number: int, reaches: list[AsOf],
    *, cyclic: bool = False,
) -> TableSource | LinesSource | None:  # fmt: skip
    match collection.source_ref():
        case SourceRows(rows=rows):
            return LinesSource(
                lambda: (f"{json_text(row)}\n".encode() for row in rows), ValuesAre.NATURAL, f"rows of {address}"
            )
        case SourceAudit(connection=name, log=log, as_of=moment):
            return _past(world, address, collection, target, (name, log, moment), number, reaches, cyclic=cyclic)
        case SourceTable(connection=name, table=table):
            files = world.files(name)
            if files is not None:
                wanted = table.name if table else target.name.name
                found = find(files.path, files.tables, wanted)
                return (
                    None
                    if found is None
                    else LinesSource(found.lines, ValuesAre(found.values), found.place, header=found.header)
                )
            there = world.catalog(name).find(table or target.name)
            if there is None:
                return None
            if name == connection and there.name == target.name:
                raise ReconcilerError(
                    f"{address}: source and table are the same", where=place_of(world, address, "source")
                )
            return TableSource(world.session(name), there)


def _past(
    world: World, address: str, collection: Collection, target: Table, of: tuple[str, TableName, str], number: int,
    reaches: list[AsOf], *, cyclic: bool,
) -> TableSource | None:  # fmt: skip
    """The rows of the table of the same name, beside the log, as they were."""
    name, log_name, moment = of
    place = place_of(world, address, "source", "audit")
    there = world.catalog(name).find(target.name)
    if there is None:
        return None
    if collection.sensitive and name != collection.scope().connection:
        raise ReconcilerError(
            f"{address}: sensitive columns cannot come from an audit log on another connection yet", where=place
        )
    session = world.session(name)
    log = find_log(world.catalog(name), name, log_name, where=place)
    key = collection.options(target.name).key or ()
    natural = key if set(key) != set(there.primary_key) and all(name in there.columns for name in key) else ()
    past, reach = as_of(session, log, there, moment, number, address, place, whole=cyclic, natural=natural)
    reach.make()
    reaches.append(reach)
    return TableSource(session, past)


def _gaps(reaches: Sequence[AsOf]) -> list[str]:
    """What a log cannot tell of a table, for want of triggers."""
    return [gap for reach in reaches for gap in reach.gaps]


def _intent(
    world: World,
    address: str,
    collection: Collection,
    options: RowOptions,
    connection: str,
    target: Table,
    source: TableSource | LinesSource,
    scope: Scope,
    number: int,
    *,
    root: bool = False,
    fill: bool = False,
) -> Intent:
    place = place_of(world, address)
    if target.kind not in "rp":
        raise ReconcilerError(
            f"{address}: {full_name(target.name)} is not a table", where=place, todo="rows are written to tables"
        )
    key = options.key or target.primary_key
    if not key:
        raise ReconcilerError(
            f"{address}: {full_name(target.name)} has no primary key",
            where=place,
            todo="say which columns identify a row: key: [column]",
        )
    for column in key:
        if column not in target.columns:
            raise ReconcilerError(
                f"{address}: {full_name(target.name)} has no column {column!r}", where=place_of(world, address, "key")
            )
    newer = options.on_changed.column if isinstance(options.on_changed, Newer) else None
    changed = OnChanged.NEWER if newer else OnChanged(options.on_changed or ("fill" if fill else "update"))
    parents = options.on_missing_parent
    # Signed URLs are their prefix's to write, and stand in no plan, unless the collection names their column.
    signed = (signed_columns(world, connection, target.name) & target.columns.keys()).difference(options.sensitive)
    listed = None if options.columns is None or isinstance(options.columns, ColumnsExcept) else tuple(options.columns)
    signed = signed.difference(listed or ())
    without = frozenset(options.columns.excluded) if isinstance(options.columns, ColumnsExcept) else frozenset[str]()
    return Intent(
        number=number,
        address=address,
        connection=connection,
        target=target,
        key=tuple(key),
        source=source,
        scope=scope,
        columns=listed,
        without=without if listed else without | signed,
        secret=signed,
        sensitive=frozenset(options.sensitive),
        compare=Compare(options.compare),
        on_changed=changed,
        newer=newer,
        on_extra=OnExtra(options.on_extra),
        missing_parent={"": Parent(parents)}
        if isinstance(parents, str)
        else {c: Parent(p) for c, p in parents.items()},
        triggers=options.triggers,
        max_delete=str(options.max_delete),
        unlimited="R001" in collection.allow,
        protect=collection.protect,
        root=root,
        source_name=_source_name(collection),
        place=place,
    )


def _source_name(collection: Collection) -> str:
    match collection.source:
        case str() as name:
            return name
        case AuditSource(audit=audit, as_of=moment):
            return f"{audit} as of {moment}"
        case _:
            return "the rows given"


def _cascade(
    world: World,
    address: str,
    collection: Collection,
    connection: str,
    roots: Mapping[TableName, str],
    follow: bool,
    first: int,
) -> Compiled:
    catalog: Catalog = world.catalog(connection)
    session = world.session(connection)
    targets = {
        name: find_table(world, connection, name, place_of(world, address, "roots", str(name))) for name in roots
    }
    start = sorted(table.name for table in targets.values())
    tables = dependents(catalog, start) if follow else start
    for name in {TableName.parse(text) for text in collection.tables}:
        if not any(name in (table, TableName(None, table.name)) for table in tables):
            raise ReconcilerError(
                f"{address}: {name} does not depend on the roots", where=place_of(world, address, "tables", str(name)),
                todo=f"the tables are {', '.join(str(table) for table in tables)}",
            )  # fmt: skip
    numbers = {name: number for number, name in enumerate(tables, first)}
    pasts: list[AsOf] = []
    in_cycles = cyclic(catalog, tables)
    sources = {
        name: _source(
            world, address, collection, catalog.tables[name], connection, numbers[name], pasts, cyclic=name in in_cycles
        )
        for name in tables
    }

    def source_relation(name: TableName) -> Composable | None:
        match sources[name]:
            case TableSource(table=table):
                return relation(table.name)
            case LinesSource():
                return ident(f"rc_f_{numbers[name]}")
            case None:
                return None

    target_roots: dict[TableName, Composable] = {}
    source_roots: dict[TableName, Composable] = {}
    for name, text in roots.items():
        table, place = targets[name], place_of(world, address, "roots", str(name))
        source = sources[table.name]
        if source is None:
            raise ReconcilerError(f"{address}: the source has no table {full_name(table.name)}", where=place)
        target_roots[table.name] = proven(world, session, text, table, place)
        source_roots[table.name] = (
            proven(world, source.session, text, source.table, place)
            if isinstance(source, TableSource)
            else target_roots[table.name]
        )
    there = next((it.session for it in sources.values() if isinstance(it, TableSource)), session)
    reaches: list[AsOf | Reached] = [*pasts]
    blind = ""
    if follow:
        target_scopes, target_reach = scopes(catalog, target_roots, tables, relation, session, f"t{first}")
        source_scopes, source_reach = scopes(catalog, source_roots, tables, source_relation, there, f"s{first}")
        reaches.append(Reached(target_reach, source_reach))
        if not (target_reach.gives and source_reach.gives):
            blind = session.name if source_reach.gives else there.name
    else:  # foreign keys among the roots, or of one to itself, lead nowhere
        target_scopes = {name: Scope(where) for name, where in target_roots.items()}
        source_scopes = {name: Scope(where) for name, where in source_roots.items()}
    intents: list[Intent] = []
    notes: list[str] = []
    for name in tables:
        match sources[name]:
            case TableSource(table=table):
                source = TableSource(there, table, source_scopes[name])
            case LinesSource() as lines:
                source = LinesSource(lines.lines, lines.values, lines.place, source_scopes[name], lines.header)
            case None:
                notes.append(f"the source has no table {full_name(name)}: its rows are left as they are")
                continue
        intents.append(
            _intent(world, address, collection, collection.options(name), connection, catalog.tables[name], source, target_scopes[name],
                    numbers[name], root=name in target_roots, fill=True)
        )  # fmt: skip
    if blind:
        notes.append(
            f"{blind} grants no temporary tables: a row whose keys lead to the roots on one side only is found there alone"
        )
    return Compiled(intents, [*notes, *_gaps(pasts)], reaches)
