"""What a key and a signed URL say of themselves. Nothing here proves a signature."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from dataclasses import dataclass
from typing import cast

_TOKEN = re.compile(r"[?&]token=([A-Za-z0-9_.=-]+)")


@dataclass(frozen=True)
class SignedUrl:
    """What a signed URL is for, and until when (seconds since 1970)."""

    bucket: str
    name: str
    expires: int


def read(url: str) -> SignedUrl | None:
    """By the claims of its token alone; None if it is no signed URL."""
    found = _TOKEN.search(url)
    claims = token_claims(found[1]) if found else None
    if claims is None:
        return None
    path, expires = claims.get("url"), claims.get("exp")
    if not isinstance(path, str) or not isinstance(expires, int) or "/" not in path:
        return None
    bucket, _, name = path.partition("/")
    return SignedUrl(bucket, name, expires)


def is_for(token: str, bucket: str, name: str) -> bool:
    """Whether a token is for this object, as far as it says. As a rule its first letters tell, which is quicker than reading it."""
    head = json.dumps({"url": f"{bucket}/{name}"}, separators=(",", ":"), ensure_ascii=False)[:-1].encode()
    whole = len(head) // 3 * 3
    payload = token.partition(".")[2]
    if payload.startswith(base64.urlsafe_b64encode(head[:whole]).decode()):
        place = whole // 3 * 4
        with contextlib.suppress(ValueError):
            if base64.urlsafe_b64decode(payload[place : place + 4]).startswith(head[whole:]):
                return True
    claims = token_claims(token)
    return claims is None or claims.get("url") == f"{bucket}/{name}"


def token_claims(token: str) -> dict[str, object] | None:
    """The middle of a JSON Web Token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims: object = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    return cast("dict[str, object]", claims) if isinstance(claims, dict) else None


def weak_role(key: str) -> str | None:
    """The role of a key that sees only what policies allow; None where the key is, or may be, the service role's."""
    if key.startswith("sb_publishable_"):
        return "publishable"
    claims = token_claims(key)
    if claims is None:
        return None
    role = claims.get("role")
    return None if role == "service_role" else str(role)
