"""Names of the AT Protocol, checked by its specification.

In: text of anybody's. Out: the same text, or an error that shows it. The SDK's own checks let a trailing newline through and
refuse an underscore in a DID, so they are not used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reconciler.plan.errors import ReconcilerError

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NAME = r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DID = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]")
_HANDLE = re.compile(rf"(?:{_LABEL}\.)+{_NAME}")
_NSID = re.compile(rf"{_NAME}(?:\.{_LABEL})+\.[a-zA-Z][a-zA-Z0-9]{{0,62}}")
_RKEY = re.compile(r"[A-Za-z0-9_~.:-]{1,512}")
_SHOWN = 80


@dataclass(frozen=True)
class RecordUri:
    """`at://authority/collection/rkey`; the authority is a DID or a handle."""

    authority: str
    collection: str
    rkey: str

    def __str__(self) -> str:
        return f"at://{self.authority}/{self.collection}/{self.rkey}"


def is_did(text: str) -> bool:
    return len(text) <= 2048 and _DID.fullmatch(text) is not None


def is_handle(text: str) -> bool:
    return len(text) <= 253 and _HANDLE.fullmatch(text) is not None


def is_nsid(text: str) -> bool:
    return len(text) <= 317 and _NSID.fullmatch(text) is not None


def is_rkey(text: str) -> bool:
    return text not in (".", "..") and _RKEY.fullmatch(text) is not None


def did(text: str) -> str:
    if not is_did(text):
        raise _wrong(text, "DID", "one looks like did:plc:… or did:web:…, with letters, digits and . _ : % - only")
    return text


def nsid(text: str) -> str:
    """A collection's name."""
    if not is_nsid(text):
        raise _wrong(text, "collection", "one looks like site.standard.document: at least three parts, the last a word")
    return text


def rkey(text: str) -> str:
    if not is_rkey(text):
        raise _wrong(text, "record key", "one has 1 to 512 of A-Z a-z 0-9 . _ : ~ - and is not . or ..")
    return text


def record_uri(text: str) -> RecordUri:
    """The parts of a record's at-uri."""
    start, _, rest = text.partition("at://")
    parts = rest.split("/")
    if start or len(parts) != 3 or len(text) > 8192:
        raise _wrong(text, "at-uri of a record", "one looks like at://did/collection/key")
    authority, collection, key = parts
    if not (is_did(authority) or is_handle(authority)):
        raise _wrong(text, "at-uri of a record", f"{shown(authority)} is neither a DID nor a handle")
    if not is_nsid(collection):
        raise _wrong(text, "at-uri of a record", f"{shown(collection)} is no collection")
    if not is_rkey(key):
        raise _wrong(text, "at-uri of a record", f"{shown(key)} is no record key")
    return RecordUri(authority, collection, key)


def shown(text: str) -> str:
    """The text as an error may show it: quoted, on one line, never long."""
    quoted = repr(text[:_SHOWN])
    return quoted if len(text) <= _SHOWN else f"{quoted}… ({len(text)} characters)"


def _wrong(text: str, what: str, why: str) -> ReconcilerError:
    return ReconcilerError(f"{shown(text)} is no {what}", why=why)
