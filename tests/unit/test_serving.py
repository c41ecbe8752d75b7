"""The phase with an open connection: what it reads, delivers, sends and reports, without a process."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tests.support.fakes import RESUME
from tests.support.owner_ends import ServedOwner
from tests.support.rawserver import server_frame
from tests.support.waiting import wait_until
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.ipc.commands import FORGET, IDENTIFY, READING, RESUBSCRIBE, STOP, SUBSCRIBE, TAKEN, UNSUBSCRIBE
from wsadapter.contract.ipc.record import NO_IDENTITY
from wsadapter.contract.ipc.reports import ConnectionUp, LoginDone, LogLine, Report, SubscriptionsRestored, TokenKept
from wsadapter.worker.hooks import Attempt
from wsadapter.worker.hooks.sign_thread import Decoding, Hooks
from wsadapter.worker.loop.poller import READ, WRITE
from wsadapter.worker.owner.connect_thread import Opened
from wsadapter.worker.owner.leaving import Leaving
from wsadapter.worker.owner.serving import NoHooks, make_connection
from wsadapter.worker.session.session import Session
from wsadapter.worker.websocket.byte_stream import EndOfStream, PlainByteStream
from wsadapter.worker.websocket.connection import Established
from wsadapter.worker.websocket.deflate import Agreement
from wsadapter.worker.websocket.frames import CLOSE, PING, PONG, TEXT

ONE, TWO = server_frame(TEXT, b"one"), server_frame(TEXT, b"two")
LISTS = {"subscribe": {"frame": '{"sub":"$streams"}', "unsubscribe": '{"unsub":"$streams"}', "per_frame": 10}}
Serve = Callable[..., ServedOwner]


def unread(owner: ServedOwner) -> int:
    """Bytes of the connection that are in the owner's kernel."""
    return int(struct.unpack("i", fcntl.ioctl(owner.serving.fd, termios.FIONREAD, b"\0" * 4))[0])


def left(owner: ServedOwner) -> str:
    """The reason of an owner that leaves."""
    assert isinstance(owner.host.phase, Leaving)
    return owner.host.phase._leave.reason.kind


def is_up(owner: ServedOwner) -> bool:
    return owner.host.phase is owner.serving


def test_the_connection_is_reported_before_its_first_messages_and_in_one_write_with_them(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: writes.append(fd) or writev(fd, parts))
    owner = serve(first=ONE)
    assert owner.items() == [ConnectionUp({}, None, "192.0.2.1:80"), SubscriptionsRestored(0, ()), b"one"]
    assert len(writes) == 1


def test_a_single_text_takes_the_fast_path_and_the_session_does_not_see_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = serve()
    owner.items()
    monkeypatch.setattr(Session, "received", lambda *_: pytest.fail("the session saw a message that needs no inspection"))
    monkeypatch.setattr(Session, "try_fast_path", lambda *_: pytest.fail("the slower of the fast paths was taken"))
    owner.read(ONE)
    assert owner.items() == [b"one"]


