"""What a collection says that cannot all be meant, found without a database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from reconciler.plan.names import TableName
from reconciler.spec.collection import (
    AuditSource,
    Collection,
    ColumnsExcept,
    InlineRows,
    RowOptions,
    connection_and_table,
)
from reconciler.spec.problems import Problems, dotted
from reconciler.spec.unique_key import Rule, UniqueKey
from reconciler.spec.values import Path, Value, json_text

_OF_ONE_TABLE = ("key", "columns", "sensitive", "where")
_OF_A_CASCADE = ("roots", "follow", "tables")


def report(collection: Collection, at: Path, problems: Problems) -> None:
    """Note everything in the collection that contradicts itself."""
    _shape(collection, at, problems)
    _options(collection, at, problems)
    _names(collection, at, problems)
    if isinstance(collection.source, InlineRows):
        _rows(collection, collection.source, (*at, "source", "rows"), problems)


def report_unique_key(unique_key: UniqueKey, at: Path, problems: Problems) -> None:
    """Note everything in the unique key that contradicts itself."""
    for index, name in enumerate(unique_key.key):
        if name in unique_key.key[:index]:
            problems.add(f"`{name}` stands twice in {dotted((*at, 'key'))}", (*at, "key", index), todo="keep one")
    decided: set[str] = set()
    for index, rule in enumerate(unique_key.keep):
        if isinstance(rule, Rule):
            if rule.column in unique_key.key:
                why = "rows that share the key share this column"
                problems.add(
                    f"`{rule.column}` decides nothing", (*at, "keep", index), why=why, todo="take the rule out"
                )
            elif rule.column in decided:
                problems.add(f"`{rule.column}` has two rules", (*at, "keep", index), todo="keep one")
            decided.add(rule.column)
    for word, text in (("table", unique_key.table), ("archive", unique_key.archive)):
        if text is None:
            continue
        try:
            if word == "archive":
                TableName.parse(text)
            elif connection_and_table(text)[1] is None:
                todo = f"write table: {text}.name_of_the_table"
                problems.add(f"{dotted((*at, word))} names no table", (*at, word), todo=todo)
        except ValueError as error:
            todo = "write table or schema.table" if word == "archive" else "write connection.table"
            problems.add(str(error), (*at, word), todo=todo)
            return
    if unique_key.archive is not None and unique_key.archive_table() == unique_key.target()[1]:
        problems.add("the archive is the table itself", (*at, "archive"), todo="name another table")


def _shape(collection: Collection, at: Path, problems: Problems) -> None:
    """One table, or a cascade; and a source."""
    if collection.source is None:
        problems.add(
            f"`source` is missing in {dotted(at)}", (*at, "source"), todo="write source: connection, or { rows: [{…}] }"
        )
    if collection.table is None and collection.into is None:
        if collection.roots is not None:
            problems.add(
                f"`into` is missing in {dotted(at)}", (*at, "into"), todo="write into: connection; it goes with `roots`"
            )
        else:
            problems.add(f"`table` is missing in {dotted(at)}", (*at, "table"), todo="write table: connection.table")
    elif collection.table is not None and collection.into is not None:
        problems.add(
            "`into` cannot stand beside `table`", (*at, "into"), key=True, todo="write table, or into with roots"
        )
    elif collection.table is not None:
        for word in _OF_A_CASCADE:
            if word in collection.model_fields_set and getattr(collection, word):
                todo = "write into: connection instead of table, or leave it out"
                problems.add(f"`{word}` goes with `into`, not with `table`", (*at, word), key=True, todo=todo)
    else:
        _cascade(collection, at, problems)


def _cascade(collection: Collection, at: Path, problems: Problems) -> None:
    if not collection.roots:
        todo = "write roots: { table: condition }"
        problems.add(f"`roots` is missing in {dotted(at)}", (*at, "roots"), todo=todo, why="`into` says only where")
    for word in _OF_ONE_TABLE:
        if getattr(collection, word):
            todo = (
                "write the condition of each root under `roots`"
                if word == "where"
                else f"write tables: {{ table: {{ {word}: … }} }}"
            )
            problems.add(f"`{word}` belongs to one table, and `into` covers several", (*at, word), key=True, todo=todo)
    if not isinstance(collection.on_missing_parent, str):
        todo = "write tables: { table: { on_missing_parent: { column: … } } }"
        problems.add("columns belong to one table, and `into` covers several", (*at, "on_missing_parent"), todo=todo)
    if isinstance(collection.source, InlineRows):
        problems.add(
            "inline rows belong to one table, and `into` covers several",
            (*at, "source"),
            todo="write table: connection.table",
        )
    roots = _tables(collection.roots or (), (*at, "roots"), problems)
    tables = _tables(collection.tables, (*at, "tables"), problems)
    if collection.follow is None:
        for table, written in tables.items():
            if roots and table not in roots and not any(root.name == table.name for root in roots):
                todo = "add it to `roots`, or write follow: dependents"
                problems.add(f"`{written}` is no root", (*at, "tables", written), key=True, todo=todo)


def _tables(names: Iterable[str], at: Path, problems: Problems) -> dict[TableName, str]:
    """The tables named by the keys of a mapping; spelling one of them twice is an error."""
    tables: dict[TableName, str] = {}
    for written in names:
        try:
            table = TableName.parse(written)
        except ValueError as error:
            problems.add(
                str(error),
                (*at, written),
                key=True,
                todo="write table or schema.table; the connection stands in `into`",
            )
            continue
        if table in tables:
            problems.add(
                f"`{written}` and `{tables[table]}` are the same table", (*at, written), key=True, todo="keep one"
            )
        tables[table] = written
    return tables


def _options(collection: Collection, at: Path, problems: Problems) -> None:
    _row_options(collection, at, problems)
    for name, options in collection.tables.items():
        _row_options(options, (*at, "tables", name), problems)


def _row_options(options: RowOptions, at: Path, problems: Problems) -> None:
    for path, names in _column_lists(options, at):
        for index, name in enumerate(names):
            if name in names[:index]:
                problems.add(f"`{name}` stands twice in {dotted(path)}", (*path, index), todo="keep one")
            elif len(name) > 2 and name[0] == name[-1] == '"':
                todo = f"write {name[1:-1]}: names of columns are taken exactly as written"
                problems.add("a column is written without SQL's quotes", (*path, index), todo=todo)
    excluded = options.columns.excluded if isinstance(options.columns, ColumnsExcept) else ()
    for index, name in enumerate(options.key or ()):
        if name in excluded:
            todo = "take it out of one of them: rows cannot be told apart without their key"
            problems.add(f"`{name}` is in the key and left out by columns.except", (*at, "key", index), todo=todo)
        if name in options.sensitive:
            why = "keys stand in the plan, and values of sensitive columns must not"
            problems.add(
                f"`{name}` is in the key and sensitive", (*at, "key", index), why=why, todo="choose another key"
            )


def _column_lists(options: RowOptions, at: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    yield (*at, "key"), options.key or ()
    yield (*at, "sensitive"), options.sensitive
    match options.columns:
        case ColumnsExcept(excluded=names):
            yield (*at, "columns", "except"), names
        case None:
            pass
        case names:
            yield (*at, "columns"), names


def _names(collection: Collection, at: Path, problems: Problems) -> None:
    """Names that are spelled so that nothing can have them."""
    for word, text in (("table", collection.table), ("source", collection.source)):
        if isinstance(text, str):
            try:
                _, table = connection_and_table(text)
            except ValueError as error:
                problems.add(
                    str(error), (*at, word), todo="write connection.table or connection.schema.table, quoted as in SQL"
                )
                continue
            if word == "table" and table is None:
                problems.add(
                    f"{dotted((*at, word))} names no table", (*at, word), todo=f"write table: {text}.name_of_the_table"
                )
            if word == "source" and table is not None and collection.into is not None:
                todo = "write the connection alone: every table has its own name there"
                problems.add("one table cannot be the source of several", (*at, word), todo=todo)
    if isinstance(collection.source, AuditSource):
        try:
            collection.source_ref()
        except ValueError as error:
            problems.add(str(error), (*at, "source", "audit"), todo="write connection.table or connection.schema.table")
    if collection.into is not None:
        try:
            _, table = connection_and_table(collection.into)
        except ValueError as error:
            problems.add(str(error), (*at, "into"), todo="write the name of a connection")
            return
        if table is not None:
            todo = "write the connection alone; the schema stands under `roots`: { schema.table: condition }"
            problems.add("`into` names more than a connection", (*at, "into"), todo=todo)


def _rows(collection: Collection, source: InlineRows, at: Path, problems: Problems) -> None:
    """Rows have the same columns each, and different keys."""
    if not source.rows:
        return
    columns = source.rows[0].keys()
    for index, row in enumerate(source.rows):
        if lacking := sorted(columns - row.keys()):
            todo = "write null if it is to be NULL"
            problems.add(f"row {index + 1} lacks `{lacking[0]}`, which the first row has", (*at, index), todo=todo)
        elif more := sorted(row.keys() - columns):
            todo = f"give every row `{more[0]}`; null if it is to be NULL"
            problems.add(
                f"row {index + 1} has `{more[0]}`, which the first row lacks",
                (*at, index, more[0]),
                key=True,
                todo=todo,
            )
    base = at[:-2]
    listed = collection.columns if isinstance(collection.columns, tuple) else ()
    for word, names in (("key", collection.key or ()), ("columns", listed)):
        for index, name in enumerate(names):
            if name not in columns:
                problems.add(
                    f"no row has the column `{name}`", (*base, word, index), todo=f"the rows have {', '.join(columns)}"
                )
    for index, name in enumerate(collection.sensitive):
        if name in columns:
            why = "inline rows stand in the plan as they are"
            problems.add(
                f"`{name}` is sensitive and written out in `rows`",
                (*base, "sensitive", index),
                why=why,
                todo="use another source",
            )
    _twins(collection.key or (), source, at, problems)


def _twins(key: tuple[str, ...], source: InlineRows, at: Path, problems: Problems) -> None:
    if not key or any(name not in row for row in source.rows for name in key):
        return
    seen: dict[tuple[str, ...], int] = {}
    for index, row in enumerate(source.rows):
        first = seen.setdefault(tuple(_text(row[name]) for name in key), index)
        if first != index:
            problems.add(f"row {index + 1} has the same key as row {first + 1}", (*at, index), todo="keep one of them")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_text(cast("Value", value))
