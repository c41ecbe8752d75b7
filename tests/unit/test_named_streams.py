"""Which streams an error's text names: by whole words of their names, never by a part of a longer one."""

from __future__ import annotations

from typing import Any

import pytest

from wsadapter.worker.subscription.names import Words, named

BOOK, TRADES = {"channel": "v4_orderbook", "id": "BTC-USD"}, {"channel": "v4_trades", "id": "BTC-USD"}


@pytest.mark.parametrize(
    ("streams", "error", "expected"),
    [
        (["a@trade", "aa@trade"], "no such stream: aa@trade", ([1], [])),
        ([BOOK, TRADES], "Invalid subscription id for channel: (v4_trades-BTC-USD)", ([1], [])),
        ([BOOK, TRADES], "unknown: BTC-USD/v4_orderbook", ([0], [])),
        ([BOOK, TRADES], "unknown: v4_trades-BTC-USD-PERP", ([], [])),
        ([BOOK, {**TRADES, "batched": True}], "already subscribed (v4_trades-BTC-USD)", ([1], [])),
        ([{"method": "sub.deal", "param": {"symbol": "A_B"}}, {"method": "sub.deal", "param": {"symbol": "NOPE_B"}}],
         "Contract [NOPE_B] not exists", ([], [1])),
        (["ticker/3", "ticker/30", "candle/3/1m"], "Already Subscribed to : ticker:3", ([0], [])),
        (["ticker/3", "candle/3/1m"], "Already Subscribed to : candle:3:1m", ([1], [])),
        (["a", "b"], "rate limit", ([], [])),
    ],
)  # fmt: skip
def test_an_error_names_streams_by_whole_words(streams: list[Any], error: str, expected: tuple[list[int], list[int]]) -> None:
    assert named([Words(stream) for stream in streams], error) == expected
