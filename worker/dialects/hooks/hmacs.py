"""HMAC, as exchanges write it. Secrets and the signed values are text."""

from __future__ import annotations

import base64
import hmac

from wsadapter.worker.hooks import LoginRefused


def hex_hmac(secret: str, text: str, algorithm: str = "sha256") -> str:
    """In lower-case hexadecimal."""
    return hmac.new(secret.encode(), text.encode(), algorithm).hexdigest()


def base64_hmac(secret: str | bytes, text: str | bytes, algorithm: str = "sha256") -> str:
    """In base64."""
    key = secret.encode() if isinstance(secret, str) else secret
    return base64.b64encode(hmac.digest(key, text.encode() if isinstance(text, str) else text, algorithm)).decode()


def decoded(secret: str) -> bytes:
    """A secret that is given in base64. Raises `LoginRefused` if it is not base64."""
    try:
        return base64.b64decode(secret, validate=True)
    except ValueError:  # binascii.Error, or characters that are not ASCII
        raise LoginRefused("the secret is not base64") from None
