"""Requests over real owners and sockets: each ends exactly once, whatever happens to owner, connection or caller."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.feeds import (
    DEADLINE,
    SOON,
    collect,
    events_of,
    is_event,
    is_message,
    messages_of,
    numbered,
    pid_of,
    to_the_end,
)
from tests.support.rawserver import RawServer
from tests.support.waiting import wait_until
from wsadapter import (
    Answer,
    DuplicateRequest,
    Endpoint,
    Gap,
    Item,
    LateAnswer,
    NotSent,
    OutcomeUnknown,
    Pending,
    RequestRejected,
    Supervisor,
    Up,
    capabilities,
)
from wsadapter.testing import Exchange

SCRIPT: list[dict[str, Any]] = [
    {"match": {"method": "refuse"}, "reply": {"id": "$id", "error": {"code": -1, "message": "no"}}},
    {"match": {"method": "mute"}, "reply": []},
    {"match": {"method": "slow"}, "reply": {"id": "$id", "result": "slow"}, "delay": 0.3},
    {"match": {"method": "double"}, "reply": {"id": "$id", "result": "double"}, "times": 2},
    {"match": {"method": "*"}, "reply": {"id": "$id", "result": "$method"}},
]
QUIET = {"kind": "none"}
needs_custody = pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")


@contextmanager
def up(items: list[Item], ex: Exchange, start_method: str = "forkserver", **settings: Any) -> Iterator[Supervisor]:
    """A running supervisor whose endpoint "a" is up."""
    endpoint = ex.endpoint("a", restart=SOON, **settings)
    with to_the_end(items, endpoint, start_method=start_method) as feed:
        feed.monitor("a").wait_up(DEADLINE)
        yield feed


def end_of(feed: Supervisor, pending: Pending) -> Answer | BaseException:
    """How it ended."""
    assert feed.runtime.reactor.run_until(pending.done, DEADLINE), "a request did not end"
    return pending.exception() or pending.result()


def ends_of(feed: Supervisor, pending: list[Pending]) -> Counter[str]:
    return Counter(type(end_of(feed, one)).__name__ for one in pending)


def asked(ex: Exchange) -> Counter[object]:
    """How often each id came to the server."""
    return Counter(json.loads(frame.payload)["id"] for frame in ex.received if frame.opcode == 1)


def kill(feed: Supervisor) -> None:
    """The owner; on ws:// once its connection is in custody. Returns when the next one is up."""
    if feed.status()["endpoints"]["a"]["url"].startswith("ws:") and capabilities.custody():
        wait_until(lambda: feed.status()["endpoints"]["a"]["in_custody"], DEADLINE)
    epoch = feed.status()["endpoints"]["a"]["epoch"]
    os.kill(pid_of(feed, "a"), signal.SIGKILL)
    wait_until(lambda: is_up(feed, epoch + 1), DEADLINE)


def is_up(feed: Supervisor, epoch: int) -> bool:
    status = feed.status()["endpoints"]["a"]
    return bool(status["state"] == "up" and status["epoch"] == epoch)


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_an_answer_comes_back_and_not_in_the_stream(tls: bool) -> None:
    items: list[Item] = []
    with Exchange(messages=numbered, rate=2000, ack=SCRIPT, tls=tls) as ex, up(items, ex) as feed:
        for payload in ({"method": "a"}, '{"method":"a","n":1.10}', b'{"method":"a","id":"mine"}'):
            answer = feed.request("a", payload, DEADLINE)
            assert answer.json()["result"] == "a"
            assert str(answer.json()["id"]) == answer.id
            assert 0 < answer.rtt < DEADLINE
        with pytest.raises(RequestRejected) as rejection:
            feed.request("a", {"method": "refuse"})
        assert json.loads(rejection.value.body)["error"]["message"] == "no"
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda n: feed.request("a", {"method": f"m{n}"}, DEADLINE), range(200)))
        assert [answer.json()["result"] for answer in answers] == [f"m{n}" for n in range(200)]
        assert b'{"method":"a","n":1.10}'[1:] in b"".join(frame.payload for frame in ex.received), "text stays as it is"
        assert feed.status()["endpoints"]["a"]["pending"] == 0
        items += collect(feed, is_message("a"))
        assert feed.request("a", {"method": "within the loop"}).epoch == 1
    found = [message.data for message in messages_of(items, "a")]
    assert found == [f'{{"n":{n}}}'.encode() for n in range(len(found))]
    assert set(asked(ex).values()) == {1}


