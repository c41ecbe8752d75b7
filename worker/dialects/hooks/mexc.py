"""MEXC: what spot sends (https://github.com/mexcdevelop/websocket-proto) as JSON, the listen key of the user's own stream
(https://www.mexc.com/api-docs/spot-v3/websocket-user-data-streams), and the login of futures
(https://www.mexc.com/api-docs/futures/websocket-api/login-authentication).
"""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from wsadapter.worker.dialects.hooks.hmacs import hex_hmac
from wsadapter.worker.dialects.hooks.protobuf import Fields, Flag, Integer, Message, Schema, Text
from wsadapter.worker.hooks import Attempt, HookFailure, Signing

_HOST: Final = "wbs-api.mexc.com"
"""Any other URL is the user's own and is left as it is."""
_LISTEN_KEYS: Final = "https://api.mexc.com/api/v3/userDataStream"

# --- what is sent -------------------------------------------------------------------------------------------------------

_LEVEL: Final = Schema({1: Text("price"), 2: Text("quantity")})
_BEST: Fields = {1: Text("bidPrice"), 2: Text("bidQuantity"), 3: Text("askPrice"), 4: Text("askQuantity")}
_SIDES: Fields = {1: Message("asks", _LEVEL, repeated=True), 2: Message("bids", _LEVEL, repeated=True), 3: Text("eventType")}
_DEAL: Fields = {1: Text("price"), 2: Text("quantity"), 3: Integer("tradeType"), 4: Integer("time")}
_DEPTH: Final = Schema({**_SIDES, 4: Text("version")})
_MINI_TICKER: Final = Schema({
    1: Text("symbol"), 2: Text("price"), 3: Text("rate"), 4: Text("zonedRate"), 5: Text("high"), 6: Text("low"),
    7: Text("volume"), 8: Text("quantity"), 9: Text("lastCloseRate"), 10: Text("lastCloseZonedRate"),
    11: Text("lastCloseHigh"), 12: Text("lastCloseLow"),
})  # fmt: skip
_ORDER: Final = Schema({
    1: Text("id"), 2: Text("clientId"), 3: Text("price"), 4: Text("quantity"), 5: Text("amount"), 6: Text("avgPrice"),
    7: Integer("orderType"), 8: Integer("tradeType"), 9: Flag("isMaker"), 10: Text("remainAmount"), 11: Text("remainQuantity"),
    12: Text("lastDealQuantity"), 13: Text("cumulativeQuantity"), 14: Text("cumulativeAmount"), 15: Integer("status"),
    16: Integer("createTime"), 17: Text("market"), 18: Integer("triggerType"), 19: Text("triggerPrice"), 20: Integer("state"),
    21: Text("ocoId"), 22: Text("routeFactor"), 23: Text("symbolId"), 24: Text("marketId"), 25: Text("marketCurrencyId"),
    26: Text("currencyId"),
})  # fmt: skip
_OWN_DEAL: Final = Schema({
    1: Text("price"), 2: Text("quantity"), 3: Text("amount"), 4: Integer("tradeType"), 5: Flag("isMaker"),
    6: Flag("isSelfTrade"), 7: Text("tradeId"), 8: Text("clientOrderId"), 9: Text("orderId"), 10: Text("feeAmount"),
    11: Text("feeCurrency"), 12: Integer("time"),
})  # fmt: skip
_ACCOUNT: Final = Schema({
    1: Text("vcoinName"), 2: Text("coinId"), 3: Text("balanceAmount"), 4: Text("balanceAmountChange"), 5: Text("frozenAmount"),
    6: Text("frozenAmountChange"), 7: Text("type"), 8: Integer("time"),
})  # fmt: skip
_CANDLE: Final = Schema({
    1: Text("interval"), 2: Integer("windowStart"), 3: Text("openingPrice"), 4: Text("closingPrice"), 5: Text("highestPrice"),
    6: Text("lowestPrice"), 7: Text("volume"), 8: Text("amount"), 9: Integer("windowEnd"),
})  # fmt: skip
_PUSH: Final = Schema({
    1: Text("channel"), 3: Text("symbol"), 4: Text("symbolId"), 5: Integer("createTime"), 6: Integer("sendTime"),
    301: Message("publicDeals", Schema({1: Message("deals", Schema(_DEAL), repeated=True), 2: Text("eventType")})),
    302: Message("publicIncreaseDepths", _DEPTH),
    303: Message("publicLimitDepths", Schema({**_SIDES, 4: Text("version"), 5: Integer("lastOrderCreateTime")})),
    304: Message("privateOrders", _ORDER),
    305: Message("publicBookTicker", Schema(_BEST)),
    306: Message("privateDeals", _OWN_DEAL),
    307: Message("privateAccount", _ACCOUNT),
    308: Message("publicSpotKline", _CANDLE),
    309: Message("publicMiniTicker", _MINI_TICKER),
    310: Message("publicMiniTickers", Schema({1: Message("items", _MINI_TICKER, repeated=True)})),
    311: Message("publicBookTickerBatch", Schema({
        1: Message("items", Schema(_BEST), repeated=True), 2: Text("version"), 3: Integer("lastOrderCreateTime"),
    })),
    312: Message("publicIncreaseDepthsBatch", Schema({1: Message("items", _DEPTH, repeated=True), 2: Text("eventType")})),
    313: Message("publicAggreDepths", Schema({
        **_SIDES, 4: Text("fromVersion"), 5: Text("toVersion"), 6: Integer("lastOrderCreateTime"),
    })),
    314: Message("publicAggreDeals", Schema({
        1: Message("deals", Schema({**_DEAL, 5: Text("tradeId")}), repeated=True), 2: Text("eventType"),
    })),
    315: Message("publicAggreBookTicker", Schema({**_BEST, 5: Text("version"), 6: Integer("lastOrderCreateTime")})),
})  # fmt: skip
"""PushDataV3ApiWrapper of 2026-06-17, with the names of its fields."""


