"""`reconciler schema`: what editors check specs against."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of specs."""
    import json

    from reconciler import spec
    from reconciler.cli.terminal import write

    write([json.dumps(spec.json_schema(), indent=2, ensure_ascii=False) + "\n"])
