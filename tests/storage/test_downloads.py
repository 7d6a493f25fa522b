"""A download that breaks off is taken up where it did, whatever part the server then gives."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage.downloads import blocks
from reconciler.systems.storage.http import Http
from tests.storage.worlds import QUICK

CONTENT = b"0123456789"


def read(start: int | None) -> tuple[bytes, list[str | None]]:
    """What comes of an object whose first answer breaks after four bytes, where the second begins at `start` (None: it is whole)."""
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("range"))
        if len(asked) == 1:
            return httpx.Response(200, headers={"content-length": "10", "etag": '"e"'}, content=broken())
        part = CONTENT[start or 0 :]
        headers = {"content-length": str(len(part)), "etag": '"e"'}
        if start is not None:
            headers["content-range"] = f"bytes {start}-9/10"
        return httpx.Response(200 if start is None else 206, headers=headers, content=iter([part]))

    def broken() -> Iterator[bytes]:
        yield CONTENT[:4]
        raise httpx.ReadError("reset")

    http = Http("storage", "http://127.0.0.1", "key", QUICK)
    http.client = httpx.Client(transport=httpx.MockTransport(answer))
    return b"".join(blocks(http, "b", "x", "/object/b/x", lambda: 10)), asked


@pytest.mark.parametrize("start", [4, 2, 0, None])
def test_what_breaks_off_is_whole_in_the_end(start: int | None) -> None:
    assert read(start) == (CONTENT, [None, "bytes=4-"])


def test_a_part_that_begins_too_late_is_not_taken() -> None:
    with pytest.raises(ReconcilerError, match="reading b/x"):
        read(6)
