"""The plan file: JSON Lines, in and out, byte for byte.

In: steps in order, each with its changes (as `Change`s, or as ready lines that PostgreSQL wrote).
Out: header, for each step its line and its changes' lines, an end line with the digest.
Held in memory: header and steps, never the changes.
Invariant: a file whose digest or id does not fit is refused, so what is applied is what was reviewed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from reconciler.plan.body import BLOCK, Body, Digest, last_line
from reconciler.plan.errors import ReconcilerError
from reconciler.plan.rules import rule
from reconciler.plan.step import Change, Check, Deferred, Hazard, Image, Kept, Step, Verb

FORMAT = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write says, without naming its file, where no more fits."""
_ID = 16  # characters


@dataclass(frozen=True)
class Header:
    """What stands in front of the steps. `spec` and `variables` are enough to plan again; no secrets, hosts or times."""

    spec: Mapping[str, object] = field(default_factory=dict[str, object])
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    connections: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    summary: Mapping[str, int] = field(default_factory=dict[str, int])
    deferred: tuple[Deferred, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    checks: tuple[Check, ...] = ()
    """What apply looks at after the last step, and how it stood when the plan was made."""


dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Compact JSON exactly as PostgreSQL's own escaping writes it, so that both can write plan lines."""


def _sorted(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value)
        return {name: _sorted(items[name]) for name in sorted(items)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in cast("Sequence[object]", value)]
    return value


def header_line(header: Header, plan_id: str | None) -> str:
    """The first line; without an id, the text that the id is computed over."""
    tree: dict[str, object] = {"reconciler_plan": FORMAT}
    if plan_id is not None:
        tree["id"] = plan_id
    tree["spec"] = _sorted(header.spec)
    tree["variables"] = _sorted(header.variables)
    tree["connections"] = _sorted(header.connections)
    tree["summary"] = _sorted(header.summary)
    tree["deferred"] = [{"address": it.address, "reason": it.reason} for it in header.deferred]
    tree["hazards"] = [hazard_tree(it) for it in header.hazards]
    if header.checks:
        tree["checks"] = [
            {"address": it.address, "severity": it.severity, "holds": it.holds, "found": it.found}
            for it in header.checks
        ]
    return dumps(tree)


def hazard_tree(hazard: Hazard) -> dict[str, object]:
    """A risk as it stands in plans and in JSON; what is at its default is left out."""
    tree: dict[str, object] = {"rule": rule(hazard.kind).id, "kind": hazard.kind, "address": hazard.address}
    if hazard.step:
        tree["step"] = hazard.step
    tree |= {"text": hazard.text, "count": hazard.count}
    return tree | {"allowed": True} if hazard.allowed else tree


def _hazard(tree: dict[str, object]) -> Hazard:
    """A risk that was read; its rule follows from its kind."""
    fields = cast("dict[str, str]", tree)
    count, allowed = cast("int", tree["count"]), tree.get("allowed") is True
    return Hazard(fields["kind"], fields["address"], fields["text"], count, fields.get("step", ""), allowed)


def step_line(step: Step) -> str:
    """A step's line."""
    tree: dict[str, object] = {
        "step": step.id,
        "needs": list(step.needs),
        "together": step.together,
        "connection": step.connection,
        "target": step.target,
        "verb": step.verb.value,
        "key": list(step.key),
        "columns": _sorted(step.columns),
        "count": step.count,
        "notes": list(step.notes),
    }
    if step.triggers != "fire":
        tree["triggers"] = step.triggers
    if step.unique:
        tree["unique"] = list(step.unique)
    if step.where:
        tree["where"] = step.where
    if step.archive:
        tree["archive"] = step.archive
    if step.archived_by:
        tree["archived_by"] = step.archived_by
    if step.apart:
        tree["apart"] = True
    if step.loses:
        tree["loses"] = step.loses
    if step.passes:
        tree["passes"] = list(step.passes)
    if step.undo_passes:
        tree["undo_passes"] = list(step.undo_passes)
    return dumps(tree)


def change_line(change: Change) -> str:
    """A change's line."""
    tree = {
        "of": change.of,
        "key": list(change.key),
        "before": _sorted(change.before),
        "after": _sorted(change.after),
        "reason": change.reason,
    }
    if change.kept:
        tree["kept"] = {"key": list(change.kept.key), "has": change.kept.has, "over": change.kept.over}
    return dumps(tree)


def change_prefix(step_id: str) -> str:
    """How the line of every change of a step begins, up to the key's array."""
    return f'{{"of":{dumps(step_id)},"key":'


def parse_change(line: bytes | str) -> Change:
    tree = json.loads(line)
    kept = tree.get("kept")
    row = Kept(tuple(kept["key"]), kept["has"], kept["over"]) if kept else None
    return Change(tree["of"], tuple(tree["key"]), tree["before"], tree["after"], tree["reason"], row)


def _identify(header: Header, digest: str) -> str:
    return hashlib.sha256(f"{header_line(header, None)}\n{digest}".encode()).hexdigest()[:_ID]


Lines = Callable[[Callable[[bytes], object]], None]
"""Something that writes a step's change lines (each with its newline, in blocks of any size) into the sink it is given."""


@dataclass(frozen=True)
class Planned:
    """A step and where its change lines come from."""

    step: Step
    lines: Lines


def planned(step: Step, changes: Iterable[Change]) -> Planned:
    """A step whose changes are few enough to be written from Python."""
    ordered = sorted(changes, key=lambda change: tuple(part.encode() for part in change.key))

    def lines(sink: Callable[[bytes], object]) -> None:
        for change in ordered:
            sink(f"{change_line(change)}\n".encode())

    return Planned(step.having(count=len(ordered)), lines)


@dataclass(frozen=True)
class Plan:
    """A plan file on disk. Steps are in order; changes are read from the file when asked for."""

    path: Path
    id: str
    header: Header
    steps: tuple[Step, ...]
    offsets: Mapping[str, int]
    """Where each step's first change line begins."""

    @property
    def changes_count(self) -> int:
        return sum(step.count for step in self.steps)

    @property
    def empty(self) -> bool:
        """Nothing to apply (deferred resources may still be named)."""
        return not self.steps

    def lines(self, step: Step) -> Iterator[bytes]:
        """The raw lines of a step's changes."""
        with self.path.open("rb") as file:
            file.seek(self.offsets[step.id])
            for _ in range(step.count):
                yield file.readline()

    def changes(self, step: Step) -> Iterator[Change]:
        """A step's changes, in key order."""
        return map(parse_change, self.lines(step))

    def examples(self, step: Step, most: int) -> list[Change]:
        """The first few changes of a step."""
        return [change for change, _ in zip(self.changes(step), range(most), strict=False)]

    def reasons(self, step: Step) -> dict[str, int]:
        """How many changes of a step have each reason, without parsing them."""
        counts: dict[bytes, int] = {}
        for line in self.lines(step):
            at = line.rfind(b',"reason":') + 10
            end = line.rfind(b',"kept":{"key":[', at)
            reason = line[at : end if end > 0 else -2]
            counts[reason] = counts.get(reason, 0) + 1
        return {json.loads(reason): count for reason, count in sorted(counts.items())}


def write(path: Path | None, header: Header, steps: Iterable[Planned]) -> Plan:
    """Write a plan file whole or not at all; with no path, into a temporary file that the caller removes."""
    folder = path.parent if path else Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    items = list(steps)
    header = replace(header, summary=summarize(item.step for item in items))
    head = f"{header_line(header, '0' * _ID)}\n".encode()  # as long as with the id, which is known in the end
    offsets: dict[str, int] = {}
    handle, name = tempfile.mkstemp(prefix=".reconciler-plan-", suffix=".plan.jsonl", dir=folder)
    try:
        with os.fdopen(handle, "wb", buffering=BLOCK) as file, ThreadPoolExecutor(1) as beside:
            file.write(head)
            body = Body(file, beside)
            for item in items:
                body.add(f"{step_line(item.step)}\n".encode())
                offsets[item.step.id] = len(head) + body.size
                item.lines(body.add)
            digest = body.digest()
            total = sum(item.step.count for item in items)
            file.write(f"{dumps({'end': True, 'changes': total, 'sha256': digest})}\n".encode())
            file.seek(0)
            plan_id = _identify(header, digest)
            file.write(f"{header_line(header, plan_id)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        if path:
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        return Plan(path or Path(name), plan_id, header, tuple(item.step for item in items), offsets)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _unwritten(path or folder, error) from None
        raise


def summarize(steps: Iterable[Step]) -> dict[str, int]:
    """Changes by verb; the three row verbs are always named."""
    counts = {"insert": 0, "update": 0, "delete": 0}
    for step in steps:
        counts[step.verb.value] = counts.get(step.verb.value, 0) + step.count
    return counts


def read(path: Path) -> Plan:
    """Open a plan file, refusing one that was edited, cut short or written by a newer version."""
    try:
        with path.open("rb") as file:
            if not file.seekable():
                raise ReconcilerError(
                    "cannot read the plan: it is a pipe",
                    where=str(path),
                    why="a plan is read more than once: to be checked, and to be carried out",
                    todo="save it in a file and name that",
                )
            return _read(path, file)
    except OSError as error:
        raise ReconcilerError(f"cannot read the plan: {error.strerror}", where=str(path)) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _refused(path, "it is not a plan file, or not all of it is there") from None


def _read(path: Path, file: BufferedReader) -> Plan:
    head = json.loads(file.readline())
    if head.get("reconciler_plan") != FORMAT:
        raise _refused(path, f"its format is {head.get('reconciler_plan')!r}; this version reads {FORMAT}")
    header = Header(
        spec=head["spec"],
        variables=head["variables"],
        connections=head["connections"],
        summary=head["summary"],
        deferred=tuple(Deferred(**it) for it in head["deferred"]),
        hazards=tuple(_hazard(it) for it in head["hazards"]),
        checks=tuple(Check(**it) for it in head.get("checks", ())),
    )
    steps: list[Step] = []
    offsets: dict[str, int] = {}
    begin = file.tell()
    last = last_line(file, begin)
    with Digest(file, begin, last) as digested:
        while (line := file.readline()).startswith(b'{"step":'):
            step = _parse_step(json.loads(line))
            steps.append(step)
            offsets[step.id] = file.tell()
            _skip_changes(file, step)
        end = json.loads(line)
        if end.get("end") is not True or not line.endswith(b"\n") or file.tell() - len(line) != last:
            raise _refused(path, "its end is not where it should be")
        digest = digested.whole()
    if end["sha256"] != digest or head["id"] != _identify(header, digest):
        raise _refused(path, "it was changed after it was written: its digest does not fit")
    if end["changes"] != sum(step.count for step in steps):
        raise _refused(path, "its changes are not as many as its end line says")
    return Plan(path, head["id"], header, tuple(steps), offsets)


def _skip_changes(file: IO[bytes], step: Step) -> None:
    prefix = change_prefix(step.id).encode()
    for _ in range(step.count):
        if not file.readline().startswith(prefix):
            raise ValueError("a change does not belong to its step")


def _parse_step(tree: dict[str, object]) -> Step:
    fields = cast("dict[str, list[str]]", tree)
    return Step(
        id=cast("str", tree["step"]),
        connection=cast("str", tree["connection"]),
        target=cast("str", tree["target"]),
        verb=Verb(cast("str", tree["verb"])),
        key=tuple(fields["key"]),
        columns=cast("dict[str, str]", tree["columns"]),
        count=cast("int", tree["count"]),
        needs=tuple(fields["needs"]),
        together=cast("str | None", tree["together"]),
        notes=tuple(fields["notes"]),
        triggers=cast("str", tree.get("triggers", "fire")),
        unique=tuple(fields.get("unique", ())),
        where=cast("str", tree.get("where", "")),
        archive=cast("str", tree.get("archive", "")),
        archived_by=cast("str", tree.get("archived_by", "")),
        apart=cast("bool", tree.get("apart", False)),
        loses=cast("str", tree.get("loses", "")),
        passes=tuple(fields.get("passes", ())),
        undo_passes=tuple(fields.get("undo_passes", ())),
    )


def _unwritten(place: Path, error: OSError) -> ReconcilerError:
    return ReconcilerError(
        f"cannot write the plan: {error.strerror}",
        where=str(place),
        why="the disk, or what you may use of it, is full; nothing is left of what was written",
        todo="make room, or write the plan elsewhere: -o for one that is kept, TMPDIR for one that is not",
    )


def _refused(path: Path, why: str) -> ReconcilerError:
    return ReconcilerError("this plan is refused", where=str(path), why=why, todo="plan again; never edit a plan file")


__all__ = ["Header", "Image", "Lines", "Plan", "Planned", "planned", "read", "write"]
