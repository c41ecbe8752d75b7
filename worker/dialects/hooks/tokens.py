"""JSON web tokens (RFC 7519), as exchanges want them."""

from __future__ import annotations

import base64
import hmac
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from wsadapter.worker.hooks import Attempt


def token(header: Mapping[str, Any], claims: Mapping[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """With the signature that `sign` makes."""
    text = f"{_base64url(orjson.dumps(header))}.{_base64url(orjson.dumps(claims))}"
    return f"{text}.{_base64url(sign(text.encode()))}"


def hs256_token(claims: Mapping[str, Any], secret: str) -> str:
    """Signed with HMAC-SHA256; the secret is taken as it is written."""
    return token({"alg": "HS256", "typ": "JWT"}, claims, lambda text: hmac.digest(secret.encode(), text, "sha256"))


def with_bearer(attempt: Attempt, **claims: Any) -> Attempt:
    """With a token in the header `Authorization` that holds for this handshake alone, and these claims in it; as it is where
    the endpoint has no login, for public streams need none."""
    if not attempt.login:
        return attempt
    own = {"access_key": attempt.login["key"], "nonce": str(uuid.uuid4()), **claims}
    return attempt.changed(headers={**attempt.headers, "Authorization": f"Bearer {hs256_token(own, attempt.login['secret'])}"})


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
