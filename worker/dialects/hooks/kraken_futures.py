"""Kraken Futures: the challenge, signed, in each frame that subscribes a private feed,
https://docs.kraken.com/exchange/guides/futures/websockets#authentication.
"""

from __future__ import annotations

import hashlib

from wsadapter.worker.dialects.hooks.hmacs import base64_hmac, decoded
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> str:
    """Of the challenge that the frame holds."""
    return signature(signing.login["secret"], str(signing.frame["original_challenge"]))


def signature(secret: str, challenge: str) -> str:
    """The secret is base64."""
    return base64_hmac(decoded(secret), hashlib.sha256(challenge.encode()).digest(), "sha512")
