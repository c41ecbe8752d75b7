"""KuCoin classic: where to connect, and the token for it, are asked for at each attempt,
https://www.kucoin.com/docs/websocket/basic-info/apply-connect-token/public-token-no-authentication-required-.
KuCoin UTA: `auth`, https://www.kucoin.com/docs-new/websocket-api/base-info/introduction-uta.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from wsadapter.worker.dialects.hooks.hmacs import base64_hmac
from wsadapter.worker.hooks import Attempt, HookFailure, Signing

_REST: Final = {
    "ws-api-spot.kucoin.com": "https://api.kucoin.com",
    "ws-api-futures.kucoin.com": "https://api-futures.kucoin.com",
}
"""By the host of the endpoint's URL. Any other URL is the user's own and is left as it is."""
_GOOD: Final = "200000"


def before_connect(attempt: Attempt) -> Attempt:
    """The first of the servers that the exchange names, with a token that holds for a day."""
    rest = _REST.get(urlsplit(attempt.url).hostname or "")
    if rest is None:
        return attempt
    path = "/api/v1/bullet-private" if attempt.login else "/api/v1/bullet-public"
    headers = _signed(attempt, path, str(int(time.time() * 1000))) if attempt.login else {}
    answer = attempt.fetch_json(rest + path, method="POST", headers=headers)
    if answer.get("code") != _GOOD:
        raise HookFailure(f"no token: {answer.get('code')} {answer.get('msg', '')}")
    data = answer["data"]
    query = urlencode({"token": data["token"], "connectId": secrets.token_hex(8)})
    return attempt.changed(url=f"{data['instanceServers'][0]['endpoint']}?{query}")


def _signed(attempt: Attempt, path: str, now: str) -> dict[str, str]:
    """Keys of version 2, whose passphrase is signed too."""
    login = attempt.login
    return {
        "KC-API-KEY": login["key"], "KC-API-TIMESTAMP": now, "KC-API-KEY-VERSION": "2",
        "KC-API-SIGN": base64_hmac(login["secret"], f"{now}POST{path}"),
        "KC-API-PASSPHRASE": base64_hmac(login["secret"], login["passphrase"]),
    }  # fmt: skip


def sign(signing: Signing) -> dict[str, Any]:
    """Of UTA: the fields of a REST request's headers, with a path of its own."""
    login, now = signing.login, str(int(signing.now * 1000))
    return {
        "kc-api-key": login["key"], "kc-api-timestamp": now,
        "kc-api-sign": base64_hmac(login["secret"], f"{now}POST/api/websocket/users/verify"),
        "kc-api-passphrase": base64_hmac(login["secret"], login["passphrase"]),
    }  # fmt: skip
