"""Which address is tried next, and when: URL lists and Retry-After, with a whole supervisor."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from tests.support.feeds import SOON, assert_sound, collect, events_of, is_event, supervise
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.items import Down, Item, Up
from wsadapter.testing import Exchange


def test_each_failed_connect_takes_the_next_url_and_a_connection_that_was_up_keeps_its_own(start_method: str) -> None:
    items: list[Item] = []
    with ExitStack() as stack:
        taken = stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        refusing, good = stack.enter_context(Exchange()), stack.enter_context(Exchange())
        refusing.refuse(503)
        urls = [f"ws://127.0.0.1:{taken.getsockname()[1]}/", refusing.url, good.url]
        with supervise(Endpoint("feed", url=urls, restart=SOON), start_method=start_method) as feed:
            items += collect(feed, is_event(Up, "feed"))
            assert feed.status()["endpoints"]["feed"]["url"] == good.url
            good.drop()
            items += collect(feed, is_event(Up, "feed"))
            assert (len(refusing.requests), len(good.requests)) == (1, 2)
            refusing.refuse(0)
            good.refuse(503)
            good.drop()  # good once more, then around to the first, which is still dead, then the second
            items += collect(feed, is_event(Up, "feed"))
            assert feed.status()["endpoints"]["feed"]["url"] == refusing.url
            assert (len(refusing.requests), len(good.requests)) == (2, 3)
        items += feed
    assert_sound(items)
    kinds = [down.reason.kind for down in events_of(items, "feed", Down)]
    failed = ["connect_failed", "handshake_rejected"]
    assert kinds == [*failed, "closed_by_peer", "closed_by_peer", *failed[::-1], "stopped"]


def test_retry_after_makes_the_next_attempt_wait_so_long(start_method: str) -> None:
    with Exchange() as ex:
        ex.refuse(503, {"Retry-After": "2"}, times=1)
        with supervise(ex.endpoint("feed", restart=SOON), start_method=start_method) as feed:
            items = collect(feed, is_event(Up, "feed"))
    down, up = events_of(items, "feed", Down)[0], events_of(items, "feed", Up)[0]
    assert (down.reason.status, down.reason.retry_after) == (503, 2.0)
    assert 2.0 <= (up.at - down.at) / 1e9 < 10.0
