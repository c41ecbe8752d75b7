"""What an owner notices by itself, what it does while its supervisor is slow, and the user's hook."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import orjson
import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import PROBE

__all__ = ["forkserver"]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def connected(owned: Owned, server: RawServer, **settings: object) -> RawPeer:
    owned.assign(Endpoint("feed", url=server.url, **settings))  # type: ignore[arg-type]
    peer = server.accept_websocket()
    owned.up()
    return peer


def test_a_peer_that_goes_mute_is_left() -> None:
    with RawServer() as server, Owned() as owned:
        connected(owned, server, heartbeat={"interval": 0.1, "timeout": 0.2})
        reason = owned.down()
        assert (reason.kind, reason.text) == ("heartbeat_missed", "no answer to a heartbeat within 0.2 s")


def test_a_peer_that_goes_mute_in_the_middle_of_a_frame_is_left() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, heartbeat={"interval": 0.1, "timeout": 0.2})
        peer.send(b"\x81\x7e\x10")
        assert owned.down().kind == "heartbeat_missed"


def test_while_the_pipe_is_full_heartbeats_and_probes_go_on_and_nothing_is_lost() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, heartbeat={"interval": 0.05, "timeout": 0.6})
        message = b"m" * 100_000
        peer.sock.setblocking(False)
        sent = b""
        frames = 0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # until everything between the server and this test is full
            try:
                rest = (sent or server_frame(TEXT, message))[:]
                sent = rest[peer.sock.send(rest) :]
                frames += not sent
            except BlockingIOError:
                break
        peer.sock.settimeout(10)
        beats = [peer.read_frame()[0] for _ in range(24)]  # twice the time after which an answer would be missing
        assert beats == [PING] * 24
        owned.tell(PROBE, 1)
        assert owned.answer().json()["stage"] == "up"
        for _ in range(frames):
            assert owned.message() == message
        peer.send((sent or b"") + server_frame(CLOSE, b""))
        if sent:
            assert owned.message() == message
        assert owned.down().kind == "closed_by_peer"


HOOK = """
import sys
print("imported")
def hook(data, *, binary, stream):
    if data == b"none": return None
    if data == b"two": return [b"1", b"2"]
    if data == b"bad": raise ValueError("not this one")
    if data == b"wrong": return "text"
    if data == b"exit": sys.exit(3)
    if data == b"spin":
        while True: pass
    if data == b"slow":
        import time; time.sleep(0.5)
    return data.upper()
"""


def hooked(tmp_path: Path, owned: Owned, server: RawServer, **settings: object) -> RawPeer:
    (tmp_path / "userhook.py").write_text(HOOK)
    endpoint = Endpoint("feed", url=server.url, decode="userhook:hook", **settings)  # type: ignore[arg-type]
    owned.assign(endpoint, sys_path=(str(tmp_path),), quarantine=str(tmp_path))
    peer = server.accept_websocket()
    owned.up()
    return peer


def send_texts(peer: RawPeer, *texts: bytes) -> None:
    peer.send(b"".join(server_frame(TEXT, text) for text in texts))


def test_the_hook_changes_filters_and_multiplies_messages_in_order(tmp_path: Path) -> None:
    with RawServer() as server, Owned() as owned:
        peer = hooked(tmp_path, owned, server)
        send_texts(peer, b"a", b"none", b"two", b"b")
        assert owned.messages(4) == [b"A", b"1", b"2", b"B"]
        assert sum(record.filtered for record in owned.records) == 1
        owned.process.terminate()
        peer.sock.close()
        assert owned.printed() == "imported\n"


@pytest.mark.parametrize(
    ("text", "error"), [(b"bad", "ValueError: not this one"), (b"wrong", "TypeError: the decode hook returned str")]
)
def test_a_message_the_hook_fails_on_is_quarantined_and_the_others_go_on(tmp_path: Path, text: bytes, error: str) -> None:
    with RawServer() as server, Owned() as owned:
        peer = hooked(tmp_path, owned, server)
        send_texts(peer, b"a", text, b"b")
        assert owned.message() == b"A"
        fields = owned.report("dropped")
        assert (fields["count"], fields["bytes"], fields["cause"]) == (1, len(text), "decode")
        assert fields["text"].startswith(error)
        assert owned.message() == b"B"
        kept = orjson.loads((tmp_path / "feed.jsonl").read_bytes())
        assert kept["error"].startswith(error)


def test_a_slow_hook_delays_no_pong_and_all_is_delivered_before_the_end(tmp_path: Path) -> None:
    with RawServer() as server, Owned() as owned:
        peer = hooked(tmp_path, owned, server)
        begun = time.monotonic()
        send_texts(peer, b"slow", b"after")
        peer.send_frame(PING, b"?")
        assert peer.read_frame() == (PONG, b"?")
        assert time.monotonic() - begun < 0.4
        peer.send_frame(CLOSE, b"\x03\xe8")
        assert owned.messages(2) == [b"SLOW", b"AFTER"]
        assert owned.down().code == 1000


def test_sys_exit_in_the_hook_is_the_exit_code_of_the_process(tmp_path: Path) -> None:
    with RawServer() as server, Owned() as owned:
        send_texts(hooked(tmp_path, owned, server), b"exit")
        assert owned.exit_code() == 3


def test_a_hook_that_never_returns_does_not_keep_a_stopped_owner(tmp_path: Path) -> None:
    with RawServer() as server, Owned() as owned:
        peer = hooked(tmp_path, owned, server, timeouts={"close": 0.3})
        send_texts(peer, b"spin")
        owned.tell(PROBE, 1)
        assert owned.answer().json()["stage"] == "up"
        owned.stop()
        assert peer.read_close() == (1000, "")
        assert owned.exit_code() == 1  # its last word stands behind a message that never came out


def test_the_stacks_are_dumped_on_demand() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server)
        os.kill(owned.pid, signal.SIGUSR2)
        peer.send_frame(PING, b"")
        assert peer.read_frame() == (PONG, b"")
        owned.stop()
        peer.read_close()
        peer.send_frame(CLOSE, b"")
        owned.down()
        assert "owner/loop.py" in owned.printed()
