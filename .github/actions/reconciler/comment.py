"""The one comment of a pull request: what it says, which one it is, and what a merge may trust of it.

`write` prints the comment; the others read answers of the API on stdin, several pages one after another:
`find` the comment's number, `merged` the pull request's number and head, `reviewed` the plan's id, `run` the artifact's run.
Invariant: only a comment of AUTHOR counts, and on merge only one that was written for the head that was merged.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MARKER = "<!-- reconciler:plan -->"
_LONGEST = 65_536


def main(command: str) -> None:
    commands = {"write": write, "find": find, "merged": merged, "reviewed": reviewed, "run": run}
    commands[command]()


def _tail() -> str:
    return f"<!-- reconciler:run {os.environ['NAME']} {os.environ['HEAD']} -->"


def write() -> None:
    """The plan's Markdown, or why there is no plan; at the end whose it is and of which head."""
    head, code = os.environ["HEAD"], os.environ["CODE"]
    if os.environ.get("ID"):
        text = Path(os.environ["PLAN"]).with_suffix(".md").read_text("utf-8")
    else:
        errors = Path(os.environ["RUNNER_TEMP"]) / "reconciler.errors"
        said = errors.read_text("utf-8").splitlines() if errors.exists() else ["The specs are not valid."]
        shown = [f"    {line[:300]}" for line in said if not line.startswith("::")][:60]
        text = "\n".join([MARKER, "", f"## No plan: exit code {code}", "", *shown, ""])
    end = f"\nFor {head[:12]}; exit code {code}.\n{_tail()}\n"
    # A plan's comment is never longer than a comment may be; what is said here is short, and stands in place of its last lines.
    room = _LONGEST - len(end) - 100
    if len(text) > room:
        text = text[:room] + "\n\n…\n"
    sys.stdout.write(text + end)


def _pages() -> Iterator[Any]:
    text, decoder, at = sys.stdin.read(), json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        tree, at = decoder.raw_decode(text, at)
        yield from tree if isinstance(tree, list) else [tree]


def _own() -> Iterator[dict[str, Any]]:
    name = re.escape(os.environ["NAME"])
    for it in _pages():
        body = str(it.get("body") or "").replace("\r\n", "\n")
        found = re.search(rf"^<!-- reconciler:run {name} ([0-9a-f]+) -->\s*\Z", body, re.M)
        if body.startswith(MARKER) and found and it["user"]["login"] == os.environ["AUTHOR"]:
            yield {"number": it["id"], "head": found[1], "body": body}


def find() -> None:
    print(next((it["number"] for it in _own()), ""))


def merged() -> None:
    pulls = [it for it in _pages() if it.get("merged_at")]
    if len(pulls) == 1:
        print(pulls[0]["number"], pulls[0]["head"]["sha"])


def reviewed() -> None:
    own = list(_own())
    if not own:
        sys.exit("the pull request has no comment with a plan: nothing is applied")
    if own[-1]["head"] != os.environ["HEAD"]:
        sys.exit(f"the plan was made for {own[-1]['head']}, and {os.environ['HEAD']} was merged: nothing is applied")
    found = re.match(rf"{re.escape(MARKER)}\n\n## Plan `([0-9a-f]{{16}})`", own[-1]["body"])
    if not found:
        sys.exit("the pull request's comment shows no plan: nothing is applied")
    print(found[1])


def run() -> None:
    kept = [it for page in _pages() for it in page["artifacts"] if not it.get("expired")]
    if not kept:
        sys.exit("the artifact with the plan is gone: run the pull request's job again, or plan anew")
    print(max(kept, key=lambda it: it["id"])["workflow_run"]["id"])


if __name__ == "__main__":
    main(sys.argv[1])
