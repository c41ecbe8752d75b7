"""Consumers that attach: each at its own position, killed and replaced at any moment, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.support.feeds import DEADLINE, SOON, numbered, steady
from tests.support.journals import add, batch, fill, items, numbers, started, up, writing
from tests.support.waiting import wait_until
from wsadapter import (
    AttachedFeed,
    Batch,
    ConsumerInUse,
    ConsumerReplaced,
    ControlError,
    Dropped,
    Gap,
    Item,
    Message,
    NewerJournal,
    NotAJournal,
    NotConnected,
    NotRunning,
    NotSent,
    OutcomeUnknown,
    PositionBeyondEnd,
    RequestRejected,
    Supervisor,
    SupervisorStopped,
    TakeoverError,
    UnknownConsumer,
    UnknownEndpoint,
    UsageError,
    attach,
)  # fmt: skip
from wsadapter.journal import positions
from wsadapter.testing import Exchange

CONSUMER = """
import sys, time
from wsadapter import attach, Message
path, commit, every, start = sys.argv[1:5]
taken = 0
with attach(path, "c", commit=commit, start=start) as feed:
    for item in feed:
        if isinstance(item, Message):
            print(item.endpoint, item.number, flush=True)
            taken += 1
            if commit == "manual" and taken % int(every) == 0:
                feed.commit()
                print("committed", item.endpoint, item.number, flush=True)
