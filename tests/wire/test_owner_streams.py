"""Streams and subscriptions of a real owner: names in the records, filters, the hook, pacing, changes while connecting."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import PROBE, SUBSCRIBE, UNSUBSCRIBE
from wsadapter.contract.ipc.record import BATCH

__all__ = ["forkserver"]

TEXT, CLOSE = 1, 8
DIALECT = {"stream": {"path": "s"}, "subscribe": {"frame": '{"sub":"$streams"}', "per_frame": 9}, "ack": [{"match": {"ok": 1}}]}


def connected(
    owned: Owned, server: RawServer, wanted: tuple[Any, ...], sys_path: tuple[str, ...] = (), **settings: Any
) -> RawPeer:
    """An owner with a dialect that tells streams, its subscriptions restored."""
    owned.assign(Endpoint("feed", url=server.url, **settings), dialect=DIALECT, wanted=wanted, sys_path=sys_path)
    peer = server.accept_websocket()
    assert orjson.loads(peer.read_frame()[1]) == {"sub": list(wanted)}
    owned.report("up")
    peer.send_frame(TEXT, b'{"ok":1}')
    for _ in wanted:
        owned.report("subscribed")
    owned.report("restored")
    return peer


def test_records_carry_the_streams_and_each_is_announced_once() -> None:
    table = {"channel": "books", "id": 7}
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, ("a", table))
        sent = [b'{"s":"a"}', b'{"s":{"id":7,"channel":"books","x":0}}', b'{"s":"?"}', b'{"s":"a"}']
        peer.send(b"".join(server_frame(TEXT, message) for message in sent))
        assert owned.report("stream") == {"index": 1, "name": "a"}
        assert owned.report("stream") == {"index": 2, "name": '{"channel":"books","id":7}'}
        assert owned.messages(4) == sent
        streams = owned.records[-1].streams
        assert streams is not None
        assert list(streams) == [1, 2, 0, 1]
        peer.send_frame(TEXT, b'{"s":"?"}')
        assert owned.message() == b'{"s":"?"}'
        assert owned.records[-1].streams is None


def test_what_the_filter_removes_is_counted_in_the_next_record() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, ("a", "b"), filter={"include": ("a",)})
        peer.send(server_frame(TEXT, b'{"s":"b"}') * 3)
        peer.send(server_frame(TEXT, b'{"s":"b"}') + server_frame(TEXT, b'{"s":"a"}') + server_frame(TEXT, b'{"s":"b"}'))
        owned.report("stream")
        assert owned.message() == b'{"s":"a"}'
        peer.send_frame(CLOSE, b"")
        owned.down()
        assert sum(record.filtered for record in owned.records) == 5


def test_a_probe_brings_the_count_up_to_date_where_everything_is_filtered() -> None:
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, ("a",), filter={"exclude": ("a",)})
        peer.send(server_frame(TEXT, b'{"s":"a"}') * 3)
        received = 0
        deadline = time.monotonic() + 10
        while received < 3 * len(server_frame(TEXT, b'{"s":"a"}')):
            assert time.monotonic() < deadline
            owned.tell(PROBE, 1)
            received = owned.answer().json()["received"] - len(server_frame(TEXT, b'{"ok":1}'))
        peer.send_frame(CLOSE, b"")
        owned.down()
        counted = [record.filtered for record in owned.records if record.kind == BATCH]
        assert sum(counted) == 3
        assert all(record.count == 0 for record in owned.records if record.kind == BATCH)


def test_the_hook_is_told_the_stream_and_what_it_gives_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "naming.py").write_text(
        "def hook(data, *, binary, stream):\n"
        "    name = str(stream).encode()\n"
        "    return [name, name] if b'twice' in data else name\n"
    )
    with RawServer() as server, Owned() as owned:
        peer = connected(owned, server, ("a", "b"), sys_path=(str(tmp_path),), decode="naming:hook")
        peer.send(b"".join(server_frame(TEXT, m) for m in (b'{"s":"b","twice":1}', b'{"s":"?"}', b'{"s":"a"}')))
        assert owned.report("stream")["name"] == "b"
        assert owned.report("stream")["name"] == "a"
        assert owned.messages(4) == [b"b", b"b", b"None", b"a"]
        streams = owned.records[-1].streams
        assert streams is not None
        assert list(streams) == [1, 1, 0, 2]


def test_a_program_that_the_hook_runs_prints_into_the_log(tmp_path: Path) -> None:
    (tmp_path / "running.py").write_text(
        "import subprocess\n"
        "def hook(data, *, binary, stream):\n"
        '    subprocess.run(["sh", "-c", "cat; echo hi; echo oh >&2"], check=True)\n'
        "    return data\n"
    )
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, decode="running:hook"), sys_path=(str(tmp_path),))
        peer = server.accept_websocket()
        owned.up()
        peer.send_frame(TEXT, b"x")
        assert owned.message() == b"x"
        owned.stop()
        peer.read_close()
        peer.send_frame(CLOSE, b"")
        owned.down()
        assert owned.printed() == "hi\noh\n"


# -- subscriptions that change while the owner connects ------------------------------------------------------------------


def test_streams_wanted_and_unwanted_while_connecting_are_restored_like_the_others() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url), dialect=DIALECT, wanted=("a", "b"))
        peer = server.accept()
        peer.read_request()
        owned.tell(SUBSCRIBE, 0, {"streams": ["c", {"d": 1}]})
        owned.tell(UNSUBSCRIBE, 0, {"streams": ["a"]})
        owned.tell(SUBSCRIBE, 0, {"streams": ["c"]})
        owned.tell(PROBE, 5)
        assert owned.answer().ref == 5  # all of it is known
        peer.send(peer.valid_response())
        owned.report("up")
        assert orjson.loads(peer.read_frame()[1]) == {"sub": ["b", {"d": 1}, "c"]}
        peer.send(server_frame(TEXT, b'{"ok":1}') + server_frame(TEXT, b'{"s":"c"}'))
        assert [owned.report("subscribed")["stream"] for _ in range(3)] == ["b", '{"d":1}', "c"]
        assert owned.report("restored") == {"ok": 3, "failed": ()}
        assert owned.report("stream")["name"] == "c"


# -- pacing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sends", "period"), [(5, 0.2), (1, 0.05)])
def test_no_window_holds_more_frames_than_the_limit_and_they_are_evenly_spaced(sends: int, period: float) -> None:
    count = sends * 4
    with RawServer() as server, Owned() as owned:
        texts = [f"{n}" for n in range(count)]
        owned.assign(Endpoint("feed", url=server.url, send_on_up=texts, limits={"sends": sends, "sends_period": period}))
        peer = server.accept_websocket()
        arrived: list[float] = []
        for text in texts:
            assert peer.read_frame() == (TEXT, text.encode())
            arrived.append(time.monotonic())
        # What this machine delays makes later frames late, never early: only the time from the first frame can be trusted.
        for at, arrival in enumerate(arrived):
            assert arrival - arrived[0] >= (at - 1) * period / sends
        assert arrived[-1] - arrived[0] >= (count - 2) * period / sends


def test_a_heartbeat_does_not_wait_for_the_pace_of_others() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, send_on_up=["1", "2"], limits={"sends": 1, "sends_period": 30}))
        peer = server.accept_websocket()
        assert peer.read_frame() == (TEXT, b"1")
        peer.send_frame(9, b"?")
        assert peer.read_frame() == (10, b"?")


def test_a_report_on_an_answer_and_the_answers_bytes_go_up_as_one() -> None:
    """Else one who dies between the two leaves an answer that nobody waits for to the next owner: it would be data."""
    with RawServer() as server, Owned(packets=True) as owned:
        owned.assign(Endpoint("feed", url=server.url), dialect=DIALECT, wanted=("a",), custody=True)
        peer = server.accept_websocket()
        peer.read_frame()
        owned.report("up")
        answer = server_frame(TEXT, b'{"ok":1}')
        peer.send(answer)
        owned.report("subscribed")
        owned.report("restored")
        peer.send_frame(TEXT, b'{"s":"a"}')
        owned.report("stream")
        (write,) = [records for records in owned.writes if any(b'"subscribed"' in record.report for record in records)]
        assert write[-1].kind == BATCH
        assert write[-1].position == len(answer)
