"""The scenarios' own machinery, on a command line of a few lines."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from tests.postgres import Database
from tests.scenarios.runner import Runner, difference, perform
from tests.scenarios.scenario import Command, Scenario, parse

STORY = r"""# A story.

# It begins with nothing.
$ reconciler greet
hello

world
$ reconciler fail
$ sql production: SELECT 1


# A heading of the output is not a comment:
$ reconciler markdown
\# Plan
\$ 5
\\# Plan
\N|x
\[exit 3]
[exit 2]
stderr: why
stderr: what to do

# The end.
-- production.sql --
CREATE TABLE a (x text);

-- specs/a.yaml --
version: 1
"""


@click.group
def main() -> None: ...


@main.command
@click.argument("words", nargs=-1)
@click.option("--id", "wanted")
def plan(words: tuple[str, ...], wanted: str | None) -> None:
    click.echo("# Plan 0123456789abcdef" if wanted in (None, "0123456789abcdef") else wanted)
    click.echo("ab" * 32 + ' "fingerprint":"7|1|x" ' + " ".join(words))
    click.echo(f"error: in {Path.cwd()}", err=True)
    click.echo(f"{os.environ['PRODUCTION_URL']} {os.environ.get('EXTRA')} {os.environ.get('PYTEST_CURRENT_TEST')}")
    click.echo("\n")
    raise SystemExit(2)


@pytest.fixture
def runner(tmp_path: Path, production: Database, backup: Database) -> Runner:
    return Runner(tmp_path, {"production": production, "backup": backup}, main)


def test_a_scenario_is_read_and_written_as_it_is() -> None:
    scenario = parse(STORY)
    assert str(scenario) == STORY
    greet, fail, select, markdown = scenario.commands
    assert greet == Command("reconciler greet", ("# A story.", "", "# It begins with nothing."), ("hello", "", "world"))
    assert fail == Command("reconciler fail")
    assert select == Command("sql production: SELECT 1")
    assert markdown.before == ("", "", "# A heading of the output is not a comment:")
    assert markdown.stdout == ("# Plan", "$ 5", r"\# Plan", r"\N|x", "[exit 3]")
    assert (markdown.exit, markdown.stderr) == (2, ("why", "what to do"))
    assert scenario.after == ("", "# The end.")
    assert scenario.files == {"production.sql": "CREATE TABLE a (x text);\n\n", "specs/a.yaml": "version: 1\n"}


@pytest.mark.parametrize(
    "line", ["# a", "$ a", "stderr: a", "[exit 1]", "-- a --", r"\# a", r"\\[exit 1]", r"\x", "", " "]
)
def test_any_output_can_be_told(line: str) -> None:
    scenario = Scenario((Command("a", stdout=("first", line, "last")), Command("b", stdout=(line, "last"))))
    assert parse(str(scenario)) == scenario


def test_the_command_line_runs_in_a_world_of_its_own(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (Path.cwd(), dict(os.environ))
    outcome = runner.run("EXTRA=more reconciler plan 'two words' --id <id>")
    assert outcome.stdout == '<id>\n<sha256> "fingerprint":"<fingerprint>" two words\n<production> more None\n\n\n'
    assert (outcome.stderr, outcome.exit) == ("error: in <folder>\n", 2)
    assert (Path.cwd(), dict(os.environ)) == before
    assert runner.run("reconciler plan").stdout.startswith("# Plan <id>\n")
    assert runner.run("reconciler plan --id <id>").stdout.startswith("# Plan <id>\n")


def test_rows_are_printed_exactly(runner: Runner, production: Database) -> None:
    production.sql("""CREATE TABLE a ("t" text, y numeric, z timestamptz)""")
    insert = r"""sql production: INSERT INTO a VALUES ('b|c\' || chr(10), 1.0, NULL), ('', 2, '2026-01-01 00:00+09')"""
    assert runner.run(insert).stdout == ""
    rows = "t|y|z\n|2|2025-12-31 15:00:00+00\nb\\|c\\\\\\n|1.0|\\N\n"
    assert runner.run("table production public.a").stdout == rows
    assert runner.run("sql production: SELECT 1 AS x; SELECT 2 AS x").stdout == "x\n2\n"


def test_only_what_changes_is_replaced(runner: Runner, production: Database) -> None:
    port = production.server.port
    assert runner.run(f"sql production: SELECT 'port {port}' AS a, {port} AS b").stdout == f"a|b\nport <port>|{port}\n"
    assert runner.run("sql production: SELECT current_database() AS a, 'production' AS b").stdout == (
        "a|b\nproduction|production\n"
    )


def test_sql_that_fails_is_an_outcome(runner: Runner) -> None:
    outcome = runner.run("sql backup: SELECT 1/0")
    assert (outcome.stdout, outcome.exit) == ("", 1)
    assert "division by zero" in outcome.stderr


def test_files_and_databases_are_prepared(runner: Runner, tmp_path: Path, backup: Database) -> None:
    files = {"backup.sql": "CREATE TABLE a (x text)", "specs/a.yaml": "version: 1\n", "sql/backup.sql": "not run"}
    runner.prepare(Scenario((), files=files))
    assert backup.dump() == {"public.a": []}
    assert (tmp_path / "sql" / "backup.sql").read_text() == "not run"
    assert runner.run("cat specs/a.yaml").stdout == "version: 1\n"
    with pytest.raises(AssertionError, match="outside"):
        runner.prepare(Scenario((), files={"../a": ""}))


def test_what_is_no_command_is_refused(runner: Runner) -> None:
    for text in ("rm -rf x", "A=1", "sql production SELECT 1"):
        with pytest.raises(AssertionError):
            runner.run(text)


def test_performing_tells_what_happened(runner: Runner) -> None:
    told = parse(
        "$ reconciler plan\n# comment\n$ sql backup: SELECT 1/0\n[exit 1]\nstderr: by zero\n$ cat a\nA\n-- a --\nA\n"
    )
    went, said = perform(told, runner)
    assert went.commands[0].stdout[0] == "# Plan <id>"
    assert went.commands[0].exit == 2
    assert said == ["$ reconciler plan", "error: in <folder>\n"]
    assert went.commands[1:] == told.commands[1:]
    assert perform(went, runner) == (went, [])


def test_only_a_wrong_word_on_stderr_is_replaced(runner: Runner) -> None:
    told = parse("$ reconciler plan\nstderr: error: in\n$ reconciler plan\nstderr: warning\n")
    went, _ = perform(told, runner)
    assert [command.stderr for command in went.commands] == [("error: in",), ("error: in <folder>",)]


def test_a_story_is_updated_only_when_asked(runner: Runner, tmp_path: Path) -> None:
    story = tmp_path / "story.txt"
    text = "# It begins.\n$ cat a\nB\n\n$ sql backup: SELECT 1/0\n-- a --\nA\n"
    story.write_text(text)
    found = difference(story, runner, update=False)
    assert story.read_text() == text
    assert "\n-B\n+A\n" in found
    assert "\n+[exit 1]\n" in found
    assert "division by zero" in found
    assert difference(story, runner, update=True) == ""
    assert story.read_text() == text.replace("\nB\n", "\nA\n").replace("1/0\n", "1/0\n[exit 1]\n")
    assert difference(story, runner, update=False) == ""
