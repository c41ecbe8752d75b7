"""Messages at and over the limits, from an exchange through an owner to the consumer."""

from __future__ import annotations

import pytest

from tests.support.feeds import DEADLINE, collect, is_event, supervise
from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawServer, server_frame
from wsadapter import Supervisor
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.items import Batch, Down, Message, Up
from wsadapter.testing import Exchange

__all__ = ["forkserver"]

TEXT, BINARY, CLOSE = 1, 2, 8
MIB = 1024 * 1024
ROOMY = {"max_bytes": 256 * MIB}


def started(exchange: Exchange, **settings: object) -> Supervisor:
    return supervise(exchange.endpoint("feed", **settings), start_method="forkserver")


@pytest.mark.parametrize("size", [5_079_379, 64 * MIB])
@pytest.mark.parametrize("tls", [False, True])
def test_row_57_a_large_message_passes(size: int, tls: bool) -> None:
    """The largest that was seen in the wild, and the largest that the default allows."""
    payload = b"\x00\x01\x02\xff" * (size // 4) + b"x" * (size % 4)
    with Exchange(messages=[payload, "next"], tls=tls) as exchange, started(exchange, buffer=ROOMY) as feed:
        items = collect(feed, lambda item: isinstance(item, Message) and item.number == 2)
        large, following = (item for item in items if isinstance(item, Message))
        assert large.data == payload
        assert following.text == "next"


def test_row_57_a_message_over_the_limit_is_refused_by_name() -> None:
    with Exchange(messages=["a" * 1000, "a" * 1001]) as exchange, started(exchange, max_message=1000) as feed:
        items = collect(feed, is_event(Down, "feed"))
        down = items[-1]
        assert isinstance(down, Down)
        assert (down.reason.kind, down.reason.code) == ("protocol_error", 1009)
        assert down.reason.text == "a message of more than 1000 bytes"
        assert [len(item.data) for item in items if isinstance(item, Message)] == [1000]
        exchange.wait_for(lambda: 1 in exchange.closes)
        assert exchange.closes[1] == 1009


def test_row_57_a_million_empty_messages() -> None:
    count = 1_000_000
    with Exchange() as exchange, started(exchange, buffer=ROOMY) as feed:
        collect(feed, is_event(Up, "feed"))
        exchange.raw(server_frame(TEXT, b"") * (count // 2) + server_frame(BINARY, b"") * (count // 2))
        exchange.send("end")
        numbers = received = 0
        for item in feed.batches():
            if isinstance(item, Batch):
                assert item.first_number == numbers + 1
                numbers += len(item)
                received += sum(len(payload) for payload in item)
            if numbers > count:
                break
        assert (numbers, received) == (count + 1, len("end"))


def test_row_57_a_hundred_thousand_fragments() -> None:
    fragments = [server_frame(TEXT if n == 0 else 0, f"{n:06}".encode(), fin=n == 99_999) for n in range(100_000)]
    with Exchange() as exchange, started(exchange) as feed:
        collect(feed, is_event(Up, "feed"))
        exchange.raw(b"".join(fragments))
        message = collect(feed, lambda item: isinstance(item, Message))[-1]
        assert isinstance(message, Message)
        assert message.data == b"".join(f"{n:06}".encode() for n in range(100_000))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (server_frame(TEXT, b"\xff"), 1007),
        (b"\xb1\x00", 1002),
        (b"\x87\x00", 1002),
        (b"\x89\x7e\x00\x7e" + bytes(126), 1002),
        (b"\x81\x81\0\0\0\0a", 1002),
        (server_frame(CLOSE, b"\x00\x00"), 1002),
    ],
)
def test_row_58_the_exchange_sees_the_right_code(sent: bytes, code: int) -> None:
    restart = {"type": "temporary"}
    with Exchange() as exchange, started(exchange, restart=restart) as feed:
        collect(feed, is_event(Up, "feed"))
        exchange.raw(server_frame(TEXT, b"good") + sent)
        items = collect(feed, is_event(Down, "feed"))
        exchange.wait_for(lambda: 1 in exchange.closes)
        assert exchange.closes[1] == code
        assert [item.data for item in items if isinstance(item, Message)] == [b"good"]


@pytest.mark.parametrize("head", [server_frame(TEXT, b"x" * 200), server_frame(TEXT, b"x" * 70_000)])
def test_row_58_text_that_is_not_utf8_is_refused_before_its_frame_is_complete(head: bytes) -> None:
    """The peer waits with the rest: it need not come."""
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url))
        peer = server.accept_websocket()
        owned.up()
        peer.send(head[:-100])
        peer.sock.settimeout(DEADLINE)
        peer.send(b"caf\xc3")
        peer.send(b"(")
        assert peer.read_close() == (1007, "a text message that is not UTF-8")
        peer.sock.close()
        assert owned.down().code == 1007