def test_a_late_answer_stands_in_the_stream_and_an_id_is_used_once() -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, tls=True) as ex, up(items, ex) as feed:
        with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.05 s"):
            feed.request("a", {"method": "slow", "id": 7}, 0.05)
        with pytest.raises(DuplicateRequest):
            feed.request("a", {"method": "fast", "id": 7})
        items += collect(feed, is_event(LateAnswer, "a"))
        assert feed.request("a", {"method": "again", "id": 7}).json()["result"] == "again"
        assert feed.request("a", {"method": "double", "id": 8}).json()["result"] == "double"
        items += collect(feed, is_message("a"))
    (late,) = events_of(items, "a", LateAnswer)
    assert (late.id, json.loads(late.data)) == ("7", {"id": 7, "result": "slow"})
    assert [message.json() for message in messages_of(items, "a")] == [{"id": 8, "result": "double"}], "nobody asked twice"
    assert asked(ex)[7] == 2


@needs_custody
def test_row_65_on_ws_requests_in_flight_survive_the_owner(start_method: str) -> None:
    items: list[Item] = []
    with Exchange(messages=numbered, rate=1000, ack=SCRIPT) as ex, up(items, ex, start_method) as feed:
        ex.hold_answers()
        sent = [feed.begin_request("a", {"method": "a"}, DEADLINE) for _ in range(20)]
        ex.wait_for(lambda: len(asked(ex)) == 20)
        kill(feed)
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        ex.hold_answers(False)  # they wait in the kernel, or are on their way, when the next one dies
        unsent = feed.begin_request("a", {"method": "never read"}, DEADLINE)
        kill(feed)
        assert ends_of(feed, sent) == {"Answer": 20}
        assert isinstance(end_of(feed, unsent), NotSent)
        assert feed.request("a", {"method": "after"}, DEADLINE).json()["result"] == "after"
    assert set(asked(ex).values()) == {1}
    assert len(asked(ex)) == 21
    assert events_of(items, "a", Gap) == []
    assert [message.data for message in messages_of(items, "a") if b'"id"' in message.data] == []


@needs_custody
def test_row_65_on_ws_kills_under_load_cost_no_answer() -> None:
    items: list[Item] = []
    with Exchange(messages=numbered, rate=5000, ack=SCRIPT) as ex, up(items, ex) as feed:
        ends: Counter[str] = Counter()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    feed.request("a", {"method": "a"}, DEADLINE)
                    ends["Answer"] += 1
                except NotSent:
                    ends["NotSent"] += 1

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask) for _ in range(4)]
            try:
                for epoch in range(2, 10):
                    before = ends["Answer"]
                    wait_until(lambda before=before: ends["Answer"] > before + 5, DEADLINE)
                    kill(feed)
                    items += collect(feed, is_message("a", epoch))
            finally:
                stop.set()
            for one in asking:
                one.result(DEADLINE)
    assert set(asked(ex).values()) == {1}
    assert len(asked(ex)) == ends["Answer"]
    found = [message.data for message in messages_of(items, "a")]
    assert found == [f'{{"n":{n}}}'.encode() for n in range(len(found))]


@needs_custody
def test_row_65_half_an_answer_is_completed_by_the_next_owner() -> None:
    items: list[Item] = []
    with RawServer() as server:
        endpoint = Endpoint("a", url=server.url, restart=SOON, timeouts={"close": 0.2}, heartbeat=QUIET)
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            feed.start()
            peer = server.accept_websocket()
            feed.monitor("a").wait_up(DEADLINE)
            pending = feed.begin_request("a", {"id": 5}, DEADLINE)
            assert peer.read_frame() == (1, b'{"id":5}')
            data = json.dumps({"result": "x" * 200_000, "id": 5}).encode()
            frame = server_frame_of(data)
            for begin, end in ((0, 1), (1, 70_000), (70_000, len(frame) - 3)):
                peer.send(frame[begin:end])
                wait_until(lambda end=end: feed.status()["endpoints"]["a"]["bytes"] == end, DEADLINE)
                kill(feed)
            peer.send(frame[-3:])
            answer = end_of(feed, pending)
            assert isinstance(answer, Answer)
            assert answer.data == data
            assert answer.epoch == 4