def test_several_messages_of_a_read_are_delivered_as_they_are(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = serve()
    owner.items()
    monkeypatch.setattr(Session, "received", lambda *_: pytest.fail("the session saw messages that need no inspection"))
    owner.read(ONE + TWO)
    (record,) = owner.records()
    assert record.payloads == (b"one", b"two")


def test_a_ping_is_answered_before_the_messages_of_its_read_are_delivered(serve: Serve) -> None:
    owner = serve()
    owner.items()
    told: list[Any] = []
    owner.serving._sending.flush = lambda _now, flush=owner.serving._sending.flush: (flush(_now), told.append(owner.items()))
    owner.read(ONE + server_frame(PING, b"p"))
    assert owner.frames() == [(PONG, b"p")]
    assert told[0] == []  # the frame was out before the pipe had the message
    assert owner.items() == [b"one"]


def test_while_the_pipe_is_full_nothing_is_read_and_then_it_is(serve: Serve) -> None:
    owner = serve()
    owner.stop_reading()
    assert owner.serving.mask() == READ
    owner.serving.tick(101.0)
    assert owner.serving.mask() == 0
    owner.read(ONE)
    assert unread(owner) == len(ONE)
    owner.read_everything()
    owner.serving.tick(102.0)
    assert owner.serving.mask() == READ
    owner.serving.readable(102.0)
    assert owner.items() == [b"one"]


def test_silence_does_not_count_while_nothing_is_read(serve: Serve) -> None:
    owner = serve(watchdog={"silence": 1.0})
    owner.stop_reading()
    owner.serving.tick(100.5)
    owner.serving.tick(200.0)
    assert is_up(owner)
    owner.read_everything()
    owner.serving.tick(200.0)
    assert owner.serving.deadline() == 201.0
    owner.serving.tick(201.0)
    assert left(owner) == "silence"


def test_the_end_of_the_connection_is_the_end_of_the_phase(serve: Serve) -> None:
    owner = serve()
    owner.peer.close()
    owner.serving.readable(101.0)
    assert left(owner) == "closed_by_peer"
    assert owner.host.phase._leave.reason.text == "the peer ended the connection without a close frame"
    assert owner.host.changed


def test_a_violation_after_a_message_stops_reading_until_the_consumer_had_time_to_answer(serve: Serve) -> None:
    owner = serve()
    owner.read(ONE + b"\xf0\x00", 101.0)
    owner.serving.tick(101.0)
    assert (is_up(owner), owner.serving.mask()) == (True, 0)
    owner.read(TWO, 101.1)
    assert unread(owner) == len(TWO)
    owner.serving.tick(101.2)
    assert left(owner) == "protocol_error"


def test_what_the_kernel_does_not_take_in_time_ends_the_connection(serve: Serve) -> None:
    owner = serve()
    owner.serving.sending.send(7, TEXT, bytes(2 << 20))
    assert owner.serving.deadline() == 0.0  # a large frame is made slice by slice
    while owner.serving._connection.sender.wants_flush:
        owner.serving.writable(time.monotonic())
    assert owner.serving.mask() == READ | WRITE
    since = owner.serving._connection.sender.stuck_since
    assert since is not None
    assert owner.serving.deadline() == since + 5.0
    owner.serving.tick(since + 4.9)
    assert is_up(owner)
    owner.serving.tick(since + 5.1)
    assert left(owner) == "send_failed"


def test_a_writable_connection_takes_what_waits(serve: Serve) -> None:
    owner = serve()
    owner.serving.sending.send(7, TEXT, bytes(1 << 20))
    came = 0
    while came < (1 << 20) + 14:
        owner.serving.writable(time.monotonic())
        if not owner.serving._connection.sender.wants_flush:
            came += len(owner.peer.recv(1 << 20))
    assert owner.answers()[-1] == (TAKEN, 7, {})


def test_a_stop_closes_and_ends_with_the_peers_close(serve: Serve) -> None:
    owner = serve()
    owner.executed(STOP, body={"code": 1000, "kind": "recycled"}, now=101.0)
    assert owner.frames() == [(CLOSE, b"\x03\xe8")]
    assert (is_up(owner), owner.serving.deadline(), owner.host.end.drain_until) == (True, 103.0, 105.0)
    owner.read(ONE + server_frame(CLOSE, b"\x03\xe8"))
    assert left(owner) == "recycled"
    assert owner.items()[-1] == b"one"


def test_changes_of_subscriptions_are_sent_and_acknowledged(serve: Serve) -> None:
    owner = serve(dialect={**LISTS, "ack": [{"match": {"ok": True}}]})
    for ref, kind, frames in (
        (1, SUBSCRIBE, [{"sub": ["a"]}]),
        (2, RESUBSCRIBE, [{"unsub": ["a"]}, {"sub": ["a"]}]),
        (3, UNSUBSCRIBE, [{"unsub": ["a"]}]),
    ):
        owner.executed(kind, ref, {"streams": ["a"]}, now=101.0)
        assert owner.answers() == [(TAKEN, ref, {})]
        owner.read(server_frame(TEXT, b'{"ok":true}'))
        assert [orjson.loads(payload) for _, payload in owner.frames()] == frames


def test_changes_that_came_while_connecting_are_acknowledged_with_the_first_frames(serve: Serve) -> None:
    owner = serve(owed=[4, 5])
    owner.serving.sending.flush(101.0)
    assert owner.answers() == [(TAKEN, 4, {}), (TAKEN, 5, {})]


def test_a_closing_connection_takes_no_change_of_subscriptions(serve: Serve) -> None:
    owner = serve(dialect=LISTS)
    owner.executed(STOP, now=101.0)
    owner.frames()
    owner.executed(SUBSCRIBE, 1, {"streams": ["a"]})
    assert (owner.frames(), owner.answers()) == ([], [])


def test_identities_are_given_from_the_command_on(serve: Serve) -> None:
    owner = serve(identity="bytes")
    owner.items()
    owner.read(ONE)
    owner.executed(IDENTIFY, 3, {"on": True})
    owner.read(ONE)
    before, after = owner.records()
    assert before.identities is None
    assert after.identities is not None
    assert after.identities[0] != NO_IDENTITY
    assert owner.answers() == [(TAKEN, 3, {})]


def test_an_answer_that_nobody_waits_for_is_data_again(serve: Serve) -> None:
    owner = serve()
    owner.items()
    assert owner.serving._inspector.expect("7")
    owner.executed(FORGET, body={"ids": [7]})
    owner.read(server_frame(TEXT, b'{"id":7}'))
    (record,) = owner.records()
    assert record.streams is None


def test_bytes_leave_the_kernel_only_when_the_pipe_has_them(serve: Serve) -> None:
    owner = serve(tcp=True, custody=True)
    owner.items()
    owner.read(ONE)
    assert unread(owner) == 0
    owner.stop_reading()
    owner.read(TWO)
    assert unread(owner) == len(TWO)
    assert owner.read_everything()[-1] == b"two"
    owner.serving.tick(102.0)
    assert unread(owner) == 0


def test_without_custody_nothing_is_left_in_the_kernel(serve: Serve) -> None:
    owner = serve(tcp=True)
    owner.stop_reading()
    owner.read(ONE)
    assert unread(owner) == 0


def test_half_a_message_is_in_the_pipe_too(serve: Serve) -> None:
    owner = serve(tcp=True, custody=True)
    owner.items()
    owner.read(ONE + TWO[:2])
    assert unread(owner) == 0
    assert sum(record.size for record in owner.records()) == len(ONE) + 2


RESUMED = {"tcp": True, "custody": True}


def test_the_next_owner_completes_the_frame_first_and_reads_what_was_left(serve: Serve) -> None:
    resume = RESUME.__class__(custody=RESUME.custody, position=0, skip=len(ONE), sent=10, rest=4, ref=7, up={}, unread=len(TWO))
    owner = serve(**RESUMED, resume=resume, unsent=b"rest", begin=ONE + TWO)
    assert owner.peer.recv(100) == b"rest"
    assert (READING, 0, (0).to_bytes(8, "little")) in owner.commands()
    items = owner.items()
    assert items[0] == ConnectionUp({}, None, "192.0.2.1:80", resumed=True)
    assert items[-1] == b"two"
    assert unread(owner) == 0


def test_parsing_what_was_left_is_announced_and_ended(serve: Serve) -> None:
    resume = RESUME.__class__(custody=RESUME.custody, position=0, skip=0, sent=0, rest=0, ref=0, up={}, unread=len(ONE))
    owner = serve(**RESUMED, resume=resume, begin=ONE)
    reading = [command.body for command in owner.commands() if command.kind == READING]
    assert reading == [bytes(8), b""]


def test_a_careful_owner_reads_one_message_at_a_time(serve: Serve) -> None:
    resume = RESUME.__class__(
        custody=RESUME.custody, position=0, skip=0, sent=0, rest=0, ref=0, up={}, unread=len(ONE + TWO), careful=True
    )
    owner = serve(**RESUMED, resume=resume, begin=ONE + TWO)
    positions = [
        int.from_bytes(command.body, "little") for command in owner.commands() if command.kind == READING and command.body
    ]
    assert positions == [0, len(ONE)]
    assert [item for item in owner.items() if isinstance(item, bytes)] == [b"one", b"two"]


def test_a_connection_that_is_gone_with_its_last_owner_is_reported(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(PlainByteStream, "skip", gone)
    resume = RESUME.__class__(custody=RESUME.custody, position=0, skip=5, sent=0, rest=0, ref=0, up={}, unread=5)
    owner = serve(**RESUMED, resume=resume, begin=ONE)
    assert left(owner) == "closed_by_peer"
    assert [command.body for command in owner.commands() if command.kind == READING] == [b""]  # nothing was parsed


def test_a_decode_hook_gets_the_messages_and_reports_keep_their_place(serve: Serve) -> None:
    owner = serve(hook=lambda data, *, binary, stream: data.upper())
    owner.read(ONE + TWO)
    found: list[Any] = []

    def came() -> bool:
        owner.host.output.flush()
        found.extend(owner.items())
        return len(found) == 4

    wait_until(came, 10)
    assert [type(item) for item in found[:2]] == [ConnectionUp, SubscriptionsRestored]
    assert found[2:] == [b"ONE", b"TWO"]


def sign(signing: Any) -> str:
    return f"signed {signing.frame['key']}"


LOGIN = {
    "subscribe": {"frame": '{"sub":"$streams"}', "per_frame": 10},
    "login": {"frame": '{"login":"$sign","key":"$key"}', "needs": ["key"], "ack": [{"match": {"in": True}}]},
}


def test_a_frame_is_signed_by_the_hook_and_sent(serve: Serve) -> None:
    attempt = Attempt(endpoint="a", url="", headers={}, environment="live", login={"key": "K"}, token="T")
    owner = serve(dialect=LOGIN, login={"key": "K"}, hooks=Hooks(attempt, sign=sign))
    assert TokenKept("T") in owner.reports()
    found: list[Any] = []

    def came() -> bool:
        owner.serving.tick(101.0)
        found.extend(owner.frames())
        return bool(found)

    wait_until(came, 10)
    assert [orjson.loads(payload) for _, payload in found] == [{"login": "signed K", "key": "K"}]


def test_a_hook_that_raises_ends_the_connection(serve: Serve) -> None:
    attempt = Attempt(endpoint="a", url="", headers={}, environment="live", login={"key": "K"})
    owner = serve(dialect=LOGIN, login={"key": "K"}, hooks=Hooks(attempt, sign=lambda _: {}["no"]))
    wait_until(lambda: owner.serving.tick(101.0) or not is_up(owner), 10)
    assert left(owner) == "login_failed"


def test_a_login_is_renewed_by_the_hook(serve: Serve) -> None:
    attempt = Attempt(endpoint="a", url="", headers={}, environment="live", login={"key": "K"})
    calls: list[object] = []
    dialect = {**LOGIN, "login": {**LOGIN["login"], "frame": "", "renew_after": 10.0}}
    settings = {"login": {"key": "K"}, "hooks": Hooks(attempt, renew=calls.append)}
    owner = serve(dialect=dialect, **settings)
    owner.serving._session.subscribing.login._rules.renews_by_hook = True
    owner.reports()
    owner.serving.tick(111.0)
    wait_until(lambda: owner.serving.tick(112.0) or any(isinstance(report, LoginDone) for report in owner.reports()), 10)
    assert calls == [attempt]


def test_an_endpoint_without_hooks_signs_nothing() -> None:
    hooks = NoHooks()
    assert hooks.outcomes() == ()
    with pytest.raises(RuntimeError, match="no hook that could sign"):
        hooks.sign({"a": 1})
    with pytest.raises(RuntimeError, match="no hook that could renew"):
        hooks.renew()


class Ended(PlainByteStream):
    """As TLS that has decrypted the end of the connection together with the last bytes."""

    def receive(self) -> bytes:
        raise EndOfStream


def test_an_end_that_was_decrypted_already_is_read_without_the_poller(serve: Serve) -> None:
    owner = serve()
    owner.serving._byte_stream.ended = True
    assert owner.serving.deadline() == 0.0
    owner.serving._byte_stream.receive = partial(Ended.receive, owner.serving._byte_stream)
    owner.serving.tick(101.0)
    assert left(owner) == "closed_by_peer"


def test_an_end_behind_a_full_pipe_waits_for_the_pipe(serve: Serve) -> None:
    owner = serve()
    owner.stop_reading()
    owner.serving.tick(101.0)
    owner.serving._byte_stream.ended = True
    assert owner.serving.deadline() == inf


def test_the_answer_to_a_probe_says_how_far_it_is(serve: Serve) -> None:
    owner = serve(heartbeat={"kind": "ping", "interval": 1.0, "timeout": 1.0})
    owner.read(ONE)
    assert owner.serving.probe_answer() == {"rtt": None, "received": len(ONE), "stage": "up"}


def test_heartbeats_are_sent_when_they_are_due(serve: Serve) -> None:
    owner = serve(heartbeat={"kind": "text", "payload": "beat", "interval": 1.0, "timeout": 5.0})
    assert owner.serving.deadline() == 101.0
    owner.serving.tick(100.9)
    assert owner.frames() == []
    owner.serving.tick(101.0)
    assert owner.frames() == [(TEXT, b"beat")]


def test_a_server_that_refuses_to_compress_each_message_by_itself_is_logged(serve: Serve) -> None:
    owner = serve(deflate=Agreement(), compression="no_context_takeover", custody=True, tcp=True)
    logged = [report for report in owner.reports() if isinstance(report, LogLine)]
    assert "ends with its owner" in logged[0].text
    assert not owner.serving._handoff.every_byte
    assert not [report for report in serve(deflate=Agreement(), compression=True).reports() if isinstance(report, LogLine)]


def made(payload: dict[str, Any], **hooks: Any) -> Any:
    endpoint = Endpoint("a", url="ws://localhost", max_message=1000)
    assignment = Assignment(endpoint=endpoint, epoch=1, url="", dialect={"payload": payload} if payload else None)
    established = Established(PlainByteStream(SimpleNamespace()), None, {}, "", b"")  # type: ignore[arg-type]
    found = SimpleNamespace(**hooks) if hooks else None
    return make_connection(assignment, Opened(established, None, found))  # type: ignore[arg-type]


def test_the_reader_is_made_as_the_dialect_and_the_endpoint_say() -> None:
    plain = made({})
    assert (plain.split, plain.reader._unpacker, plain.reader._text_in_binary) == (None, None, False)
    assert plain.reader._max_message == 1000
    assert made({"split": "array"}).split is not None
    assert made({"text": True}).reader._text_in_binary
    assert made({"compression": "gzip"}).reader._unpacker._name == "gzip"
    assert isinstance(made({}, decode=bytes).reader._unpacker, Decoding)
    assert made({}, decode=None).reader._unpacker is None


def test_a_message_that_the_dialect_splits_does_not_take_the_path_of_single_texts(serve: Serve) -> None:
    owner = serve(dialect={"payload": {"split": "array"}})
    owner.items()
    owner.read(server_frame(TEXT, b"[1,2]"))
    assert owner.items() == [b"1", b"2"]


def test_reports_are_at_the_place_of_their_message(serve: Serve) -> None:
    dialect = {**LISTS, "ack": [{"match": {"ok": True}}]}
    owner = serve(dialect=dialect, wanted=("a",), tcp=True, custody=True)
    owner.items()
    owner.read(ONE + server_frame(TEXT, b'{"ok":true}') + TWO)
    kinds = [item.event if isinstance(item, Report) else item for item in owner.items()]
    assert kinds == [b"one", "subscribed", "restored", b"two"]