"""


def consumer_process(path: Path, commit: str = "auto", every: int = 1, start: str = "earliest") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(path), commit, str(every), start], stdout=subprocess.PIPE, text=True
    )


def lines_until_killed(process: subprocess.Popen[str], count: int) -> list[list[str]]:
    """What it printed, whole lines; killed after `count` of them."""
    assert process.stdout is not None
    lines = list(islice(process.stdout, count))
    os.kill(process.pid, signal.SIGKILL)
    lines += list(process.stdout)
    process.wait(DEADLINE)
    process.stdout.close()
    return [line.split() for line in lines if line.endswith("\n")]


def taken(feed: AttachedFeed, count: int) -> list[Item]:
    found: list[Item] = []
    while sum(isinstance(item, Message) for item in found) < count:
        found.append(feed.get(DEADLINE))
    return found


# -- history ---------------------------------------------------------------------------------------------------------------


def test_it_yields_what_the_journal_holds_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 60)
    whole = items(path)
    with attach(path, "c", start="earliest", follow=False) as feed:
        first = list(islice(feed, 100))
    with attach(path, "c", start="latest", follow=False) as feed:
        rest = list(feed)
    # The last item was taken, and the next one was not: so it was not committed.
    assert first + rest[1:] == whole
    assert rest[0] == first[-1]
    with attach(path, "c", follow=False) as feed:
        assert list(feed) == []


def test_within_a_record_every_message_is_committed_when_the_next_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with writing(path) as writer:
        add(writer, batch("a", [b"%d" % n for n in range(1, 101)], 1))
    at = 1
    for step in (2, 30, 1, 44):
        with attach(path, "c", start="earliest", follow=False) as feed:
            got = list(islice(feed, step))
            assert numbers(got, "a") == list(range(at, at + step))
            stored = positions.look(positions.path_of(path, "c"))  # what a kill would leave
            assert stored is not None
            assert stored[0].seq == at + step - 1
            assert stored[0].numbers == {"a": at + step - 2}
        at += step - 1
    with attach(path, "c", follow=False) as feed:
        (rest,) = feed.batches()
        assert isinstance(rest, Batch)
        assert rest.first_number == at


def test_batches_and_single_items_are_the_same_stream(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 60)
    with attach(path, "c", start="earliest", follow=False) as feed:
        found: list[Item] = []
        for item in feed.batches():
            found += item.messages() if isinstance(item, Batch) else [item]
    assert found == items(path)


def test_with_manual_commits_exactly_what_was_not_committed_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 30)
    whole = items(path)
    at = 0
    for step in (1, 2, 3, 4, 6, 7, 10, 40):
        with attach(path, "c", start="earliest", commit="manual", follow=False) as feed:
            got = list(islice(feed, step))
            feed.commit()
            beyond = list(islice(feed, 3))
        assert got + beyond == whole[at : at + step + 3]
        at += step


def test_a_mapping_leaves_out_what_was_processed_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 60)
    found: list[Item] = []
    for _ in range(30):
        with attach(path, "c", start={"a": 20, "b": 90}, commit="manual", follow=False) as feed:
            found += islice(feed, 5)
            feed.commit()
    assert numbers(found, "a") == list(range(21, 121))
    assert numbers(found, "b") == list(range(91, 121))


def test_endpoints_and_streams_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with writing(path) as writer:
        add(writer, started(), up("a"), up("b"))
        for n in range(1, 40, 4):
            add(writer, batch("a", [b"%d" % k for k in range(4)], n, streams=["t", "u", "u", "t"]), batch("b", [b"x"] * 4, n))
    found: list[Item] = []
    for _ in range(30):
        with attach(path, "c", start="earliest", follow=False, endpoints=["a"], streams=["u"], commit="manual") as feed:
            found += islice(feed, 3)
            feed.commit()
    assert numbers(found, "a") == [n for n in range(1, 41) if n % 4 in (2, 3)]
    assert {item.endpoint for item in found} == {"", "a"}


def test_row_79_a_position_beyond_the_retention_is_reported_exactly(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 100, retain_bytes=0)
    with attach(path, "c", start="earliest", follow=False) as feed:
        first = taken(feed, 51)
    last = {name: numbers(first[:-1], name)[-1] for name in ("a", "b")}
    with writing(path, retain_bytes=1) as writer:
        writer.retain()
    with attach(path, "c", follow=False) as feed:
        rest = list(feed)
    for name in ("a", "b"):
        (loss,) = [item for item in rest if isinstance(item, Dropped) and item.endpoint == name]
        assert (loss.first, loss.cause) == (last[name] + 1, "retention")
        assert numbers(rest, name) == list(range((loss.last or 0) + 1, 201))
        assert loss.count == (loss.last or 0) - last[name]


# -- bad input -------------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_with_one_clear_error_each(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 5)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotAJournal, match="this is a file"):
        attach(tmp_path / "file", "c")
    with pytest.raises(NotAJournal, match="there is nothing"):
        attach(tmp_path / "nothing", "c")
    with pytest.raises(NotRunning, match="no supervisor named 'zorblax' is running here, and there is no folder of that name"):
        attach("zorblax", "c")
    with pytest.raises(UnknownConsumer, match="no consumer named 'c' has a position in this journal; known: none yet"):
        attach(path, "c", start="position")
    with pytest.raises(PositionBeyondEnd, match=r"a has come to message 10 in this journal; there is no message 11 yet"):
        attach(path, "c", start={"a": 11})
    for name in ("", "a/b", ".hidden", "x" * 200, "a b", "sink:x"):
        with pytest.raises(UsageError, match="consumer"):
            attach(path, name)
    with pytest.raises(UsageError, match='expected "auto" or "manual"'):
        attach(path, "c", commit="never")  # type: ignore[arg-type]
    assert positions.known(path) == []
    marker = path / "journal.json"
    marker.write_text(marker.read_text("utf-8").replace('"format": 1', '"format": 2'))
    with pytest.raises(NewerJournal):
        attach(path, "c")


def test_a_position_that_the_journal_has_not_reached_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 5)
    with attach(path, "c", start="latest"):
        pass
    for file in path.glob("segment-*"):
        file.unlink()
    with writing(path) as writer:
        add(writer, started())
    with pytest.raises(PositionBeyondEnd, match=r"its position is item \d+, and the journal ends at item 2"):
        attach(path, "c")


def test_a_position_that_is_damaged_or_of_another_journal_is_refused(tmp_path: Path) -> None:
    for name in ("j", "k"):
        fill(tmp_path / name, 5)
        with attach(tmp_path / name, "c", start="latest"):
            pass
    mine, other = (positions.path_of(tmp_path / name, "c") for name in ("j", "k"))
    mine.write_bytes(other.read_bytes())
    with pytest.raises(Exception, match="a position in another journal"):
        attach(tmp_path / "j", "c")
    mine.write_bytes(b"garbage" * 10)
    with pytest.raises(Exception, match="the position is damaged; remove the file"):
        attach(tmp_path / "j", "c")


def test_a_name_may_be_used_again_in_the_process_that_refused_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    fill(path, 5)
    with attach(path, "c") as feed:
        with pytest.raises(ConsumerInUse, match=rf"consumer 'c' is attached already \(pid {os.getpid()}\)"):
            attach(path, "c")
        assert feed.consumer == "c"
    with attach(path, "c"):
        pass
    with pytest.raises(SupervisorStopped):
        feed.commit()


# -- kills -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor with a name and a journal, whose exchange sends all the time."""
    with (
        Exchange(messages=numbered, rate=2000) as ex,
        Supervisor([ex.endpoint("a", restart=SOON)], name="prices", journal=tmp_path / "j", journal_only=True) as feed,
    ):
        wait_until(lambda: feed.status()["journal"]["end"] > 200, DEADLINE)
        yield feed


