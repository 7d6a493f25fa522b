"""Where records and their blobs come from, and what the other commands say of them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import httpx
import libipld
import pytest

from reconciler.systems.pds.records import cid_of_blob
from tests.pds.bench import COLLECTION, NOTES, Records, header, steps, totals
from tests.pds.real import Account, Pds
from tests.pds.world import fill, note
from tests.postgres import Database

NAME = f"pds_records.notes[{COLLECTION}]"
HEAD = '\nnotes:\n  repo: "pds.${did}"\n  collection: org.example.note\n'


@pytest.fixture
def records(place: Path, pds: Pds, account: Account, backup: Database, production: Database) -> Records:
    return Records(place, pds, account, backup, production)


def car_of(records: Records) -> bytes:
    url = f"{records.pds.url}/xrpc/com.atproto.sync.getRepo?did={records.account.did}"
    response = httpx.get(url, timeout=60)
    assert response.status_code == 200
    return response.content


def naming(data: bytes) -> str:
    blob = {"$type": "blob", "ref": {"$link": cid(data)}, "mimeType": "text/plain", "size": len(data)}
    return json.dumps({"$type": COLLECTION, "file": blob})


def cid(data: bytes) -> str:
    return cid_of_blob(hashlib.sha256(data).digest())


def test_a_record_of_columns(records: Records) -> None:
    records.backup.sql("INSERT INTO notes (uri, title, words) VALUES ('one', 'a \"title\"', 3), ('two', NULL, 4)")
    records.write(HEAD + "  source: backup.notes\n  rkey: uri\n  fields: { title: title, wordCount: words }\n")
    records.apply(records.plan())
    assert records.repo() == {
        "one": {"$type": COLLECTION, "title": 'a "title"', "wordCount": 3},
        "two": {"$type": COLLECTION, "wordCount": 4},
    }
    assert steps(records.plan()) == {}


def test_records_of_files_of_rows_and_of_a_car(records: Records) -> None:
    fill(records.pds, records.account, {"a": note("a"), "b": note("b"), "c": note("c")})
    (records.folder / "backup.car").write_bytes(car_of(records))
    was = records.repo()
    deletes = [{"$type": "com.atproto.repo.applyWrites#delete", "collection": COLLECTION, "rkey": it} for it in "abc"]
    body = {"repo": records.account.did, "writes": deletes}
    extract = "connections:\n  extract: { files: data }\n"
    (records.folder / "data").mkdir()
    lines = [
        json.dumps({"uri": f"at://{records.account.did}/{COLLECTION}/{it}", "n": 0.5, "data": was[it]}) for it in "abc"
    ]
    (records.folder / "data" / "notes.jsonl").write_text("\n".join(lines) + "\n")
    quoted = {it: json.dumps(was[it]).replace('"', '""') for it in "abc"}
    (records.folder / "data" / "table.csv").write_text(
        "key,record\n" + "".join(f'{k},"{v}"\n' for k, v in quoted.items())
    )
    rows = json.dumps([{"rkey": it, "record": was[it]} for it in "abc"])
    sources = [
        "  source: { car: backup.car }\n",
        "  source: extract.notes\n  rkey: uri\n  record: data\n",
        "  source: extract.table\n  rkey: key\n  record: record\n",
        f"  source: {{ rows: {rows} }}\n  rkey: rkey\n  record: record\n",
    ]
    for source in sources:
        records.write(HEAD + source)
        spec = records.folder / "spec.yaml"
        spec.write_text(spec.read_text().replace("connections:\n", extract))
        assert steps(records.plan()) == {}
        records.pds.post("com.atproto.repo.applyWrites", body, records.account.access)
        plan = records.plan()
        assert steps(plan) == {f"{NAME}/put": 3}
        assert totals(records.apply(plan)) == (3, 0)
        assert records.repo() == was


def test_a_bad_line_is_named(records: Records) -> None:
    (records.folder / "data").mkdir()
    (records.folder / "data" / "notes.jsonl").write_text(
        '{"uri":"a","data":' + note("a") + '}\n\n{"uri":"b/c","data":{}}\n'
    )
    records.write(HEAD + "  source: extract.notes\n  rkey: uri\n  record: data\n")
    spec = records.folder / "spec.yaml"
    spec.write_text(spec.read_text().replace("connections:\n", "connections:\n  extract: { files: data }\n"))
    done = records.run("plan", "spec.yaml")
    assert done.code == 1
    assert "notes.jsonl, row 2: one has 1 to 512 of" in done.err


@pytest.mark.parametrize("form", ["named", "unnamed", "car", "bucket", "unnamed in a bucket"])
def test_blobs_come_back_with_their_records(records: Records, form: str) -> None:
    data = b"bytes of a blob"
    records.rows({"with": naming(data)})
    plan = records.plan()
    assert [(it["kind"], it["count"]) for it in header(plan)["hazards"]] == [("missing-blob", 1)]
    refused = records.run("apply", plan.name, "--json")
    assert refused.code == 1
    assert "BlobNotFound" in refused.out
    assert [it["failed"] for it in json.loads(refused.out)["steps"]] == [1]
    if form == "car":
        raw = base64.b32decode(cid(data)[1:].upper() + "======="[: -(len(cid(data)) - 1) % 8])
        assert libipld.encode_cid(raw) == cid(data)
        (records.folder / "blobs.car").write_bytes(car_of(records) + bytes([len(raw) + len(data)]) + raw + data)
        records.write(NOTES + "  blobs: { from: blobs.car }\n")
    elif "bucket" in form:
        (records.folder / "media" / "blobs").mkdir(parents=True)
        name = "picture.png" if "unnamed" in form else f"{cid(data)}.txt"
        (records.folder / "media" / "blobs" / name).write_bytes(data)
        records.write(NOTES + "  blobs: { from: media.blobs }\n")
        spec = records.folder / "spec.yaml"
        spec.write_text(spec.read_text().replace("connections:\n", "connections:\n  media: { directory: ./media }\n"))
    else:
        (records.folder / "blobs").mkdir()
        (records.folder / "blobs" / (f"{cid(data)}.txt" if form == "named" else "picture.png")).write_bytes(data)
        records.write(NOTES + "  blobs: { from: blobs }\n")
    plan = records.plan()
    assert steps(plan) == {f"{NAME}/upload": 1, f"{NAME}/put": 1}
    assert totals(records.apply(plan)) == (2, 0)
    assert totals(records.apply(plan)) == (0, 2)
    assert steps(records.plan()) == {}
    back = records.undo(plan)
    assert steps(back) == {f"{NAME}/delete": 1}
    assert [it["kind"] for it in header(back)["hazards"]] == ["not-undone"]
    if form == "named":
        records.apply(back)
        assert totals(records.apply(plan)) == (2, 0)
    held = records.pds.get("com.atproto.sync.listBlobs", did=records.account.did)["cids"]
    assert held == [cid(data)]
    records.backup.sql("UPDATE notes SET data = %s", note("without"))
    plan = records.plan()
    assert [(it["kind"], it["count"]) for it in header(plan)["hazards"]] == [("dropped-blob", 1)]
    fill(records.pds, records.account, {"also": naming(data)})
    assert header(records.plan())["hazards"] == []


def test_blobs_are_found_beside_the_spec_of_a_saved_plan(records: Records) -> None:
    data = b"beside the specs"
    records.rows({"with": naming(data)})
    records.write(NOTES + "  blobs: { from: blobs }\n")
    (records.folder / "specs" / "blobs").mkdir(parents=True)
    (records.folder / "specs" / "blobs" / cid(data)).write_bytes(data)
    (records.folder / "spec.yaml").rename(records.folder / "specs" / "spec.yaml")
    assert records.run("plan", "-o", "a.plan.jsonl").code == 0
    assert totals(records.apply(records.folder / "a.plan.jsonl")) == (2, 0)


def test_what_the_other_commands_say(records: Records) -> None:
    fill(records.pds, records.account, {"same": note("same"), "changed": note("old"), "extra": note("extra")})
    records.rows({"same": note("same"), "changed": note("new"), "missing": note("missing")})
    assert records.run("validate", "spec.yaml").code == 0
    done = records.run("status", "spec.yaml", "--json", "--csv", "found")
    (resource,) = json.loads(done.out)["resources"]
    assert (done.code, resource["target"]) == (2, f"pds {COLLECTION}")
    assert [resource[it] for it in ("in_sync", "missing", "changed", "extra")] == [1, 1, 1, 1]
    assert (records.folder / "found" / "changed.csv").read_text().splitlines()[1:] == [
        f"pds_records.notes,{COLLECTION},changed"
    ]
    plan = records.plan()
    text = records.run("show", plan.name).out
    assert "+ 1 record" in text.replace("~ 1 record", "+ 1 record")
    assert "text (1)" in text
    markdown = records.run("show", plan.name, "--format", "markdown").out
    assert "`text`: `old` → `new`" in markdown
    shown = json.loads(records.run("show", plan.name, "--format", "json").out)
    by_key = {it["index"]: it["change"] for it in shown["resource_changes"]}
    assert by_key["changed"]["actions"] == ["update"]
    assert by_key["changed"]["after"] == json.loads(note("new"))
    assert by_key["missing"]["actions"] == ["create"]
    assert "NOT IN THIS SCRIPT" in records.run("show", plan.name, "--format", "sql").out
    rehearsed = records.run("apply", plan.name, "--rehearse", "--json")
    assert rehearsed.code == 0
    assert totals(json.loads(rehearsed.out)) == (2, 0)
    assert records.repo()["changed"]["text"] == "old"
    done = records.run("extract", "spec.yaml", "-o", "data")
    assert done.code == 0, done.err
    records.apply(plan)
    records.write(HEAD + "  source: extract\n  rkey: rkey\n  record: record\n")
    spec = records.folder / "spec.yaml"
    spec.write_text(spec.read_text().replace("connections:\n", "connections:\n  extract: { files: data }\n"))
    assert steps(records.plan()) == {}
    assert steps(records.plan()) == {}


def test_a_repo_that_was_extracted_is_a_source(records: Records) -> None:
    """The repo as it was comes back from its CAR, also into a repo that others wrote to since, and for another collection too."""
    fill(records.pds, records.account, {"a": note("a"), "b~": note("ä😀")})
    fill(records.pds, records.account, {"x": note("x", "org.example.other")}, "org.example.other")
    was, other = records.repo(), records.repo("org.example.other")
    records.rows({"a": note("a"), "c": note("c")})
    done = records.run("extract", "spec.yaml", "-o", "data")
    assert done.code == 0, done.err
    assert "data/pds.car: the repo now, 3 records, without its blobs" in done.out + done.err
    assert not [*(records.folder / "data").glob("*.part")]
    writes = [
        {"$type": "com.atproto.repo.applyWrites#delete", "collection": collection, "rkey": rkey}
        for collection, rkeys in ((COLLECTION, was), ("org.example.other", other))
        for rkey in rkeys
    ]
    body = {"repo": records.account.did, "writes": writes}
    records.pds.post("com.atproto.repo.applyWrites", body, records.account.access)
    fill(records.pds, records.account, {"since": note("since")})
    others = HEAD.replace("notes:", "others:").replace(COLLECTION, "org.example.other")
    records.write(HEAD + "  source: { car: data/pds.car }\n" + others + "  source: { car: data/pds.car }\n")
    plan = records.plan()
    assert totals(records.apply(plan)) == (3, 0)
    assert records.repo() == {**was, "since": json.loads(note("since"))}
    assert records.repo("org.example.other") == other
    assert steps(records.plan()) == {}
    # What came from a CAR can be extracted like anything else.
    assert records.run("extract", "spec.yaml", "-o", "more").code == 0
    assert (records.folder / "more" / "pds.car").read_bytes() == car_of(records)


def test_a_server_that_must_validate_refuses_what_it_does_not_know(records: Records) -> None:
    records.rows({"a": note("a")})
    records.write(NOTES + "  validate: on\n")
    plan = records.plan()
    done = records.run("apply", plan.name, "--json")
    applied = json.loads(done.out)
    assert (done.code, applied["steps"][0]["failed"], applied["converged"]) == (1, 1, False)
    assert f"the record {COLLECTION}/a was refused" in done.err
    records.write(NOTES + "  validate: known\n")
    records.apply(records.plan())


def test_points_over_the_limit_are_told(records: Records) -> None:
    records.backup.sql(
        "INSERT INTO notes SELECT 'k' || n, jsonb_build_object('$type', %s::text, 'n', n) FROM generate_series(1, 1700) n",
        COLLECTION,
    )
    records.write(HEAD + "  source: backup.notes\n  rkey: uri\n  record: data\n")
    (hazard,) = header(records.plan())["hazards"]
    assert (hazard["kind"], hazard["count"]) == ("rate-limit", 5100)
    assert hazard["text"].endswith("this takes at least 1 h")
    # Two resources of one account share its points.
    both = "".join(
        HEAD.replace("notes:", f"{name}:") + f"  source: backup.notes\n  where: {where}\n  rkey: uri\n  record: data\n"
        for name, where in (("one", "length(uri) < 5"), ("other", "length(uri) = 5"))
    )
    records.write(both)
    (hazard,) = header(records.plan())["hazards"]
    assert (hazard["address"], hazard["count"]) == ("pds_records.one, pds_records.other", 5100)


def test_blobs_over_the_limit_of_a_day_are_told(records: Records) -> None:
    (records.folder / "blobs").mkdir()
    blobs = [f"blob {number}".encode() for number in range(1001)]
    for data in blobs:
        (records.folder / "blobs" / cid(data)).write_bytes(data)
    images = [json.loads(naming(data))["file"] for data in blobs]
    records.rows({"many": json.dumps({"$type": COLLECTION, "images": images})})
    records.write(NOTES + "  blobs: { from: blobs }\n")
    (hazard,) = header(records.plan())["hazards"]
    assert (hazard["kind"], hazard["count"]) == ("rate-limit", 1001)
    assert hazard["text"].endswith("takes 1000 a day: this takes at least 1 d")


def test_blobs_of_the_old_form_are_told(records: Records) -> None:
    old = {"cid": cid(b"old"), "mimeType": "image/png"}
    records.rows({"old": json.dumps({"$type": COLLECTION, "image": old}), "new": note("new")})
    plan = records.plan()
    hazards = {it["kind"]: it for it in header(plan)["hazards"]}
    assert hazards["old-blob"]["count"] == 1 and hazards["old-blob"]["text"].endswith("it will refuse old")
    assert f"({cid(b'old')} of old)" in hazards["missing-blob"]["text"]
    done = records.run("apply", plan.name, "--json")
    assert (done.code, sorted(records.repo())) == (1, ["new"])
    assert "Legacy blobs are not allowed" in done.err
