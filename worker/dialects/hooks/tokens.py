"""JSON web tokens (RFC 7519), as exchanges want them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from typing import Any

import orjson


def token(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """With the signature that `sign` makes."""
    text = f"{_base64url(orjson.dumps(header))}.{_base64url(orjson.dumps(claims))}"
    return f"{text}.{_base64url(sign(text.encode()))}"


def hs256_token(claims: Mapping[str, Any], secret: str) -> str:
    """Signed with HMAC-SHA256; the secret is taken as it is written."""
    return token({"alg": "HS256", "typ": "JWT"}, claims, lambda text: hmac.digest(secret.encode(), text, "sha256"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
