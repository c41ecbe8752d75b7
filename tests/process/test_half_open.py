"""A peer that acknowledges nothing any more while we send. Row 73 of the fault table."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from tests.support.black_hole import swallow
from tests.support.feeds import SOON, collect, events_of, is_event, to_the_end
from tests.support.rawserver import RawServer
from wsadapter import SendFailed
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.items import Down, Item, Up

PATIENCE = 20.0
"""Seconds; TCP alone would try for about fifteen minutes."""


@pytest.mark.native
@pytest.mark.parametrize("size", [100, 32 << 20], ids=["what the kernel takes", "more than the kernel takes"])
def test_row_73_a_peer_that_acknowledges_nothing_is_left_by_the_deadline_for_sending(size: int) -> None:
    items: list[Item] = []
    with RawServer() as server:
        timeouts = {"send": 1, "close": 0.5}
        endpoint = Endpoint(
            "a", url=server.url, restart=SOON, heartbeat={"kind": "none"}, watchdog={"silence": 0}, timeouts=timeouts
        )
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            swallow(peer.sock)
            began = time.monotonic()
            with suppress(SendFailed):
                feed.send("a", b"x" * size, timeout=PATIENCE)
            server.accept_websocket()
            items += collect(feed, is_event(Up, "a", 2))
            assert time.monotonic() - began < PATIENCE
            peer.sock.close()
    down = events_of(items, "a", Down)[0].reason
    assert (down.kind, down.code) in {("send_failed", None), ("closed_by_peer", 1006), ("send_failed", 1006)}, down
