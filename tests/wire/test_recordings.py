"""What real exchanges sent, and what no exchange would, comes out byte for byte, in order and complete."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.feeds import DEADLINE, collect
from wsadapter import Dropped, Gap, Item, Message, Supervisor
from wsadapter.testing import Exchange, big_message, bundled, load_recording

Payload = tuple[bytes, bool]
"""The payload, and whether it is binary."""


def as_frame(payload: Payload) -> str | bytes:
    return payload[0] if payload[1] else payload[0].decode()


def recorded(name: str) -> list[Payload]:
    return [(message.payload, message.binary) for message in load_recording(name)]


def delivered(feeds: dict[str, Sequence[Payload]], *, tls: bool, rate: float | None = None) -> dict[str, list[Payload]]:
    """What a consumer gets when each feed is sent over a connection of its own."""
    with ExitStack() as stack:
        endpoints = []
        for name, payloads in feeds.items():
            exchange = stack.enter_context(Exchange(messages=[as_frame(p) for p in payloads], rate=rate, tls=tls))
            endpoints.append(exchange.endpoint(name, buffer={"overflow": "block"}))
        feed = stack.enter_context(Supervisor(endpoints))
        left = {name: len(payloads) for name, payloads in feeds.items()}

        def all_there(item: Item) -> bool:
            if isinstance(item, Message):
                left[item.endpoint] -= 1
            return not any(left.values())

        items = collect(feed, all_there, 2 * DEADLINE)
    assert [item for item in items if isinstance(item, Gap | Dropped)] == []
    found: dict[str, list[Payload]] = {name: [] for name in feeds}
    for item in items:
        if isinstance(item, Message):
            found[item.endpoint].append((item.data, item.binary))
            assert item.number == len(found[item.endpoint])
    return found


def assert_same(found: dict[str, list[Payload]], sent: dict[str, Sequence[Payload]]) -> None:
    """Without pytest's comparison of megabytes."""
    for name, payloads in sent.items():
        assert len(found[name]) == len(payloads), name
        for n, (got, was) in enumerate(zip(found[name], payloads, strict=True)):
            if got != was:
                pytest.fail(f"{name}: message {n} differs: {got[0][:100]!r} instead of {was[0][:100]!r}")


@pytest.mark.parametrize("tls", [True, False], ids=["wss", "ws"])
def test_every_bundled_recording_and_a_message_of_5_mb_at_full_speed(tls: bool) -> None:
    feeds: dict[str, Sequence[Payload]] = {name: recorded(name) for name in bundled()}
    feeds["big"] = [(b"1", False), (big_message(), False), (b"2", False), (big_message(), True), (b"3", False)]
    assert len(feeds) > 4
    assert any(binary for _, binary in feeds["htx"])
    assert_same(delivered(feeds, tls=tls), feeds)


def test_recordings_at_a_pace_over_wss() -> None:
    feeds: dict[str, Sequence[Payload]] = {name: recorded(name)[:400] for name in ("binance", "htx", "kraken", "okx")}
    assert_same(delivered(feeds, tls=True, rate=300), feeds)


@pytest.mark.parametrize("tls", [True, False], ids=["wss", "ws"])
def test_payloads_that_are_neither_json_nor_text_and_empty_ones(tls: bool) -> None:
    dice = random.Random(7)
    sizes = [0, 1, 125, 126, 127, 65535, 65536, 65537, 300_000, *(dice.randrange(4000) for _ in range(500))]
    feeds: dict[str, Sequence[Payload]] = {
        "random": [(dice.randbytes(size), True) for size in sizes],
        "empty": [(b"", bool(n % 2)) for n in range(2000)],
        "text": [(chr(dice.randrange(0x20, 0xD800)).encode() * dice.randrange(40), False) for _ in range(2000)],
    }
    assert_same(delivered(feeds, tls=tls), feeds)


@pytest.mark.parametrize("tls", [True, False], ids=["wss", "ws"])
def test_a_hundred_thousand_tiny_messages(tls: bool) -> None:
    feeds: dict[str, Sequence[Payload]] = {"tiny": [(b"%d" % n, False) for n in range(100_000)]}
    assert_same(delivered(feeds, tls=tls), feeds)


def test_what_the_runner_wrote_of_several_endpoints_is_replayed_as_it_was_received(tmp_path: Path) -> None:
    config, output = tmp_path / "feeds.toml", tmp_path / "out.jsonl"
    sent = {"a": ['{"n": 1.10}', "no JSON\n", b"\x00\xff"], "b": ['"other"']}
    with ExitStack() as stack:
        exchanges = {name: stack.enter_context(Exchange(messages=messages)) for name, messages in sent.items()}
        endpoints = "".join(f'[endpoints.{name}]\nurl = "{exchange.url}"\n' for name, exchange in exchanges.items())
        config.write_text(f'[output]\npath = "{output}"\n{endpoints}')
        runner = [sys.executable, "-m", "wsadapter.supervise", str(config), "--duration", "2"]
        subprocess.run(runner, check=True, timeout=DEADLINE, stderr=subprocess.DEVNULL)
    with Exchange(replay=output, replay_endpoint="a") as exchange, Supervisor([exchange.endpoint("again")]) as feed:
        items = collect(feed, lambda item: isinstance(item, Message) and item.number == 3)
    found = [item.data if item.binary else item.text for item in items if isinstance(item, Message)]
    assert found == sent["a"]
