"""A folder that stands in for a PDS: a record is COLLECTION/RKEY.json, a blob is blobs/CID, and nothing else is there.

In: the folder and whose repo it is. Out: a `Session` with the same verbs, answering as a PDS does: CIDs of what is in the files, swaps
refused where a file has changed, blobs that no record names kept, records whose blobs are missing refused. There is no login, no limit
and no CAR. Invariant: a record's file is replaced in one step, so a run that is killed leaves whole records.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.pds import records, syntax
from reconciler.systems.pds.quota import Quota, Told
from reconciler.systems.pds.session import Session
from reconciler.systems.pds.xrpc import Clock, RefusedError

_BLOBS = "blobs"


class FolderSession(Session):
    """The repo of `did` in a folder."""

    whole = False

    def __init__(self, path: Path, did: str) -> None:
        self.did, self.handle, self.pds = syntax.did(did), None, str(path.name)
        self.clock = Clock()
        self.quota = Quota()
        self._path = path

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def limited(self) -> bool:
        return False

    @property
    def told(self) -> Told | None:
        return None

    def texts(self) -> Iterator[tuple[str, str, str]]:
        """(collection, rkey, text) of every record."""
        for path in sorted(self._path.glob("*/*.json")):
            yield path.parent.name, path.name.removesuffix(".json"), records.dump(self._record(path)["value"])

    def wait(self, seconds: float, reason: str) -> None:
        raise AssertionError(f"a folder is never waited for: {reason}")

    def read(self, method: str, **params: str | int) -> Mapping[str, object]:
        match method.rpartition(".")[2]:
            case "getLatestCommit":
                return {"cid": self._commit()}
            case "listRecords":
                collection = str(params["collection"])
                return {"records": [] if "cursor" in params else [self._record(it) for it in self._files(collection)]}
            case "getRecord":
                path = self._file(str(params["collection"]), str(params["rkey"]))
                if not path.is_file():
                    raise RefusedError(400, "RecordNotFound", "no such record")
                return self._record(path)
            case "listBlobs":
                return {"cids": [path.name for path in sorted((self._path / _BLOBS).glob("*"))]}
            case "listMissingBlobs":
                return {"blobs": list(self._missing())}
            case _:
                raise RefusedError(501, "MethodNotImplemented", f"a folder knows no {method}")

    read_own = read

    def write(self, method: str, body: bytes, type_: str = "application/json") -> Mapping[str, object]:
        match method.rpartition(".")[2]:
            case "applyWrites":
                return self._apply(cast(Mapping[str, object], records.parse(body)))
            case "uploadBlob":
                cid = records.cid_of_blob(hashlib.sha256(body).digest())
                self._put(self._path / _BLOBS / cid, body)
                return {"blob": {"$type": "blob", "ref": {"$link": cid}, "mimeType": type_, "size": len(body)}}
            case _:
                raise RefusedError(501, "MethodNotImplemented", f"a folder knows no {method}")

    def _apply(self, call: Mapping[str, object]) -> Mapping[str, object]:
        if call.get("swapCommit") != self._commit():
            raise RefusedError(400, "InvalidSwap", "the folder has changed")
        writes = cast(list[Mapping[str, object]], call["writes"])
        files = [self._file(str(write["collection"]), str(write["rkey"])) for write in writes]
        for number, (write, file) in enumerate(zip(writes, files, strict=True)):
            if str(write["$type"]).endswith("#create") and file.exists():
                raise RefusedError(400, "InvalidRequest", f"writes/{number}: the record is there already")
            for cid in _blobs_of(write.get("value")):
                if not (self._path / _BLOBS / cid).is_file():
                    raise RefusedError(400, "BlobNotFound", f"Could not find blob: {cid}")
        results: list[Mapping[str, object]] = []
        for write, file in zip(writes, files, strict=True):
            if "value" in write:
                text = records.dump(write["value"])
                self._put(file, text.encode())
                results.append({"cid": records.cid_of(text)})
            else:
                file.unlink(missing_ok=True)
                results.append({})
        return {"commit": {"cid": self._commit()}, "results": results}

    def _commit(self) -> str:
        """What changes with every write, whoever writes."""
        seen = hashlib.sha256()
        for path in sorted(self._path.glob("*/*.json")):
            state = path.stat()
            seen.update(
                json.dumps([path.parent.name, path.name, state.st_mtime_ns, state.st_size, state.st_ino]).encode()
            )
        return seen.hexdigest()

    def _files(self, collection: str) -> list[Path]:
        return sorted((self._path / syntax.nsid(collection)).glob("*.json"))

    def _file(self, collection: str, rkey: str) -> Path:
        return self._path / syntax.nsid(collection) / f"{syntax.rkey(rkey)}.json"

    def _record(self, path: Path) -> Mapping[str, object]:
        collection, rkey = path.parent.name, path.name.removesuffix(".json")
        try:
            text = path.read_text("utf-8")
            value = records.parse(text)
        except (OSError, ValueError) as error:
            raise ReconcilerError(
                f"the record {collection}/{rkey} cannot be read",
                where=f"{self.pds}/{collection}/{path.name}",
                why=str(error),
            ) from None
        return {
            "uri": f"at://{self.did}/{collection}/{rkey}",
            "cid": records.read(collection, rkey, text).cid,
            "value": value,
        }

    def _missing(self) -> Iterator[Mapping[str, object]]:
        for path in sorted(self._path.glob("*/*.json")):
            record = self._record(path)
            for cid in _blobs_of(record["value"]):
                if not (self._path / _BLOBS / cid).is_file():
                    yield {"cid": cid, "recordUri": record["uri"]}

    def _put(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(content)
        beside.replace(path)


def _blobs_of(value: object) -> list[str]:
    from reconciler.systems.pds.blobs import references

    return [] if value is None else [it.cid for it in references(records.dump(value)) if not it.legacy]
