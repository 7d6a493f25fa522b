"""The values a spec's variables are given: --var before the environment, the environment before defaults."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.spec.credentials import find
from reconciler.spec.document import Variable
from reconciler.spec.environment import Environment
from reconciler.spec.problems import Problems, did_you_mean

_PREFIX = "RECONCILER_VAR_"


def values(
    declared: Mapping[str, Variable | None], given: Mapping[str, str], environment: Environment, problems: Problems
) -> dict[str, str]:
    """The value of every declared variable, by name; None is declared in a way that was noted already."""
    for name in sorted(given.keys() - declared.keys()):
        problems.add(
            f"--var {name}: the spec declares no such variable",
            todo=did_you_mean(name, tuple(declared), f"declare it: variables: {{ {name}: {{ description: … }} }}"),
        )
    found: dict[str, str] = {}
    for name, variable in sorted(declared.items()):
        value = _value(name, variable, given, environment, problems) if variable else None
        if value is not None:
            found[name] = value
    return found


def _value(
    name: str, variable: Variable, given: Mapping[str, str], environment: Environment, problems: Problems
) -> str | None:
    default = variable.default
    if name in given:
        value, origin = given[name], f"--var {name}"
    else:
        value, origin = environment.get(_PREFIX + name.upper()), _PREFIX + name.upper()
    if value is None:
        if default is None:
            told = f": {variable.description}" if variable.description else ""
            problems.add(
                f"the variable `{name}` has no value{told}",
                ("variables", name),
                key=True,
                todo=f"give --var {name}=…, set {_PREFIX}{name.upper()}, or write a default",
            )
        return default
    if not value and default != "":
        problems.add(
            f"{origin} is empty",
            ("variables", name),
            key=True,
            why="an empty value widens a scope such as starts_with(uri, :prefix) to everything",
            todo='give a value; if empty text is meant, write default: ""',
        )
    if "\0" in value:
        problems.add(f"{origin} holds the character NUL", ("variables", name), key=True)
    if found := find(value):
        why = "the values of variables stand in the plan"
        todo = "read it with ${env:NAME} under `connections` instead"
        problems.add(f"{origin} holds {found}", ("variables", name), key=True, why=why, todo=todo)
    return value