def test_row_77_kill_of_a_consumer_between_two_commits_repeats_only_what_was_not_committed(
    tmp_path: Path, running: Supervisor
) -> None:
    del running
    committed, seen = 0, 0
    for turn in range(5):
        said = lines_until_killed(consumer_process(tmp_path / "j", "manual", 7), 60 + 11 * turn)
        mine = [int(words[-1]) for words in said if words[0] == "a"]
        assert mine == list(range(committed + 1, committed + 1 + len(mine)))
        # A commit may have been made and not been printed: at most one, of seven messages.
        done = [int(words[-1]) for words in said if words[0] == "committed"]
        stored = positions.look(positions.path_of(tmp_path / "j", "c"))
        assert stored is not None
        assert stored[1] is None
        committed = stored[0].numbers["a"]
        assert committed in (done[-1], done[-1] + 7)
        seen = max(seen, mine[-1])
    assert committed > 0


def test_row_77_with_automatic_commits_a_kill_repeats_the_last_message_at_most(tmp_path: Path, running: Supervisor) -> None:
    del running
    last = 0
    for turn in range(5):
        said = lines_until_killed(consumer_process(tmp_path / "j"), 50 + 37 * turn)
        mine = [int(words[-1]) for words in said]
        assert mine[0] in (last, last + 1, last + 2)  # the last line may not have been printed whole
        assert mine == list(range(mine[0], mine[0] + len(mine)))
        last = mine[-1]


def test_consumers_of_different_speeds_do_not_disturb_each_other(tmp_path: Path, running: Supervisor) -> None:
    del tmp_path
    with attach("prices", "fast", start="earliest") as fast, attach("prices", "slow", start="earliest") as slow:
        taken(slow, 5)
        got = taken(fast, 2000)
        assert numbers(got, "a") == list(range(1, 2001))
        wait_until(lambda: set(running.status()["journal"]["consumers"]) == {"fast", "slow"}, DEADLINE)
        wait_until(lambda: running.status()["journal"]["consumers"]["slow"]["lag"]["messages"] > 1000, DEADLINE)
        lags = fast.status()["journal"]["consumers"]
        assert lags["slow"]["pid"] == os.getpid()
        assert lags["slow"]["lag"]["messages"] > lags["fast"]["lag"]["messages"]
        assert lags["slow"]["lag"]["bytes"] > 5000
        assert lags["slow"]["lag"]["seconds"] > 0
        assert running.status()["endpoints"]["a"]["buffered"] == 0
        assert numbers(taken(slow, 2000), "a")[-1] == 2005


def test_history_runs_into_live_without_a_seam_over_segments_and_supervisors(tmp_path: Path) -> None:
    from wsadapter import Journal

    found: list[Item] = []
    done = threading.Event()

    def consume() -> None:
        with attach(tmp_path / "j", "c", start="earliest") as feed:
            while not done.is_set() or feed.pending or not end_is_reached(feed):
                try:
                    found.append(feed.get(0.2))
                except TimeoutError:
                    continue

    def end_is_reached(feed: AttachedFeed) -> bool:
        try:
            found.append(feed.get(0))
        except TimeoutError:
            return True
        return False

    thread = threading.Thread(target=consume)
    journal = Journal(tmp_path / "j", segment_bytes="64KiB")
    with Exchange(messages=numbered, rate=5000) as ex:
        for turn in range(3):
            with Supervisor([ex.endpoint("a", restart=SOON)], name="p", journal=journal, journal_only=True) as feed:
                wait_until(lambda: _messages(feed) > 1500, DEADLINE)
                if not turn:
                    thread.start()
    done.set()
    thread.join(DEADLINE)
    assert found == items(tmp_path / "j")
    assert not [item for item in found if isinstance(item, Dropped)]
    assert len([item for item in found if isinstance(item, Gap)]) == 2
    assert len(list((tmp_path / "j").glob("segment-*.db"))) > 1


def test_a_kill_of_the_supervisor_is_a_pause_for_its_consumers(tmp_path: Path) -> None:
    program = """
import sys
from wsadapter import Endpoint, Supervisor
with Supervisor([Endpoint("a", url=sys.argv[2])], name="prices", journal=sys.argv[1], journal_only=True) as feed:
    for item in feed: pass
"""
    with Exchange(messages=numbered, rate=2000) as ex:
        url = str(ex.endpoint("a").url)
        found: list[Item] = []
        feed: AttachedFeed | None = None
        for _ in range(3):
            process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "j"), url])
            try:
                wait_until(lambda: (tmp_path / "j" / "journal.json").exists(), DEADLINE)
                feed = feed or attach(tmp_path / "j", "c", start="earliest")
                found += taken(feed, 500)
            finally:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(DEADLINE)
        assert feed is not None
        feed.close()
        wait_until(lambda: not ex.connections, DEADLINE)
    assert numbers(found, "a") == list(range(1, len(numbers(found, "a")) + 1))
    assert len([item for item in found if isinstance(item, Gap)]) >= 1


