"""An owner whose supervisor dies, and that gets another one through its rejoin socket."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.owned import DEADLINE, Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter import capabilities
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import (
    ASSIGN,
    CUSTODY,
    HOLD,
    LEFT,
    REQUEST,
    SEND_TEXT,
    SUBSCRIBE,
    TAKEN,
    UNSUBSCRIBE,
    RequestCommand,
    encode_command,
)
from wsadapter.contract.ipc.reports import Rejoined
from wsadapter.worker.connect.holder_events import read_event

pytestmark = pytest.mark.portable

__all__ = ["forkserver"]

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
methods = pytest.mark.parametrize("method", ["spawn", "forkserver"])


def connected(owned: Owned, server: RawServer, **settings: Any) -> RawPeer:
    """An owner that is up with `server`."""
    owned.assign(Endpoint("feed", url=server.url, **settings))
    peer = server.accept_websocket()
    owned.up()
    return peer


def serves(peer: RawPeer) -> None:
    """The owner answers."""
    peer.send_frame(PING, b"alive?")
    assert peer.read_frame() == (PONG, b"alive?")


@methods
def test_an_owner_serves_without_a_supervisor_and_obeys_the_next_one(method: str) -> None:
    with RawServer() as server, Owned(method, rejoin=True) as owned:
        peer = connected(owned, server)
        owned.tell(SEND_TEXT, 41, b"first")
        assert peer.read_frame() == (TEXT, b"first")
        owned.hang_up()
        serves(peer)
        peer.send_frame(TEXT, b"nobody is there")
        assert owned.message() == b"nobody is there"
        owned.call(7)
        expected = Rejoined(number=7, stage="up", last_ref=41, wanted=(), changes=(), requests=())
        assert owned.next() == expected
        owned.tell(SEND_TEXT, 42, b"second")
        assert peer.read_frame() == (TEXT, b"second")
        assert owned.answer()[:2] == (TAKEN, 42)
        peer.send_frame(TEXT, b"as before")
        assert owned.message() == b"as before"
        owned.stop()
        assert peer.read_close() == (1000, "")
        peer.send_frame(CLOSE, (1000).to_bytes(2, "big"))
        assert owned.down().kind == "stopped"


@pytest.mark.parametrize("dead", [True, False])
def test_whole_commands_of_the_supervisor_before_are_executed_and_half_a_command_is_dropped(*, dead: bool) -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        peer = connected(owned, server)
        os.kill(owned.pid, signal.SIGSTOP)
        owned.tell(SEND_TEXT, 5, b"whole")
        owned.tell_part(encode_command(SEND_TEXT, 6, b"half")[:-1])
        if dead:
            owned.hang_up()
        owned.call(1)
        owned.tell(SEND_TEXT, 9, b"of the next one")
        os.kill(owned.pid, signal.SIGCONT)
        assert [peer.read_frame() for _ in range(2)] == [(TEXT, b"whole"), (TEXT, b"of the next one")]
        assert owned.report("rejoined")["last_ref"] == 5
        assert owned.answer()[:2] == (TAKEN, 9)


def test_messages_flow_through_20_rejoins_in_order_and_once() -> None:
    count = 40_000
    with RawServer() as server, Owned(rejoin=True) as owned:
        peer = connected(owned, server)
        frames = [server_frame(TEXT, b"%d" % n) for n in range(count)]
        sender = threading.Thread(target=lambda: [peer.send(b"".join(frames[n : n + 7])) for n in range(0, count, 7)])
        sender.start()
        messages, numbers = list[bytes](), list[int]()
        for number in range(1, 21):
            while len(messages) < number * 1000:
                messages.append(owned.message())
            owned.tell(SEND_TEXT, number, b"from %d" % number)
            owned.tell_part(b"\x20\0\0\0half of a command")
            owned.hang_up()
            owned.call(number)
            while not isinstance(item := owned.next(), Rejoined):
                assert isinstance(item, bytes)
                messages.append(item)
            numbers.append(item.number)
            assert item.last_ref == number
        while len(messages) < count:
            messages.append(owned.message())
        sender.join(DEADLINE)
        assert numbers == list(range(1, 21))
        assert messages == [b"%d" % n for n in range(count)]
        assert [peer.read_frame() for _ in range(20)] == [(TEXT, b"from %d" % number) for number in range(1, 21)]


def test_of_several_supervisors_that_died_the_last_one_is_obeyed() -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        peer = connected(owned, server)
        os.kill(owned.pid, signal.SIGSTOP)
        for number in (1, 2, 3):
            owned.call(number)
            owned.tell(SEND_TEXT, 7, b"of %d" % number)
        os.kill(owned.pid, signal.SIGCONT)
        assert owned.report("rejoined")["number"] == 3
        assert peer.read_frame() == (TEXT, b"of 3")


def test_the_next_supervisor_is_told_what_it_cannot_know() -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        endpoint = Endpoint("feed", url=server.url, limits={"sends": 1, "sends_period": 3600})
        owned.assign(endpoint, wanted=('{"sub":"a"}', '{"sub":"b"}'))
        peer = server.accept_websocket()
        owned.report("up")
        assert peer.read_frame() == (TEXT, b'{"sub":"a"}')
        owned.report("restored")
        owned.tell(SUBSCRIBE, 3, {"streams": ['{"sub":"c"}']})
        owned.tell(UNSUBSCRIBE, 4, {"streams": ['{"sub":"b"}']})
        owned.report("log")  # there is no frame for that
        owned.tell(REQUEST, 5, RequestCommand(1e12, "99", b'{"id":99}').encode())
        owned.call(1)
        told = owned.next()
        assert isinstance(told, Rejoined)
        assert told.wanted == ('{"sub":"a"}', '{"sub":"c"}')
        assert told.changes == ((3, SUBSCRIBE, ('{"sub":"c"}',)), (4, UNSUBSCRIBE, ('{"sub":"b"}',)))
        assert (told.requests, told.last_ref) == (("99",), 5)


def test_changes_and_requests_that_have_ended_are_not_told() -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        peer = connected(owned, server)
        owned.tell(SUBSCRIBE, 3, {"streams": ['{"sub":"c"}']})
        owned.tell(REQUEST, 4, RequestCommand(1e12, "99", b'{"id":99}').encode())
        assert [owned.answer()[:2] for _ in range(2)] == [(TAKEN, 3), (TAKEN, 4)]
        peer.send_frame(TEXT, b'{"id":99,"result":1}')
        owned.report("answer")
        assert owned.message() == b'{"id":99,"result":1}'
        owned.call(1)
        told = owned.next()
        assert isinstance(told, Rejoined)
        assert (told.wanted, told.changes, told.requests) == (('{"sub":"c"}',), (), ())


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_the_connection_is_offered_to_the_next_supervisor_too() -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        owned.assign(Endpoint("feed", url=server.url), custody=True)
        peer = server.accept_websocket()
        before = owned.answer()
        assert before.kind == CUSTODY
        peer.send_frame(TEXT, b"12345")
        owned.up()
        assert owned.message() == b"12345"
        owned.hang_up()
        owned.call(1)
        offered = owned.answer()
        assert offered.kind == CUSTODY
        assert offered.json() == before.json()


def test_an_owner_that_is_not_up_is_called_too() -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        owned.answer()
        owned.call(1)
        assert owned.report("rejoined")["stage"] == "idle"
        endpoint = Endpoint("feed", url=server.url)
        owned.tell(ASSIGN, 0, Assignment(endpoint=endpoint, epoch=1, url=endpoint.urls[0], wanted=("x",)).to_body())
        peer = server.accept()
        peer.read_request()
        owned.call(2)
        told = owned.next()
        assert isinstance(told, Rejoined)
        assert told.stage in ("resolving", "connecting", "handshake")  # the loop may not have read how far its thread is
        assert told.wanted == ("x",)
        owned.stop()
        assert owned.down().kind == "stopped"


def test_an_owner_whose_last_report_is_written_says_nothing_more() -> None:
    with RawServer() as server, Owned(rejoin=True) as owned:
        peer = connected(owned, server)
        os.kill(owned.pid, signal.SIGSTOP)
        peer.send_frame(CLOSE, (1000).to_bytes(2, "big"))
        owned.hang_up()
        owned.call(1)
        os.kill(owned.pid, signal.SIGCONT)
        told = owned.next()
        if isinstance(told, Rejoined):  # the call was read first
            assert told.stage in ("up", "leaving")
            told = owned.next()
        assert told.fields["reason"]["kind"] == "closed_by_peer"
        with pytest.raises(EOFError):
            owned.next()


@methods
@pytest.mark.parametrize("ends", [("hang_up", "end_rejoin"), ("end_rejoin", "hang_up"), ("stop_reading",)])
def test_where_no_supervisor_can_follow_the_connection_is_closed_with_1001(method: str, ends: tuple[str, ...]) -> None:
    with RawServer() as server, Owned(method, rejoin=True) as owned:
        peer = connected(owned, server)
        for end in ends[:-1]:
            getattr(owned, end)()
            serves(peer)
        getattr(owned, ends[-1])()
        peer.send_frame(TEXT, b"nobody reads this")
        assert peer.read_close() == (1001, "")
        owned.process.join(5)
        assert not owned.process.is_alive()


@methods
def test_no_program_of_a_hook_inherits_a_socket(method: str) -> None:
    with RawServer() as server, Owned(method, rejoin=True) as owned:
        connected(owned, server)
        owned.call(1)
        owned.report("rejoined")
        folder = Path(f"/proc/{owned.pid}")
        if not folder.exists():
            pytest.skip("needs proc(5)")
        sockets = [fd.name for fd in (folder / "fd").iterdir() if fd.readlink().name.startswith("socket:")]
        assert len(sockets) == 3  # the connection, the control socket, the rejoin socket
        flags = [(folder / "fdinfo" / fd).read_text().partition("flags:")[2].split()[0] for fd in sockets]
        assert all(int(each, 8) & os.O_CLOEXEC for each in flags)


def test_a_tls_holder_goes_on_and_says_again_that_its_connection_is_over() -> None:
    near, far = socket.socketpair()
    with near, RawServer() as server, Owned(rejoin=True) as owned:
        near.settimeout(DEADLINE)
        owned.answer()
        endpoint = Endpoint("feed", url=server.url)
        owned.hand(HOLD, Assignment(endpoint=endpoint, epoch=1, url=endpoint.urls[0]).to_body(), far)
        far.close()
        peer = server.accept()
        while "opened" not in read_event(near):
            pass
        owned.hang_up()
        peer.send(b"without a supervisor")
        assert near.recv(100) == b"without a supervisor"
        owned.call(1)
        near.sendall(b"with the next one")
        assert peer.sock.recv(100) == b"with the next one"
        peer.sock.close()
        assert owned.answer().kind == LEFT
        owned.call(2)
        assert owned.answer().kind == LEFT
        near.close()
        assert owned.exit_code() == 0


@pytest.mark.parametrize("ends", [("hang_up", "end_rejoin"), ("end_rejoin", "hang_up")])
def test_a_tls_holder_that_no_supervisor_can_follow_ends(ends: tuple[str, ...]) -> None:
    near, far = socket.socketpair()
    with near, RawServer() as server, Owned(rejoin=True) as owned:
        near.settimeout(DEADLINE)
        owned.answer()
        endpoint = Endpoint("feed", url=server.url)
        owned.hand(HOLD, Assignment(endpoint=endpoint, epoch=1, url=endpoint.urls[0]).to_body(), far)
        far.close()
        peer = server.accept()
        while "opened" not in read_event(near):
            pass
        getattr(owned, ends[0])()
        peer.send(b"still there")
        assert near.recv(100) == b"still there"
        getattr(owned, ends[1])()
        owned.process.join(5)
        assert not owned.process.is_alive()
