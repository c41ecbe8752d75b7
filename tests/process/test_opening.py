"""The beginning of a connection over the deaths of its owners: what was not begun is begun anew, what was is not repeated."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.feeds import DEADLINE, SOON, collect, events_of, is_event, is_message, pid_of, to_the_end
from tests.support.rawserver import RawServer
from tests.support.waiting import wait_until
from wsadapter import Down, Endpoint, Gap, Item, Restored, Up, capabilities

TEXT = 1
DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams"}' }
ack = [{ match = { ok = 1 } }]
ready = [{ match = { type = "welcome" } }]
on_up = [{ frame = '{"conf":1}' }]
"""

pytestmark = pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")


def test_a_connection_that_begins_with_on_up_frames_outlives_its_owner_only_when_they_are_out(
    tmp_path: Path, start_method: str
) -> None:
    (tmp_path / "mine.toml").write_text(DIALECT)
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint(
            "x",
            url=server.url,
            dialect=str(tmp_path / "mine.toml"),
            subscribe=["a"],
            restart=SOON,
            timeouts={"close": 0.2},
            heartbeat={"kind": "none"},  # an owner that goes on with the connection may send one at once
        )
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            feed.start()
            first = server.accept_websocket()
            first.send_frame(TEXT, b'"0"')
            items += collect(feed, is_message("x"))
            time.sleep(0.2)  # if it is ever to be handed over it is by now
            assert not feed.status()["endpoints"]["x"]["in_custody"]
            os.kill(pid_of(feed, "x"), signal.SIGKILL)
            peer = server.accept_websocket()
            assert first.at_end()
            peer.send_frame(TEXT, b'{"type":"welcome"}')
            assert [peer.read_frame()[1] for _ in range(2)] == [b'{"conf":1}', b'{"sub":["a"]}']
            peer.send_frame(TEXT, b'{"ok":1}')
            peer.send_frame(TEXT, b'"1"')
            items += collect(feed, is_message("x", 2))
            wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "x"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "x", 3))
            peer.send_frame(TEXT, b'"2"')
            items += collect(feed, is_message("x", 3))
            feed.send("x", b"mine")
            assert peer.read_frame()[1] == b"mine"  # and nothing before it
    assert [up.resumed for up in events_of(items, "x", Up)] == [False, False, True]
    assert [down.reason.kind for down in events_of(items, "x", Down)] == ["crashed", "crashed", "stopped"]


def test_owners_that_die_before_the_peers_word_and_before_the_pause_is_over_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(DIALECT.replace("on_up = ", "connection = { settle = 3.0 } #"))
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint(
            "x", url=server.url, dialect=str(tmp_path / "mine.toml"), subscribe=["a"], restart=SOON,
            heartbeat={"kind": "none"}, timeouts={"handshake": 60.0, "close": 0.2},
        )  # fmt: skip
        with to_the_end(items, endpoint, start_method="forkserver", spares=2) as feed:
            feed.start()
            peer = server.accept_websocket()
            for epoch in (1, 2):
                items += collect(feed, is_event(Up, "x", epoch))
                wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
                if epoch == 2:
                    peer.send_frame(TEXT, b'{"type":"welcome"}')
                    peer.send_frame(TEXT, b'"0"')
                    items += collect(feed, is_message("x", epoch))  # the owner has read the word too
                os.kill(pid_of(feed, "x"), signal.SIGKILL)
            assert peer.read_frame()[1] == b'{"sub":["a"]}'
            peer.send_frame(TEXT, b'{"ok":1}')
            items += collect(feed, is_event(Restored, "x"))
            assert server.nobody_came()
    assert [up.resumed for up in events_of(items, "x", Up)] == [False, True, True]
    assert events_of(items, "x", Gap) == []
