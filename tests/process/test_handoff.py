"""The connection outlives its owner on ws://: `kill -9` in the middle of anything, and nothing is lost or doubled."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.feeds import (
    DEADLINE,
    SOON,
    assert_sound,
    collect,
    events_of,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    process_of,
    to_the_end,
)
from tests.support.rawserver import RawPeer, RawServer, server_frame
from tests.support.waiting import wait_until
from wsadapter import (
    Down,
    Dropped,
    Endpoint,
    Gap,
    Item,
    Message,
    NotConnected,
    Rejected,
    Restored,
    SendFailed,
    Subscribed,
    Supervisor,
    Up,
    capabilities,
)
from wsadapter.config.dialect import bundled
from wsadapter.contract.endpoint import Compression
from wsadapter.contract.ipc.tcp_info import counters
from wsadapter.process.owner_connection import OwnerConnection
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.testing import Exchange

WITHOUT: Compression = "no_context_takeover"
IMPATIENT = {"close": 0.2}
"""The peers of these tests answer no close frame."""
pytestmark = pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")


def kill(feed: Supervisor, name: str = "a", number: signal.Signals = signal.SIGKILL) -> None:
    """Once its connection is in custody and a warm owner stands by."""
    wait_until(lambda: feed.status()["endpoints"][name]["in_custody"], DEADLINE)
    os.kill(pid_of(feed, name), number)


@contextmanager
def connected(
    items: list[Item], start_method: str = "forkserver", *headers: str, **settings: object
) -> Iterator[tuple[Supervisor, RawPeer]]:
    """An endpoint whose peer is under the test's hand; in custody, and without heartbeats unless `settings` say otherwise.
    `headers`: more lines of the server's response."""
    with RawServer() as server:
        settings = {"heartbeat": {"kind": "none"}, **settings}
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT, **settings)  # type: ignore[arg-type]
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            feed.start()
            peer = server.accept_websocket(*headers)
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            yield feed, peer
            assert server.nobody_came()


