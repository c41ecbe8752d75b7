"""A pool: crash-isolated connections to one endpoint; a killed member costs exactly its own requests in flight."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds import DEADLINE, SOON
from tests.support.journals import items
from tests.support.schema import deviations
from tests.support.waiting import wait_until
from wsadapter import (
    Answer,
    Down,
    DuplicateEndpoint,
    Endpoint,
    LateAnswer,
    Message,
    NotSent,
    OutcomeUnknown,
    Pool,
    PoolStatus,
    RequestRejected,
    Supervisor,
    Up,
    UsageError,
    capabilities,
)
from wsadapter.testing import Exchange

SCRIPT: list[dict[str, Any]] = [
    {"match": {"method": "refuse"}, "reply": {"id": "$id", "error": "no"}},
    {"match": {"method": "mute"}, "reply": []},
    {"match": {"method": "slow"}, "reply": {"id": "$id", "result": "slow"}, "delay": 0.2},
    {"match": {"method": "*"}, "reply": {"id": "$id", "result": "$method"}},
]
QUIET = {"kind": "none"}


def sent(ex: Exchange) -> Counter[str]:
    """How often each order came to the server."""
    return Counter(json.loads(frame.payload)["order"] for frame in ex.received if frame.opcode == 1)


def kill(pool: Pool, name: str) -> None:
    os.kill(pool.status()["members"][name]["pid"], signal.SIGKILL)


def kill_busiest(pool: Pool, killed: set[int]) -> bool:
    """Of a whole pool, which then has the others to go on with; false where it is none, or the death of one is not seen yet."""
    status = pool.status()
    members = status["members"].values()
    if status["up"] < status["size"] or killed & {member["pid"] for member in members}:
        return False
    pid = max(members, key=lambda member: member["pending"])["pid"]
    os.kill(pid, signal.SIGKILL)
    killed.add(pid)
    return True


@pytest.mark.parametrize(
    ("kills", "idempotent", "start_method"), [(20, False, "forkserver"), (5, False, "spawn"), (20, True, "forkserver")], ids=str
)
def test_row_65_a_member_killed_under_load_costs_exactly_its_own_requests(
    kills: int, idempotent: bool, start_method: str
) -> None:
    kills = kills if capabilities.custody() else 5  # without a pidfd a death is seen late
    ends: dict[str, str] = {}
    orders, stop, killed = count(), threading.Event(), set[int]()

    def order() -> None:
        while not stop.is_set():
            name = f"o{next(orders)}"
            try:
                pool.request({"method": "order", "order": name}, DEADLINE, idempotent=idempotent)
                end = "Answer"
            except (NotSent, OutcomeUnknown) as error:
                end = type(error).__name__
            assert name not in ends
            ends[name] = end

    with (
        Exchange(ack=SCRIPT, tls=True) as ex,
        Pool(ex.endpoint("p", restart=SOON), 3, 1, start_method=start_method) as pool,  # type: ignore[arg-type]
        ThreadPoolExecutor(8) as threads,
    ):
        pool.wait_operational(DEADLINE)
        working = [threads.submit(order) for _ in range(8)]
        try:
            while len(killed) < kills:
                before = len(ends)
                wait_until(lambda before=before: len(ends) > before + 10 and kill_busiest(pool, killed), DEADLINE)
        finally:
            stop.set()
        for one in working:
            one.result(DEADLINE)
        assert pool.status()["pending"] == 0
        assert sum(member["epoch"] for member in pool.status()["members"].values()) >= kills
    times = sent(ex)
    assert len(ends) == next(orders), "each ended once"
    assert not [name for name, end in ends.items() if end == "NotSent" and times[name]], "not sent is not sent"
    assert not [name for name, end in ends.items() if end == "Answer" and not times[name]]
    if idempotent:
        assert Counter(ends.values())["OutcomeUnknown"] == 0
        assert max(times.values()) > 1
    else:
        assert set(times.values()) == {1}, "nothing is sent twice"
        assert 0 < Counter(ends.values())["OutcomeUnknown"] <= 8 * kills


def test_it_fails_over_only_what_is_provably_unsent() -> None:
    pace = {"sends": 1, "sends_period": 60.0}
    with Exchange(ack=SCRIPT, tls=True) as ex:
        impatient = {"close": 0.2}  # a close frame waits for its turn too
        endpoint = ex.endpoint("p", restart=SOON, limits=pace, heartbeat=QUIET, timeouts=impatient)
        fails_over_only_what_is_unsent(ex, endpoint)
    assert set(sent(ex).values()) == {1}
    assert len(sent(ex)) == 2


def fails_over_only_what_is_unsent(ex: Exchange, endpoint: Endpoint) -> None:
    with Pool(endpoint, 2) as pool:
        pool.wait_operational(DEADLINE)
        first = [pool.begin_request({"method": "mute", "order": f"first{n}"}, 60) for n in range(2)]
        ex.wait_for(lambda: len(sent(ex)) == 2)
        second = [pool.begin_request({"method": "a", "order": f"second{n}"}, 60) for n in range(2)]
        ex.refuse(503)  # no member comes back meanwhile
        kill(pool, "p#1")
        wait_until(lambda: sum(one.done() for one in first) == 1, DEADLINE)
        (lost,) = [one for one in first if one.done()]
        assert isinstance(lost.exception(), OutcomeUnknown)
        assert [one.done() for one in second] == [False, False], "the one that waited goes to the other member"
        wait_until(lambda: pool.status()["members"]["p#2"]["pending"] == 3, DEADLINE)
        kill(pool, "p#2")
        ends = [one.exception(DEADLINE) for one in second]
        assert [type(end) for end in ends] == [NotSent, NotSent], "no other was up"


def test_what_may_have_been_sent_by_one_member_is_never_called_unsent() -> None:
    with Exchange(ack=SCRIPT, tls=True) as ex, Pool(ex.endpoint("p", restart=SOON), 2) as pool:
        pool.wait_operational(DEADLINE)
        ex.refuse(503)
        ex.drop(connection=ex.open_ids[0])
        wait_until(lambda: pool.status()["up"] == 1, DEADLINE)
        (up,) = [name for name, member in pool.status()["members"].items() if member["state"] == "up"]
        pending = pool.begin_request({"method": "mute", "order": "x"}, 60, idempotent=True)
        ex.wait_for(lambda: sent(ex)["x"] == 1)
        kill(pool, up)
        assert isinstance(pending.exception(DEADLINE), OutcomeUnknown)


def test_states_and_status() -> None:
    with Exchange(ack=SCRIPT) as ex:
        ex.refuse(503)
        with Pool(ex.endpoint("p", restart=SOON), 3, 2) as pool:
            assert pool.state == "down"
            assert pool.members == ("p#1", "p#2", "p#3")
            with pytest.raises(NotSent, match="pool p is down: none of its 3 members is up"):
                pool.request({"method": "a", "order": "a"})
            with pytest.raises(TimeoutError, match="pool p is down"):
                pool.wait_operational(0.01)
            ex.refuse(0)
            pool.wait_operational(DEADLINE)
            wait_until(lambda: pool.status()["up"] == 3, DEADLINE)
            ex.refuse(503)
            for connection, state in zip(ex.open_ids, ("operational", "degraded", "down"), strict=True):
                up = pool.status()["up"]
                ex.drop(connection=connection)
                wait_until(lambda up=up: pool.status()["up"] == up - 1, DEADLINE)
                assert pool.state == state
                if state != "down":
                    assert pool.request({"method": "a", "order": state}, DEADLINE).json()["result"] == "a"
            status = pool.status()
        assert json.loads(json.dumps(status)) == status
        assert deviations(status, PoolStatus) == []
        assert (status["size"], status["min_up"], status["state"]) == (3, 2, "down")
        assert pool.status()["up"] == 0


def test_rejections_late_answers_and_unsolicited_messages() -> None:
    with Exchange(messages=["data"], ack=SCRIPT) as ex, Pool(ex.endpoint("p"), 1) as pool:
        pool.wait_operational(DEADLINE)
        with pytest.raises(RequestRejected):
            pool.request({"method": "refuse", "order": "a"})
        with pytest.raises(OutcomeUnknown):
            pool.request({"method": "slow", "order": "b"}, 0.05)
        items = []
        for item in pool:
            items.append(item)
            if isinstance(item, LateAnswer):
                break
        assert [item.data for item in items if isinstance(item, Message)] == [b"data"]
        pool.stop()
        assert [item.kind for item in pool if not isinstance(item, Message)] == ["down"]


def test_in_a_given_supervisor_its_members_are_endpoints_like_others() -> None:
    with Exchange(messages=["data"], ack=SCRIPT) as ex, Supervisor([ex.endpoint("other")]) as feed:
        with Pool(ex.endpoint("p"), 2, supervisor=feed) as pool:
            pool.wait_operational(DEADLINE)
            assert set(feed.status()["endpoints"]) == {"other", "p#1", "p#2"}
            assert pool.request({"method": "a", "order": "a"}, DEADLINE).endpoint in pool.members
            with pytest.raises(DuplicateEndpoint), Pool(ex.endpoint("p"), 1, supervisor=feed):
                raise AssertionError("it has started")
        assert set(feed.status()["endpoints"]) == {"other"}
        assert [item for item in pool if isinstance(item, Message)]
        with Pool(ex.endpoint("p"), 2, supervisor=feed) as again:
            again.wait_operational(DEADLINE)
            again.request({"method": "a", "order": "again"}, DEADLINE)
        feed.stop(DEADLINE)
        assert {item.endpoint for item in feed} == {"", "other"}, "the pool's items come from the pool"


def test_in_a_supervisor_with_a_journal_its_stream_is_written_and_continued(tmp_path: Path) -> None:
    for life in (1, 2):
        with (
            Exchange(messages=["data"], ack=SCRIPT) as ex,
            Supervisor([ex.endpoint("own")], name="s", journal=tmp_path / "j", journal_only=True) as feed,
            Pool(ex.endpoint("p", restart=SOON), 2, supervisor=feed) as pool,
        ):
            pool.wait_operational(DEADLINE)
            assert pool.request({"method": "hello"}).json()["result"] == "hello"
            messages = (item for item in pool if isinstance(item, Message))
            assert sorted(item.endpoint for item in islice(messages, 2)) == ["p#1", "p#2"]
        found = items(tmp_path / "j")
        for name in ("p#1", "p#2"):
            mine = [item for item in found if item.endpoint == name]
            assert [type(item).__name__ for item in mine if isinstance(item, Up | Down)] == ["Up", "Down"] * life
            numbered = [(item.number, item.data) for item in mine if isinstance(item, Message)]
            assert numbered == [(number, b"data") for number in range(1, life + 1)]


def test_coroutines() -> None:
    async def main(ex: Exchange) -> None:
        async with Pool(ex.endpoint("p", restart=SOON), 2) as pool:
            await pool.aio.wait_operational()
            asking = (pool.aio.request({"method": f"m{n}", "order": f"o{n}"}) for n in range(50))
            answers: list[Answer] = await asyncio.gather(*asking)
            assert [answer.json()["result"] for answer in answers] == [f"m{n}" for n in range(50)]
            assert {answer.endpoint for answer in answers} == {"p#1", "p#2"}
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pool.aio.request({"method": "slow", "order": "slow"}, idempotent=True)
            async for item in pool:
                if isinstance(item, LateAnswer):
                    break
            assert pool.status()["pending"] == 0

    with Exchange(ack=SCRIPT, tls=True) as ex:
        asyncio.run(main(ex), debug=True)
        assert set(sent(ex).values()) == {1}


@pytest.mark.parametrize(("size", "min_up"), [(0, 1), (2, 0), (2, 3), (-1, None)])
def test_impossible_sizes_are_refused(size: int, min_up: int | None) -> None:
    with pytest.raises(UsageError):
        Pool(Endpoint("p", url="ws://127.0.0.1:1"), size, min_up)
