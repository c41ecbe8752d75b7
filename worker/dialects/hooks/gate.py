"""Gate, spot and futures: `auth` in each frame that subscribes, https://www.gate.com/docs/developers/apiv4/ws/en/#authentication."""

from __future__ import annotations

from typing import Any

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Signing


def sign(signing: Signing) -> dict[str, Any]:
    """Over the frame's own channel, event and time."""
    frame = signing.frame
    text = f"channel={frame['channel']}&event={frame['event']}&time={frame['time']}"
    return {"method": "api_key", "KEY": signing.login["key"], "SIGN": hex_hmac(signing.login["secret"], text, "sha512")}
