"""JSON web tokens (RFC 7519), as exchanges want them in a header."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import Any, Final

import orjson

_HEADER: Final = {"alg": "HS256", "typ": "JWT"}


def signed_token(claims: Mapping[str, Any], secret: str) -> str:
    """HS256; the secret is taken as it is written."""
    text = f"{_base64url(orjson.dumps(_HEADER))}.{_base64url(orjson.dumps(claims))}"
    return f"{text}.{_base64url(hmac.digest(secret.encode(), text.encode(), 'sha256'))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
