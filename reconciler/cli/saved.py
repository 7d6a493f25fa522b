"""A plan on its way to the user: on the terminal, and in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

from reconciler.cli.terminal import color_on_stdout, tell, write
from reconciler.plan.file import Plan, read


def opening(path: Path) -> Callable[[], Plan]:
    """Begin to read a plan: its digest is taken while the caller loads what it needs. What comes back waits for it."""
    ended: list[Plan | BaseException] = []

    def work() -> None:
        try:
            ended.append(read(path))
        except BaseException as error:
            ended.append(error)

    def wait() -> Plan:
        thread.join()
        if isinstance(ended[0], BaseException):
            raise ended[0]
        return ended[0]

    thread = Thread(target=work, daemon=True)  # Ctrl-C waits for nothing
    thread.start()
    return wait


def present(plan: Plan, out: Path | None, *, as_json: bool = False, examples: str = "all") -> None:
    """Print a plan; where it was saved, write its Markdown beside it and say how to go on."""
    from reconciler.views.overview import Examples

    if as_json:
        from reconciler.views import json

        write(json.render(plan))
    else:
        from reconciler.views import text

        write([text.render(plan, color=color_on_stdout(), examples=Examples(examples))])
    if out is None:
        return
    from reconciler.views import markdown

    beside = markdown_path(out)
    name = out.name if out.is_absolute() else out.as_posix()  # Markdown goes into git: no path of this machine
    beside.write_text(markdown.render(plan, file=name, examples=Examples(examples)), encoding="utf-8", newline="\n")
    tell(f"Wrote {out} and {beside}")
    if not plan.empty:
        tell(f"Apply it with: {markdown.apply_command(plan, str(out))}")


def markdown_path(out: Path) -> Path:
    """plans/x.plan.jsonl → plans/x.plan.md"""
    return out.with_suffix(".md")


def is_plan(path: Path) -> bool:
    """Whether a file is a plan rather than a spec: by its beginning, or by its name if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(20).startswith(b'{"reconciler_plan"') or path.suffix == ".jsonl"
    except OSError:
        return path.suffix == ".jsonl"
