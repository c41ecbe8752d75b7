"""HTX: `auth` of spot, version 2.1, and of the swaps' notifications, version 2. Both sign the host and the path of the URL,
https://www.htx.com/en-us/opend/newApiPages/.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from wsadapter.worker.dialects.hooks.hmacs import base64_hmac
from wsadapter.worker.hooks import Signing


def sign_spot(signing: Signing) -> dict[str, Any]:
    """Of wss://api.huobi.pro/ws/v2: names begin with small letters, and authType is not signed."""
    signed = {
        "accessKey": signing.login["key"], "signatureMethod": "HmacSHA256", "signatureVersion": "2.1",
        "timestamp": _time(signing.now),
    }  # fmt: skip
    return {"authType": "api", **signed, "signature": signature(signing.login["secret"], signing.url, signed)}


def sign_swap(signing: Signing) -> dict[str, Any]:
    """Of wss://api.hbdm.com/linear-swap-notification: names begin with capitals."""
    signed = {
        "AccessKeyId": signing.login["key"], "SignatureMethod": "HmacSHA256", "SignatureVersion": "2",
        "Timestamp": _time(signing.now),
    }  # fmt: skip
    return {**signed, "Signature": signature(signing.login["secret"], signing.url, signed)}


def signature(secret: str, url: str, fields: Mapping[str, str]) -> str:
    """Four lines; the fields in the order of their names, encoded as in a query."""
    place = urlsplit(url)
    return base64_hmac(secret, f"GET\n{place.hostname}\n{place.path}\n{urlencode(sorted(fields.items()))}")


def _time(now: float) -> str:
    """UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
