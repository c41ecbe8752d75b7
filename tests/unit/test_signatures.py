"""The bundled hooks: against the vectors that exchanges publish, and against what their documents say in words."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from wsadapter.config.dialect import apply_dialect, load_dialect
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.hooks import load_function
from wsadapter.worker.dialects.hooks import (
    binance,
    binance_futures,
    bingx,
    bitfinex,
    bitget,
    bithumb,
    bitmex,
    bitstamp,
    bybit,
    coinbase,
    coinbase_exchange,
    crypto_com,
    deribit,
    gate,
    gemini,
    htx,
    kraken,
    kraken_futures,
    kucoin,
    mexc,
    okx,
    phemex,
    upbit,
)
from wsadapter.worker.dialects.hooks.tokens import hs256_token
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
        (phemex.sign(signing()), ["API", "KEY", sha("KEY1700000060").hex(), 1700000060]),
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


@pytest.mark.parametrize("name", ["binance_coinm", "binance_usdm", "bingx_swap"])
def test_in_the_test_environment_the_key_comes_from_the_test_host(name: str) -> None:
    dialect = load_dialect(name)
    asked = {}
    for environment in ("live", "test"):
        (url,) = apply_dialect(Endpoint("x", dialect=name, environment=environment, login=KEYS), dialect).urls
        rest = Rest(b'{"listenKey":"LK"}')
        hook = load_function(dialect["hooks"]["before_connect"], (), "hooks.before_connect")
        attempt = hook(rest.attempt(url, KEYS).changed(environment=environment))
        assert attempt.url.startswith(url)
        assert attempt.url.endswith("LK")
        ((_, address, _, _),) = rest.asked
        asked[environment] = urlsplit(address).hostname
    assert "test" in asked["test"] or "vst" in asked["test"]
    assert asked["live"] != asked["test"]


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


def test_a_token_is_that_of_the_usual_example() -> None:
    found = hs256_token({"sub": "1234567890", "name": "John Doe", "iat": 1516239022}, "your-256-bit-secret")
    assert found == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
    )


@pytest.mark.parametrize(
    ("hook", "claims"), [(upbit, {"access_key", "nonce"}), (bithumb, {"access_key", "nonce", "timestamp"})]
)
def test_a_token_of_its_own_goes_with_each_handshake(hook: Any, claims: set[str]) -> None:
    attempt = Rest(b"").attempt("wss://api.example/private", KEYS).changed(headers={"X": "mine"})
    made = [hook.before_connect(attempt).headers for _ in range(2)]
    said = []
    for headers in made:
        assert headers["X"] == "mine"
        token = headers["Authorization"].removeprefix("Bearer ")
        text, _, signature = token.rpartition(".")
        assert signature == base64.urlsafe_b64encode(sha(text)).decode().rstrip("=")
        said.append(orjson.loads(base64.urlsafe_b64decode(text.split(".")[1] + "==")))
    assert all(one.keys() == claims and one["access_key"] == "KEY" for one in said)
    assert uuid.UUID(said[0]["nonce"]) != uuid.UUID(said[1]["nonce"])
    if "timestamp" in claims:
        assert said[0]["timestamp"] > 1_700_000_000_000


def test_geminis_headers_sign_the_time() -> None:
    attempt = Rest(b"").attempt("wss://ws.gemini.com/?snapshot=-1", KEYS).changed(headers={"X": "mine"})
    headers = gemini.before_connect(attempt).headers
    assert (headers["X"], headers["X-GEMINI-APIKEY"]) == ("mine", "KEY")
    assert int(headers["X-GEMINI-NONCE"]) > 1_700_000_000
    assert headers["X-GEMINI-PAYLOAD"] == b64(headers["X-GEMINI-NONCE"].encode())
    assert headers["X-GEMINI-SIGNATURE"] == sha(headers["X-GEMINI-PAYLOAD"], "sha384").hex()


def test_without_keys_nothing_is_asked_for() -> None:
    silent = Rest(b"")
    for hook, url in (
        (binance_futures, "wss://fstream.binance.com/public/stream"), (kraken, "wss://ws.kraken.com/v2"),
        (bingx, "wss://open-api-ws.bingx.com/market"), (mexc, "wss://wbs-api.mexc.com/ws"),
        (upbit, "wss://api.upbit.com/websocket/v1"),
        (bithumb, "wss://ws-api.bithumb.com/websocket/v1"), (gemini, "wss://ws.gemini.com/?snapshot=-1"),
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


def test_the_vector_in_the_documents_of_kraken_futures() -> None:
    login = {"key": "KEY", "secret": "7zxMEF5p/Z8l2p2U7Ghv6x14Af+Fx+92tPgUdVQ748FOIrEoT9bgT+bTRfXc5pz8na+hL/QdrCVG7bh9KpT0eMTm"}
    frame = {"event": "subscribe", "original_challenge": "c100b894-1729-464d-ace1-52dbce11db42", "signed_challenge": "$sign"}
    made = kraken_futures.sign(Signing(endpoint="x", login=login, frame=frame, now=NOW))
    assert made == "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A=="


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01000000", "price": "52000.00", "recvWindow": 100},
         "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"),
        ({"symbol": "\uff11\uff12\uff13\uff14\uff15\uff16", "side": "BUY", "quantity": "1.00000000", "price": "0.10000000",
          "recvWindow": 5000}, "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd"),
    ],
)  # fmt: skip
def test_the_vectors_in_binances_documents(params: dict[str, Any], expected: str) -> None:
    key = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
    secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
    rest = {"type": "LIMIT", "timeInForce": "GTC", "timestamp": 1645423376532, "apiKey": key}
    assert binance.signature(secret, {**params, **rest}) == expected


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, form, encryption).decode())


def test_binance_signs_with_the_keys_that_are_in_pem() -> None:
    text = f"apiKey=KEY&timestamp={int(NOW * 1000)}".encode()
    own = ed25519.Ed25519PrivateKey.generate()
    made = binance.sign(Signing(endpoint="x", login={"key": "KEY", "secret": pem(own)}, frame={}, now=NOW))
    own.public_key().verify(base64.b64decode(made.pop("signature")), text)
    assert made == {"apiKey": "KEY", "timestamp": 1_700_000_000_250}
    large = rsa.generate_private_key(65537, 2048)
    made = binance.sign(Signing(endpoint="x", login={"key": "KEY", "secret": pem(large)}, frame={}, now=NOW))
    large.public_key().verify(base64.b64decode(made["signature"]), text, padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("line_end", ["\n", "\\n"])
def test_coinbases_token_is_signed_with_either_form_of_a_key(form: PrivateFormat, line_end: str) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    login = {"key": "organizations/o/apiKeys/k", "secret": pem(own, form).replace("\n", line_end)}
    token = coinbase.sign(Signing(endpoint="x", login=login, frame={}, now=NOW))
    assert "=" not in token
    header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    nonce = json.loads(header)["nonce"]
    assert json.loads(header) == {"alg": "ES256", "typ": "JWT", "kid": login["key"], "nonce": nonce}
    assert json.loads(claims) == {"iss": "cdp", "sub": login["key"], "nbf": 1_700_000_000, "exp": 1_700_000_120}
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    text = token.rpartition(".")[0].encode()
    own.public_key().verify(utils.encode_dss_signature(r, s), text, ec.ECDSA(SHA256()))
    assert coinbase.sign(Signing(endpoint="x", login=login, frame={}, now=NOW)) != token


@pytest.mark.parametrize(
    ("secret", "error"),
    [
        ("c2VjcmV0", "no private key in PEM without a password"),
        (pem(ec.generate_private_key(ec.SECP256R1()), password=b"pw"), "no private key in PEM without a password"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "not a private key on the curve P-256"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "not a private key on the curve P-256"),
    ],
)
def test_a_key_that_coinbase_does_not_take_is_refused_without_a_word_of_it(secret: str, error: str) -> None:
    with pytest.raises(LoginRefused, match=error) as refused:
        coinbase.sign(Signing(endpoint="x", login={"key": "KEY", "secret": secret}, frame={}, now=NOW))
    assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert not any(line in str(refused.value) for line in secret.splitlines())


def test_a_key_that_binance_does_not_take_is_refused() -> None:
    login = {"key": "KEY", "secret": pem(ec.generate_private_key(ec.SECP256R1()))}
    with pytest.raises(LoginRefused, match="neither an Ed25519 nor an RSA private key"):
        binance.sign(Signing(endpoint="x", login=login, frame={}, now=NOW))


def test_without_the_package_for_keys_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    login = {"key": "KEY", "secret": "-----BEGIN PRIVATE KEY-----"}
    for hook, extra in ((coinbase, "coinbase"), (binance, "binance")):
        with pytest.raises(LoginRefused, match=rf"needs the package cryptography: pip install wsadapter\[{extra}\]"):
            hook.sign(Signing(endpoint="x", login=login, frame={}, now=NOW))
    assert binance.sign(signing())["signature"] == sha("apiKey=KEY&timestamp=1700000000250").hex()


@pytest.mark.parametrize(
    ("sign", "url", "fields", "names"),
    [
        (htx.sign_spot, "wss://API.huobi.pro:443/ws/v2",
         "accessKey=KEY&signatureMethod=HmacSHA256&signatureVersion=2.1&timestamp=",
         {"accessKey", "authType", "signature", "signatureMethod", "signatureVersion", "timestamp"}),
        (htx.sign_swap, "wss://api.hbdm.com/linear-swap-notification",
         "AccessKeyId=KEY&SignatureMethod=HmacSHA256&SignatureVersion=2&Timestamp=",
         {"AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"}),
    ],
)  # fmt: skip
def test_htx_signs_the_place_and_the_fields_by_name(sign: Any, url: str, fields: str, names: set[str]) -> None:
    made = sign(Signing(endpoint="x", url=url, login=KEYS, frame={}, now=NOW))
    assert made.keys() == names
    place = url.lower().removeprefix("wss://").replace(":443", "")
    text = "GET\n{}\n/{}\n{}2023-11-14T22%3A13%3A20".format(*place.split("/", 1), fields)
    assert made.get("signature", made.get("Signature")) == b64(sha(text))


def test_bitstamps_token_is_used_as_long_as_it_holds_and_then_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitstamp, "_tokens", {})
    rest = Rest(b'{"valid_sec":60,"token":"T1","user_id":4848701}')

    def token(now: float, key: str = "KEY") -> str:
        return bitstamp.sign(Signing(endpoint="x", login={**KEYS, "key": key}, frame={}, now=now, transfer=rest))

    assert token(NOW) == "T1"
    (method, url, headers, body) = rest.asked[0]
    assert (method, url, body) == ("POST", "https://www.bitstamp.net/api/v2/websockets_token/", b"")
    text = f"BITSTAMP KEYPOSTwww.bitstamp.net/api/v2/websockets_token/{headers['X-Auth-Nonce']}1700000000250v2"
    assert headers == {
        "X-Auth": "BITSTAMP KEY", "X-Auth-Signature": sha(text).hex(), "X-Auth-Nonce": headers["X-Auth-Nonce"],
        "X-Auth-Timestamp": "1700000000250", "X-Auth-Version": "v2",
    }  # fmt: skip
    rest.answer = b'{"valid_sec":60,"token":"T2","user_id":4848701}'
    assert [token(NOW + 45.0), token(NOW + 46.0, "OTHER"), token(NOW + 55.0)] == ["T1", "T2", "T2"]
    assert [asked[2]["X-Auth"] for asked in rest.asked] == ["BITSTAMP KEY", "BITSTAMP OTHER", "BITSTAMP KEY"]
    assert len({asked[2]["X-Auth-Nonce"] for asked in rest.asked}) == 3


def test_what_bitstamp_says_instead_of_a_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitstamp, "_tokens", {})
    refusal = Rest(b'{"status":"error","reason":"Invalid signature","code":"API0005"}')
    with pytest.raises(HookFailure, match="no token: Invalid signature"):
        bitstamp.sign(Signing(endpoint="x", login=KEYS, frame={}, now=NOW, transfer=refusal))
