"""The bundled hooks: against the vectors that exchanges publish, and against what their documents say in words."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from wsadapter.worker.dialects.hooks import (
    binance_futures,
    bingx,
    bitfinex,
    bitget,
    bitmex,
    bybit,
    coinbase_exchange,
    crypto_com,
    deribit,
    gate,
    kraken,
    kucoin,
    mexc,
    okx,
)
from wsadapter.worker.hooks import Attempt, HookFailure, LoginRefused, Signing

NOW = 1_700_000_000.25
KEYS = {"key": "KEY", "secret": "SECRET", "passphrase": "PASS"}


def signing(**frame: Any) -> Signing:
    return Signing(endpoint="x", login=KEYS, frame=frame, now=NOW)


def sha(text: str, algorithm: str = "sha256", secret: bytes = b"SECRET") -> bytes:
    return hmac.new(secret, text.encode(), getattr(hashlib, algorithm)).digest()


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def test_the_vector_in_deribits_documents() -> None:
    found = deribit.signature("AMANDASECRECT", 1576074319000, "1iqt2wls")
    assert found == "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1"


def test_the_vectors_in_bitmex_documents() -> None:
    secret = "chNOOS4KvNXR_Xq4k4c9qsfoKWvnDecLATCRlcBwyKDYnWgO"
    found = bitmex.signature(secret, "GET", "/api/v1/instrument", 1518064236)
    assert found == "c7682d435d0cfe87c16098df34ef2eb5a549d4c5a3c2b1f0f77b8af73423bf00"


def test_the_vector_in_krakens_documents() -> None:
    secret = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    assert kraken.signature(secret, "/0/private/AddOrder", "1616492376594", body) == (
        "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (okx.sign(signing()), {"apiKey": "KEY", "passphrase": "PASS", "timestamp": "1700000000",
                               "sign": b64(sha("1700000000GET/users/self/verify"))}),
        (bitget.sign(signing()), {"apiKey": "KEY", "passphrase": "PASS", "timestamp": "1700000000",
                                  "sign": b64(sha("1700000000GET/user/verify"))}),
        (kucoin.sign(signing()), {"kc-api-key": "KEY", "kc-api-timestamp": "1700000000250",
                                  "kc-api-sign": b64(sha("1700000000250POST/api/websocket/users/verify")),
                                  "kc-api-passphrase": b64(sha("PASS"))}),
        (mexc.sign(signing()), {"apiKey": "KEY", "reqTime": "1700000000250", "signature": sha("KEY1700000000250").hex()}),
        (bybit.sign(signing()), ["KEY", 1700000010250, sha("GET/realtime1700000010250").hex()]),
        (bitmex.sign(signing()), ["KEY", 1700000030, sha("GET/realtime1700000030").hex()]),
        (bitfinex.sign(signing()), {"apiKey": "KEY", "authNonce": "1700000000250000", "authPayload": "AUTH1700000000250000",
                                    "authSig": sha("AUTH1700000000250000", "sha384").hex()}),
        (gate.sign(signing(channel="spot.orders", event="subscribe", time=1700000000)),
         {"method": "api_key", "KEY": "KEY",
          "SIGN": sha("channel=spot.orders&event=subscribe&time=1700000000", "sha512").hex()}),
        (crypto_com.sign(signing(id=7, method="public/auth", nonce=1700000000250)),
         {"api_key": "KEY", "sig": sha("public/auth7KEY1700000000250").hex()}),
    ],
)  # fmt: skip
def test_what_the_documents_say_in_words(made: Any, expected: Any) -> None:
    assert made == expected


def test_a_secret_in_base64_is_decoded_first_and_one_that_is_none_is_refused() -> None:
    login = {**KEYS, "secret": b64(b"\x00raw")}
    made = coinbase_exchange.sign(Signing(endpoint="x", login=login, frame={}, now=NOW))
    assert made["signature"] == b64(sha("1700000000GET/users/self/verify", secret=b"\x00raw"))
    with pytest.raises(LoginRefused, match="not base64"):
        coinbase_exchange.sign(Signing(endpoint="x", login={**KEYS, "secret": "???"}, frame={}, now=NOW))


class Rest:
    """Stands for the exchange's HTTP side; what it is asked is what is tested."""

    def __init__(self, answer: bytes | dict[str, bytes]) -> None:
        """`answer`: to anything, or by method."""
        self.answer = answer
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        self.asked.append((method, url, headers, body))
        return self.answer if isinstance(self.answer, bytes) else self.answer[method]

    def attempt(self, url: str, login: Mapping[str, str]) -> Attempt:
        return Attempt(endpoint="x", url=url, headers={}, environment="live", login=login, transfer=self)


