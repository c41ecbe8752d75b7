"""A keeper: a supervisor that is killed is replaced, and no connection closes, nothing is lost and nothing comes twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import Running, environment, wsadapter
from tests.support.feeds import DEADLINE, numbered
from tests.support.schema import deviations
from tests.support.waiting import wait_until
from wsadapter import (
    AttachedFeed,
    Down,
    Dropped,
    DuplicateRequest,
    Gap,
    Item,
    LateAnswer,
    Message,
    OutcomeUnknown,
    Started,
    Status,
    Subscribed,
    Up,
    attach,
)  # fmt: skip
from wsadapter.cli.keeper import GAVE_UP, MOST_DEATHS
from wsadapter.testing import Exchange

pytestmark = pytest.mark.native

CONFIG = """
[supervisor]
name = "kept"
[journal]
path = "{path}"
keeper = true
[defaults.heartbeat]
kind = "none"
[defaults.tls]
ca_file = "{ca}"
"""


def supervisor_of(running: Running) -> int:
    """The pid of the supervisor that the keeper has started."""
    children = psutil.Process(running.process.pid).children()
    assert len(children) == 1, children
    return children[0].pid


class Consumer:
    """Attached, in a thread: every item from the first on."""

    def __init__(self, path: Path) -> None:
        self.items: list[Item] = []
        self.feed = attach(path, "c", start="earliest")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for item in self.feed:
            self.items.append(item)

    def messages(self, name: str) -> list[Message]:
        return [item for item in list(self.items) if isinstance(item, Message) and item.endpoint == name]

    def close(self) -> None:
        self.feed.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


@contextmanager
def kept(tmp_path: Path, *exchanges: Exchange, holder: bool = False, more: str = "") -> Iterator[tuple[Running, Consumer]]:
    """A runner with a keeper, all endpoints up, and a consumer that has messages of each."""
    ca = next((str(ex.ca_file) for ex in exchanges if ex.url.startswith("wss")), "")
    text = CONFIG.format(path=tmp_path / "j", ca=ca)
    for number, ex in enumerate(exchanges):
        text += f'[endpoints.e{number}]\nurl = "{ex.url}"\n'
        text += "tls = { holder = true }\n" if holder and ex.url.startswith("wss") else ""
    text += more
    config = tmp_path / "kept.toml"
    config.write_text(text)
    with Running(tmp_path, str(config)) as running:
        running.wait_until(lambda: (tmp_path / "j").exists() and list((tmp_path / "j").glob("segment-*.db")), "no journal")
        consumer, keeper = Consumer(tmp_path / "j"), psutil.Process(running.process.pid)
        children = keeper.children()
        try:
            running.wait_until(
                lambda: all(consumer.messages(f"e{n}") for n in range(len(exchanges))), "nothing came of some endpoint"
            )
            yield running, consumer
        finally:
            if keeper.is_running():
                children += keeper.children()
                running.process.kill()  # first: otherwise it starts another one
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            consumer.close()


def whole_status(tmp_path: Path) -> Status:
    """Of the supervisor, as its control socket gives it."""
    status: Status = json.loads(wsadapter(tmp_path, "status", "--json").stdout)
    assert deviations(status, Status) == []
    return status


def assert_whole(items: list[Item], name: str) -> None:
    """Every message once, in order, under numbers without a hole."""
    found = [item for item in items if isinstance(item, Message) and item.endpoint == name]
    assert [item.number for item in found] == list(range(1, len(found) + 1))
    sent = [int(item.data[5:-1]) for item in found]
    assert sent == list(range(sent[0], sent[0] + len(sent)))


@pytest.mark.parametrize("holder", [False, True], ids=["no holder", "holder"])
def test_row_82_with_a_keeper_a_supervisor_is_killed_under_load_and_nobody_notices(tmp_path: Path, holder: bool) -> None:
    dice = random.Random(os.environ.get("KEEPER_SEED", "1"))
    with (
        Exchange(messages=numbered, rate=3_000, resume="continue") as plain,
        Exchange(messages=numbered, rate=3_000, resume="continue", tls=True) as secure,
        kept(tmp_path, plain, secure, holder=holder) as (running, consumer),
    ):
        connections = plain.open_ids, secure.open_ids
        took = []
        for _ in range(int(os.environ.get("KEEPER_KILLS", "5"))):
            until = time.monotonic() + dice.uniform(0.05, 0.7)
            wait_until(lambda until=until: time.monotonic() > until, DEADLINE)
            pid, at = supervisor_of(running), time.monotonic()
            os.kill(pid, signal.SIGKILL)
            seen = [len(consumer.messages(name)) for name in ("e0", "e1")]
            running.wait_until(
                lambda seen=seen: all(len(consumer.messages(f"e{n}")) > seen[n] + 3000 for n in (0, 1)), "nothing more came"
            )
            took.append(time.monotonic() - at)
        print("seconds until 3000 more messages:", [round(each, 2) for each in took])
        assert (plain.open_ids, secure.open_ids) == connections
        assert running.stop() == 0
        wait_until(lambda: sum(isinstance(item, Down) for item in consumer.items) >= 2, DEADLINE)
        items = list(consumer.items)
    for name in ("e0", "e1"):
        assert_whole(items, name)
        assert sum(isinstance(item, Up) and item.endpoint == name for item in items) == 1
    assert not [item for item in items if isinstance(item, Gap | Dropped)]
    assert len({item.run for item in items if isinstance(item, Started)}) == 1


def assert_reported(items: list[Item], name: str) -> None:
    """Nothing came twice or out of order, the numbers have no hole, and where something is missing there is a `Gap`.

    Behind a `Gap` with the cause "replaced" messages may come again: the next connection was opened beside the one before, and
    without an identity nothing tells which messages both of them have had. A restart does that in the moment between a kill of
    the supervisor and the report of the owner that its connection may be handed on.
    """
    number, last, gap = 0, -1, "the beginning"
    for item in items:
        if item.endpoint != name:
            continue
        if isinstance(item, Gap):
            gap = item.cause
        if isinstance(item, Message):
            sent = int(item.data[5:-1])
            assert item.number == number + 1
            assert sent == last + 1 or gap == "replaced" or (gap and sent > last), (last, sent, gap)
            number, last, gap = item.number, sent, ""


def test_row_83_supervisor_and_owner_killed_at_one_moment_cost_a_gap_of_that_endpoint(tmp_path: Path) -> None:
    with (
        Exchange(messages=numbered, rate=2_000, resume="continue") as one,
        Exchange(messages=numbered, rate=2_000, resume="continue") as other,
        kept(tmp_path, one, other) as (running, consumer),
    ):
        connections = other.open_ids
        for epoch in (1, 2, 3):
            owner = running.status()["e0"]["pid"]
            os.kill(supervisor_of(running), signal.SIGKILL)
            os.kill(owner, signal.SIGKILL)
            running.wait_until(lambda epoch=epoch: consumer.messages("e0")[-1].epoch > epoch, "nothing came of the next owner")
        assert other.open_ids == connections
        assert running.stop() == 0
        items = list(consumer.items)
    assert_reported(items, "e0")
    assert_whole(items, "e1")
    e0 = [item for item in items if item.endpoint == "e0"]
    assert sum(isinstance(item, Up) for item in e0) == sum(isinstance(item, Down) for item in e0) == 4
    assert sum(isinstance(item, Gap) for item in e0) == 3


def test_endpoints_without_a_connection_are_started_by_the_next_supervisor(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, Exchange(messages=numbered, rate=2_000, resume="continue") as ex:
        more = f'[endpoints.connecting]\nurl = "ws://127.0.0.1:{mute.getsockname()[1]}/"\n'
        more += '[endpoints.refused]\nurl = "ws://127.0.0.1:1/"\n'
        with kept(tmp_path, ex, more=more) as (running, consumer):
            for _ in range(2):
                kill(running)
                running.wait_until(lambda: running.status()["connecting"]["state"] == "connecting", "it is not started")
                running.wait_until(lambda: running.status()["refused"]["last_exit"] is not None, "it is not started")
            assert running.stop() == 0
            assert_whole(list(consumer.items), "e0")


def test_planned_changes_and_kills_in_any_order_lose_nothing_silently(tmp_path: Path) -> None:
    dice = random.Random(int(os.environ.get("KEEPER_SEED", "1")))
    with Exchange(messages=numbered, rate=2_000, resume="continue") as ex, kept(tmp_path, ex) as (running, consumer):
        for _ in range(4):
            with subprocess.Popen(
                [sys.executable, "-m", "wsadapter", "restart", "e0"],
                env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ):  # fmt: skip
                until = time.monotonic() + dice.uniform(0.3, 1.0)
                wait_until(lambda until=until: time.monotonic() > until, DEADLINE)
                kill(running)
        seen = len(consumer.messages("e0"))
        running.wait_until(lambda: len(consumer.messages("e0")) > seen + 1000, "nothing more came")
        assert running.stop() == 0
        assert_reported(list(consumer.items), "e0")


def test_a_supervisor_that_ends_by_itself_is_not_replaced(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=1_000) as ex, kept(tmp_path, ex) as (running, _consumer):
        os.kill(supervisor_of(running), signal.SIGTERM)
        assert running.wait() == 0


def test_row_85_keeper_and_supervisor_killed_together_end_every_owner(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=1_000) as ex, kept(tmp_path, ex) as (running, _consumer):
        pid = supervisor_of(running)
        running.process.kill()
        os.kill(pid, signal.SIGKILL)
        ex.wait_connections(0, 5.0)


def test_row_85_a_keeper_that_is_killed_alone_is_reported_and_the_stream_goes_on(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=1_000) as ex, kept(tmp_path, ex) as (running, consumer):
        supervisor = psutil.Process(supervisor_of(running))
        running.process.kill()
        running.wait_for_log("the keeper has died")
        assert whole_status(tmp_path)["keeper"]["alive"] is False
        seen = len(consumer.messages("e0"))
        running.wait_until(lambda: len(consumer.messages("e0")) > seen + 1000, "nothing more came")
        supervisor.terminate()
        wait_until(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE, DEADLINE)
        assert_whole(list(consumer.items), "e0")


def test_row_84_a_supervisor_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=1_000) as ex, kept(tmp_path, ex) as (running, _consumer):
        for _ in range(MOST_DEATHS):
            before = supervisor_of(running)
            os.kill(before, signal.SIGKILL)
            running.wait_until(
                lambda before=before: before not in {each.pid for each in psutil.Process(running.process.pid).children()},
                "no other supervisor",
            )
            running.wait_until(lambda: psutil.Process(running.process.pid).children(), "no other supervisor")
        os.kill(supervisor_of(running), signal.SIGKILL)
        assert running.wait() == GAVE_UP
        ex.wait_connections(0, 5.0)
    assert any("the keeper gives up" in line for line in running.log)


# -- what goes through the control socket, which dies with the supervisor --------------------------------------------------

DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams","n":"$id"}', per_connection = 2 }
ack = [{ match = { ok = "*" }, id = "ok" }]
stream = { path = "s" }
[login]
needs = ["key"]
frame = '{"login":"$key","id":"$id"}'
timeout = 5.0
ack = [{ match = { in = true } }]
"""