# -- one name --------------------------------------------------------------------------------------------------------------


def test_row_78_a_takeover_of_the_name_ends_the_first_one_and_goes_on_behind_it(tmp_path: Path, running: Supervisor) -> None:
    del running
    first = attach("prices", "c", start="earliest")
    found = taken(first, 100)
    first.commit()
    ended: list[Exception] = []

    def wait_for_more() -> None:
        try:
            for item in first:
                found.append(item)
                first.commit()
        except ConsumerReplaced as error:
            ended.append(error)
            first.close()

    thread = threading.Thread(target=wait_for_more)
    thread.start()
    with attach("prices", "c", takeover=True) as second:
        thread.join(DEADLINE)
        assert len(ended) == 1
        found += taken(second, 100)
    first.close()
    assert numbers(found, "a") == list(range(1, len(numbers(found, "a")) + 1))


def test_row_78_a_consumer_that_hangs_is_replaced_and_its_late_commits_count_for_nothing(
    tmp_path: Path, running: Supervisor
) -> None:
    del running
    process = consumer_process(tmp_path / "j", "manual", 1)
    assert process.stdout is not None
    try:
        next(process.stdout)
        os.kill(process.pid, signal.SIGSTOP)
        with attach("prices", "c", takeover=True) as second:
            taken(second, 500)
            second.commit()
            before = positions.look(positions.path_of(tmp_path / "j", "c"))
            os.kill(process.pid, signal.SIGCONT)
            assert process.wait(DEADLINE) == 1  # ConsumerReplaced
            assert positions.look(positions.path_of(tmp_path / "j", "c")) == before
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# -- asyncio, commands -----------------------------------------------------------------------------------------------------


def test_async_for_reads_history_and_live(tmp_path: Path, running: Supervisor) -> None:
    del tmp_path, running

    async def consume() -> list[Item]:
        found: list[Item] = []
        async with attach("prices", "c", start="earliest") as feed:
            async for item in feed:
                found.append(item)
                if len(found) == 1500:
                    break
            found.append(await feed.aget())
            async for part in feed.abatches():
                found += part.messages() if isinstance(part, Batch) else [part]
                break
        return found

    found = asyncio.run(consume())
    assert numbers(found, "a") == list(range(1, len(numbers(found, "a")) + 1))


def test_commands_go_through_the_supervisor_with_the_same_outcomes(tmp_path: Path) -> None:
    with (
        Exchange(messages=["x"]) as ex,
        Supervisor([ex.endpoint("a")], name="prices", journal=tmp_path / "j", journal_only=True) as running,
        attach("prices", "c", start="earliest") as feed,
    ):
        taken(feed, 1)
        feed.send("a", "hello")
        ex.wait_for(lambda: b"hello" in [frame.payload for frame in ex.received], DEADLINE)
        assert feed.insert("a", b"\x00\xff") == 2
        assert taken(feed, 1)[-1] == Message("a", b"\x00\xff", 1, 2, _last(tmp_path).received_at, None, True)
        with pytest.raises(UnknownEndpoint, match="no endpoint named 'b'; known: a"):
            feed.send("b", "x")
        for refused in (feed.restart, lambda name: feed.subscribe(name, ["x"]), lambda name: feed.request(name, {"x": 1})):
            with pytest.raises(UnknownEndpoint, match="known: a") as error:
                refused("b")
            assert (error.value.name, error.value.known) == ("b", ["a"])
        with pytest.raises(UsageError):
            feed.request("a", "no JSON")
        assert feed.status()["endpoints"]["a"]["state"] == "up"
        epoch = running.status()["endpoints"]["a"]["epoch"]
        feed.restart("a", DEADLINE)
        assert running.status()["endpoints"]["a"]["epoch"] == epoch + 1
        running.stop()
        with pytest.raises(NotConnected, match="nothing was sent"):
            feed.send("a", "x")
        with pytest.raises(NotSent, match="nothing was sent"):
            feed.request("a", {"x": 1})


class Frozen:
    """A takeover that has frozen the endpoints."""

    has_frozen = True

    def take_back(self) -> None:
        """Nothing was done."""


