"""Just enough of a workflow runner: the steps of the action as they stand in its file, and a `gh` that keeps comments in a folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github/actions/reconciler"

GH = """
import json, os, sys
from pathlib import Path
folder = Path(os.environ["FAKE_GITHUB"])
args = sys.argv[1:]
with (folder / "calls").open("a") as file:
    file.write(json.dumps(args) + "\\n")
if args[0] == "run":
    name, into = args[args.index("--name") + 1], Path(args[args.index("--dir") + 1])
    into.mkdir(parents=True)
    for file in (folder / "artifacts" / name).iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    sys.exit()
method = args[args.index("--method") + 1] if "--method" in args else "GET"
(path,) = [it for it in args if it.startswith("repos/")]
comments = json.loads((folder / "comments").read_text())
if method in ("POST", "PATCH"):
    body = Path(args[args.index("--field") + 1].removeprefix("body=@")).read_text()
    if method == "POST":
        comments.append({"id": len(comments) + 1, "user": {"login": "github-actions[bot]"}, "body": body})
    else:
        next(it for it in comments if it["id"] == int(path.rpartition("/")[2]))["body"] = body
    (folder / "comments").write_text(json.dumps(comments))
elif path.endswith("/comments"):
    print(json.dumps(comments[:1]), end="")  # two pages, one after the other
    print(json.dumps(comments[1:]))
elif path.endswith("/pulls"):
    print((folder / "pulls").read_text())
else:
    name = path.partition("?name=")[2]
    there = (folder / "artifacts" / name).exists()
    print(json.dumps({"artifacts": [{"id": 5, "expired": False, "workflow_run": {"id": 77}}] if there else []}))
"""


@dataclass
class Job:
    """One job that uses the action; `outputs` are those of its steps."""

    folder: Path
    github: dict[str, Any]
    environ: dict[str, str]
    inputs: dict[str, str] = field(default_factory=dict[str, str])
    outputs: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    said: str = ""

    def run(self) -> int:
        """Every step that its condition lets; the exit code of the first that fails, else 0."""
        action = cast("dict[str, Any]", yaml.safe_load((ACTION / "action.yml").read_text()))
        self.outputs = {}
        self.said = ""
        self.inputs = {
            **{name: it["default"] for name, it in action["inputs"].items()},
            "token": "t",
            "install": "false",
            **self.inputs,
        }
        for step in action["runs"]["steps"]:
            if "if" in step and not self._value(f"({step['if']})"):
                continue
            if "uses" in step:
                self._keep(step)
            elif code := self._shell(step):
                return code
        return 0

    def _keep(self, step: dict[str, Any]) -> None:
        assert step["uses"].startswith("actions/upload-artifact@")
        path = self.folder / self._filled(step["with"]["path"])
        kept = Path(self.environ["FAKE_GITHUB"]) / "artifacts" / self._filled(step["with"]["name"])
        kept.mkdir(parents=True, exist_ok=True)
        (kept / path.name).write_bytes(path.read_bytes())

    def _shell(self, step: dict[str, Any]) -> int:
        assert step["shell"] == "bash"
        out = self.folder / ".output"
        out.write_text("")
        given = {name: self._filled(text) for name, text in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder,
            env={**self.environ, **given, "GITHUB_OUTPUT": str(out), "GITHUB_ACTION_PATH": str(ACTION)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        self.said += done.stdout
        pairs = (line.partition("=") for line in out.read_text().splitlines())
        if "id" in step:
            self.outputs[step["id"]] = {name: value for name, _, value in pairs}
        return done.returncode

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: str(self._value(match[1]) or ""), text)

    def _value(self, expression: str) -> Any:
        """An expression of a workflow, by Python's own operators."""
        names = re.sub(r"\b(inputs|steps|github)((?:\.[a-z][\w-]*)+)", lambda m: f"_get({m[0]!r})", expression)
        return eval(names.replace("&&", " and ").replace("||", " or "), {"_get": self._get})

    def _get(self, name: str) -> Any:
        root, *path = name.split(".")
        at: Any = {
            "inputs": self.inputs,
            "github": self.github,
            "steps": {k: {"outputs": v} for k, v in self.outputs.items()},
        }[root]
        for part in path:
            at = cast("dict[str, Any]", at or {}).get(part)
        return at


def tools(folder: Path) -> None:
    """`reconciler` of this checkout and the `gh` above, as programs."""
    folder.mkdir()
    (folder / "gh.py").write_text(GH)
    for name, words in (("gh", [str(folder / "gh.py")]), ("reconciler", ["-m", "reconciler"])):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {" ".join(words)} "$@"\n')
        path.chmod(0o755)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What a step finds in its environment."""
    (folder / "temp").mkdir()
    github = folder / "github"
    github.mkdir()
    (github / "comments").write_text("[]")
    tools(folder / "bin")
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "FAKE_GITHUB": str(github),
        **more,
    }


def comments(environ: dict[str, str]) -> list[dict[str, Any]]:
    return json.loads((Path(environ["FAKE_GITHUB"]) / "comments").read_text())
