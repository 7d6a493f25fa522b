"""Names in a spec that lead nowhere, or in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.spec.check import Check
from reconciler.spec.collection import AuditSource, Collection, connection_and_table
from reconciler.spec.connections import AtprotoSpec, ConnectionSpec, FilesSpec, PostgresSpec
from reconciler.spec.document import RESOURCE_SECTIONS
from reconciler.spec.http import HttpSpec
from reconciler.spec.pds_records import PdsRecords
from reconciler.spec.problems import Problems, did_you_mean, dotted
from reconciler.spec.process import FunctionCall, Process
from reconciler.spec.storages import DirectorySpec, SupabaseSpec
from reconciler.spec.values import Path


def report_connections(
    name: str,
    collection: Collection,
    connections: Mapping[str, ConnectionSpec | None],
    declared_in: str,
    problems: Problems,
) -> None:
    """Note connections that are not declared or of the wrong type, and a source that is its own target."""
    at: Path = ("collections", name)
    target = _connection(collection.into if collection.into is not None else collection.table)
    source = _connection(collection.source)
    target_word = "into" if collection.into is not None else "table"
    for word, connection in ((target_word, target), ("source", source)):
        if connection is not None and connection not in connections:
            todo = did_you_mean(connection, tuple(connections), f"declare it under `connections` in {declared_in}")
            problems.add(f"the connection `{connection}` is not declared", (*at, word), todo=todo)
    _report_no_table(source, (*at, "source"), connections, problems)
    if isinstance(collection.source, AuditSource) and not problems.concerns((*at, "source", "audit")):
        report_target((*at, "source", "audit"), collection.source.audit, connections, declared_in, problems)
    if target is None:
        return
    _report_no_database(target, (*at, target_word), connections, problems)
    if source is None or problems.concerns((*at, "source")) or problems.concerns((*at, target_word)):
        return
    if not _same_table(collection):
        return
    if source == target:
        what = (
            f"`source` and `{target_word}` are the same table"
            if target_word == "table"
            else "`source` and `into` are the same connection"
        )
        problems.add(what, (*at, "source"), todo="name the connection that has the rows as they should be")
    elif _same_database(connections.get(source), connections.get(target)):
        problems.add(
            f"`{source}` and `{target}` are the same database",
            (*at, "source"),
            why="their connections are written alike",
            todo=f"mend one of them under `connections` in {declared_in}",
        )


def report_target(
    at: Path, text: str, connections: Mapping[str, ConnectionSpec | None], declared_in: str, problems: Problems
) -> None:
    """Note a target whose connection is not declared or holds files."""
    target = _connection(text)
    if target is None:
        return
    if target not in connections:
        todo = did_you_mean(target, tuple(connections), f"declare it under `connections` in {declared_in}")
        problems.add(f"the connection `{target}` is not declared", at, todo=todo)
    _report_no_database(target, at, connections, problems)


def report_bucket(
    at: Path, text: str, connections: Mapping[str, ConnectionSpec | None], declared_in: str, problems: Problems
) -> None:
    """Note a bucket whose connection is not declared or holds none."""
    name = text.partition(".")[0]
    if name not in connections:
        todo = did_you_mean(name, tuple(connections), f"declare it under `connections` in {declared_in}")
        problems.add(f"the connection `{name}` is not declared", at, todo=todo)
    elif connections[name] is not None and not isinstance(connections[name], SupabaseSpec | DirectorySpec):
        problems.add(f"`{name}` holds no buckets", at, todo="name a supabase or directory connection")


def report_check(
    at: Path, check: Check, connections: Mapping[str, ConnectionSpec | None], declared_in: str, problems: Problems
) -> None:
    """Note a check whose connection is not declared or holds files."""
    where: Path = (*at, "on") if check.on is not None else (*at, "coverage", "table")
    if not problems.concerns(where) and (name := check.on or check.place()[0]):
        report_target(where, name, connections, declared_in, problems)


def report_records(
    at: Path,
    records: PdsRecords,
    connections: Mapping[str, ConnectionSpec | None],
    declared_in: str,
    problems: Problems,
) -> None:
    """Note a repo or a source whose connection is not declared or of another type."""
    repo = records.repo.partition(".")[0]
    source = _connection(records.source)
    for word, connection in (("repo", repo), ("source", source)):
        if connection is not None and connection not in connections:
            todo = did_you_mean(connection, tuple(connections), f"declare it under `connections` in {declared_in}")
            problems.add(f"the connection `{connection}` is not declared", (*at, word), todo=todo)
    if connections.get(repo) is not None and not isinstance(connections[repo], AtprotoSpec):
        problems.add(f"`{repo}` is no PDS", (*at, "repo"), todo="name an atproto connection")
    _report_no_table(source, (*at, "source"), connections, problems)
    if isinstance(connections.get(source or ""), FilesSpec) and records.where is not None:
        why = "it is SQL, and no database reads these files"
        problems.add(
            "`where` needs a table", (*at, "where"), key=True, why=why, todo='choose records with rkeys: "3k*"'
        )


def report_process(
    at: Path,
    process: Process,
    connections: Mapping[str, ConnectionSpec | None],
    declared_in: str,
    problems: Problems,
) -> None:
    """Note a table or a call whose connection is not declared or of another type."""
    report_target((*at, "table"), process.table, connections, declared_in, problems)
    through = process.connection()
    if through is None:
        return
    function = isinstance(process.call, FunctionCall)
    place: Path = (*at, "call", "function" if function else "http")
    if through[0] not in connections:
        todo = did_you_mean(through[0], tuple(connections), f"declare it under `connections` in {declared_in}")
        problems.add(f"the connection `{through[0]}` is not declared", place, todo=todo)
        return
    right, word = (SupabaseSpec, "a supabase") if function else (HttpSpec, "an http")
    if connections[through[0]] is not None and not isinstance(connections[through[0]], right):
        problems.add(f"`{through[0]}` is not {word} connection", place, todo=f"name {word} connection")


def _report_no_database(
    name: str, at: Path, connections: Mapping[str, ConnectionSpec | None], problems: Problems
) -> None:
    match connections.get(name):
        case FilesSpec():
            why = "files can be a source, never a target"
            problems.add(f"`{name}` is a folder or file", at, why=why, todo="name a postgres connection")
        case AtprotoSpec():
            problems.add(f"`{name}` is a PDS, and holds no tables", at, todo="name a postgres connection")
        case HttpSpec():
            problems.add(f"`{name}` is a server to call, and holds no tables", at, todo="name a postgres connection")
        case SupabaseSpec() | DirectorySpec():
            problems.add(f"`{name}` holds buckets, and no tables", at, todo="name a postgres connection")
        case _:
            pass


def _report_no_table(
    name: str | None, at: Path, connections: Mapping[str, ConnectionSpec | None], problems: Problems
) -> None:
    todo = "name a postgres or files connection"
    match connections.get(name or ""):
        case AtprotoSpec():
            problems.add(f"`{name}` is a PDS, and no source of rows", at, todo=todo)
        case HttpSpec():
            problems.add(f"`{name}` is a server to call, and no source of rows", at, todo=todo)
        case SupabaseSpec() | DirectorySpec():
            problems.add(f"`{name}` holds buckets, and is no source of rows", at, todo=todo)
        case _:
            pass


def _connection(text: object) -> str | None:
    """The connection a dotted name begins with, where it can be read at all."""
    if not isinstance(text, str):
        return None
    try:
        return connection_and_table(text)[0]
    except ValueError:
        return None


def _same_table(collection: Collection) -> bool:
    """Whether source and target name the same table, if their connections are the same."""
    if not isinstance(collection.source, str):
        return False
    _, source = connection_and_table(collection.source)
    if source is None or collection.table is None:
        return source is None
    return source == collection.target()[1]


def _same_database(one: ConnectionSpec | None, other: ConnectionSpec | None) -> bool:
    match one, other:
        case PostgresSpec(postgres=first), PostgresSpec(postgres=second):
            return first == second != "embedded"
        case _:
            return False


def report_needs(needs: Mapping[str, tuple[str, ...]], addresses: tuple[str, ...], problems: Problems) -> None:
    """Note addresses that no resource has; `needs` maps each address to those it needs."""
    for address, needed in needs.items():
        at: Path = (*address.split("."), "needs")
        for index, text in enumerate(needed):
            if text.startswith("checks.") and text in addresses:
                todo = "leave it out; a check may need others, so that --only brings them along"
                problems.add("checks are looked at last, so nothing can need one", (*at, index), todo=todo)
                continue
            if text in addresses:
                if text in needed[:index]:
                    problems.add(f"`{text}` stands twice in {dotted(at)}", (*at, index), todo="keep one")
                continue
            if "." in text:
                todo = did_you_mean(text, addresses, f"the resources are {', '.join(addresses)}")
                problems.add(f"there is no resource `{text}`", (*at, index), todo=todo)
            else:
                meant = next(
                    (f"{section}.{text}" for section in RESOURCE_SECTIONS if f"{section}.{text}" in addresses), None
                )
                todo = (
                    f"write {meant}"
                    if meant
                    else did_you_mean(text, addresses, "write section.name, as in collections.publications")
                )
                problems.add(f"`{text}` is not an address", (*at, index), todo=todo)
    for cycle in _cycles(needs):
        _report_cycle(cycle, needs, problems)


def _report_cycle(cycle: tuple[str, ...], needs: Mapping[str, tuple[str, ...]], problems: Problems) -> None:
    details: list[str] = []
    for address, needed in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
        where = problems.where((*address.split("."), "needs", needs[address].index(needed)))
        details.append(f"{address} needs {needed}" + (f" ({where})" if where else ""))
    last: Path = (*cycle[0].split("."), "needs", needs[cycle[0]].index(cycle[1 % len(cycle)]))
    what = "a resource needs itself" if len(cycle) == 1 else "resources need each other in a circle"
    problems.add(
        what,
        last,
        details=details,
        todo="take one of these needs out; rows of tables are ordered by their foreign keys anyway",
    )


def _cycles(needs: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Circles that do not share a resource, each beginning with its first address."""
    done: set[str] = set()
    for start in sorted(needs):
        trail: dict[str, Iterator[str]] = {}
        stack = [start]
        while stack:
            address = stack[-1]
            if address in done:
                stack.pop()
                continue
            following = trail.setdefault(address, iter(needs.get(address, ())))
            for needed in following:
                if needed in stack and needed not in done:
                    cycle = stack[stack.index(needed) :]
                    first = cycle.index(min(cycle))
                    yield tuple(cycle[first:] + cycle[:first])
                    done.update(cycle)
                    break
                if needed in needs and needed not in done:
                    stack.append(needed)
                    break
            else:
                done.add(address)
                stack.pop()
