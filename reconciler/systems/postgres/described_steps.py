"""What is to be done with objects becomes steps; what was found becomes CSV. Lines are written by PostgreSQL and pass as bytes.

In: `Objects`. Out: steps on the storage's connection with the verbs copy, move, remove and sign, their risks, and the edges to the rows of
the same resource: an object is there before rows say so and before it is signed for, and goes after rows have let go of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.plan.file import Planned, change_prefix, dumps
from reconciler.plan.step import Hazard, Step, Verb
from reconciler.systems.postgres.described import FINDINGS, Described, Objects
from reconciler.systems.postgres.emit import Emitted, stream
from reconciler.systems.postgres.rows import full_name, json_text
from reconciler.systems.postgres.session import Composable, Session, lit, q, raw


def object_steps(session: Session, found: Objects, connection: str) -> Emitted:
    """Steps, edges and risks of one prefix."""
    out = Emitted()
    source, address = found.intent.finds, found.intent.address
    assert isinstance(source, Described)
    state = _object({"size": raw("f.size"), "etag": raw("f.etag")})
    came = {"from": raw("f.other"), "size": raw("f.size"), "etag": raw("f.etag")}
    moved = _object({"name": raw("f.other")})
    made = {
        "copy": _step(session, found, connection, Verb.COPY, "copy", raw("'null'"), _object(came)),
        "move": _step(session, found, connection, Verb.MOVE, "move", state, moved),
        "quarantine": _step(session, found, connection, Verb.MOVE, "quarantine", state, moved),
        "remove": _step(session, found, connection, Verb.REMOVE, "remove", state, raw("'null'")),
    }
    if source.signing:
        after = _object({"path": q("{} || f.name", lit(f"{source.bucket}/")), "seconds": lit(source.signing.seconds)})
        made["sign"] = _step(session, found, connection, Verb.SIGN, "sign", raw("'null'"), after)
    first, signed, last = [made["copy"], made["move"]], [made.get("sign")], [made["quarantine"], made["remove"]]
    rows = [f"{found.intent.label}/{verb}" for verb in ("insert", "update", "delete")]
    for before, after in ((first, rows), (rows, signed), (first, signed), (rows, last), (first, last), (signed, last)):
        out.must += [(_id(one), _id(other)) for one in before for other in after if one and other]
    out.steps += [item for item in (*first, *signed, *last) if item]
    for kind, verb, said in (
        ("irreversible", "remove", "objects are removed from {}: undo cannot bring their bytes back"),
        ("objects-move", "quarantine", "objects of {} are moved aside"),
        ("objects-move", "move", "objects of {} are moved: URLs that name the old place break"),
        ("irreversible", "sign", "signed URLs are made for {}: undo leaves them"),
    ):
        if (count := found.counts.get(verb, 0)) and made.get(verb):
            out.hazards.append(
                Hazard(kind, address, f"{count} {said.format(source.bucket)}", count, _id(made.get(verb)))
            )
    if count := found.counts.get("stuck", 0):
        text = f"{count} rows of {full_name(found.intent.target.name)} stay wrongly spelled: {source.column} is what they are told apart by"
        out.hazards.append(Hazard("left-out", address, text, count))
    if found.intent.protect and (count := sum(found.counts.get(kind, 0) for kind in ("move", "quarantine", "remove"))):
        out.hazards.append(
            Hazard("blocked", address, f"{source.bucket}: {count} objects are protected and left", count)
        )
    return out


def _id(step: Planned | str | None) -> str:
    return step if isinstance(step, str) else step.step.id if step else ""


def _step(
    session: Session, found: Objects, connection: str, verb: Verb, kind: str, before: Composable, after: Composable
) -> Planned | None:
    count = found.counts.get(kind, 0)
    source = found.intent.finds
    assert isinstance(source, Described)
    if not count or (found.intent.protect and verb in (Verb.REMOVE, Verb.MOVE)):
        return None
    target = f"{source.bucket}/{source.prefix}" if source.prefix else source.bucket
    step_id = f"{found.intent.address}[{target}]/{verb.value}{'#2' if kind == 'quarantine' else ''}"
    line = q(
        "{} || '[' || {} || '],\"before\":' || {} || ',\"after\":' || {} || ',\"reason\":' || to_json(f.why)::text || '}}'",
        lit(change_prefix(step_id)), json_text(raw("f.name")), before, after
    )  # fmt: skip
    query = q(
        'SELECT {} FROM {} f WHERE f.kind = {} ORDER BY f.name COLLATE "C"', line, found.intent.temp("f"), lit(kind)
    )
    notes = (f"signed for {source.signing.seconds} seconds",) if verb is Verb.SIGN and source.signing else ()
    return Planned(
        Step(step_id, connection, source.bucket, verb, ("name",), count=count, notes=notes), stream(session, query)
    )


def _object(members: Mapping[str, Composable]) -> Composable:
    """A JSON object of these, sorted by name; numbers stay numbers."""
    parts = raw("'{'")
    for n, (name, value) in enumerate(sorted(members.items())):
        parts = q(
            "{} || {} || coalesce(to_json({})::text, 'null')", parts, lit(f"{',' if n else ''}{dumps(name)}:"), value
        )
    return q("{} || '}}'", parts)


def write_object_findings(
    session: Session, found: Objects, folder: Path, *, fresh: bool, begun: Sequence[Path]
) -> list[Path]:
    """A file for each kind of finding, each with the object, the row and why; one that is begun already goes on."""
    paths: list[Path] = []
    for kind in FINDINGS:
        path = folder / f"{kind}.csv"
        new = fresh and path not in begun
        with path.open("wb" if new else "ab") as file:
            if new:
                file.write(b"resource,table,object,row,why\n")
            query = q(
                "COPY (SELECT {}, {}, f.name, f.other, f.why FROM {} f WHERE f.kind = ANY ({}) ORDER BY 3, 4) TO STDOUT (FORMAT csv)",
                lit(found.intent.address), lit(full_name(found.intent.target.name)), found.intent.temp("f"),
                lit([kind, "alike"] if kind == "duplicates" else [kind])
            )  # fmt: skip
            for block in session.copy_out(query):
                file.write(block)
        paths.append(path)
    return paths
