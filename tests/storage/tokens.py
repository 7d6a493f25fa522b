"""JSON Web Tokens as the storage server makes and reads them: HS256, nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping


class BadToken(Exception):
    """Not a token of ours, or no longer."""


def sign(claims: Mapping[str, object], secret: str) -> str:
    head = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = _encode(json.dumps(claims, separators=(",", ":")).encode())
    return f"{head}.{body}.{_signature(f'{head}.{body}', secret)}"


def verify(token: str, secret: str, *, now: float | None = None) -> dict[str, object]:
    """The claims of a token that is ours and has not expired."""
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("Invalid Compact JWS")
    if not hmac.compare_digest(_signature(f"{parts[0]}.{parts[1]}", secret), parts[2]):
        raise BadToken("signature verification failed")
    claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    expires = claims.get("exp")
    if isinstance(expires, int) and expires <= (time.time() if now is None else now):
        raise BadToken('"exp" claim timestamp check failed')
    return claims


def _signature(text: str, secret: str) -> str:
    return _encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