def test_while_another_supervisor_takes_over_an_attached_consumer_changes_and_sends_nothing(tmp_path: Path) -> None:
    with (
        Exchange(messages=["x"]) as ex,
        Supervisor([ex.endpoint("a")], name="prices", journal=tmp_path / "j", journal_only=True) as running,
        attach("prices", "c", start="earliest") as feed,
    ):
        taken(feed, 1)
        running.runtime.takeover.giving = Frozen()
        for refused in (
            lambda: feed.subscribe("a", ["x"]), lambda: feed.unsubscribe("a", ["x"]), lambda: feed.resubscribe("a", ["x"]),
            lambda: feed.restart("a"), lambda: feed.insert("a", "x"), lambda: feed.send("a", "late"),
            lambda: feed.request("a", {"x": 1}),
        ):  # fmt: skip
            with pytest.raises(TakeoverError, match="another supervisor is taking over: ask it, or try again in some seconds"):
                refused()
        running.runtime.takeover.giving = None
        feed.send("a", "in time")
        ex.wait_for(lambda: b"in time" in [frame.payload for frame in ex.received], DEADLINE)
        assert b"late" not in [frame.payload for frame in ex.received]
        assert feed.insert("a", "x") == 2


def test_a_supervisor_without_a_journal_says_so_to_its_consumers() -> None:
    with Supervisor([], name="bare"), pytest.raises(ControlError, match=r"has no journal .* add a table \[journal\]"):
        attach("bare", "c")


def test_a_consumer_in_another_environment_is_woken_and_sends_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        Exchange(messages=["x"]) as ex,
        Supervisor([ex.endpoint("a")], name="prices", journal=tmp_path / "j", journal_only=True),
    ):
        monkeypatch.setenv("WSADAPTER_RUNTIME_DIR", str(tmp_path / "another"))
        with attach(tmp_path / "j", "c", start="earliest") as feed:
            taken(feed, 1)
            feed.send("a", "found")
            ex.wait_for(lambda: b"found" in [frame.payload for frame in ex.received], DEADLINE)


def _messages(feed: Supervisor) -> int:
    return feed.status()["endpoints"]["a"]["messages"]


def _last(tmp_path: Path) -> Message:
    return [item for item in items(tmp_path / "j") if isinstance(item, Message)][-1]


def test_a_wait_is_ended_by_close_and_by_its_timeout(tmp_path: Path) -> None:
    with (
        steady() as ex,
        Supervisor([ex.endpoint("a")], name="prices", journal=tmp_path / "j", journal_only=True) as running,
        attach("prices", "c") as feed,
    ):
        feed.get(DEADLINE)
        running.remove("a")
        deadline = time.monotonic() + DEADLINE
        with pytest.raises(TimeoutError):
            while time.monotonic() < deadline:
                feed.get(0.3)
        threading.Timer(0.2, feed.close).start()
        assert list(feed) == []


SCRIPT: list[dict[str, Any]] = [
    {"match": {"method": "refuse"}, "reply": {"id": "$id", "error": {"code": -1, "message": "no"}}},
    {"match": {"method": "mute"}, "reply": []},
    {"match": {"method": "*"}, "reply": {"id": "$id", "result": "$method"}},
]


def test_requests_end_as_those_of_the_supervisor_do(tmp_path: Path) -> None:
    with (
        Exchange(messages=[], ack=SCRIPT) as ex,
        Supervisor([ex.endpoint("a", restart=SOON)], name="prices", journal=tmp_path / "j", journal_only=True) as running,
        attach("prices", "c", start="earliest") as feed,
    ):
        running.monitor("a").wait_up(DEADLINE)
        answer = feed.request("a", {"method": "hello"}, DEADLINE)
        assert (answer.endpoint, answer.json()["result"], answer.epoch) == ("a", "hello", 1)
        with pytest.raises(RequestRejected, match="was rejected") as rejected:
            feed.request("a", {"method": "refuse"}, DEADLINE)
        assert b'"code":-1' in rejected.value.body
        with pytest.raises(OutcomeUnknown, match="ask before repeating") as unknown:
            feed.request("a", {"method": "mute"}, 0.1)
        assert (unknown.value.endpoint, unknown.value.timed_out) == ("a", True)
        ended: list[BaseException] = []

        def ask() -> None:
            try:
                feed.request("a", {"method": "mute", "id": 7}, DEADLINE)
            except OutcomeUnknown as error:
                ended.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        ex.wait_for(lambda: any(b'"id":7' in frame.payload.replace(b" ", b"") for frame in ex.received), DEADLINE)
        running.stop()
        asking.join(DEADLINE)
        assert len(ended) == 1
