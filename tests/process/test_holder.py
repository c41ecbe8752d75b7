"""TLS in a process of its own: the owner of a wss:// connection may die, and nobody notices."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.feeds import (
    DEADLINE,
    SOON,
    assert_whole,
    collect,
    events_of,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    to_the_end,
)
from tests.support.rawserver import RawServer, TlsByHand, server_frame
from tests.support.waiting import wait_until
from wsadapter import ConfigError, Down, Endpoint, Gap, Item, Supervisor, Up
from wsadapter.contract.endpoint import Compression
from wsadapter.testing import Authority, Exchange
from wsadapter.testing.certificates import ca_file, server_context

pytestmark = pytest.mark.native  # the handoff needs the kernel's counters

HELD: dict[str, Any] = {"restart": SOON, "heartbeat": {"kind": "none"}}


def held(ex: Exchange, **settings: Any) -> Endpoint:
    return ex.endpoint("a", **{**HELD, **settings, "tls": {"ca_file": str(ex.ca_file), "holder": True}})


def live(rate: float = 20_000) -> Exchange:
    """One feed for all who listen, whose clock runs."""
    return Exchange(messages=numbered, rate=rate, resume="continue", deflate=True, tls=True)


def holder_of(feed: Supervisor) -> int:
    pid = feed.status()["endpoints"]["a"]["holder"]
    assert isinstance(pid, int)
    return pid


def in_custody(feed: Supervisor) -> None:
    wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)


def test_a_killed_owner_of_a_wss_connection_costs_nothing(start_method: str) -> None:
    items: list[Item] = []
    with live() as ex, to_the_end(items, held(ex), start_method=start_method) as feed:
        items += collect(feed, is_message("a"))
        holder = holder_of(feed)
        for epoch in range(2, 12):
            in_custody(feed)
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "a", epoch))
            items += collect(feed, is_message("a", epoch))
        assert ex.accepted == 1
        assert holder_of(feed) == holder
    assert_whole(items)
    assert [up.resumed for up in events_of(items, "a", Up)] == [False] + [True] * 10


def test_a_killed_holder_is_a_reconnection(start_method: str) -> None:
    items: list[Item] = []
    with live(2_000) as ex, to_the_end(items, held(ex), start_method=start_method) as feed:
        items += collect(feed, is_message("a"))
        in_custody(feed)
        holder = holder_of(feed)
        os.kill(holder, signal.SIGKILL)
        items += collect(feed, is_message("a", 2))
        assert holder_of(feed) != holder
        assert ex.accepted == 2
    assert events_of(items, "a", Down)[0].reason.kind == "holder_lost"
    assert [gap.cause for gap in events_of(items, "a", Gap)] == ["reconnected"]


def test_owner_and_holder_killed_together_are_both_replaced() -> None:
    items: list[Item] = []
    with live(2_000) as ex, to_the_end(items, held(ex), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        in_custody(feed)
        holder, owner = holder_of(feed), pid_of(feed, "a")  # before: without its holder the owner ends by itself
        for pid in (holder, owner):
            os.kill(pid, signal.SIGKILL)
        items += collect(feed, is_event(Gap, "a"))
        items += collect(feed, is_message("a"))
    assert len(events_of(items, "a", Gap)) == 1


def test_a_holder_that_stands_still_is_found_by_the_heartbeat() -> None:
    items: list[Item] = []
    beating = {"heartbeat": {"kind": "ping", "interval": 0.2, "timeout": 0.5}}
    with live(100) as ex, to_the_end(items, held(ex, **beating), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        os.kill(holder_of(feed), signal.SIGSTOP)
        items += collect(feed, is_message("a", 2))
    assert events_of(items, "a", Down)[0].reason.kind == "heartbeat_missed"


@pytest.mark.parametrize("compression", [False, "no_context_takeover"])
def test_what_is_sent_goes_through_the_holder_and_survives_the_owner(compression: Compression) -> None:
    items: list[Item] = []
    with live(100) as ex, to_the_end(items, held(ex, compression=compression), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        for number in range(5):
            feed.send("a", f"hello {number} " + "x" * 100_000 * number, DEADLINE)
            in_custody(feed)
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "a", number + 2))
        feed.send("a", "end", DEADLINE)
        ex.wait_received(lambda got: got.payload == b"end")
        assert [got.payload[:7] for got in ex.received if got.opcode == 1] == [*(b"hello %d" % n for n in range(5)), b"end"]
    assert_whole(items)


def test_the_peers_close_and_its_reset_come_through() -> None:
    items: list[Item] = []
    with live(100) as ex, to_the_end(items, held(ex), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        ex.close(1001, "bye")
        items += collect(feed, is_message("a", 2))
        ex.reset()
        items += collect(feed, is_message("a", 3))
        ex.drop()
        items += collect(feed, is_message("a", 4))
    reasons = [down.reason for down in events_of(items, "a", Down)]
    assert [(reason.kind, reason.code) for reason in reasons[:3]] == [
        ("closed_by_peer", 1001), ("closed_by_peer", 1006), ("closed_by_peer", 1006),
    ]  # fmt: skip
    assert (reasons[0].text, reasons[1].text) == ("bye", "Connection reset by peer")


def test_what_came_before_a_record_that_cannot_be_read_comes_through() -> None:
    items: list[Item] = []
    authority = Authority()
    with RawServer(server_context(authority), by_hand=True) as server:
        endpoint = Endpoint("a", url=server.url, **HELD, tls={"ca_file": ca_file(authority), "holder": True})
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            assert isinstance(peer.sock, TlsByHand)
            good = b"".join(peer.sock.seal(server_frame(1, b"%d" % n)) for n in range(5))
            peer.sock.raw.sendall(good + b"\x17\x03\x03\x00\x20" + b"g" * 32)
            items += collect(feed, is_event(Down, "a"))
            feed.stop()
    assert [message.data for message in messages_of(items, "a")] == [b"%d" % n for n in range(5)]
    down = events_of(items, "a", Down)[0]
    assert (down.reason.kind, down.reason.code) == ("closed_by_peer", 1006)


def test_a_planned_restart_and_a_stop_leave_in_good_order() -> None:
    items: list[Item] = []
    with live(1_000) as ex:
        with to_the_end(items, held(ex, identity=["n"]), start_method="forkserver") as feed:
            items += collect(feed, is_message("a"))
            in_custody(feed)
            feed.restart("a", DEADLINE)  # goes on with the connection
            items += collect(feed, is_message("a", 2))
            assert ex.accepted == 1
        wait_until(lambda: list(ex.closes.values()) == [1000], DEADLINE, lambda: str(ex.closes))
    assert_whole(items)


def test_a_changed_configuration_is_made_before_it_breaks() -> None:
    items: list[Item] = []
    with live(1_000) as ex, to_the_end(items, held(ex, identity=["n"]), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        holder = holder_of(feed)
        runtime = feed.runtime.registry.endpoints["a"]
        feed.runtime.reactor.call(lambda: runtime.replace_settings(runtime.endpoint, None))
        items += collect(feed, is_message("a", 2))
        assert holder_of(feed) != holder
        wait_until(lambda: not psutil.pid_exists(holder), DEADLINE)
    assert_whole(items)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("expired", "certificate has expired"), ("wrong_host", "not valid for"), ("self_signed", "self-signed certificate")],
)
def test_row_60_tls_refusals_keep_their_text(kind: Any, text: str) -> None:
    items: list[Item] = []
    exchange = Exchange(messages=numbered, tls=True, certificate=kind)
    with exchange as ex, to_the_end(items, held(ex), start_method="forkserver") as feed:
        items += collect(feed, is_event(Down, "a"))
    reason = events_of(items, "a", Down)[0].reason
    assert reason.kind == "connect_failed"
    assert text in reason.text


def test_a_refused_handshake_keeps_its_status() -> None:
    items: list[Item] = []
    with live() as ex:
        ex.refuse(503, body="later")
        with to_the_end(items, held(ex), start_method="forkserver") as feed:
            items += collect(feed, is_event(Down, "a"))
    reason = events_of(items, "a", Down)[0].reason
    assert (reason.kind, reason.status, reason.body) == ("handshake_rejected", 503, "later")


def test_a_supervisor_that_is_killed_leaves_no_holder(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    with live(100) as ex:
        script.write_text(
            "import sys\nfrom wsadapter import Endpoint, Message, Supervisor\n"
            f"tls = {{'ca_file': {str(ex.ca_file)!r}, 'holder': True}}\n"
            f"with Supervisor([Endpoint('a', url={ex.url!r}, tls=tls)]) as feed:\n"
            "    for item in feed:\n"
            "        if isinstance(item, Message):\n"
            "            s = feed.status()['endpoints']['a']\n"
            "            print(s['pid'], s['holder'], flush=True)\n"
            "            break\n"
            "    sys.stdin.read()\n"
        )
        process = psutil.Popen([sys.executable, str(script)], stdin=-1, stdout=-1, text=True)
        try:
            pids = [int(pid) for pid in process.stdout.readline().split()]
            process.kill()
            process.wait(DEADLINE)
            wait_until(lambda: not any(map(psutil.pid_exists, pids)), 5)
            wait_until(lambda: list(ex.closes.values()) == [1001], DEADLINE, lambda: str(ex.closes))
        finally:
            process.stdin.close()
            process.stdout.close()


def test_a_holder_is_for_wss_alone() -> None:
    with pytest.raises(ConfigError, match=r"only for wss://"):
        Supervisor([Endpoint("a", url="ws://127.0.0.1", tls={"holder": True})])  # type: ignore[arg-type]
