"""The key under which sensitive values stand in a plan as digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from reconciler.plan.errors import ReconcilerError
from reconciler.spec import Spec

VARIABLE = "RECONCILER_DIGEST_KEY"


def digest_pads(spec: Spec, environ: Mapping[str, str], *, needed: bool = False) -> tuple[bytes, bytes] | None:
    """HMAC's two pads of the digest key; None where no column is sensitive. `needed`: a plan of part of a spec holds digests all the same."""
    resources = spec.document.collections.values()
    if not needed and not any(it.sensitive or any(table.sensitive for table in it.tables.values()) for it in resources):
        return None
    key = environ.get(VARIABLE, "").encode()
    if not key:
        raise ReconcilerError(
            f"the spec has sensitive columns and {VARIABLE} is not set",
            why="their values stand in the plan as digests under that key",
            todo=f"set {VARIABLE} to a long random text, the same for plan and apply",
        )
    padded = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in padded), bytes(byte ^ 0x5C for byte in padded)
