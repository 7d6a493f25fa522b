"""Which names an object may have, what order they stand in, and what kind of file they say they are."""

from __future__ import annotations

import mimetypes
import re
from functools import cache

from reconciler.plan.errors import ReconcilerError

_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$@=;:+,?-]+")
_BUCKET = re.compile(r"[A-Za-z0-9_!.*'() &$@=;:+,?-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST = 1024


def checked(name: str) -> str:
    """A name that means one object wherever it is sent: clients decode `%`, drop a leading `/` and join `//`."""
    parts = name.split("/")
    if not name or "" in parts:
        raise _bad(name, "a name has no empty part: no leading, trailing or double /")
    if "." in parts or ".." in parts:
        raise _bad(name, "a name has no part . or ..")
    if "%" in name or "\\" in name or _CONTROL.search(name):
        raise _bad(name, "a name holds no %, no backslash and no control character")
    if len(name.encode()) > _LONGEST:
        raise _bad(name, f"a name is at most {_LONGEST} bytes long")
    return name


def checked_new(name: str) -> str:
    """A name that an object can be given: Supabase Storage takes no others, so a folder takes no others either."""
    if not _KEY.fullmatch(checked(name)):
        raise _bad(name, "a new name is made of A-Z a-z 0-9 _ / ! . * ' ( ) & $ @ = ; : + , ? - and spaces")
    return name


def checked_bucket(bucket: str) -> str:
    if bucket in (".", "..") or not _BUCKET.fullmatch(bucket):
        raise ReconcilerError(f"{bucket!r} cannot be the name of a bucket", todo="check the resource's `bucket`")
    return bucket


def checked_prefix(prefix: str) -> str:
    if _CONTROL.search(prefix):
        raise ReconcilerError(f"the prefix {prefix!r} holds a character that no name has")
    return prefix


def order(name: str) -> bytes:
    """The C collation of PostgreSQL."""
    return name.encode("utf-8", "surrogatepass")


@cache
def _mimes() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes()  # Python's own table: the machine's must not decide


def mime_of(name: str) -> str:
    return _mimes().guess_type(name.replace("?", "_"), strict=True)[0] or "application/octet-stream"


def _bad(name: str, why: str) -> ReconcilerError:
    shown = name if len(name) <= 120 else f"{name[:120]}…"
    return ReconcilerError(
        f"{shown!r} cannot be the name of an object", why=why, todo="rename the object, or leave it out"
    )
