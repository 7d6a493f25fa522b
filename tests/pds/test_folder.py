"""A folder in place of a PDS: the same verbs, the same answers, from the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli import main
from reconciler.plan.errors import Drift, ReconcilerError
from reconciler.systems.pds import records
from reconciler.systems.pds.batches import Write
from reconciler.systems.pds.folder import FolderSession
from reconciler.systems.pds.inventory import inventory
from reconciler.systems.pds.write import write

DID = "did:plc:abcdefghijklmnopqrstuvwx"
NOTE = "org.example.note"
PICTURE = b"\x89PNG, more or less"
CID = records.cid_of_blob(hashlib.sha256(PICTURE).digest())
SPEC = f"""\
version: 1
connections:
  extract: {{ files: data }}
  pds: {{ atproto: "{DID}", directory: repo }}
  media: {{ directory: media }}
pds_records:
  notes: {{ repo: pds.{DID}, collection: {NOTE}, source: extract, rkey: rkey, record: record, on_extra: delete, max_delete: 1, rkeys: "*" }}
"""


def note(text: str, **more: object) -> str:
    return json.dumps({"$type": NOTE, "text": text, **more}, ensure_ascii=False)


def put(folder: Path, rkey: str, text: str) -> None:
    (folder / NOTE).mkdir(parents=True, exist_ok=True)
    (folder / NOTE / f"{rkey}.json").write_text(text, "utf-8")


def on_disk(folder: Path) -> dict[str, str]:
    return {str(it.relative_to(folder)): it.read_text("utf-8") for it in sorted(folder.rglob("*.json"))}


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    wanted = {"3kabc": note("žluťoučký 😀", n=2**53 - 1, nothing=None), "3kdef": note("two")}
    lines = [f'{{"rkey": "{rkey}", "record": {text}}}\n' for rkey, text in wanted.items()]
    (tmp_path / "data" / f"{NOTE}.jsonl").write_text("".join(lines), "utf-8")
    put(tmp_path / "repo", "3kdef", note("two, spoilt"))
    put(tmp_path / "repo", "3kxyz", note("extra"))
    put(tmp_path / "repo", "3kdef", note("two, spoilt"))
    (tmp_path / "spec.yaml").write_text(SPEC, "utf-8")
    before = on_disk(tmp_path / "repo")

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == code, done.output
        return done.output

    run("status", "spec.yaml", code=2)
    said = run("extract", "spec.yaml", "-o", "kept")
    assert f"{NOTE}.jsonl: 2 records" in said
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [f"{NOTE}.jsonl", "reconciler-extract.json"]
    run("plan", "spec.yaml", "-o", "a.plan.jsonl")
    run("apply", "a.plan.jsonl", "--yes")
    held = {Path(name).stem: json.loads(text) for name, text in on_disk(tmp_path / "repo").items()}
    assert held == {rkey: json.loads(text) for rkey, text in wanted.items()}
    run("plan", "spec.yaml", "--detailed-exitcode")
    run("undo", "a.plan.jsonl", "-o", "back.plan.jsonl")
    run("apply", "back.plan.jsonl", "--yes")
    assert {name: json.loads(text) for name, text in on_disk(tmp_path / "repo").items()} == {
        name: json.loads(text) for name, text in before.items()
    }


def session(folder: Path) -> FolderSession:
    folder.mkdir(exist_ok=True)
    return FolderSession(folder, DID)


def test_a_change_in_between_is_drift_and_a_swap_that_is_late_is_made_again(tmp_path: Path) -> None:
    repo = session(tmp_path / "repo")
    put(tmp_path / "repo", "a", note("one"))
    known = inventory(repo, NOTE)
    put(tmp_path / "repo", "b", note("somebody else's"))  # unrelated: the commit is another one now
    record = records.read(NOTE, "a", note("mine"))
    assert [it.outcome.value for it in write(repo, [Write(NOTE, "a", known.cids["a"], record)], known=known)] == [
        "applied"
    ]
    with pytest.raises(Drift):
        list(write(repo, [Write(NOTE, "a", known.cids["a"], records.read(NOTE, "a", note("again")))]))


def test_a_record_needs_its_blobs(tmp_path: Path) -> None:
    repo = session(tmp_path / "repo")
    blob = {"$type": "blob", "ref": {"$link": CID}, "mimeType": "image/png", "size": len(PICTURE)}
    record = records.read(NOTE, "a", note("with a picture", image=blob))
    (failed,) = write(repo, [Write(NOTE, "a", None, record)])
    assert failed.error is not None
    assert "BlobNotFound" in failed.error.render()
    repo.write("com.atproto.repo.uploadBlob", PICTURE, "image/png")
    (done,) = write(repo, [Write(NOTE, "a", None, record)])
    assert done.outcome.value == "applied"
    (tmp_path / "repo" / "blobs" / CID).unlink()
    assert repo.read("com.atproto.repo.listMissingBlobs")["blobs"] == [
        {"cid": CID, "recordUri": f"at://{DID}/{NOTE}/a"}
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"$type": "org.example.note", "n": 1.5}'])
def test_a_file_that_is_no_record_is_an_error_with_its_place(tmp_path: Path, text: str) -> None:
    repo = session(tmp_path / "repo")
    put(tmp_path / "repo", "a", text)
    with pytest.raises(ReconcilerError) as caught:
        inventory(repo, NOTE)
    assert f"{NOTE}/a" in caught.value.render()


def test_many_records_are_read_without_a_car(tmp_path: Path) -> None:
    repo = session(tmp_path / "repo")
    for number in range(2_500):
        put(tmp_path / "repo", f"r{number}", note(str(number)))
    assert len(inventory(repo, NOTE).cids) == 2_500
