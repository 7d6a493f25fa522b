"""`reconciler init`: the first files of a project. Nothing that exists is overwritten."""

from __future__ import annotations

from pathlib import Path

import click

SPEC = """\
# yaml-language-server: $schema=reconciler.schema.json
# What should be true of the data. Check it with `reconciler validate`, see what would change with `reconciler plan`.
version: 1

connections:
  # Credentials stay in the environment (or in .env); a spec never holds one.
  app:        { postgres: "${env:DATABASE_URL}" }
  app_backup: { postgres: "${env:BACKUP_DATABASE_URL}" }

collections:
  # Rows that the backup has and the app lacks come back; rows that differ are set to what the backup has.
  articles:
    table: app.articles              # connection.table, or connection.schema.table
    source: app_backup               # the table of the same name there
    # where: owner_id = 'me'         # only these rows, on both sides
    # on_changed: keep               # leave rows that differ as they are
    # on_extra: delete               # rows the backup lacks go; never more than max_delete
    # max_delete: 5%
"""

ENVIRONMENT = """\
# Copy this file to .env, which git ignores, and fill it in.
DATABASE_URL=postgresql://
BACKUP_DATABASE_URL=postgresql://
"""

IGNORED = (".env", ".reconciler/")


@click.command("init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Scaffold specs/, plans/ and an example in DIR (here, if not given). Nothing that exists is overwritten."""
    import json

    from reconciler import spec
    from reconciler.cli.terminal import tell

    files = {
        "specs/starter.yaml": SPEC,
        "specs/reconciler.schema.json": json.dumps(spec.json_schema(), indent=2, ensure_ascii=False) + "\n",
        "plans/.gitkeep": "",
        ".env.example": ENVIRONMENT,
    }
    has_specs = any((folder / "specs").glob("*.yaml"))
    for name, text in files.items():
        if name.endswith(".yaml") and has_specs:
            tell("kept specs/ as it is")
        else:
            tell(f"{_create(folder / name, text)} {name}")
    tell(f"{_ignore(folder / '.gitignore')} .gitignore")
    tell("Next: copy .env.example to .env and fill it in, edit specs/, then run `reconciler plan`.")


def _create(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return "kept"
    return "created"


def _ignore(path: Path) -> str:
    """Add what must not reach git, line by line."""
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    lacking = [line for line in IGNORED if line not in present.splitlines()]
    if not lacking:
        return "kept"
    gap = "\n" if present and not present.endswith("\n") else ""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(gap + "".join(f"{line}\n" for line in lacking))
    return "extended" if present else "created"
