"""BingX: the listen key of the user's own stream, https://bingx-api.github.io/docs-v3/."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.hooks import Attempt, HookFailure, LoginRefused

_LIVE: Final = "https://open-api.bingx.com"
_REST: Final = {
    "open-api-ws.bingx.com": _LIVE, "open-api-swap.bingx.com": _LIVE, "open-api-cswap-ws.bingx.com": _LIVE,
    "vst-open-api-ws.bingx.com": "https://open-api-vst.bingx.com",
}  # fmt: skip
"""By the host of the endpoint's URL. Any other URL is the user's own and is left as it is."""
_PATH: Final = "/openApi/user/auth/userDataStream"
_REFUSED: Final = frozenset({100001, 100413, 100419})
"""Codes: the signature, the key, or the address is not accepted."""


def before_connect(attempt: Attempt) -> Attempt:
    """The key goes into the URL. Public streams need none."""
    rest = _REST.get(urlsplit(attempt.url).hostname or "")
    if rest is None or not attempt.login:
        return attempt
    answer = attempt.fetch_json(_signed(attempt, rest), method="POST", headers=_headers(attempt))
    key = answer.get("listenKey") if isinstance(answer, dict) else None
    if not key:
        raise _failure(answer)
    return attempt.changed(url=f"{attempt.url}?listenKey={quote(key)}", token={"rest": rest, "key": key})


def renew(attempt: Attempt) -> None:
    """A listen key dies an hour after it was made or renewed."""
    if attempt.token is not None:
        url = _signed(attempt, attempt.token["rest"], listenKey=attempt.token["key"])
        attempt.fetch(url, method="PUT", headers=_headers(attempt))


def _signed(attempt: Attempt, rest: str, **words: str) -> str:
    """The signature is over the query."""
    query = urlencode({**words, "timestamp": int(time.time() * 1000)})
    return f"{rest}{_PATH}?{query}&signature={hex_hmac(attempt.login['secret'], query)}"


def _headers(attempt: Attempt) -> dict[str, str]:
    return {"X-BX-APIKEY": attempt.login["key"]}


def _failure(answer: Any) -> HookFailure:
    code, text = (answer.get("code"), answer.get("msg", "")) if isinstance(answer, dict) else (None, "")
    refusal = LoginRefused if code in _REFUSED else HookFailure
    return refusal(f"no listen key: {code} {text}")
