"""What a key and a signed URL say of themselves. Nothing here proves a signature."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import NamedTuple, cast

_TOKEN = re.compile(r"[?&]token=([A-Za-z0-9_.=-]+)")


class SignedUrl(NamedTuple):
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


def is_for(token: str, path: str) -> bool:
    """Whether a token is for `bucket/name`, as far as it says. As a rule its first claim tells, which is quicker than reading all."""
    parts = token.split(".")
    if len(parts) == 3 and '"' not in path and "\\" not in path:
        try:
            if binascii.a2b_base64(parts[1].replace("-", "+").replace("_", "/") + "==").startswith(
                f'{{"url":"{path}",'.encode()
            ):
                return True
        except ValueError:
            pass
    claims = token_claims(token)
    return claims is not None and claims.get("url") == path


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