def decode(payload: bytes) -> bytes:
    """A message of spot as JSON. Raises `BadMessage` for anything else."""
    return orjson.dumps(_PUSH.read(payload))


# --- who may see it -----------------------------------------------------------------------------------------------------


def before_connect(attempt: Attempt) -> Attempt:
    """Of spot: the key goes into the URL. Public streams need none. A key that is valid is used again, for an account may have
    60 of them, each of which is valid for an hour."""
    if urlsplit(attempt.url).hostname != _HOST or not attempt.login:
        return attempt
    held = _asked(attempt, "GET").get("listenKey")
    if isinstance(held, list) and held:
        key = str(held[-1])
        _asked(attempt, "PUT", listenKey=key)
    else:
        answer = _asked(attempt, "POST")
        key = str(answer.get("listenKey") or "")
        if not key:
            raise HookFailure(f"no listen key: {answer.get('code')} {answer.get('msg', '')}")
    return attempt.changed(url=f"{attempt.url}?listenKey={quote(key)}", token=key)


def renew(attempt: Attempt) -> None:
    """A listen key dies an hour after it was made or renewed."""
    if attempt.token is not None:
        _asked(attempt, "PUT", listenKey=attempt.token)


def _asked(attempt: Attempt, method: str, **words: str) -> dict[str, Any]:
    """The signature is over the query."""
    query = urlencode({**words, "timestamp": int(time.time() * 1000)})
    url = f"{_LISTEN_KEYS}?{query}&signature={hex_hmac(attempt.login['secret'], query)}"
    headers = {"X-MEXC-APIKEY": attempt.login["key"], "Content-Type": "application/json"}
    answer = attempt.fetch_json(url, method=method, headers=headers)
    return answer if isinstance(answer, dict) else {}


def sign(signing: Signing) -> dict[str, Any]:
    """Of futures. The time is in milliseconds."""
    login, now = signing.login, str(int(signing.now * 1000))
    return {"apiKey": login["key"], "reqTime": now, "signature": hex_hmac(login["secret"], login["key"] + now)}
