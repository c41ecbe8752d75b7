"""Binance USD-M and COIN-M: the listen key of the user's own stream,
https://developers.binance.com/docs/derivatives/usds-margined-futures/user-data-streams.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlsplit

from wsadapter.worker.hooks import Attempt

_REST: Final = {
    "fstream.binance.com": ("https://fapi.binance.com/fapi/v1/listenKey", "?listenKey="),
    "dstream.binance.com": ("https://dapi.binance.com/dapi/v1/listenKey", "/"),
    "stream.binancefuture.com": ("https://testnet.binancefuture.com/fapi/v1/listenKey", "/"),  # guess: how the key follows
    "dstream.binancefuture.com": ("https://testnet.binancefuture.com/dapi/v1/listenKey", "/"),  # guess: the same
}
"""By the host of the endpoint's URL: where to ask, and how the key follows the URL. Any other is left as it is: your own."""


def before_connect(attempt: Attempt) -> Attempt:
    """The key goes into the URL. Public streams need none."""
    host = urlsplit(attempt.url).hostname or ""
    if host not in _REST or not attempt.login:
        return attempt
    rest, joint = _REST[host]
    answer = attempt.fetch_json(rest, method="POST", headers=_headers(attempt))
    return attempt.changed(url=f"{attempt.url}{joint}{quote(answer['listenKey'])}", token=rest)


def renew(attempt: Attempt) -> None:
    """A listen key dies an hour after it was made or renewed."""
    if attempt.token is not None:
        attempt.fetch(attempt.token, method="PUT", headers=_headers(attempt))


def _headers(attempt: Attempt) -> dict[str, str]:
    return {"X-MBX-APIKEY": attempt.login["key"]}
