"""The bundled dialects' gap rules over the bundled recordings of real exchanges: nothing false, nothing missed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.bench.gaps import Feed, check, dialect_of, feeds
from wsadapter.config.dialect import load_dialect
from wsadapter.contract.dialect.text import Text
from wsadapter.testing import bundled
from wsadapter.worker.session.sequence import SequenceChecker

TRACKED = {
    "binance": 2, "binance_usdm": 2, "bitfinex": 1, "coinbase": 1, "deribit": 1, "gate": 1, "kraken_futures": 1, "kucoin": 1,
}  # fmt: skip
"""Recording -> how many rules have something to compare in it."""


def feed_of(name: str) -> Feed:
    with resources.as_file(resources.files("wsadapter.testing.recordings") / f"{name}.jsonl.gz") as path:
        [feed] = feeds([Path(path)])
    return feed


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled())
def test_over_a_recording_nothing_false_is_told_and_every_damage_is_found(name: str) -> None:
    feed = feed_of(name)
    compared = {rule: tally for rule, tally in check(feed, every=5).items() if tally.compared}
    assert len(compared) == TRACKED.get(name, 0)
    for rule, tally in compared.items():
        assert tally.breaks == 0, rule
        assert tally.found == tally.injected, rule
        assert min(tally.injected.values()) > 2, rule


def told(dialect: str, *messages: bytes) -> list[tuple[int, int] | None]:
    gaps = SequenceChecker(load_dialect(dialect)["gap"])
    found = [gaps.check(Text(message), lambda _: None) for message in messages]
    return [None if one is None else (one.expected, one.got) for one in found]


RAW = b'{"e":"depthUpdate","s":"A","U":%d,"u":%d,"pu":%d}'
OBU = b'{"channel":"futures.obu","event":"update","result":{"s":"ob.A.400","full":%b,"U":%d,"u":%d}}'
OKX = b'{"arg":{"channel":"books","instId":"A"},"action":"%b","data":[{"asks":[],"bids":[],"prevSeqId":%d,"seqId":%d}]}'
BYBIT = b'{"topic":"orderbook.50.A","type":"%b","data":{"s":"A","u":%d}}'
COINBASE = b'{"channel":"%b","timestamp":"t","sequence_num":%d,"events":[]}'
HTX = b'{"ch":"market.a.mbp.150","ts":1,"tick":{"seqNum":%d,"prevSeqNum":%d}}'
HTX_SWAP = b'{"ch":"market.A.depth.size_20.high_freq","tick":{"event":"%b","version":%d}}'
BITGET = b'{"action":"%b","arg":{"instType":"SPOT","channel":"books","instId":"A"},"data":[{"seq":%d,"pseq":%d}]}'
CRYPTO_COM = b'{"id":-1,"method":"subscribe","result":{"subscription":"book.A","channel":"%b","data":[{"pu":%d,"u":%d}]}}'
KUCOIN = b'{"topic":"/contractMarket/level2:A","subject":"level2","data":{"sequence":%d,"change":"1,buy,2"}}'
BITGET_V3 = b'{"action":"%b","arg":{"instType":"spot","topic":"books","symbol":"A"},"data":[{"seq":"%d","pseq":%d}]}'
KUCOIN_UTA = b'{"T":"obu.SPOT","dp":"increment@10ms","t":"%b","P":1,"d":{"s":"A","O":%d,"C":%d}}'
MEXC = b'{"channel":"spot@A","publicAggreDepths":{"asks":[],"bids":[],"fromVersion":"%d","toVersion":"%d"},"symbol":"A"}'
MEXC_FUTURES = b'{"symbol":"A","data":{"asks":[],"bids":[],"end":%d,"begin":%d,"version":1},"channel":"push.depth","ts":1}'
GEMINI = b'{"e":"depthUpdate","E":1,"s":"a","U":%d,"u":%d,"b":[],"a":[]}'
LIGHTER = b'{"channel":"order_book:0","order_book":{"begin_nonce":%d,"nonce":%d},"type":"%b/order_book"}'
NEW, UPDATE = b"snapshot", b"update"


@pytest.mark.parametrize(
    ("dialect", "message", "steps", "last"),
    [
        ("binance", RAW, [(1, 2, 0), (3, 9, 0), (11, 12, 0)], (10, 11)),
        ("binance_coinm", RAW, [(1, 2, 0), (5, 9, 2), (11, 12, 10)], (9, 10)),
        ("gate_futures", OBU, [(b"true", 1, 5), (b"false", 6, 7), (b"true", 90, 95), (b"false", 97, 99)], (96, 97)),
        ("okx", OKX, [(NEW, -1, 10), (UPDATE, 10, 15), (UPDATE, 15, 15), (UPDATE, 15, 3), (UPDATE, 3, 5),
                      (UPDATE, 6, 7)], (5, 6)),
        ("bybit", BYBIT, [(NEW, 7), (b"delta", 8), (b"delta", 1), (b"delta", 2), (NEW, 2), (b"delta", 4)], (3, 4)),
        ("coinbase", COINBASE, [(b"l2_data", 0), (b"heartbeats", 1), (b"subscriptions", 3)], (2, 3)),
        ("htx", HTX, [(5, 3), (9, 5), (12, 10)], (9, 10)),
        ("htx_swap", HTX_SWAP, [(NEW, 5), (UPDATE, 6), (UPDATE, 8)], (7, 8)),
        ("bitget", BITGET, [(NEW, 5, 0), (UPDATE, 9, 5), (UPDATE, 12, 10)], (9, 10)),
        ("crypto_com", CRYPTO_COM, [(b"book", 0, 50), (b"book.update", 50, 90), (b"book.update", 90, 90),
                                    (b"book.update", 95, 99)], (90, 95)),
        ("kucoin", KUCOIN, [5, 6, 8], (7, 8)),
        ("bitget_v3", BITGET_V3, [(NEW, 5, 0), (UPDATE, 9, 5), (UPDATE, 3, 0), (UPDATE, 4, 3), (UPDATE, 12, 10)], (4, 10)),
        ("mexc", MEXC, [(1, 3), (4, 4), (6, 9)], (5, 6)),
        ("mexc_futures", MEXC_FUTURES, [(3, 1), (9, 4), (12, 11)], (10, 11)),
        ("kucoin_uta", KUCOIN_UTA, [(NEW, 5, 5), (b"delta", 6, 9), (NEW, 3, 3), (b"delta", 4, 4), (b"delta", 6, 7)], (5, 6)),
        ("gemini", GEMINI, [(5, 5), (5, 9), (9, 12), (13, 14)], (12, 13)),
        ("lighter", LIGHTER, [(0, 5, b"subscribed"), (5, 9, UPDATE), (0, 20, b"subscribed"), (20, 24, UPDATE),
                              (25, 27, UPDATE)], (24, 25)),
    ],
)  # fmt: skip
def test_what_no_recording_has_is_as_the_documents_say(
    dialect: str, message: bytes, steps: list[Any], last: tuple[int, int]
) -> None:
    assert told(dialect, *(message % step for step in steps)) == [None] * (len(steps) - 1) + [last]


@pytest.mark.parametrize(
    ("name", "hosts", "expected"),
    [
        ("x", ("ws-feed.pro.coinbase.com",), "coinbase_exchange"), ("x", ("fstream.binance.com",), "binance_usdm"),
        ("binance_usdm_2024", (), "binance_usdm"), ("kraken", (), "kraken_v1"), ("nyse", ("nyse.com",), ""),
    ],
)  # fmt: skip
def test_a_recordings_dialect_is_known_by_its_host_or_its_name(name: str, hosts: Any, expected: str) -> None:
    assert dialect_of(name, hosts) == expected