@pytest.mark.parametrize(
    ("url", "login", "rest"),
    [
        ("wss://ws-api-spot.kucoin.com/", {}, "https://api.kucoin.com/api/v1/bullet-public"),
        ("wss://ws-api-futures.kucoin.com/", {}, "https://api-futures.kucoin.com/api/v1/bullet-public"),
        ("wss://ws-api-spot.kucoin.com/", KEYS, "https://api.kucoin.com/api/v1/bullet-private"),
    ],
)
def test_kucoin_says_where_to_connect_and_gives_a_token(url: str, login: dict[str, str], rest: str) -> None:
    answer = Rest(b'{"code":"200000","data":{"token":"a b","instanceServers":[{"endpoint":"wss://push.example/endpoint"}]}}')
    attempt = kucoin.before_connect(answer.attempt(url, login))
    assert attempt.url.startswith("wss://push.example/endpoint?token=a+b&connectId=")
    ((method, asked, headers, _),) = answer.asked
    assert (method, asked) == ("POST", rest)
    if login:
        path = rest.removeprefix("https://api.kucoin.com")
        assert headers["KC-API-SIGN"] == b64(sha(f"{headers['KC-API-TIMESTAMP']}POST{path}"))
        assert headers["KC-API-PASSPHRASE"] == b64(sha("PASS"))
    else:
        assert headers == {}


def test_kucoins_refusal_is_told_and_a_url_of_ones_own_is_left_as_it_is() -> None:
    refusal = Rest(b'{"code":"429000","msg":"Too many requests"}')
    with pytest.raises(HookFailure, match="429000 Too many requests"):
        kucoin.before_connect(refusal.attempt("wss://ws-api-spot.kucoin.com/", {}))
    own = refusal.attempt("wss://127.0.0.1:1/?token=mine", {})
    assert kucoin.before_connect(own) is own


@pytest.mark.parametrize(
    ("url", "expected", "rest"),
    [
        ("wss://fstream.binance.com/private/ws", "wss://fstream.binance.com/private/ws?listenKey=LK",
         "https://fapi.binance.com/fapi/v1/listenKey"),
        ("wss://dstream.binance.com/ws", "wss://dstream.binance.com/ws/LK", "https://dapi.binance.com/dapi/v1/listenKey"),
    ],
)  # fmt: skip
def test_a_listen_key_is_asked_for_and_kept_alive(url: str, expected: str, rest: str) -> None:
    answer = Rest(b'{"listenKey":"LK"}')
    attempt = binance_futures.before_connect(answer.attempt(url, {"key": "KEY"}))
    assert attempt.url == expected
    binance_futures.renew(attempt)
    header = {"X-MBX-APIKEY": "KEY"}
    assert answer.asked == [("POST", rest, header, b""), ("PUT", rest, header, b"")]


@pytest.mark.parametrize(
    ("url", "rest"),
    [
        ("wss://open-api-ws.bingx.com/market", "https://open-api.bingx.com"),
        ("wss://vst-open-api-ws.bingx.com/swap-market", "https://open-api-vst.bingx.com"),
    ],
)
def test_bingx_gives_a_listen_key_for_a_signed_query(url: str, rest: str) -> None:
    answer = Rest(b'{"listenKey":"L/K"}')
    attempt = bingx.before_connect(answer.attempt(url, KEYS))
    assert attempt.url == f"{url}?listenKey=L/K"
    bingx.renew(attempt)
    assert [(method, headers) for method, _, headers, _ in answer.asked] == [
        ("POST", {"X-BX-APIKEY": "KEY"}), ("PUT", {"X-BX-APIKEY": "KEY"}),
    ]  # fmt: skip
    for (_, asked, _, _), first in zip(answer.asked, ("timestamp=", "listenKey=L%2FK&timestamp="), strict=True):
        query, signature = asked.removeprefix(f"{rest}/openApi/user/auth/userDataStream?").split("&signature=")
        assert query.startswith(first)
        assert signature == sha(query).hex()


