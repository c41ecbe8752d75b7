"""Bitstamp: a token from REST, which each frame that subscribes a private channel carries,
https://www.bitstamp.net/websocket/v2/ and, for the signature, https://www.bitstamp.net/api/#section/Authentication.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import HookFailure, Signing

_HOST: Final = "www.bitstamp.net"
_PATH: Final = "/api/v2/websockets_token/"
_SPARE: Final = 10.0
"""Seconds: a token that is as close to its end is not used."""
_tokens: Final[dict[str, tuple[str, float]]] = {}
"""Key = its last token, and the end of its validity: one token is enough for all streams that are subscribed together."""


def sign(signing: Signing) -> str:
    """The token; a new one is requested if the last one is too old: it is valid for a minute."""
    token, until = _tokens.get(signing.login["key"], ("", 0.0))
    if signing.now > until - _SPARE:
        headers = _headers(signing.login, signing.now, str(uuid.uuid4()))
        answer = signing.fetch_json(f"https://{_HOST}{_PATH}", method="POST", headers=headers)
        token = answer.get("token", "")
        if not token:
            raise HookFailure(f"no token: {answer.get('reason', answer)}")
        _tokens[signing.login["key"]] = token, signing.now + float(answer.get("valid_sec", 0.0))
    return token


def _headers(login: Mapping[str, str], now: float, nonce: str) -> dict[str, str]:
    """Of a request without a body, and so without a Content-Type. `now`: seconds since 1970."""
    key, time_ms = f"BITSTAMP {login['key']}", str(int(now * 1000))
    text = f"{key}POST{_HOST}{_PATH}{nonce}{time_ms}v2"
    return {
        "X-Auth": key, "X-Auth-Signature": hex_hmac(login["secret"], text), "X-Auth-Nonce": nonce,
        "X-Auth-Timestamp": time_ms, "X-Auth-Version": "v2",
    }  # fmt: skip