def unsendable(feed: Supervisor, peer: RawPeer) -> Future[None]:
    """A send of which a part is out, and the peer reads nothing."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    child = process_of(feed, "a")
    assert child is not None
    held = child.connection.held
    assert held is not None
    before = sent_bytes(held.sock)
    sent = feed.begin_send("a", os.urandom(8 << 20))
    wait_until(lambda: sent_bytes(held.sock) > before, DEADLINE)
    return sent


def sent_bytes(sock: socket.socket) -> int:
    kernel = counters(sock)
    assert kernel is not None
    return kernel.written


def inflated(payload: bytes) -> bytes:
    """A first compressed message."""
    return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")


def received(items: list[Item]) -> list[bytes]:
    return [message.data for message in messages_of(items, "a")]


def test_row_53_kills_at_any_moment_under_load_lose_nothing(start_method: str) -> None:
    items: list[Item] = []
    with (
        Exchange(messages=numbered, rate=20_000) as ex,
        to_the_end(items, ex.endpoint("a", restart=SOON), start_method=start_method) as feed,
    ):
        for epoch in range(1, 11):
            items += collect(feed, is_message("a", epoch))
            kill(feed)
        items += collect(feed, is_message("a", 11))
        assert feed.status()["endpoints"]["a"]["handoffs"] == 10
        assert ex.accepted == 1
    assert events_of(items, "a", Gap) == []
    assert [up.resumed for up in events_of(items, "a", Up)] == [False] + [True] * 10
    assert received(items) == [f'{{"n":{n}}}'.encode() for n in range(len(received(items)))]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_as_good_as_a_kill(number: signal.Signals) -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        peer.send_frame(1, b"one")
        items += collect(feed, is_message("a"))
        kill(feed, number=number)
        peer.send_frame(1, b"two")
        items += collect(feed, is_message("a", 2))
    assert received(items) == [b"one", b"two"]
    assert events_of(items, "a", Down)[0].reason.signal == number.name


@pytest.mark.smoke
def test_row_50_half_a_frame_waits_for_the_next_owner() -> None:
    items: list[Item] = []
    frame = server_frame(2, b"0123456789" * 20_000)
    cuts = [1, 3, 10, 70_000, 150_000, len(frame)]
    with connected(items) as (feed, peer):
        for epoch, (begin, end) in enumerate(zip([0, *cuts], cuts, strict=False), start=1):
            peer.send(frame[begin:end])
            wait_until(lambda end=end: feed.status()["endpoints"]["a"]["bytes"] == end, DEADLINE)
            if end < len(frame):
                kill(feed)
                items += collect(feed, is_event(Up, "a", epoch + 1))
        peer.send_frame(1, b"behind")
        items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"behind")
    assert received(items) == [b"0123456789" * 20_000, b"behind"]


def test_row_50_half_a_fragmented_message_waits_too_and_pings_within_it_are_answered() -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        peer.send_frame(1, "zwölf ".encode()[:3], fin=False)
        peer.send_frame(9, b"before")
        assert peer.read_frame() == (10, b"before")
        kill(feed)
        items += collect(feed, is_event(Up, "a", 2))
        assert peer.read_frame() == (10, b"before")  # the successor meets it again; an unsolicited pong harms nobody
        peer.send_frame(9, b"after")
        assert peer.read_frame() == (10, b"after")
        peer.send_frame(0, "zwölf ".encode()[3:], fin=False)
        peer.send_frame(0, b"Boxer")
        items += collect(feed, is_message("a", 2))
    assert received(items) == ["zwölf Boxer".encode()]


def test_a_ping_that_came_while_nobody_owned_the_connection_is_answered() -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        peer.send_frame(9, b"anybody?")
        kill(feed)
        assert peer.read_frame() == (10, b"anybody?")
        items += collect(feed, is_event(Up, "a", 2))


@pytest.mark.parametrize("compression", [False, WITHOUT])
def test_row_54_a_half_sent_frame_is_completed_by_the_next_owner(compression: Compression) -> None:
    items: list[Item] = []
    large = os.urandom(8 << 20)
    agreed = ["Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"] if compression else []
    with connected(items, "forkserver", *agreed, compression=compression) as (feed, peer):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        child = process_of(feed, "a")
        assert child is not None
        held = child.connection.held
        assert held is not None
        before = sent_bytes(held.sock)
        sent = feed.begin_send("a", large)
        wait_until(lambda: sent_bytes(held.sock) > before, DEADLINE)  # it is at it, and the peer reads nothing
        kill(feed)
        items += collect(feed, is_event(Up, "a", 2))
        frames: list[tuple[int, bytes]] = []
        reading = threading.Thread(target=lambda: frames.append(peer.read_frame()))
        reading.start()
        feed.runtime.reactor.wait(sent, DEADLINE)
        feed.send("a", "next", DEADLINE)
        reading.join(DEADLINE)
        ((opcode, payload),) = frames
        assert (opcode, inflated(payload) if compression else payload) == (2, large)
        assert peer.read_frame() == (1, b"next")


def test_a_send_that_never_left_fails_as_not_sent_and_the_connection_goes_on() -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        sent = feed.begin_send("a", "lost")
        kill(feed)
        with pytest.raises(NotConnected, match="may be sent again"):
            feed.runtime.reactor.wait(sent, DEADLINE)
        items += collect(feed, is_event(Up, "a", 2))
        feed.send("a", "again", DEADLINE)
        assert peer.read_frame() == (1, b"again")


def test_what_was_subscribed_is_not_subscribed_again_but_what_was_not_sent_is() -> None:
    items: list[Item] = []
    with connected(items, subscribe=["first"]) as (feed, peer):
        assert peer.read_frame() == (1, b"first")
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        feed.subscribe("a", ["second"])
        kill(feed)
        assert peer.read_frame() == (1, b"second")
        items += collect(feed, is_event(Up, "a", 2))
        feed.send("a", "end", DEADLINE)
        assert peer.read_frame() == (1, b"end")


def test_with_compression_it_goes_on_if_the_server_agrees_not_to_refer_back() -> None:
    items: list[Item] = []
    texts = [f"message {n} of many, which are all alike" for n in range(2000)]
    with (
        Exchange(messages=texts, rate=2000, deflate=True) as ex,
        to_the_end(items, ex.endpoint("a", restart=SOON, compression=WITHOUT), start_method="forkserver") as feed,
    ):
        for epoch in (1, 2, 3):
            items += collect(feed, is_message("a", epoch))
            kill(feed)
        items += collect(feed, lambda item: isinstance(item, Message) and item.data == texts[-1].encode())
        for epoch in (5, 6):  # the exchange remembers what the owner before has sent, and its next one knows nothing of it
            feed.send("a", f"reply {epoch} that is long enough to be worth compressing " * 10, DEADLINE)
            kill(feed)
            items += collect(feed, is_event(Up, "a", epoch))
        feed.send("a", "the last reply that is long enough to be worth compressing " * 10, DEADLINE)
        ex.wait_received(lambda frame: frame.payload.startswith(b"the last"))
        assert [frame.payload[:8] for frame in ex.received if frame.opcode == 1] == [b"reply 5 ", b"reply 6 ", b"the last"]
    assert received(items) == [text.encode() for text in texts]
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, True, True, True, True, True]


@pytest.mark.parametrize("compression", [True, WITHOUT])
def test_with_compression_that_refers_back_it_reconnects_and_says_so(compression: Compression) -> None:
    items: list[Item] = []
    with (
        Exchange(messages=numbered, rate=1000, deflate="permessage-deflate") as ex,
        to_the_end(items, ex.endpoint("a", restart=SOON, compression=compression), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_message("a"))
        os.kill(pid_of(feed, "a"), signal.SIGKILL)
        items += collect(feed, is_message("a", 2))
    assert len(events_of(items, "a", Gap)) == 1


def test_nothing_is_sent_into_a_half_sent_frame() -> None:
    items: list[Item] = []
    large = os.urandom(8 << 20)
    with connected(items, heartbeat={"kind": "none"}) as (feed, peer):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        child = process_of(feed, "a")
        assert child is not None
        held = child.connection.held
        assert held is not None
        before = sent_bytes(held.sock)
        sent = feed.begin_send("a", large)
        wait_until(lambda: sent_bytes(held.sock) > before, DEADLINE)
        kill(feed)
        items += collect(feed, is_event(Down, "a"))
        feed.subscribe("a", ["behind"])
        items += collect(feed, is_event(Up, "a", 2))
        assert peer.read_frame() == (2, large)
        assert peer.read_frame() == (1, b"behind")
        feed.runtime.reactor.wait(sent, DEADLINE)


def test_the_answer_to_a_dead_owners_heartbeat_is_no_message() -> None:
    items: list[Item] = []
    heartbeat = {"kind": "text", "payload": "ping", "reply": "pong", "interval": 0.3, "timeout": 5}
    with connected(items, heartbeat=heartbeat) as (feed, peer):
        assert peer.read_frame() == (1, b"ping")
        kill(feed)
        peer.send_frame(1, b"pong")
        items += collect(feed, is_event(Up, "a", 2))
        peer.send_frame(1, b"data")
        items += collect(feed, is_message("a"))
    assert received(items) == [b"data"]


@pytest.mark.smoke
def test_a_restart_by_hand_keeps_the_connection() -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        feed.restart("a", DEADLINE)
        peer.send_frame(1, b"there?")
        items += collect(feed, is_message("a", 2))
    assert events_of(items, "a", Down)[0].reason.kind == "recycled"


def test_a_peer_that_is_gone_when_the_owner_dies_makes_a_gap() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "a"), signal.SIGSTOP)
            peer.sock.close()
            kill(feed)
            server.accept_websocket()
            items += collect(feed, is_event(Gap, "a"))
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, False]


def test_what_a_peer_sent_before_it_went_is_delivered_by_the_next_owner() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "a"), signal.SIGSTOP)
            peer.send_frame(1, b"last words")
            peer.sock.shutdown(socket.SHUT_WR)
            kill(feed)
            items += collect(feed, is_event(Down, "a", 2))
    assert received(items) == [b"last words"]
    assert events_of(items, "a", Down)[1].reason.kind == "closed_by_peer"


def test_a_connection_that_nobody_resumes_in_time_is_closed_so_that_the_peer_sees_it() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts={**IMPATIENT, "connect": 0.05})
        with to_the_end(items, endpoint, start_method="spawn", spares=0) as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            kill(feed)
            assert peer.at_end()
            server.accept_websocket()
            items += collect(feed, is_event(Gap, "a"))


def test_starts_that_fail_at_once_are_not_tried_in_a_burst_while_the_connection_waits() -> None:
    items: list[Item] = []
    with RawServer() as server:
        restart = {"backoff_initial": 0.3, "backoff_max": 0.3, "intensity": 1000}
        endpoint = Endpoint("a", url=server.url, restart=restart, timeouts=IMPATIENT)
        with to_the_end(items, endpoint, start_method="spawn", spares=0) as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            launcher: Any = feed.runtime.owners.launcher
            launch, began = launcher._launch, time.monotonic()

            def fail_for_a_second(name: str) -> Any:
                if time.monotonic() < began + 1.0:
                    raise FileNotFoundError("no such interpreter")
                return launch(name)

            launcher._launch = fail_for_a_second
            kill(feed)
            items += collect(feed, is_event(Up, "a"))
            peer.send_frame(1, b"on the same connection")
            items += collect(feed, is_message("a"))
    failed = [down for down in events_of(items, "a", Down) if down.reason.kind == "start_failed"]
    assert 1 <= len(failed) < 40, len(failed)  # 0.15 s between two on the average; hundreds without a wait
    assert events_of(items, "a", Up)[1].resumed


def test_who_comes_too_late_for_a_connection_opens_another_within_the_hosts_budget() -> None:
    items: list[Item] = []
    period = 2.0
    with RawServer() as server:
        endpoint = Endpoint(
            "a", url=server.url, restart=SOON, timeouts={**IMPATIENT, "connect": 0.05},
            limits={"connects": 1, "connects_period": period},
        )  # fmt: skip
        with to_the_end(items, endpoint, start_method="spawn", spares=0) as feed:
            feed.start()
            server.accept_websocket()
            first = time.monotonic()
            items += collect(feed, is_event(Up, "a"))
            kill(feed)
            server.accept_websocket()
            assert time.monotonic() - first > period * 0.9
            items += collect(feed, is_event(Up, "a", 2))
            assert feed.status()["endpoints"]["a"]["state"] == "up"


def test_stopping_while_nobody_owns_the_connection_closes_it() -> None:
    with RawServer() as server:
        feed = Supervisor([Endpoint("a", url=server.url, timeouts=IMPATIENT)], start_method="spawn", spares=0)
        feed.start()
        peer = server.accept_websocket()
        feed.monitor("a").wait_up(DEADLINE)
        kill(feed)
        feed.monitor("a").wait_down(DEADLINE)
        feed.stop()
        assert peer.at_end()
        assert_sound(list(feed))


def test_bytes_that_every_owner_dies_of_do_not_hold_the_endpoint_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message whose end has not come can't be cut out. Each owner seems to have died while it parsed what there is of it."""
    items: list[Item] = []
    at_its_place = property(lambda connection: connection._data.records.position, lambda connection, _: None)
    monkeypatch.setattr(OwnerConnection, "reading", at_its_place, raising=False)
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            peer.send(b"\x81\x05ab")
            wait_until(lambda: feed.status()["endpoints"]["a"]["bytes"] == 4, DEADLINE)
            for epoch in (1, 2, 3):
                kill(feed)
                items += collect(feed, is_event(Down, "a", epoch))
                if epoch < 3:
                    items += collect(feed, is_event(Up, "a", epoch + 1))
            server.accept_websocket()
            items += collect(feed, is_event(Gap, "a"))
    assert [up.resumed for up in events_of(items, "a", Up)] == [False, True, True, False]