class Peer:
    """Confirms the login and each subscription, answers requests but those of the method "mute"."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, frame: str | bytes) -> list[str] | None:
        said = json.loads(frame)
        self.heard.append(next(iter(said)) + (":" + ",".join(said["sub"]) if "sub" in said else ""))
        if "login" in said:
            return ['{"in":true}']
        if "sub" in said:
            return [json.dumps({"ok": said["n"]}), *(json.dumps({"s": name}) for name in said["sub"])]
        return None if said.get("method") == "mute" else [json.dumps({"id": said["id"], "result": said["method"]})]


@contextmanager
def kept_by_dialect(tmp_path: Path) -> Iterator[tuple[Exchange, Peer, Running, Consumer]]:
    (tmp_path / "mine.toml").write_text(DIALECT)
    settings = f'dialect = "{tmp_path / "mine.toml"}"\nsubscribe = ["a"]\nlogin = {{ key = "K" }}\n'
    peer = Peer()
    with Exchange(ack=peer) as ex, kept(tmp_path, ex, more=settings) as (running, consumer):
        yield ex, peer, running, consumer


def kill(running: Running) -> None:
    """Returns when the next supervisor answers on the control socket, with the endpoint up."""
    pid = supervisor_of(running)
    os.kill(pid, signal.SIGKILL)
    running.wait_until(lambda: running.status().get("e0", {}).get("state") == "up", "the endpoint is not up")
    assert supervisor_of(running) != pid


def test_the_login_the_subscriptions_and_the_names_of_streams_go_on(tmp_path: Path) -> None:
    with kept_by_dialect(tmp_path) as (ex, peer, running, consumer):
        before = running.status()["e0"]["subscriptions"]
        assert whole_status(tmp_path)["keeper"] == {"pid": running.process.pid, "alive": True, "kills": 0}
        kill(running)
        assert whole_status(tmp_path)["keeper"] == {"pid": running.process.pid, "alive": True, "kills": 1}
        assert "killed and replaced once" in wsadapter(tmp_path, "status").stdout
        assert running.status()["e0"]["subscriptions"] == before == {"wanted": 1, "confirmed": 1, "live": 1, "rejected": {}}
        ex.send('{"s":"a","after":1}')
        running.wait_until(lambda: b"after" in consumer.messages("e0")[-1].data, "nothing came after the kill")
        assert consumer.messages("e0")[-1].stream == "a"
        consumer.feed.subscribe("e0", ["b"])
        running.wait_until(lambda: consumer.messages("e0")[-1].stream == "b", "the new stream did not come")
        kill(running)
        consumer.feed.unsubscribe("e0", ["a"])
        kill(running)
        running.wait_until(lambda: running.status()["e0"]["subscriptions"]["wanted"] == 1, "it is wanted again")
        subscribed = [item.stream for item in list(consumer.items) if isinstance(item, Subscribed)]
    assert peer.heard == ["login", "sub:a", "sub:b"]
    assert subscribed == ["a", "b"]
    assert not [item for item in consumer.items if isinstance(item, Gap | Dropped)]


def test_shards_that_were_added_while_running_go_on(tmp_path: Path) -> None:
    with kept_by_dialect(tmp_path) as (ex, _, running, consumer):
        consumer.feed.subscribe("e0", ["b", "c"])
        shards = ["e0", "e0#2"]
        running.wait_until(lambda: all(consumer.messages(name) for name in shards), "the new shard is not up")
        kill(running)
        reload = lambda: wsadapter(tmp_path, "reload").returncode == 0  # noqa: E731 - refused until the start is complete
        running.wait_until(reload, "the next supervisor has not started")
        status = running.status()
        assert {name: (each["group"], each["subscriptions"]["wanted"]) for name, each in status.items()} == {
            "e0": ("e0", 2), "e0#2": ("e0", 1)
        }  # fmt: skip
        assert ex.accepted == 2
    assert not [item for item in consumer.items if isinstance(item, Gap | Dropped)]


def test_a_request_of_the_dead_supervisor_has_an_unknown_outcome_and_its_id_stays_reserved(tmp_path: Path) -> None:
    outcomes: list[BaseException] = []

    def ask(feed: AttachedFeed) -> None:
        try:
            feed.request("e0", {"method": "mute", "id": 7}, DEADLINE)
        except OutcomeUnknown as error:
            outcomes.append(error)

    with kept_by_dialect(tmp_path) as (ex, peer, running, consumer):
        asking = threading.Thread(target=ask, args=(consumer.feed,))
        asking.start()
        running.wait_until(lambda: "method" in peer.heard, "the request was not sent")
        kill(running)
        asking.join(DEADLINE)
        assert len(outcomes) == 1
        with pytest.raises(DuplicateRequest):
            consumer.feed.request("e0", {"method": "hello", "id": 7}, DEADLINE)
        ex.send('{"id":7,"result":"late"}')
        running.wait_until(lambda: any(isinstance(item, LateAnswer) for item in list(consumer.items)), "no late answer")
        assert consumer.feed.request("e0", {"method": "hello", "id": 7}, DEADLINE).json()["result"] == "hello"
        assert consumer.feed.request("e0", {"method": "own"}, DEADLINE).json()["result"] == "own"


# -- beside other changes of supervisors -----------------------------------------------------------------------------------


def test_after_a_takeover_the_other_keeper_has_the_owners(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=2_000) as ex, kept(tmp_path, ex) as (old, consumer):
        connections = ex.open_ids
        with Running(tmp_path, str(tmp_path / "kept.toml"), "--takeover") as new:
            assert old.wait() == 0
            kill(new)
            seen = len(consumer.messages("e0"))
            new.wait_until(lambda: len(consumer.messages("e0")) > seen + 1000, "nothing more came")
            assert ex.open_ids == connections
            assert new.stop() == 0
        assert_whole(list(consumer.items), "e0")


def test_a_configuration_that_became_wrong_meanwhile_does_not_stop_the_next_supervisor(tmp_path: Path) -> None:
    with Exchange(messages=numbered, rate=2_000) as ex, kept(tmp_path, ex) as (running, consumer):
        (tmp_path / "kept.toml").write_text("[supervisor")
        kill(running)
        seen = len(consumer.messages("e0"))
        running.wait_until(lambda: len(consumer.messages("e0")) > seen + 1000, "nothing more came")
        running.wait_for_log("the configuration of the start is used again")
        assert_whole(list(consumer.items), "e0")


def test_where_there_can_be_no_keeper_the_runner_says_so_and_runs_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSADAPTER_PORTABLE", "1")
    with Exchange(messages=numbered, rate=1_000) as ex, kept(tmp_path, ex) as (running, _consumer):
        running.wait_for_log("this platform lacks what a keeper needs")
        assert running.stop() == 0