def server_frame_of(data: bytes) -> bytes:
    return b"\x81\x7f" + len(data).to_bytes(8, "big") + data


def test_row_65_on_wss_what_was_sent_is_unknown_and_what_was_not_is_not_sent(start_method: str) -> None:
    items: list[Item] = []
    pace = {"sends": 2, "sends_period": 60.0}
    impatient = {"close": 0.2}  # a close frame waits for its turn too
    with (
        Exchange(ack=SCRIPT, tls=True) as ex,
        up(items, ex, start_method, limits=pace, heartbeat=QUIET, timeouts=impatient) as feed,
    ):
        sent = feed.begin_request("a", {"method": "mute"}, 60)
        waiting = [feed.begin_request("a", {"method": "mute"}, 60) for _ in range(5)]
        ex.wait_for(lambda: len(asked(ex)) == 1)
        kill(feed)
        assert isinstance(end_of(feed, sent), OutcomeUnknown)
        assert ends_of(feed, waiting) == {"NotSent": 5}
        items += collect(feed, is_event(Up, "a", 2))
        assert feed.request("a", {"method": "after"}, DEADLINE).json()["result"] == "after"
    assert len(asked(ex)) == 2


def peer_closes(feed: Supervisor, ex: Exchange) -> None:
    ex.close(1001)


def peer_resets(feed: Supervisor, ex: Exchange) -> None:
    ex.reset()


def removed(feed: Supervisor, ex: Exchange) -> None:
    feed.remove("a", DEADLINE)


def replaced(feed: Supervisor, ex: Exchange) -> None:
    feed.remove("a", DEADLINE)
    feed.add(ex.endpoint("a", restart=SOON))


def stopped(feed: Supervisor, ex: Exchange) -> None:
    feed.stop(DEADLINE)


def restarted(feed: Supervisor, ex: Exchange) -> None:
    feed.restart("a", DEADLINE)


@pytest.mark.parametrize("fault", [peer_closes, peer_resets, removed, replaced, stopped, restarted])
def test_when_the_connection_ends_all_requests_end_at_once(fault: Any) -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, tls=True) as ex, up(items, ex, timeouts={"close": 0.3}) as feed:
        pending = [feed.begin_request("a", {"method": "mute"}, 60) for _ in range(3)]
        ex.wait_for(lambda: len(asked(ex)) == 3)
        fault(feed, ex)
        wait_until(lambda: all(one.done() for one in pending), DEADLINE)
        assert Counter(type(one.exception()) for one in pending) == {OutcomeUnknown: 3}


def test_a_planned_change_waits_for_the_answers_that_are_due() -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, tls=True) as ex, up(items, ex) as feed:
        ex.hold_answers()
        pending = feed.begin_request("a", {"method": "a"}, DEADLINE)
        restarted = feed.begin_restart("a")
        wait_until(lambda: feed.status()["endpoints"]["a"]["successor"] == "ready", DEADLINE)
        ex.wait_connections(2)
        assert not restarted.done()
        ex.hold_answers(False)
        answer = end_of(feed, pending)
        assert isinstance(answer, Answer)
        assert answer.epoch == 1
        feed.runtime.reactor.wait(restarted, DEADLINE)
        assert feed.request("a", {"method": "a"}, DEADLINE).epoch == 2
        ex.wait_connections(1)