def test_a_fork_of_the_program_does_not_keep_the_connection_open() -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        try:
            feed.remove("a", DEADLINE)
            assert peer.at_end()
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_a_half_sent_frame_that_nobody_can_complete_fails_at_once() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts={**IMPATIENT, "connect": 0.05})
        with to_the_end(items, endpoint, start_method="spawn", spares=0) as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            sent = unsendable(feed, peer)
            kill(feed)
            with pytest.raises(SendFailed, match="unknown"):
                feed.runtime.reactor.wait(sent, DEADLINE)
            server.accept_websocket()
            items += collect(feed, is_event(Gap, "a"))


def owners_of(socket_link: str) -> list[int]:
    """Our children that have that socket open."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError):  # it has ended meanwhile
            fds = Path(f"/proc/{process.pid}/fd").iterdir()
            if socket_link in [os.readlink(fd) for fd in fds]:
                found.append(process.pid)
    return found


def test_row_51_never_two_owners_have_one_socket() -> None:
    items: list[Item] = []
    exchange = Exchange(messages=numbered, rate=5_000, resume="continue")
    with exchange as ex, to_the_end(items, ex.endpoint("a", restart=SOON), start_method="forkserver") as feed:
        items += collect(feed, is_message("a"))
        for epoch in range(2, 8):
            kill(feed, number=signal.SIGSTOP if epoch % 2 else signal.SIGKILL)
            if epoch % 2:  # it is alive when it is asked to go, and stays so until it is killed
                feed.begin_restart("a")
            items += collect(feed, is_message("a", epoch))
            held = process_of(feed, "a").connection.held
            assert owners_of(os.readlink(f"/proc/self/fd/{held.sock.fileno()}")) == [pid_of(feed, "a")]
        assert ex.accepted == 1
    found = [message.json()["n"] for message in messages_of(items, "a")]
    assert found == list(range(found[0], found[0] + len(found)))


def test_row_49_an_owner_that_dies_just_before_or_after_its_socket_was_sent_costs_nothing_or_says_so() -> None:
    items: list[Item] = []
    exchange = Exchange(messages=numbered, rate=5_000, resume="continue")
    with exchange as ex, to_the_end(items, ex.endpoint("a", restart=SOON), start_method="forkserver", spares=2) as feed:
        feed.start()
        for round_ in range(20):
            items += collect(feed, is_event(Up, "a", 3 * round_ + 1))  # of a new connection
            time.sleep(round_ % 8 / 4000)  # not a wait: from before the socket is sent to behind it
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "a", 3 * round_ + 2))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "a"), signal.SIGKILL)
            items += collect(feed, is_message("a", 3 * round_ + 3))
            ex.reset()
        items += collect(feed, is_message("a", 61))
    ups = [up for up in events_of(items, "a", Up) if up.epoch > 1]
    assert all(up.resumed for up in ups if up.epoch % 3 == 0), "in custody for certain"
    assert events_of(items, "a", Dropped) == []
    gaps = {gap.epoch for gap in events_of(items, "a", Gap)}
    assert gaps == {up.epoch for up in ups if not up.resumed}
    last = None
    for item in items:
        if isinstance(item, Gap):
            last = None
        elif isinstance(item, Message):
            number = item.json()["n"]
            assert last is None or number == last + 1
            last = number


def test_what_an_owner_had_to_ask_for_and_did_not_is_asked_by_the_one_after_it() -> None:
    items: list[Item] = []
    with connected(items, limits={"sends": 1, "sends_period": 2.0}) as (feed, peer):
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        feed.subscribe("a", ["one"])
        feed.subscribe("a", ["two"])
        kill(feed)
        items += collect(feed, is_event(Up, "a", 2))
        assert peer.read_frame() == (1, b"one")
        kill(feed)  # "two" waits for its time
        asked = [peer.read_frame()]
        while asked[-1] != (1, b"two"):
            asked.append(peer.read_frame())
        items += collect(feed, is_event(Up, "a", 3))


def quick(dialect: str, folder: Path) -> str:
    """A bundled dialect with a limit of 20 frames a second, one stream each."""
    text = re.sub(r"\nsends = .*\nsends_period = .*", "\nsends = 20\nsends_period = 1.0", bundled()[dialect].read_text("utf-8"))
    (folder / f"{dialect}.toml").write_text(re.sub(r"\nper_frame = .*", "\nper_frame = 1", text))
    return str(folder / f"{dialect}.toml")


@pytest.mark.parametrize(("dialect", "form"), [("binance", "s%d@trade"), ("lighter", "trade/%d")])
def test_owners_that_die_while_subscriptions_wait_for_their_pace_cost_nothing(dialect: str, form: str, tmp_path: Path) -> None:
    """Where the exchange answers, and where nothing confirms."""
    names = [form % number for number in range(40)]
    items: list[Item] = []
    with Exchange(dialect=quick(dialect, tmp_path)) as ex:

        def asked() -> list[str]:
            frames = [json.loads(frame.payload) for frame in ex.received if b"subscribe" in frame.payload.lower()]
            return [frame.get("channel") or "".join(frame["params"]) for frame in frames]

        endpoint = ex.endpoint("a", subscribe=names, restart=SOON)
        with to_the_end(items, endpoint, start_method="forkserver", spares=2) as feed:
            feed.start()
            for kills, most in enumerate((3, 10, 25), 1):
                ex.wait_for(lambda most=most: len(asked()) >= most, DEADLINE)
                os.kill(pid_of(feed, "a"), signal.SIGKILL)
                items += collect(feed, is_event(Up, "a", kills + 1))
            ex.wait_for(lambda: set(asked()) == set(names), DEADLINE)
            if dialect == "binance":
                items += collect(feed, is_event(Restored, "a"))
            assert feed.status()["endpoints"]["a"]["handoffs"] == 3
        assert ex.violations == []
        assert ex.accepted == 1
    assert not events_of(items, "a", Gap)
    assert not events_of(items, "a", Rejected)
    assert len(asked()) <= len(names) + 3, "what was on its way when an owner died is asked for twice"
    if dialect == "binance":
        assert {event.stream for event in events_of(items, "a", Subscribed)} == set(names)


def test_what_waits_behind_subscriptions_when_its_owner_dies_keeps_its_outcome() -> None:
    items: list[Item] = []
    names = [f"s{number}" for number in range(6)]
    with connected(items, limits={"sends": 1, "sends_period": 0.5}, subscribe=names) as (feed, peer):
        assert peer.read_frame() == (1, b"s0")
        sent = feed.begin_send("a", "behind them all")
        assert peer.read_frame() == (1, b"s1")
        kill(feed)
        with pytest.raises(NotConnected, match="nothing was sent"):
            sent.result(DEADLINE)
        items += collect(feed, is_event(Up, "a", 2))
        asked = [peer.read_frame()[1].decode() for _ in names[2:]]
        if asked[0] == "s1":  # it was out, and that was not reported yet
            asked = [*asked[1:], peer.read_frame()[1].decode()]
        assert asked == names[2:]
        feed.send("a", "the end")
        assert peer.read_frame() == (1, b"the end")


def test_what_was_subscribed_while_its_owner_was_being_killed_is_asked_for() -> None:
    items: list[Item] = []
    with connected(items) as (feed, peer):
        runtime = feed.runtime.registry.endpoints["a"]

        def subscribe_behind_the_kill() -> None:
            runtime.restart()
            runtime.subscribe(["late"])

        feed.runtime.reactor.call(subscribe_behind_the_kill)
        assert peer.read_frame() == (1, b"late")
        items += collect(feed, is_event(Up, "a", 2))


def test_what_is_unsubscribed_while_nobody_owns_the_connection_is_unsubscribed_by_the_next_owner() -> None:
    items: list[Item] = []
    stream = {"channel": "trades", "instId": "BTC-USDT"}
    with RawServer() as server:
        mute: dict[str, Any] = {"heartbeat": {"kind": "none"}, "restart": SOON, "timeouts": IMPATIENT}
        endpoint = Endpoint("a", url=server.url, dialect="okx", subscribe=[stream], **mute)
        with to_the_end(items, endpoint, start_method="spawn", spares=0) as feed:
            feed.start()
            peer = server.accept_websocket()
            assert json.loads(peer.read_frame()[1])["op"] == "subscribe"
            peer.send_frame(1, json.dumps({"event": "subscribe", "arg": stream}).encode())
            items += collect(feed, is_event(Restored, "a"))
            kill(feed)
            items += collect(feed, is_event(Down, "a"))
            feed.unsubscribe("a", [stream])
            assert json.loads(peer.read_frame()[1])["op"] == "unsubscribe"
            items += collect(feed, is_event(Up, "a", 2))
            assert server.nobody_came()


def test_what_is_unsubscribed_and_subscribed_again_stays_subscribed() -> None:
    items: list[Item] = []
    stream = {"channel": "trades", "instId": "BTC-USDT"}
    with connected(items, dialect="okx", subscribe=[stream]) as (feed, peer):
        assert json.loads(peer.read_frame()[1])["op"] == "subscribe"
        peer.send_frame(1, json.dumps({"event": "subscribe", "arg": stream}).encode())
        items += collect(feed, is_event(Restored, "a"))
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        feed.unsubscribe("a", [stream])
        feed.subscribe("a", [stream])
        kill(feed)
        assert json.loads(peer.read_frame()[1])["op"] == "subscribe"
        items += collect(feed, is_event(Up, "a", 2))
        feed.send("a", "end", DEADLINE)
        assert peer.read_frame() == (1, b"end")


def test_new_settings_do_not_go_on_with_the_old_connection_even_where_its_owner_hangs() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "a"), signal.SIGSTOP)
            runtime = feed.runtime.registry.endpoints["a"]
            feed.runtime.reactor.call(lambda: runtime.replace_settings(endpoint, None))
            server.accept_websocket()
            assert peer.at_end()
            items += collect(feed, is_event(Gap, "a"))


def test_a_connection_grows_old_however_many_owners_it_has() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT, watchdog={"max_age": 1.0})
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            runtime = feed.runtime.registry.endpoints["a"]
            expires_at = runtime.subscriptions.connection.expires_at
            kill(feed)
            items += collect(feed, is_event(Up, "a", 2))
            assert runtime.subscriptions.connection.expires_at == expires_at
            server.accept_websocket()
            items += collect(feed, is_event(Down, "a", 2))
            items += collect(feed, is_event(Gap, "a"))
    assert events_of(items, "a", Down)[1].reason.kind == "recycled"


def test_an_endpoint_that_disconnects_on_overflow_does_not_go_on_with_the_connection() -> None:
    items: list[Item] = []
    with RawServer() as server:
        buffer = {"max_bytes": 1024, "overflow": "disconnect"}
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts=IMPATIENT, buffer=buffer)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            items += collect(feed, is_event(Up, "a"))
            wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
            peer.send_frame(2, bytes(10_000))  # one alone may wait, whatever its size
            wait_until(lambda: feed.status()["endpoints"]["a"]["messages"] == 1, DEADLINE)
            peer.send_frame(2, bytes(10_000))
            assert peer.at_end()
            server.accept_websocket()
            items += collect(feed, is_event(Gap, "a"))
    assert events_of(items, "a", Down)[0].reason.kind == "overflow"


def test_a_message_that_kills_owner_after_owner_is_cut_out_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else is: good messages before and behind it were in the same read of each owner that died."""
    items: list[Item] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with connected(items, hooks={"decode": "tests.support.hooks:fatal"}) as (feed, peer):
        pid = pid_of(feed, "a")
        os.kill(pid, signal.SIGSTOP)
        poison = server_frame(2, b"!seg", fin=False) + server_frame(0, b"fault")
        frames = (server_frame(2, b"one"), poison, server_frame(2, b"two"))
        peer.send(b"".join(frames))
        wait_until(lambda: unread_of(feed) == len(b"".join(frames)), DEADLINE)
        os.kill(pid, signal.SIGCONT)
        items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"two")
        assert feed.status()["endpoints"]["a"]["dropped"] == 1
    assert received(items) == [b"one", b"two"]
    assert {down.reason.signal for down in events_of(items, "a", Down)[:-1]} == {"SIGSEGV"}
    (dropped,) = events_of(items, "a", Dropped)
    assert (dropped.cause, dropped.count, dropped.bytes) == ("poison", 1, 13)
    assert events_of(items, "a", Gap) == []
    (file,) = (tmp_path / "wsadapter" / "quarantine").glob("*/a.jsonl")
    kept = json.loads(file.read_text("utf-8"))
    assert base64.b64decode(kept["data"]) == poison
    assert kept["error"] == "3 owners died of it; these are its frames"