def test_bingx_says_whether_the_key_is_refused() -> None:
    for answer, expected in ((b'{"code":100413,"msg":"Incorrect apiKey"}', LoginRefused), (b'{"code":100500}', HookFailure)):
        with pytest.raises(HookFailure, match="no listen key: 100") as caught:
            bingx.before_connect(Rest(answer).attempt("wss://open-api-ws.bingx.com/market", KEYS))
        assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("held", "methods"), [([], ["GET", "POST", "PUT"]), (["OLD", "NEW"], ["GET", "PUT", "PUT"])], ids=["none", "two"]
)
def test_mexc_uses_a_listen_key_again_that_is_valid(held: list[str], methods: list[str]) -> None:
    url = "wss://wbs-api.mexc.com/ws"
    rest = Rest({"GET": orjson.dumps({"listenKey": held}), "POST": b'{"listenKey":"NEW"}', "PUT": b'{"listenKey":"NEW"}'})
    attempt = mexc.before_connect(rest.attempt(url, KEYS))
    assert (attempt.url, attempt.token) == (f"{url}?listenKey=NEW", "NEW")
    mexc.renew(attempt)
    assert [method for method, *_ in rest.asked] == methods
    for method, asked, headers, _ in rest.asked:
        query, signature = asked.removeprefix("https://api.mexc.com/api/v3/userDataStream?").split("&signature=")
        assert query.startswith("listenKey=NEW&timestamp=" if method == "PUT" else "timestamp=")
        assert signature == sha(query).hex()
        assert headers["X-MEXC-APIKEY"] == "KEY"


def test_mexcs_refusal_is_told() -> None:
    refusal = b'{"code":30002,"msg":"too many listen keys"}'
    with pytest.raises(HookFailure, match="no listen key: 30002 too many listen keys"):
        mexc.before_connect(Rest(refusal).attempt("wss://wbs-api.mexc.com/ws", KEYS))


def test_without_keys_nothing_is_asked_for() -> None:
    silent = Rest(b"")
    for hook, url in (
        (binance_futures, "wss://fstream.binance.com/public/stream"), (kraken, "wss://ws.kraken.com/v2"),
        (bingx, "wss://open-api-ws.bingx.com/market"), (mexc, "wss://wbs-api.mexc.com/ws"),
    ):  # fmt: skip
        public = silent.attempt(url, {})
        assert hook.before_connect(public) is public
    assert not silent.asked


def test_krakens_token_stands_in_each_frame_and_a_wrong_key_is_a_refused_login() -> None:
    login = {"key": "KEY", "secret": b64(b"raw")}
    good = Rest(b'{"error":[],"result":{"token":"T","expires":900}}')
    attempt = kraken.before_connect(good.attempt("wss://ws-auth.kraken.com/v2", login))
    assert kraken.sign(Signing(endpoint="x", login=login, frame={}, now=NOW, token=attempt.token)) == "T"
    ((_, url, headers, body),) = good.asked
    assert url == "https://api.kraken.com/0/private/GetWebSocketsToken"
    nonce = body.decode().removeprefix("nonce=")
    assert headers["API-Sign"] == kraken.signature(login["secret"], "/0/private/GetWebSocketsToken", nonce, body.decode())
    bad = Rest(b'{"error":["EAPI:Invalid key"]}')
    with pytest.raises(LoginRefused, match="EAPI:Invalid key"):
        kraken.before_connect(bad.attempt("wss://ws-auth.kraken.com/v2", login))
