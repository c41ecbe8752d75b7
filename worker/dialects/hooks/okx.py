"""OKX: `login`, https://www.okx.com/docs-v5/en/#overview-websocket-login."""

from __future__ import annotations

from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import base64_hmac
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """The time is in seconds; the login is valid for 30 seconds."""
    login, time = signing.login, str(int(signing.now))
    signature = base64_hmac(login["secret"], f"{time}GET/users/self/verify")
    return {"apiKey": login["key"], "passphrase": login["passphrase"], "timestamp": time, "sign": signature}
