"""The texts of a spec before they mean anything: credentials, references and SQL, each checked at its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.spec import sql
from reconciler.spec.credentials import find, find_in_connection
from reconciler.spec.nodes import ListNode, MapNode, Node, Scalar, at, place_in
from reconciler.spec.problems import Problems, did_you_mean, dotted
from reconciler.spec.references import BrokenReference, EnvironmentReference, VariableReference, parts, substitute
from reconciler.spec.source import Place
from reconciler.spec.values import Path, Value, scalar

_FROM_ENVIRONMENT = "write ${env:NAME} and set NAME in the environment or in a .env file that is not committed"
_REPLACE = "take it out, and replace the credential: it may have been read"


def texts(node: Node, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every text of the tree with its path."""
    match node:
        case Scalar(value=str() as text):
            yield path, text
        case Scalar():
            pass
        case ListNode():
            for index, item in enumerate(node.items):
                yield from texts(item, (*path, index))
        case MapNode():
            for key, entry in node.entries.items():
                yield from texts(entry.node, (*path, key))


def is_sql(path: Path) -> bool:
    """Whether SQL stands at this place of a spec."""
    match path:
        case (
            ("collections" | "unique_keys" | "pds_records" | "bucket_prefixes" | "processes", _, "where")
            | ("bucket_prefixes", _, "stale")
            | ("processes", _, "pending" | "done")
            | ("checks", _, "query")
            | ("checks", _, "coverage", "where")
            | ("collections", _, "roots", _)
            | ("unique_keys", _, "keep", int())
            | ("guards", _, "protect")
        ):
            return True
        case _:
            return False


def report_credentials(root: Node, problems: Problems) -> None:
    """Note every secret that is written out; its value is never shown."""
    for path, text in texts(root):
        of_connection = len(path) > 1 and path[0] == "connections"
        if found := find_in_connection(path, text) if of_connection else find(text):
            problems.add(
                f"{dotted(path)} holds {found}",
                path,
                why="a spec is committed and reviewed, and stands in every plan",
                todo=_FROM_ENVIRONMENT if of_connection else _REPLACE,
            )


def report_references(root: Node, declared: Sequence[str], problems: Problems) -> None:
    """Note `${…}` that lead nowhere or stand where they cannot."""
    for path, text in texts(root):
        if "${" not in text or is_sql(path):
            continue
        for part in parts(text):
            match part:
                case BrokenReference():
                    what = (
                        f"`{part.text}` is no reference"
                        if path[0] != "connections"
                        else "this holds a `${` that is no reference"
                    )
                    problems.add(what, path, place=_place(root, path, part.start), todo=part.todo)
                case VariableReference() if path[0] == "variables":
                    problems.add(
                        "a variable is not made of others",
                        path,
                        place=_place(root, path, part.start),
                        todo="write the text itself",
                    )
                case VariableReference() if part.name not in declared:
                    _undeclared(part.name, path, _place(root, path, part.start), declared, problems)
                case EnvironmentReference() if path[0] == "variables":
                    problems.add(
                        "${env:…} is read under `connections` only",
                        path,
                        place=_place(root, path, part.start),
                        todo=f"leave the default out and set RECONCILER_VAR_{str(path[1]).upper()}, or give --var",
                    )
                case EnvironmentReference() if path[0] != "connections":
                    problems.add(
                        "${env:…} is read under `connections` only",
                        path,
                        place=_place(root, path, part.start),
                        why="what a plan does must not depend on a machine",
                        todo=f"declare a variable; RECONCILER_VAR_{part.name.upper()} sets `{part.name.lower()}`",
                    )
                case _:
                    pass


def report_sql(root: Node, path: Path, declared: Sequence[str], problems: Problems) -> None:
    """Note what is wrong with the SQL at a path."""
    node = at(root, path)
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return
    text = node.value
    try:
        parse = sql.parse_query if path[-1] == "query" else sql.parse_condition
        found = [part for part in parse(text) if isinstance(part, sql.Parameter)]
    except sql.Malformed as error:
        problems.add(error.what, path, place=place_in(node, error.offset), todo=error.todo)
        return
    for parameter in found:
        if parameter.name not in declared:
            _undeclared(parameter.name, path, place_in(node, parameter.start), declared, problems)
    for parameter in sql.patterns_over_parameters(text):
        problems.warn(
            f"LIKE takes `_` and `%` in :{parameter.name} for wildcards",
            path,
            place=place_in(node, parameter.start),
            todo=f"write starts_with(column, … || :{parameter.name} || …) where the beginning is meant",
        )


def _undeclared(name: str, path: Path, place: Place | None, declared: Sequence[str], problems: Problems) -> None:
    problems.add(
        f"the variable `{name}` is not declared",
        path,
        place=place,
        todo=did_you_mean(name, declared, f"declare it: variables: {{ {name.lower()}: {{ description: … }} }}"),
    )


def _place(root: Node, path: Path, offset: int) -> Place | None:
    return place_in(at(root, path), offset)


def with_values(value: Value, path: Path, variables: Mapping[str, str]) -> Value:
    """The tree with `${name}` replaced; SQL and the environment's references stay."""
    match value:
        case dict():
            return {key: with_values(item, (*path, key), variables) for key, item in value.items()}
        case list():
            return [with_values(item, (*path, index), variables) for index, item in enumerate(value)]
        case str() if "${" in value and not is_sql(path):
            text = substitute(value, variables, keep_environment=path[0] == "connections")
            return scalar(text) if _is_typed(path) else text
        case _:
            return value


def _is_typed(path: Path) -> bool:
    """Whether true, false or a number is meant at this place, so that a variable may give one."""
    match path:
        case (
            "collections" | "unique_keys" | "pds_records" | "bucket_prefixes",
            _,
            "protect" | "max_delete" | "move",
        ) | (
            "collections",
            _,
            "tables",
            _,
            "max_delete",
        ):
            return True
        case ("sql_objects", _, "protect" | "replace") | ("processes", _, "protect" | "batch"):
            return True
        case _:
            return False
