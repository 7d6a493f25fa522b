"""The command line: parse, call, choose a view, exit code. One module a command, imported when it is called."""

from __future__ import annotations

import click

from reconciler.cli.group import Commands

COMMANDS = {
    "demo": "Walk through a small damaged world on this machine.",
    "init": "Scaffold specs/, plans/ and an example.",
    "validate": "Check specs without connecting to anything.",
    "plan": "Read the world and show what would change.",
    "show": "Render a saved plan.",
    "diff": "Say what changed between two plans.",
    "apply": "Carry out a plan, exactly and once.",
    "undo": "Write the plan that takes a plan back.",
    "status": "Count what is in sync and what is not.",
    "extract": "Save what the sources hold now as files.",
    "cascade": "Show what a delete would take with it.",
    "investigate": "Tell what an audit log knows.",
    "graph": "Draw what depends on what.",
    "schema": "Print the JSON Schema of specs, for editors.",
}
"""What `--help` lists; each is the `command` of the module of its name."""


def _version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    del parameter
    if wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"reconciler {version('reconciler-cli')}")
        except PackageNotFoundError:
            click.echo("reconciler (not installed)")
        context.exit()


def _log_format(context: click.Context, parameter: click.Parameter, form: str) -> None:
    from reconciler.cli import log

    del context, parameter
    log.choose(form)


@click.command(
    cls=Commands, modules="reconciler.cli", summaries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--no-color", is_flag=True, help="No colours; NO_COLOR=1 in the environment says the same.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    is_eager=True,
    expose_value=False,
    callback=_log_format,
    envvar="RECONCILER_LOG_FORMAT",
    show_default=True,
    help="How messages and errors stand on stderr; RECONCILER_LOG_FORMAT says the same.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def main(context: click.Context, no_color: bool) -> None:
    """Bring live data back to a declared state: write specs, review the plan, apply it once."""
    from reconciler.cli.terminal import colors

    context.color = None if colors(no_color=no_color) else False
