"""What the README and the reference of the language say, made of the program itself: commands, options, keys, rules, exit codes.

In: click's commands and the models' JSON Schema. Out: Markdown. `pytest --update` writes it into its place.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import click

from reconciler.cli import COMMANDS, main
from reconciler.plan.errors import EXIT_CODES
from reconciler.plan.rules import RULES
from reconciler.spec import json_schema

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
REFERENCE = ROOT / "specs/REFERENCE.md"
Schema = Mapping[str, Any]


def block(name: str, text: str, generated: str) -> str:
    """The text with what stands between the marks of this name replaced."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    assert text.count(begin) == text.count(end) == 1, name
    head, _, rest = text.partition(begin)
    return f"{head}{begin}{generated}{end}{rest.partition(end)[2]}"


def readme(text: str) -> str:
    """The README as it should be."""
    for name, generated in (("options", options()), ("exit codes", exit_codes()), ("rules", rules())):
        text = block(name, text, generated)
    return text


def command(name: str) -> click.Command:
    return cast("click.Command", importlib.import_module(f"reconciler.cli.{name}").command)


def options() -> str:
    """Every option of every command; those that all have are told once."""
    lines = ["| command | option | is |", "|---|---|---|"]
    lines += [_option("reconciler", it) for it in main.params if isinstance(it, click.Option)]
    for name in COMMANDS:
        lines += [_option(name, it) for it in command(name).params if isinstance(it, click.Option)]
    return "\n".join(lines) + "\n"


def _option(name: str, it: click.Option) -> str:
    names = ", ".join([*it.opts, *it.secondary_opts])
    value = (
        ""
        if it.is_flag
        else " "
        + (it.metavar or ("|".join(it.type.choices) if isinstance(it.type, click.Choice) else it.type.name.upper()))
    )
    default = f" Default: {it.default}." if it.show_default and it.default not in (None, False) else ""
    return f"| `{name}` | `{_cell(names + value)}` | {_cell(it.help or '')}{default} |"


def exit_codes() -> str:
    return "| code | means |\n|---|---|\n" + "".join(f"| {int(code)} | {text} |\n" for code, text in EXIT_CODES.items())


def rules() -> str:
    rows = "".join(f"| {it.id} | `{it.kind}` | {it.level.value} | {it.text} |\n" for it in RULES)
    return "| rule | name | level | means |\n|---|---|---|---|\n" + rows


def reference() -> str:
    """Every key of the language, section by section."""
    schema = json_schema()
    definitions = cast("Mapping[str, Schema]", schema["$defs"])
    parts = [
        "# The spec language, version 1: every key\n\n"
        "Made of the program's own models. [The rules around the words](../reconciler/spec/README.md) stand elsewhere.\n"
    ]
    told: list[str] = []
    for name, section in cast("Mapping[str, Schema]", schema["properties"]).items():
        parts.append(f"## `{name}`\n\n{section.get('description', '')}\n")
        for kind in _named(section):
            parts += _tables(kind, definitions, told)
    return "\n".join(parts)


def _tables(kind: str, definitions: Mapping[str, Schema], told: list[str]) -> Iterator[str]:
    """A mapping's keys, then those of the mappings it holds."""
    if kind in told or "properties" not in definitions.get(kind, {}):
        return
    told.append(kind)
    it = definitions[kind]
    required = set(it.get("required", ()))
    lines = [
        f"### {_words(kind)}\n\n{it.get('description', '')}\n",
        "| key | is | default | means |",
        "|---|---|---|---|",
    ]
    for key, value in cast("Mapping[str, Schema]", it["properties"]).items():
        default = "required" if key in required else _default(value)
        example = f" Such as `{_cell(_plain(value['examples'][0]))}`." if value.get("examples") else ""
        lines.append(
            f"| `{key}` | {_cell(_type(value, definitions))} | {default} | {_cell(value.get('description', ''))}{example} |"
        )
    yield "\n".join(lines) + "\n"
    for value in it["properties"].values():
        for other in _named(value):
            yield from _tables(other, definitions, told)


def _named(schema: Any) -> list[str]:
    """The definitions that a schema leads to."""
    return [it for it in re.findall(r"#/\$defs/([^'\"]+)", str(schema)) if it != "Variable reference"]


def _type(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    match schema:
        case {"$ref": ref}:
            return f"a mapping: {_words(str(ref).rpartition('/')[2])}"
        case {"const": value}:
            return f"`{_plain(value)}`"
        case {"enum": values}:
            return " or ".join(f"`{_plain(value)}`" for value in values)
        case {"anyOf": several} | {"oneOf": several}:
            words = [
                _type(it, definitions)
                for it in several
                if it != {"$ref": "#/$defs/Variable reference"} and it != {"type": "null"}
            ]
            return " or ".join(dict.fromkeys(words))
        case {"type": "array", "items": items}:
            return f"a list of {_type(items, definitions)}"
        case {"type": "object", "patternProperties": values}:
            return (
                f"a mapping of name to {_type(next(iter(cast('Mapping[str, Schema]', values).values())), definitions)}"
            )
        case {"type": "object", "additionalProperties": values} if values not in (True, False):
            return f"a mapping of name to {_type(cast('Schema', values), definitions)}"
        case {"type": several} if isinstance(several, list):
            return " or ".join(_TYPES[it] for it in cast("list[str]", several) if it != "null")
        case {"type": str() as one}:
            return _TYPES[one]
        case _:
            return "any value"


_TYPES = {
    "string": "text",
    "boolean": "`true` or `false`",
    "integer": "a number",
    "number": "a number",
    "object": "a mapping",
    "array": "a list",
}


def _default(schema: Schema) -> str:
    if "default" not in schema or schema["default"] in (None, [], {}, ""):
        return ""
    return f"`{_plain(schema['default'])}`"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def _words(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")
