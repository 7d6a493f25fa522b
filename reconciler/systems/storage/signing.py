"""Signed URLs in batches: one request for each thousand names, and what else goes in batches.

The client library is not used here: it takes longer to put the addresses together than the server takes to sign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast
from urllib.parse import quote

from reconciler.systems.storage import signed
from reconciler.systems.storage.http import Garbled, Http, Json
from reconciler.systems.storage.interface import Signed
from reconciler.systems.storage.names import checked

BATCH = 1000
BATCH_BYTES = 1 << 19
_AT_A_TIME = 2  # the server signs one batch while another is read
_PLAIN = re.compile(r"[A-Za-z0-9_./-]*")


def sign(http: Http, bucket: str, names: Sequence[str], seconds: int) -> Signed:
    """Every name, in as many batches as it takes."""
    urls: dict[str, str] = {}
    missing: list[str] = []
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="sign") as pool:
        wanted = batches(dict.fromkeys(names))
        for part in pool.map(partial(sign_batch, http, bucket, seconds=seconds), wanted):
            urls.update(part.urls)
            missing += part.missing
    return Signed(urls, tuple(missing))


def sign_batch(http: Http, bucket: str, batch: list[str], seconds: int, doing: str | None = None) -> Signed:
    """One request; `doing` is what an error calls it."""
    path, body = f"object/sign/{quote(bucket, safe='')}", {"paths": batch, "expiresIn": seconds}

    def attempt(_again: bool) -> Signed:
        answer: object = http.send("POST", path, json=body).json()
        if not isinstance(answer, list):
            raise Garbled("not a list of URLs")
        urls: dict[str, str] = {}
        missing: list[str] = []
        try:
            base = f"{http.url}object/sign/"
            for entry in cast("list[Json]", answer):
                name, url = str(entry["path"]), entry["signedURL"]
                if url is None:
                    missing.append(name)
                    continue
                # `?` in a name stands there as it is, which would end the path: the URL is put together anew.
                token = str(url).rpartition("token=")[2]
                if not signed.is_for(token, f"{bucket}/{name}"):
                    raise Garbled("a URL for another object")
                urls[name] = f"{base}{quoted(bucket, name)}?token={token}"
        except (KeyError, TypeError):
            raise Garbled("not a list of URLs") from None
        if [*urls, *missing] != batch and sorted([*urls, *missing]) != sorted(batch):
            raise Garbled("not the names that were asked for")
        return Signed(urls, tuple(missing))

    return http.patiently(doing or f"signing {len(batch)} objects of {bucket}", attempt)


def quoted(bucket: str, name: str) -> str:
    """As it stands in an address."""
    path = f"{bucket}/{name}"
    return path if _PLAIN.fullmatch(path) else f"{quote(bucket, safe='')}/{quote(name, safe='/')}"


def batches(names: Iterable[str]) -> Iterator[list[str]]:
    """By count and by bytes; a name stands in a batch once."""
    batch: dict[str, None] = {}
    size = 0
    for name in names:
        batch[checked(name)] = None
        size += len(name.encode()) + 3
        if len(batch) == BATCH or size > BATCH_BYTES:
            yield list(batch)
            batch, size = {}, 0
    if batch:
        yield list(batch)
