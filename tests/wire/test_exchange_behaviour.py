"""Every method of the test exchange is seen, by a raw client, to do what it says."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.rawclient import ACCEPT, Frame, RawClient
from wsadapter.testing import Exchange, big_message, load_recording

MESSAGES = [f'{{"n":{n}}}' for n in range(50)]
QUIET = 0.15
Connect = Callable[..., RawClient]


def _open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def _nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    files = _open_files()
    yield
    assert "exchange" not in {thread.name for thread in threading.enumerate()}
    assert len(_open_files()) == len(files)


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Exchange]]:
    with ExitStack() as stack:

        def make(**options: Any) -> Exchange:
            return stack.enter_context(Exchange(**{"tls": request.param, **options}))

        yield make


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(exchange: Exchange, **options: Any) -> RawClient:
            return stack.enter_context(RawClient(exchange.url, exchange.ca_file, **options))

        yield make


def test_every_message_comes_out_exactly_as_given(start: Any, connect: Connect) -> None:
    messages = ["", "text", "ü" * 200, "x" * 70_000, b"", b"\x00\xff" * 40_000, big_message(5_000_000).decode()]
    client = connect(start(messages=messages))
    for message in messages:
        opcode, payload = (1, message.encode()) if isinstance(message, str) else (2, message)
        assert client.frame() == Frame(opcode, payload)


@pytest.mark.parametrize("coalesce", [False, True])
def test_a_recording_comes_out_byte_for_byte(start: Any, connect: Connect, coalesce: bool) -> None:
    for name in ("htx", "kraken"):
        client = connect(start(replay=name, coalesce=coalesce))
        for recorded in load_recording(name):
            assert client.frame() == Frame(2 if recorded.binary else 1, recorded.payload)


def test_each_message_is_one_tls_record_unless_told_otherwise(connect: Connect) -> None:
    with Exchange(messages=MESSAGES, tls=True, after_subscribe=True) as ex:
        client = connect(ex)
        client.text("go")
        first = client.socket.recv(100_000)  # of TLS, one recv never gives more than one record
        assert first == b"\x81" + bytes([len(MESSAGES[0])]) + MESSAGES[0].encode()
    with Exchange(messages=MESSAGES, tls=True, after_subscribe=True, coalesce=True) as ex:
        client = connect(ex)
        client.text("go")
        client.frame()
        assert len(client.socket.recv(100_000)) > 10 * len(MESSAGES[0])


def test_every_connection_gets_the_feed_from_the_start(start: Any, connect: Connect) -> None:
    ex = start(messages=MESSAGES)
    for _ in range(2):
        assert connect(ex).texts(50) == MESSAGES


def test_a_generator_is_started_anew_for_each_connection_and_loops_without_end(start: Any, connect: Connect) -> None:
    ex = start(messages=lambda: iter(MESSAGES[:3]), loop=True)
    for _ in range(2):
        assert connect(ex).texts(7) == (MESSAGES[:3] * 3)[:7]


def test_a_live_feed_runs_on_while_nobody_listens(start: Any, connect: Connect) -> None:
    ex = start(messages=[str(n) for n in range(100_000)], rate=2000, resume="continue")
    client = connect(ex)
    first = int(client.texts(5)[-1])
    client.close()
    ex.wait_connections(0)
    threading.Event().wait(0.1)  # to be away for a known time, not to wait for something
    assert int(connect(ex).texts(1)[0]) > first + 100


def test_an_unpaced_common_feed_loses_nothing_while_nobody_listens(start: Any, connect: Connect) -> None:
    ex = start(messages=lambda: (str(n) for n in range(1_000_000)), resume="continue")
    client = connect(ex)
    numbers = [int(text) for text in client.texts(100)]
    assert numbers == list(range(100))


def test_a_rate_is_kept(start: Any, connect: Connect) -> None:
    began = time.monotonic()
    connect(start(messages=MESSAGES, rate=200)).texts(50)
    assert 0.2 < time.monotonic() - began < 1.5


def test_a_recording_is_replayed_at_its_own_pace(start: Any, connect: Connect) -> None:
    until = next(n for n, message in enumerate(load_recording("bybit")) if message.offset > 0.5)
    began = time.monotonic()
    connect(start(replay="bybit", rate="real")).frames(until + 1)
    assert 0.5 <= time.monotonic() - began < 2


def test_welcome_frames_come_first_and_the_script_answers(start: Any, connect: Connect) -> None:
    rules = [
        {"match": {"method": "SUBSCRIBE"}, "reply": {"result": None, "id": "$id"}},
        {"match": "ping", "reply": "pong", "accept": False},
    ]
    ex = start(messages=MESSAGES, welcome=["hello", b"\x01"], ack=rules, after_subscribe=True)
    client = connect(ex)
    assert client.frames(2) == [Frame(1, b"hello"), Frame(2, b"\x01")]
    client.text("ping")
    assert client.frame() == Frame(1, b"pong")
    assert client.is_silent(QUIET)
    client.text('{"method":"SUBSCRIBE","id":7}')
    assert client.texts(51) == ['{"result":null,"id":7}', *MESSAGES]
    client.text('{"method":"SUBSCRIBE","id":8}')
    assert client.texts(1) == ['{"result":null,"id":8}']
    assert ex.sent == {1: 50}


def test_an_ack_callable_may_command_its_own_exchange(start: Any, connect: Connect) -> None:
    exchanges: list[Exchange] = []

    def answer(message: str | bytes) -> list[str | bytes]:
        exchanges[0].send("first")
        return [message]

    exchanges.append(start(ack=answer))
    client = connect(exchanges[0])
    client.text("echo")
    assert client.texts(2) == ["first", "echo"]


def test_a_subprotocol_is_chosen_only_where_it_is_offered(start: Any, connect: Connect) -> None:
    ex = start(subprotocol="v2")
    assert "Sec-WebSocket-Protocol: v2" in connect(ex, extra="Sec-WebSocket-Protocol: v1, v2\r\n").head
    assert "Sec-WebSocket-Protocol" not in connect(ex).head
    assert ex.requests[0].headers["sec-websocket-protocol"] == "v1, v2"


def test_frames_of_clients_are_unmasked_joined_and_kept(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    client.send(1, b"he", fin=False)
    client.send(9, b"between")
    client.send(0, b"llo")
    client.send(2, b"\x00" * 70_000)
    client.send(10, b"unasked")
    ex.wait_received(lambda frame: frame.opcode == 10)
    assert client.frame() == Frame(10, b"between")
    assert ex.received == [(1, 9, b"between"), (1, 1, b"hello"), (1, 2, b"\x00" * 70_000), (1, 10, b"unasked")]


@pytest.mark.parametrize(
    ("code", "violate"),
    [
        (1002, lambda client: client.send(1, b"not masked", masked=False)),
        (1002, lambda client: client.send(0, b"continues nothing")),
        (1002, lambda client: client.send(3, b"unknown opcode")),
        (1002, lambda client: client.send(0x41, b"reserved bit")),
        (1002, lambda client: client.send(9, b"x" * 126)),
        (1002, lambda client: client.send(8, b"x")),
        (1007, lambda client: client.send(1, b"\xff")),
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_so(start: Any, connect: Connect, code: int, violate: Any) -> None:
    client = connect(start())
    violate(client)
    opcode, payload = client.frame()
    assert (opcode, payload[:2]) == (8, code.to_bytes(2))


def test_pings_are_answered_until_they_are_ignored(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    client.send(9, b"1")
    assert client.frame() == Frame(10, b"1")
    ex.ignore_pings()
    client.send(9, b"2")
    assert client.is_silent(QUIET)
    ex.ignore_pings(False)
    client.send(9, b"3")
    assert client.frame() == Frame(10, b"3")


def test_send_ping_and_raw_reach_all_or_one(start: Any, connect: Connect) -> None:
    ex = start()
    clients = [connect(ex), connect(ex)]
    ex.send("all")
    ex.send(b"second", connection=2)
    ex.ping(b"p", connection=2)
    ex.raw(b"\x83\x00", connection=2)
    assert clients[0].frame() == Frame(1, b"all")
    assert clients[1].frames(4) == [Frame(1, b"all"), Frame(2, b"second"), Frame(9, b"p"), Frame(3, b"")]
    assert ex.sent == {1: 1, 2: 2}
    assert clients[0].is_silent(QUIET)
    with pytest.raises(LookupError, match=r"no open connection 9; open: \[1, 2\]"):
        ex.drop(connection=9)


def test_mute_sends_nothing_and_unmute_goes_on_without_a_hole(start: Any, connect: Connect) -> None:
    ex = start(messages=lambda: (str(n) for n in range(10_000)), rate=1000)
    client = connect(ex)
    before = int(client.texts(3)[-1])
    ex.mute()
    client.send(9, b"?")
    ex.wait_received(lambda frame: frame.opcode == 9)
    while not client.is_silent(QUIET):
        pass
    ex.unmute()
    assert [int(text) for text in client.texts(100)] == list(range(before + 1, before + 101))


def test_mute_mid_frame_cuts_a_message_and_unmute_completes_it(start: Any, connect: Connect) -> None:
    ex = start(messages=MESSAGES, rate=100)
    client = connect(ex)
    client.frames(3)
    ex.mute_mid_frame()
    while not client.is_silent(QUIET):
        pass
    whole = 0
    while client._cut():
        whole += 1
    assert len(client.pending) == (2 + len(MESSAGES[3 + whole])) // 2
    ex.unmute()
    assert client.texts(50 - 3 - whole) == MESSAGES[3 + whole :]


@pytest.mark.parametrize("resume", ["start", "continue"])
def test_mute_mid_frame_works_without_a_message_too(start: Any, connect: Connect, resume: str) -> None:
    ex = start(resume=resume)
    client = connect(ex)
    ex.mute_mid_frame()
    assert not client.is_silent(1)
    assert client._cut() is None
    ex.unmute()
    assert client.frame().opcode == 1


def test_a_muted_exchange_does_not_answer_a_close_either(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    ex.mute()
    client.send(8, b"\x03\xe8")
    assert client.is_silent(QUIET)
    client.close()
    ex.wait_connections(0)
    assert ex.closes == {1: 1000}


def test_drop_ends_tcp_without_a_close_frame(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    ex.drop()
    assert not client.wait_end().reset
    ex.wait_connections(0)
    assert ex.closes == {1: None}


def test_reset_ends_tcp_with_a_rst(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    ex.reset()
    assert client.wait_end().reset


def test_close_sends_code_and_reason_and_keeps_the_answer(start: Any, connect: Connect) -> None:
    ex = start(messages=MESSAGES, rate=10)
    client = connect(ex)
    client.frame()
    ex.close(4001, "bye")
    assert client.frame() == Frame(8, b"\x0f\xa1bye")
    client.send(8, b"\x0f\xa1")
    assert not client.wait_end().reset
    ex.wait_connections(0)
    assert ex.closes == {1: 4001}


def test_a_close_of_the_client_is_echoed_and_tcp_closed(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    client.send(8)
    assert client.frame() == Frame(8, b"")
    assert not client.wait_end().reset
    ex.wait_connections(0)
    assert ex.closes == {1: 1005}


def test_refuse_answers_so_many_handshakes_with_a_status(start: Any, connect: Connect) -> None:
    ex = start()
    ex.refuse(429, {"Retry-After": "7"}, "slow down", times=2)
    for _ in range(2):
        client = connect(ex, shake_hands=False)
        head = client.read_head()
        assert head.startswith("HTTP/1.1 429 Too Many Requests")
        assert "Retry-After: 7" in head
        assert client.read_to_end() == b"slow down"
    connect(ex)
    ex.refuse(503)
    assert connect(ex, shake_hands=False).read_head().startswith("HTTP/1.1 503")
    ex.refuse(0)
    connect(ex)


def test_redirect_names_the_place(start: Any, connect: Connect) -> None:
    ex = start()
    ex.redirect("ws://elsewhere.example/")
    head = connect(ex, shake_hands=False).read_head()
    assert head.startswith("HTTP/1.1 302")
    assert "Location: ws://elsewhere.example/" in head


def test_what_is_no_handshake_gets_400(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex, shake_hands=False, extra="Sec-WebSocket-Version: 12\r\n")
    assert client.read_head().startswith("HTTP/1.1 400")


def test_accept_and_drop_ends_tcp_at_once(start: Any, connect: Connect) -> None:
    ex = start()
    ex.accept_and_drop()
    with pytest.raises(Exception, match=r"TCP ended|EOF|reset|Broken pipe"):
        connect(ex)
    ex.accept_and_drop(False)
    connect(ex)
    assert ex.accepted == 2


def test_half_a_handshake_stops_in_the_response(start: Any, connect: Connect) -> None:
    ex = start()
    ex.half_handshake()
    client = connect(ex, shake_hands=False)
    assert not client.is_silent(1)
    assert client.is_silent(QUIET)
    assert client.pending.startswith(b"HTTP/1.1 101")
    assert b"\r\n\r\n" not in client.pending


def test_half_a_tls_handshake_stops_before_http(connect: Connect) -> None:
    with Exchange(tls=True) as ex:
        ex.half_handshake(at="tls")
        with pytest.raises(TimeoutError):
            connect(ex, timeout=QUIET)
        assert ex.accepted == 1
        assert ex.requests == []
        ex.half_handshake(False)
        connect(ex)


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("wrong_accept", lambda head: "Sec-WebSocket-Accept" in head and ACCEPT not in head),
        ("missing_upgrade", lambda head: "Upgrade: websocket" not in head and ACCEPT in head),
        ("huge_headers", lambda head: len(head) > 256 * 1024),
        ("http10", lambda head: head.startswith("HTTP/1.0 101")),
    ],
)
def test_a_wrong_response_is_wrong_as_ordered(start: Any, connect: Connect, fault: str, shown: Any) -> None:
    ex = start()
    getattr(ex, fault)()
    assert shown(connect(ex, shake_hands=False).read_head())
    getattr(ex, fault)(False)
    connect(ex)


def test_slow_sends_at_that_pace_and_off_sends_the_rest(start: Any, connect: Connect) -> None:
    ex = start(messages=["x" * 1000] * 20)
    ex.slow(20_000)
    began = time.monotonic()
    client = connect(ex)
    client.frames(6)
    assert time.monotonic() - began > 0.2
    ex.slow(None)
    assert client.texts(14) == ["x" * 1000] * 14


def test_flood_adds_messages_of_its_own(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    ex.flood(duration=0.2)
    assert all(text.startswith('{"flood":') for text in client.texts(500))
    ex.wait_for(lambda: ex.sent[1] > 1000)


def test_pause_stops_the_data_but_not_the_pongs(start: Any, connect: Connect) -> None:
    ex = start(messages=[str(n) for n in range(10_000)], rate=1000)
    client = connect(ex)
    client.texts(5)
    ex.pause()
    while not client.is_silent(QUIET):
        pass
    seen = 5
    while client._cut():
        seen += 1
    client.send(9, b"!")
    assert client.frame() == Frame(10, b"!")
    ex.resume()
    assert client.texts(2) == [str(seen), str(seen + 1)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("expired", "expired"), ("not_yet_valid", "not yet"), ("wrong_host", "mismatch"), ("self_signed", "self-signed")],
)
def test_a_certificate_can_be_wrong(connect: Connect, kind: Any, text: str) -> None:
    with Exchange(tls=True, certificate=kind) as ex:
        with pytest.raises(ssl.SSLCertVerificationError, match=text):
            connect(ex)
        ex.wait_accepted(1)
        assert ex.requests == []


def test_a_client_without_tls_gets_nowhere_and_harms_nothing(connect: Connect) -> None:
    with Exchange(tls=True) as ex:
        RawClient(ex.url.replace("wss:", "ws:"), shake_hands=False).close()
        connect(ex)


def test_a_listener_that_reads_nothing_is_given_up_by_a_live_feed(
    start: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsadapter.testing.connection._LIVE_BACKLOG", 1_000_000)
    monkeypatch.setattr("wsadapter.testing.connection._CLOSE_WAIT", 0.1)
    ex = start(messages=["x" * 100_000], rate=1000, loop=True, resume="continue")
    connect(ex)
    ex.wait_accepted(1)
    ex.wait_connections(0)
    assert ex.closes == {1: None}


def test_a_slow_reader_holds_back_only_its_own_feed(start: Any, connect: Connect) -> None:
    ex = start(messages=lambda: ("x" * 10_000 for _ in range(5_000)))
    lazy, eager = connect(ex), connect(ex)
    assert len(eager.frames(1000)) == 1000
    ex.wait_for(lambda: ex.sent[2] >= 1000)
    assert ex.sent[1] < 5_000
    assert len(lazy.frames(100)) == 100


def test_it_goes_away_and_comes_back_at_the_same_port(start: Any, connect: Connect) -> None:
    ex = start(messages=MESSAGES)
    connect(ex).frames(50)
    port, ca_file = ex.port, ex.ca_file
    ex.stop()
    with pytest.raises(ConnectionRefusedError):
        RawClient(f"ws://127.0.0.1:{port}/")
    ex.start()
    assert ex.port == port
    assert ca_file == ex.ca_file
    assert connect(ex).texts(50) == MESSAGES
    assert ex.accepted == 2


def test_stopping_is_quick_whatever_its_clients_are_in(start: Any, connect: Connect) -> None:
    ex = start(messages=lambda: ("x" * 10_000 for _ in range(1_000_000)))
    clients = [connect(ex), connect(ex), connect(ex)]
    ex.mute(connection=1)
    ex.mute_mid_frame(connection=2)
    ex.half_handshake()
    clients.append(connect(ex, shake_hands=False))
    ex.half_handshake(False)
    ex.wait_accepted(4)
    ex.close(1000, connection=3)
    ex.flood(duration=60)
    ex.slow(10)
    began = time.monotonic()
    ex.stop()
    assert time.monotonic() - began < 1
    assert ex.connections == 0


def test_stopping_while_clients_pour_in_leaks_nothing_and_fails_at_nothing() -> None:
    ended = threading.Event()

    def pour(port: int) -> None:
        while not ended.is_set():
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()

    with Exchange() as ex:
        pourers = [threading.Thread(target=pour, args=(ex.port,)) for _ in range(2)]
        try:
            for pourer in pourers:
                pourer.start()
            for accepted in (20, 40, 60):
                ex.wait_accepted(accepted)
                ex.stop()
                ex.start()
        finally:
            ended.set()
            for pourer in pourers:
                pourer.join()


def test_waiting_in_vain_says_what_was_seen(start: Any, connect: Connect) -> None:
    ex = start()
    client = connect(ex)
    client.text("hello")
    ex.wait_received(lambda frame: frame.payload == b"hello")
    with pytest.raises(TimeoutError, match=r"for 3 open connections; seen: 1 accepted, open \[1\].*b'hello'"):
        ex.wait_connections(3, timeout=0.05)


def test_a_fault_of_an_ack_callable_is_raised_at_the_end(connect: Connect) -> None:
    ex = Exchange(ack=lambda message: [str(1 // 0)]).start()
    client = connect(ex)
    client.text("x")
    client.wait_end()
    with pytest.raises(ZeroDivisionError):
        ex.stop()


def test_a_fault_of_a_message_generator_is_raised_at_the_end(connect: Connect) -> None:
    def broken() -> Iterator[str]:
        yield "fine"
        raise RuntimeError("no more data")

    ex = Exchange(messages=broken).start()
    connect(ex).wait_end()
    with pytest.raises(RuntimeError, match="no more data"):
        ex.stop()


def test_commands_need_a_running_exchange_and_a_port_can_be_taken() -> None:
    with Exchange() as ex:
        with pytest.raises(RuntimeError, match="runs already"):
            ex.start()
        with pytest.raises(OSError, match="in use"):
            Exchange(port=ex.port).start()
    with pytest.raises(RuntimeError, match="does not run"):
        ex.drop()


def test_an_endpoint_of_it_has_url_and_authority() -> None:
    with Exchange(tls=True) as ex:
        endpoint = ex.endpoint("local", tls={"min_version": "1.3"}, replicas=1)
        assert endpoint.urls == (ex.url,)
        assert (endpoint.tls.ca_file, endpoint.tls.min_version) == (ex.ca_file, "1.3")
        ca_file = Path(ex.ca_file)
        assert ca_file.read_text("utf-8") == ex.ca_pem
    assert ca_file.exists()  # it may be started again, and endpoints name the file
    program = "from wsadapter.testing import Exchange; print(Exchange(tls=True).ca_file)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(".pem")
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rate": "real"}, "recording"),
        ({"loop": True}, "at least one"),
        ({"rate": -1}, "not -1"),
        ({"messages": ["x"], "replay": "htx"}, "not both"),
        ({"resume": "again"}, "again"),
        ({"ack": [{"match": "x"}]}, "rule 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Exchange(**options)


def test_answers_come_late_twice_or_when_they_are_released(start: Any, connect: Connect) -> None:
    script = [
        {"match": "late", "reply": "late", "delay": 0.1},
        {"match": "twice", "reply": "twice", "times": 2},
        {"match": "never", "reply": "never", "times": 0},
        {"match": "now", "reply": "now"},
    ]
    client = connect(ex := start(ack=script))
    for text in ("late", "never", "twice", "now"):
        client.text(text)
    assert client.texts(4) == ["twice", "twice", "now", "late"]
    ex.hold_answers()
    client.text("now")
    client.text("twice")
    ex.wait_for(lambda: len(ex.received) == 6)
    assert client.is_silent(QUIET)
    ex.hold_answers(False)
    assert client.texts(3) == ["now", "twice", "twice"]
    client.text("now")
    assert client.texts(1) == ["now"]
