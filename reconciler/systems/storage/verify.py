"""Whether objects' bytes are there: HEAD on signed URLs, which alone looks past the row.

A row without bytes answers 500, and so does a server in trouble. So 500 counts only if it comes again and again, while
the object's row is found and another object of the bucket can be read; anything less is an error, never a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

from reconciler.plan.errors import ReconcilerError
from reconciler.systems.storage.downloads import SERVER_ERRORS
from reconciler.systems.storage.http import CONCURRENCY, Busy, Http, Refused
from reconciler.systems.storage.interface import Object, Signed, Verdict

_CONTROLS = 5
_AMONG = 200


def verify(
    http: Http,
    bucket: str,
    batches: Iterable[list[str]],
    *,
    sign: Callable[[list[str]], Signed],
    head: Callable[[str], Object | None],
    others: Callable[[], Iterator[str]],
) -> Iterator[tuple[str, Verdict]]:
    """In the order asked for. `others` lists names to try where nothing asked for can be read."""
    works = False
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="verify") as pool:
        for batch in batches:
            signed = sign(batch)
            found = pool.map(partial(_readable, http, bucket), signed.urls.values())
            read = dict(zip(signed.urls, found, strict=True))
            works = works or True in read.values()
            if False in read.values() and not works:
                works = _any_other(http, bucket, sign, others(), set(batch))
            for name in batch:
                if name not in read:
                    yield name, Verdict.ABSENT
                elif read[name] is True:
                    yield name, Verdict.PRESENT
                elif head(name) is None:  # it went since it was signed
                    yield name, Verdict.ABSENT
                elif read[name] is False:
                    yield name, Verdict.BYTES_GONE
                else:
                    raise _doubt(http, bucket, "a signed URL was refused though its object is there")


def _readable(http: Http, bucket: str, url: str) -> bool | None:
    """True: the bytes are there; False: the server fails on them every time; None: it refuses, and HEAD cannot say why."""
    errors = refusals = 0

    def attempt(_again: bool) -> bool | None:
        nonlocal errors, refusals
        try:
            response = http.send("HEAD", url.removeprefix(http.url), final500=True)
        except Refused as refused:
            if refused.status in (401, 403):
                raise
            refusals += 1
            if refusals < SERVER_ERRORS:  # a 400 may hide a 503 in a body, which HEAD does not have
                raise Busy(refused.status, "") from None
            return None
        if response.status_code != 500:
            return True
        errors += 1
        if errors < SERVER_ERRORS:
            raise Busy(500, "")
        return False

    return http.patiently(f"checking the bytes of objects in {bucket}", attempt)


def _any_other(
    http: Http, bucket: str, sign: Callable[[list[str]], Signed], names: Iterator[str], asked: set[str]
) -> bool:
    """Something else in the bucket can be read: then the server itself is well."""
    tried = [name for name in islice(names, len(asked) + _AMONG) if name not in asked][:_CONTROLS]
    if any(_readable(http, bucket, url) for url in sign(tried).urls.values()) if tried else False:
        return True
    raise _doubt(
        http, bucket, "no object of the bucket can be read, so the server rather than the objects may be at fault"
    )


def _doubt(http: Http, bucket: str, why: str) -> ReconcilerError:
    return ReconcilerError(
        f"whether objects of {bucket} have their bytes cannot be told on {http.connection}",
        why=why,
        todo="try again later; nothing counts as missing until then",
    )