def test_owners_that_are_killed_before_they_read_anything_did_not_die_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[Item] = []
    assign, killed = OwnerProcess.assign, []

    def assign_and_kill(child: OwnerProcess, *order: Any) -> None:
        assign(child, *order)
        if len(killed) < 4:
            killed.append(child.pid)
            os.kill(child.pid or 0, signal.SIGKILL)

    with connected(items) as (feed, peer):
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        peer.send_frame(1, b"one")
        wait_until(lambda: unread_of(feed) == 5, DEADLINE)
        monkeypatch.setattr(OwnerProcess, "assign", assign_and_kill)
        kill(feed)
        items += collect(feed, is_message("a"))
    assert len(killed) == 4
    assert received(items) == [b"one"]
    assert events_of(items, "a", Dropped) == events_of(items, "a", Gap) == []


def test_kills_that_follow_each_up_at_once_lose_no_message_and_give_up_no_connection() -> None:
    """Each owner finds messages that the last one left unread, and is killed as soon as it says that it is up."""
    items: list[Item] = []
    with connected(items) as (feed, peer):
        for n in range(12):
            os.kill(pid_of(feed, "a"), signal.SIGSTOP)
            peer.send_frame(1, b"%d" % n)
            wait_until(lambda: unread_of(feed) > 0, DEADLINE)
            kill(feed)
            items += collect(feed, is_event(Up, "a", n + 2))
        items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"11")
    assert received(items) == [b"%d" % n for n in range(12)]
    assert events_of(items, "a", Dropped) == events_of(items, "a", Gap) == []


def unread_of(feed: Supervisor) -> int:
    """Bytes that have come and that its owner has not read; 0 where nobody has it."""
    child = process_of(feed, "a")
    kernel = counters(child.connection.held.sock) if child is not None and child.connection.held is not None else None
    return 0 if kernel is None else kernel.unread
