"""The README says what the program does: every command, option, key, rule and exit code; and what it shows runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import click
import pytest
import yaml

from reconciler.cli import COMMANDS
from reconciler.spec import json_schema, load
from tests.postgres import Database
from tests.reference import README, REFERENCE, ROOT, command, readme, reference

TEXT = README.read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_its_tables_are_current(request: pytest.FixtureRequest) -> None:
    wanted = readme(TEXT)
    if request.config.getoption("--update"):
        README.write_text(wanted)
    elif wanted != TEXT:
        pytest.fail("README.md: options, exit codes or rules have changed: pytest tests/test_readme.py --update")


def test_the_reference_is_current(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update"):
        REFERENCE.write_text(reference())
    elif not REFERENCE.exists() or REFERENCE.read_text() != reference():
        pytest.fail("specs/REFERENCE.md: the language has changed: pytest tests/test_readme.py --update")


def test_every_command_is_told() -> None:
    rows = re.findall(r"^\| `(\w+)[ `]", TEXT.partition("## Commands")[2].partition("<!-- options -->")[0], re.M)
    assert set(rows) == set(COMMANDS)


def test_every_key_stands_in_the_reference() -> None:
    keys: set[str] = set()

    def walk(it: object) -> None:
        if isinstance(it, dict):
            tree = cast("dict[str, object]", it)
            if isinstance(named := tree.get("properties"), dict):
                keys.update(cast("dict[str, object]", named))
            for value in tree.values():
                walk(value)
        elif isinstance(it, list):
            for value in cast("list[object]", it):
                walk(value)

    walk(json_schema())
    text = reference()
    assert len(keys) > 40
    assert not {key for key in keys if f"`{key}`" not in text}


@pytest.mark.parametrize("text", snippets("yaml"))
def test_specs_that_it_shows_are_valid(text: str, tmp_path: Path) -> None:
    tree = cast("dict[str, object]", yaml.safe_load(text))
    if set(tree) & {"jobs", "repos"}:
        return
    whole = dict(tree)
    whole.setdefault("version", 1)
    whole.setdefault(
        "connections",
        {name: {"postgres": f"${{env:{name.upper()}}}"} for name in ("production", "backup")}
        | {"storage": {"supabase": "${env:S}", "key": "${env:K}"}},
    )
    (tmp_path / "spec.yaml").write_text(json.dumps(whole))
    shutil.copytree(ROOT / "specs" / "sql", tmp_path / "sql")
    (tmp_path / "raw.yaml").write_text(
        text if "version" in tree else f"version: 1\nconnections: {json.dumps(whole['connections'])}\n{text}"
    )
    assert load([tmp_path / "raw.yaml"], environ={}).resources()


def test_commands_that_it_shows_exist() -> None:
    shown = [
        line
        for text in snippets("")
        for line in text.splitlines()
        if "reconciler " in line and line.startswith(("$ ", "reconciler"))
    ]
    shown += re.findall(r"`(reconciler [a-z][^`]*)`", TEXT)
    assert len(shown) >= 5
    for line in shown:
        words = shlex.split(re.split(r" [>&|#]", line.removeprefix("$ "))[0].replace("…", ""))
        if words[1] not in COMMANDS:
            assert words[1].startswith("-"), line
            continue
        known = {name for it in command(words[1]).params for name in (*it.opts, *it.secondary_opts)}
        assert {word.partition("=")[0] for word in words[2:] if word.startswith("-")} <= known, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_what_is_typed(shell: str) -> None:
    assert f"_RECONCILER_COMPLETE={shell}_source" in TEXT
    code = "from reconciler.cli import main; main(prog_name='reconciler')"
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "COMP_WORDS": "reconciler pl",
        "COMP_CWORD": "1" if shell != "fish" else "pl",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environ, "_RECONCILER_COMPLETE": f"{shell}_complete"}, capture_output=True, text=True
    )  # fmt: skip
    assert "plan" in done.stdout
    assert "apply" not in done.stdout


def test_the_library_does_what_it_shows(place: Path, production: Database, backup: Database) -> None:
    (text,) = snippets("python")
    for database in (production, backup):
        database.sql("CREATE TABLE publications (uri text PRIMARY KEY, name text)")
    backup.sql("INSERT INTO publications VALUES ('a', 'x'), ('b', 'y')")
    (place / "specs").mkdir()
    (place / "plans").mkdir()
    (place / "specs/spec.yaml").write_text(
        'version: 1\nconnections: { production: { postgres: "${env:P}" }, backup: { postgres: "${env:B}" } }\n'
        "collections: { publications: { table: production.publications, source: backup } }\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "P": production.dsn, "B": backup.dsn},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "collections.publications[public.publications]/insert 2"
    assert production.sql("SELECT count(*) FROM publications") == [(0,)]  # the last lines take it back
    assert [path.name for path in (place / "plans").iterdir()] == ["restore.plan.jsonl"]


def test_options_are_those_of_click() -> None:
    for name in COMMANDS:
        for it in command(name).params:
            assert not isinstance(it, click.Option) or it.help, (name, it.name)