def test_requests_are_spaced_and_what_did_not_get_its_turn_in_time_is_never_sent() -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, tls=True) as ex, up(items, ex, limits={"sends": 10}, heartbeat=QUIET) as feed:
        in_time = [feed.begin_request("a", {"method": "a", "id": f"t{n}"}, DEADLINE) for n in range(4)]
        too_late = feed.begin_request("a", {"method": "a", "id": "late"}, 0.05)
        assert isinstance(end_of(feed, too_late), NotSent)
        answers = [end_of(feed, one) for one in in_time]
        times = [answer.received_at for answer in answers if isinstance(answer, Answer)]
        assert times[3] - times[0] > 0.28e9
        again = feed.request("a", {"method": "again", "id": "late"}, DEADLINE)
        assert again.json()["result"] == "again"
    assert asked(ex)["late"] == 1


@pytest.mark.native
def test_a_hung_owner_that_comes_to_itself_sends_nothing_that_is_over() -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, tls=True) as ex, up(items, ex, watchdog={"progress": 60}) as feed:
        os.kill(pid_of(feed, "a"), signal.SIGSTOP)
        pending = feed.begin_request("a", {"method": "a", "id": "old"}, 0.05)
        assert isinstance(end_of(feed, pending), OutcomeUnknown), "nobody can say, while the owner is silent"
        os.kill(pid_of(feed, "a"), signal.SIGCONT)
        feed.request("a", {"method": "a", "id": "new"}, DEADLINE)
    assert asked(ex) == {"new": 1}


@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_a_large_answer(tls: bool) -> None:
    items: list[Item] = []
    size = 8 << 20
    large = [{"match": {"method": "large"}, "reply": {"result": "x" * size, "id": "$id"}}]
    with Exchange(ack=large, tls=tls) as ex, up(items, ex, max_message=size + 100) as feed:
        answer = feed.request("a", {"method": "large"}, DEADLINE)
        assert len(answer.json()["result"]) == size
        assert feed.status()["endpoints"]["a"]["messages"] == 0


def test_compressed_requests_and_answers() -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, deflate="permessage-deflate") as ex, up(items, ex, compression=True) as feed:
        for number in range(20):
            method = f"a method with a name that is long enough to be worth compressing, {number} " * 5
            assert feed.request("a", {"method": method}, DEADLINE).json()["result"] == method


def test_a_decode_hook_sees_no_answer() -> None:
    items: list[Item] = []
    with Exchange(messages=['{"n":0}'], ack=SCRIPT) as ex, up(items, ex, decode="tests.support.hooks:upper") as feed:
        assert feed.request("a", {"method": "a"}, DEADLINE).data == b'{"id":1000000000,"result":"a"}'
        items += collect(feed, is_message("a"))
    assert [message.data for message in messages_of(items, "a")] == [b'{"N":0}']


def test_coroutines() -> None:
    async def main(ex: Exchange) -> list[Item]:
        async with Supervisor([ex.endpoint("a", restart=SOON)]) as feed:
            await feed.aio.wait_up(feed.monitor("a"))
            answers = await asyncio.gather(*(feed.aio.request("a", {"method": f"m{n}"}) for n in range(50)))
            assert [answer.json()["result"] for answer in answers] == [f"m{n}" for n in range(50)]
            with pytest.raises(RequestRejected):
                await feed.aio.request("a", {"method": "refuse"})
            with pytest.raises(OutcomeUnknown):
                await feed.aio.request("a", {"method": "mute"}, 0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await feed.aio.request("a", {"method": "slow", "id": "cancelled"})
            async for item in feed:
                if isinstance(item, LateAnswer):
                    assert item.id == "cancelled"
                    break
            assert feed.status()["endpoints"]["a"]["pending"] == 0
            await feed.aio.stop()
            return [item async for item in feed]

    with Exchange(ack=SCRIPT, tls=True) as ex:
        items = asyncio.run(main(ex), debug=True)
    assert messages_of(items, "a") == []


def test_an_interrupted_call_leaves_a_late_answer() -> None:
    items: list[Item] = []
    with Exchange(ack=SCRIPT, tls=True) as ex, up(items, ex) as feed:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            feed.request("a", {"method": "slow"}, DEADLINE)
        timer.join()
        items += collect(feed, is_event(LateAnswer, "a"))
    assert len(events_of(items, "a", LateAnswer)) == 1
