"""Coinbase Advanced Trade: a JSON Web Token in each frame,
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-authentication.
"""

from __future__ import annotations

import secrets
from typing import Final

from wsadapter.worker.dialects.hooks.keys import es256
from wsadapter.worker.dialects.hooks.tokens import token
from wsadapter.worker.hooks import Signing

_VALID: Final = 120
"""Seconds: the longest that is allowed."""


def sign(signing: Signing) -> str:
    """Signed with ES256 (RFC 7515, RFC 7518), for no request in particular."""
    key, now = signing.login["key"], int(signing.now)
    header = {"alg": "ES256", "typ": "JWT", "kid": key, "nonce": secrets.token_hex()}
    claims = {"iss": "cdp", "sub": key, "nbf": now, "exp": now + _VALID}
    return token(header, claims, lambda text: es256(signing.login["secret"], text, extra="coinbase"))
