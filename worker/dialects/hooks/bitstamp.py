"""Bitstamp: a token from REST, which each frame that subscribes a private channel carries,
https://www.bitstamp.net/websocket/v2/ and, for the signature, https://www.bitstamp.net/api/#section/Authentication.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Attempt, HookFailure, Signing

_HOST: Final = "www.bitstamp.net"
_PATH: Final = "/api/v2/websockets_token/"
_SPARE: Final = 10.0
"""Seconds: a token that is as close to its end is not used."""


def before_connect(attempt: Attempt) -> Attempt:
    """A token holds for a minute, which is enough for what is subscribed first."""
    return attempt.changed(token=_token(attempt)) if attempt.login else attempt


def sign(signing: Signing) -> str:
    """The token, or a fresh one."""
    token = signing.token
    if not token or signing.now > token["until"] - _SPARE:
        token = _token(signing)
    return str(token["token"])


def _token(asking: Attempt | Signing) -> dict[str, Any]:
    now, nonce = time.time(), str(uuid.uuid4())
    answer = asking.fetch_json(f"https://{_HOST}{_PATH}", method="POST", headers=headers(asking.login, now, nonce))
    if not answer.get("token"):
        raise HookFailure(f"no token: {answer.get('reason', answer)}")
    return {"token": answer["token"], "until": now + float(answer.get("valid_sec", 0.0))}


def headers(login: Mapping[str, str], now: float, nonce: str) -> dict[str, str]:
    """Of a request without a body, and so without a Content-Type. `now`: seconds since 1970."""
    key, time_ms = f"BITSTAMP {login['key']}", str(int(now * 1000))
    text = f"{key}POST{_HOST}{_PATH}{nonce}{time_ms}v2"
    return {
        "X-Auth": key, "X-Auth-Signature": hex_hmac(login["secret"], text), "X-Auth-Nonce": nonce,
        "X-Auth-Timestamp": time_ms, "X-Auth-Version": "v2",
    }  # fmt: skip
