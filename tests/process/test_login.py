"""Logging in: before anything is subscribed, with secrets that nobody sees, renewed in time, not hammered where refused."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Running, supervise, write_config, wsadapter
from tests.support.feeds import DEADLINE, SOON, collect, events_of, is_event, is_message, messages_of, pid_of, to_the_end
from tests.support.rest import Answer, Asked, Rest
from tests.support.trees import command_line, tree_of
from tests.support.waiting import wait_until
from wsadapter import Down, Gap, Item, NotConnected, NotSent, Rejected, Restored, Subscribed, Up, capabilities
from wsadapter.testing import Exchange
from wsadapter.worker.dialects.hooks.kraken_futures import signature

HOOKS = "tests.support.login_hooks:"
SECRET = "n0-0ne-must-see-this"
LOGIN = {"key": "K", "secret": SECRET}
DIALECT = """
dialect = { name = "mine", title = "An invented exchange", docs = "none" }
urls = { live = "wss://example.com" }
subscribe = { frame = '{"sub":"$streams","n":"$id"}' }
ack = [{ match = { ok = "*" }, id = "ok" }]
on_up = [{ frame = '{"conf":1}' }]
stream = { path = "s" }
"""
BY_FRAME = """
[login]
needs = ["key", "secret"]
frame = '{"login":"$key","id":"$id","$sign":"*"}'
timeout = 1.0
renew_after = 60.0
ack = [{ match = { in = true } }]
error = [{ match = { in = false }, text = "why" }]
[hooks]
sign = "tests.support.login_hooks:sign"
"""


class Peer:
    """The invented exchange: nothing can be subscribed before the login, and each stream tells how often it was."""

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = {"in": True} if answer is None else answer
        self.heard: list[dict[str, Any]] = []

    def __call__(self, frame: str | bytes) -> list[str] | None:
        said = json.loads(frame)
        self.heard.append(said)
        if "login" in said:
            return [json.dumps(self.answer)] if self.answer else None
        if "sub" in said:
            return [json.dumps({"ok": said["n"]}), *(json.dumps({"s": name, "by": said.get("by")}) for name in said["sub"])]
        return None


def written(tmp_path: Path, *parts: str) -> str:
    (tmp_path / "mine.toml").write_text("".join((DIALECT, *parts)))
    return str(tmp_path / "mine.toml")


def settings(dialect: str, **more: Any) -> dict[str, Any]:
    return {"dialect": dialect, "subscribe": ["a"], "login": LOGIN, "restart": SOON, **more}


def test_it_comes_before_all_that_is_subscribed_and_sent(tmp_path: Path, start_method: str) -> None:
    items: list[Item] = []
    peer = Peer(answer={})
    with Exchange(ack=peer) as ex:
        endpoint = ex.endpoint("x", **settings(written(tmp_path, BY_FRAME)))
        with to_the_end(items, endpoint, start_method=start_method) as feed:
            items += collect(feed, is_event(Up, "x"))
            login = ex.wait_received(lambda frame: b'"login"' in frame.payload)
            assert json.loads(login.payload) == {"login": "K", "id": 2, "key": "K", "signed": [2, None]}
            feed.subscribe("x", ["b"])
            ex.send('{"in":true}')
            items += collect(feed, is_event(Restored, "x"))
            feed.send("x", '{"mine":1}')
            ex.wait_received(lambda frame: b'"mine"' in frame.payload)
            if capabilities.custody():  # who goes on with the connection is logged in
                wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
                os.kill(pid_of(feed, "x"), signal.SIGKILL)
                items += collect(feed, is_event(Up, "x", 2))
                feed.send("x", '{"mine":2}')
                ex.wait_received(lambda frame: b'"mine":2' in frame.payload)
    owners = 1 + capabilities.custody()
    assert [next(iter(said)) for said in peer.heard] == ["conf", "login", "sub", "sub", *["mine"] * owners]
    assert {name for said in peer.heard for name in said.get("sub", ())} == {"a", "b"}
    assert [up.resumed for up in events_of(items, "x", Up)] == [False, *[True] * capabilities.custody()]
    assert not any(b'"in"' in message.data for message in messages_of(items, "x"))


@pytest.mark.parametrize(
    ("answer", "hook", "text"),
    [
        ({"in": False, "why": "no such key"}, "sign", "no such key"),
        ({}, "sign", "not answered within 1 s"),
        ({}, "broken", "the hook sign: KeyError: 'missing'"),
        ({}, "hangs", "not signed within 1 s"),
    ],
)
def test_one_that_fails_ends_the_connection_and_is_not_hammered(
    answer: dict[str, Any], hook: str, text: str, tmp_path: Path
) -> None:
    items: list[Item] = []
    slow = {"backoff_initial": 0.01, "backoff_max": 60.0}
    with Exchange(ack=Peer(answer)) as ex:
        more = settings(written(tmp_path, BY_FRAME), hooks={"sign": HOOKS + hook}, restart=slow)
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Up, "x"))
            if "within" in text:  # it is answered whatever the hook is doing
                ex.ping(b"still there?")
                ex.wait_received(lambda frame: frame.payload == b"still there?", 0.9)
            items += collect(feed, is_event(Down, "x"))
            ex.wait_for(lambda: list(ex.closes.values()) == [1000])
            # At half of the longest backoff or later, where the first of another kind comes at once.
            assert feed.status()["endpoints"]["x"]["state"] == "backoff"
            time.sleep(0.3)
            assert ex.accepted == 1
    (down,) = events_of(items, "x", Down)
    assert (down.reason.kind, down.reason.text) == ("login_failed", text)


def test_frames_that_subscribe_are_signed_one_by_one(tmp_path: Path) -> None:
    items: list[Item] = []
    login = f"""[login]\nneeds = ["key"]\nsubscribe = '{{"by":"$sign"}}'\n[hooks]\nsign = "{HOOKS}fresh"\n"""
    peer = Peer()
    with Exchange(ack=peer) as ex:
        endpoint = ex.endpoint("x", **settings(written(tmp_path, login), subscribe=["a", "b"], login={"key": "K"}))
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            feed.subscribe("x", ["c"])
            items += collect(feed, lambda item: is_message("x")(item) and b'"c"' in item.data)  # type: ignore[union-attr]
    assert [(said["sub"], said["by"]) for said in peer.heard if "sub" in said] == [
        (["a"], f"K a {peer.heard[1]['n']}"), (["b"], f"K b {peer.heard[2]['n']}"), (["c"], f"K c {peer.heard[3]['n']}"),
    ]  # fmt: skip
    assert not events_of(items, "x", Rejected)


def test_the_peers_challenge_is_signed_in_each_frame_that_subscribes_also_by_the_next_owner(tmp_path: Path) -> None:
    challenge = f"""
[login]
needs = ["key"]
challenge = '{{"challenge":"$key","id":"$id"}}'
answer = {{ match = {{ event = "challenge" }}, value = "message" }}
subscribe = '{{"challenge":"$challenge","by":"$sign"}}'
error = [{{ match = {{ event = "error" }} }}]
[hooks]
sign = "{HOOKS}challenged"
"""
    items: list[Item] = []
    peer = Peer()
    with Exchange(ack=peer) as ex:
        endpoint = ex.endpoint("x", **settings(written(tmp_path, challenge), login={"key": "K"}))
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            ex.wait_received(lambda frame: json.loads(frame.payload) == {"challenge": "K", "id": 2})
            ex.send('{"event":"challenge","message":"c-1"}')
            items += collect(feed, is_event(Restored, "x"))
            if capabilities.custody():
                wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
                os.kill(pid_of(feed, "x"), signal.SIGKILL)
                items += collect(feed, is_event(Up, "x", 2))
            feed.subscribe("x", ["b"])
            items += collect(feed, lambda item: is_message("x")(item) and b'"b"' in item.data)  # type: ignore[union-attr]
    asked = [(said["sub"], said["challenge"], said["by"]) for said in peer.heard if "sub" in said]
    assert asked == [(["a"], "c-1", "K signs c-1"), (["b"], "c-1", "K signs c-1")]
    assert not any(b"challenge" in message.data for message in messages_of(items, "x"))


def test_a_hook_says_where_to_connect_anew_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    items: list[Item] = []
    with Rest(lambda asked: Answer(json.dumps({"token": f"t{len(rest.asked)}"}).encode())) as rest, Exchange(ack=Peer()) as ex:
        hooks = {"before_connect": f"{HOOKS}token", "sign": f"{HOOKS}sign"}
        more = settings(written(tmp_path, BY_FRAME), hooks=hooks, headers={"X-Rest": rest.url})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            ex.drop()
            items += collect(feed, is_event(Restored, "x", 2))
            status = json.dumps(feed.status())
        assert [request.path for request in ex.requests] == ["/?token=t1", "/?token=t2"]
        assert all(request.headers["x-via"] == "hook" and "x-rest" not in request.headers for request in ex.requests)
        assert [(asked.method, asked.path, asked.body) for asked in rest.asked] == [("POST", "/token?key=K", b"{}")] * 2
        logins = [json.loads(frame.payload) for frame in ex.received if b'"login"' in frame.payload]
        assert [login["signed"][1] for login in logins] == [[rest.url, "t1"], [rest.url, "t2"]]
    seen = status + caplog.text + repr(items)
    for secret in (SECRET, "token=t1", "token=t2", '"t1"', "'t1'"):
        assert secret not in seen


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (Answer(b"slow down", 429, {"Retry-After": "1"}), "connect_failed", "/token answered with HTTP 429 Too Many Requests"),
        (Answer(b"who?", 401), "login_failed", "/token answered with HTTP 401 Unauthorized"),
        (Answer(b"<html>"), "connect_failed", "/token did not answer in JSON"),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), "connect_failed", "answered with HTTP 302 Found"),
    ],
)
def test_what_a_hook_is_refused_is_the_reason(answer: Answer, kind: str, text: str, tmp_path: Path) -> None:
    items: list[Item] = []
    with Rest(lambda _: answer) as rest, Exchange(ack=Peer()) as ex:
        more = settings(written(tmp_path), login={}, hooks={"before_connect": f"{HOOKS}token"}, headers={"X-Rest": rest.url})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Down, "x"))
            first = time.monotonic()
            if answer.status == 429:
                wait_until(lambda: len(rest.asked) >= 2, DEADLINE)
                assert time.monotonic() - first > 0.9
        assert ex.accepted == 0
    reason = events_of(items, "x", Down)[0].reason
    assert reason.kind == kind
    assert text in reason.text
    assert "key=" not in reason.text  # what follows the question mark is nobody's business
    assert reason.status == (None if answer.status == 200 else answer.status)
    assert reason.retry_after == (1.0 if answer.status == 429 else None)


def test_a_hook_that_refuses_the_keys_is_a_failed_login(tmp_path: Path) -> None:
    items: list[Item] = []
    with Exchange() as ex:
        more = settings(written(tmp_path), login={}, hooks={"before_connect": f"{HOOKS}refuses"})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Down, "x"))
    reason = events_of(items, "x", Down)[0].reason
    assert (reason.kind, reason.text) == ("login_failed", "before_connect: this key may not trade")


def test_row_64_what_the_exchange_and_the_hooks_repeat_of_secrets_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSA_SECRET", SECRET)
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    login = f"""
error = [{{ match = {{ bad = "*" }}, id = "bad" }}]
[login]
needs = ["key", "secret"]
frame = '{{"login":"$key","more":"$sign"}}'
subscribe = '{{"by":"$sign"}}'
ack = [{{ match = {{ in = true }} }}]
error = [{{ match = {{ in = false }} }}]
[hooks]
sign = "{HOOKS}talks"
"""
    refused: list[bool] = []

    def echo(frame: str | bytes) -> list[str] | None:
        said = json.loads(frame)
        if "login" in said:
            refused.append(not refused)
            return [json.dumps({"in": not refused[-1], "request": said})]
        return [json.dumps({"bad": said["n"], "request": said})] if "sub" in said else None

    with Exchange(ack=echo) as ex:
        more = (
            f"subscribe = ['c']\n[defaults]\ndialect = {json.dumps(written(tmp_path, login))}\nsubscribe = ['a']\n"
            "[defaults.login]\nkey = 'a-key-of-mine'\nsecret = '${WSA_SECRET}'\n"
        )
        config = str(write_config(tmp_path / "a.toml", {"x": ex.url, "y": ex.url}, more=more))
        with Running(tmp_path, config, "--log-level", "debug") as running:
            said = lambda: json.dumps(running.events("down"))  # noqa: E731
            running.wait_until(lambda: running.events("rejected") and "what is ***?" in said() and "request" in said())
            shown = [wsadapter(tmp_path, "status", "--json").stdout, *map(command_line, tree_of(running.process.pid))]
            running.process.send_signal(signal.SIGUSR1)
            running.wait_for_log('"endpoints"')
            assert running.stop() == 0
        shown += [supervise(tmp_path, config, "--check", "--show").stdout, *running.log, *map(json.dumps, running.output)]
    assert any(SECRET.encode() in frame.payload for frame in ex.received)
    assert any("signing Signing(" in line for line in running.log)
    assert "***" in running.events("rejected")[0]["error"]
    assert not [text for text in shown if SECRET in text or "a-key-of-mine" in text]


RENEWING = BY_FRAME.replace("60.0", "0.3") + f'before_connect = "{HOOKS}token"\nrenew = "{HOOKS}renew"\n'


def good(rest: Callable[[], Rest]) -> Callable[[Asked], Answer]:
    """A token for whoever asks, and every renewal is granted but those of the first token from the third on."""

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(json.dumps({"token": f"t{sum(each.method == 'POST' for each in rest().asked)}"}).encode())
        old = [each.path for each in rest().asked].count("/renew/t1")
        return Answer(status=400 if asked.path == "/renew/t1" and old > 2 else 200)

    return answer


def test_it_is_renewed_and_where_that_fails_another_connection_comes_first(tmp_path: Path) -> None:
    items: list[Item] = []
    with Rest(good(lambda: rest)) as rest, Exchange(ack=Peer()) as ex:
        more = settings(written(tmp_path, RENEWING), headers={"X-Rest": rest.url}, identity=["s"])
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x", 2))
            wait_until(lambda: "/renew/t2" in [asked.path for asked in rest.asked], DEADLINE)
    assert [asked.path for asked in rest.asked].count("/renew/t1") == 3
    (first, last) = events_of(items, "x", Down)
    assert (first.reason.kind, last.reason.kind) == ("recycled", "stopped")
    assert ex.closes[1] == 1000
    assert not [gap for gap in events_of(items, "x", Gap) if gap.cause != "replaced"]


def test_a_renewal_that_fails_while_a_change_is_under_way_is_not_forgotten_with_it(tmp_path: Path) -> None:
    items: list[Item] = []
    peer = Peer()
    limits = {"connects": 1, "connects_period": 1.0}
    with Rest(good(lambda: rest)) as rest, Exchange(ack=peer, tls=True) as ex:
        dialect = written(tmp_path, RENEWING.replace("0.3", "0.2"))
        more = settings(dialect, headers={"X-Rest": rest.url}, identity=["s"], limits=limits)
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            by_hand = feed.begin_restart("x")  # it waits for the budget, and the third renewal fails meanwhile
            peer.answer = {"in": False, "why": "not now"}
            with pytest.raises(NotConnected, match="the old connection stays: login failed, not now"):
                by_hand.result(DEADLINE)
            peer.answer = {"in": True}
            items += collect(feed, is_event(Restored, "x", 2))
    assert [asked.path for asked in rest.asked].count("/renew/t1") == 3
    assert {down.reason.kind for down in events_of(items, "x", Down)} == {"recycled", "stopped"}


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_who_goes_on_with_a_connection_renews_what_it_did_not_ask_for(tmp_path: Path) -> None:
    items: list[Item] = []
    with Rest(good(lambda: rest)) as rest, Exchange(ack=Peer()) as ex:
        more = settings(written(tmp_path, RENEWING.replace("0.3", "1.0")), headers={"X-Rest": rest.url})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
            os.kill(pid_of(feed, "x"), signal.SIGKILL)
            items += collect(feed, is_event(Up, "x", 2))
            wait_until(lambda: len(rest.asked) == 2, DEADLINE)
            assert [(asked.method, asked.path) for asked in rest.asked][1:] == [("PUT", "/renew/t1")]
        assert sum(b'"login"' in frame.payload for frame in ex.received) == 1
    assert [up.resumed for up in events_of(items, "x", Up)] == [False, True]


def test_a_refusal_does_not_wait_for_what_the_user_wanted_to_send(tmp_path: Path) -> None:
    items: list[Item] = []
    with Exchange(ack=Peer({})) as ex:
        more = settings(written(tmp_path, BY_FRAME), restart={"backoff_max": 60.0})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Up, "x"))
            ex.wait_received(lambda frame: b'"login"' in frame.payload)
            sent, asked = feed.begin_send("x", "mine"), feed.begin_request("x", {"id": 5})
            feed.unsubscribe("x", ["a"])
            feed.subscribe("x", ["b"])
            refused = time.monotonic()
            ex.send('{"in":false}')
            items += collect(feed, is_event(Down, "x"))
            assert time.monotonic() - refused < 1.5  # of `timeouts.close` are 5
            for future, error in ((sent, NotConnected), (asked, NotSent)):
                with pytest.raises(error, match="nothing was sent"):
                    future.result(DEADLINE)
        assert not any(b"mine" in frame.payload for frame in ex.received)
    assert events_of(items, "x", Down)[0].reason.kind == "login_failed"


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_an_owner_that_dies_before_its_answer_leaves_no_login_behind(tmp_path: Path) -> None:
    items: list[Item] = []
    peer = Peer({})
    dialect = written(tmp_path, BY_FRAME)
    with Exchange(ack=peer) as ex, to_the_end(items, ex.endpoint("x", **settings(dialect)), start_method="forkserver") as feed:
        items += collect(feed, is_event(Up, "x"))
        ex.wait_received(lambda frame: b'"login"' in frame.payload)
        peer.answer = {"in": True}
        os.kill(pid_of(feed, "x"), signal.SIGKILL)
        items += collect(feed, is_event(Restored, "x", 2))
    assert [next(iter(said)) for said in peer.heard] == ["conf", "login", "conf", "login", "sub"]


@pytest.mark.skipif(not capabilities.custody(), reason="needs pidfd and the kernel's counters")
def test_what_was_at_the_hook_when_its_owner_died_is_signed_by_the_next(tmp_path: Path) -> None:
    items: list[Item] = []
    login = f"""
[login]
needs = ["key", "secret"]
frame = '{{"login":"$key"}}'
subscribe = '{{"by":"$sign"}}'
ack = [{{ match = {{ in = true }} }}]
[hooks]
sign = "{HOOKS}slow"
"""
    peer = Peer()
    dialect = Path(written(tmp_path, login))
    less = """subscribe = { unsubscribe = '{"unsub":"$streams"}', """
    dialect.write_text(dialect.read_text("utf-8").replace("subscribe = { ", less))
    with (
        Exchange(ack=peer) as ex,
        to_the_end(items, ex.endpoint("x", **settings(str(dialect))), start_method="forkserver") as feed,
    ):
        items += collect(feed, is_event(Restored, "x"))
        wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
        feed.unsubscribe("x", ["a"])
        feed.send("x", '{"mine":1}')  # behind it the owner has heard of the other
        os.kill(pid_of(feed, "x"), signal.SIGKILL)
        ex.wait_received(lambda frame: b'"unsub"' in frame.payload)
    assert [said["unsub"] for said in peer.heard if "unsub" in said] == [["a"]]


@pytest.mark.parametrize(
    ("key", "hook", "kind", "text"),
    [
        ("sign", "cancels", "login_failed", "the hook sign: Cancelled: no such thing"),
        ("before_connect", "cancels", "connect_failed", "before_connect: Cancelled: no such thing"),
        ("before_connect", "refuses_oddly", "connect_failed", "before_connect: odd"),
        ("sign", "not_there", "config", "hooks.sign = 'tests.support.login_hooks:not_there' can't be imported"),
    ],
)
def test_what_few_would_expect_of_a_hook_is_told_at_once(key: str, hook: str, kind: str, text: str, tmp_path: Path) -> None:
    items: list[Item] = []
    with Exchange(ack=Peer()) as ex:
        more = settings(written(tmp_path, BY_FRAME), hooks={key: HOOKS + hook}, restart={"backoff_max": 60.0})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Down, "x"), 5.0)
    reason = events_of(items, "x", Down)[0].reason
    assert (reason.kind, reason.text[: len(text)]) == (kind, text)


def test_a_successor_that_may_not_log_in_changes_nothing_and_the_next_one_does(tmp_path: Path) -> None:
    items: list[Item] = []
    peer = Peer()
    with Exchange(ack=peer, tls=True) as ex:
        more = settings(written(tmp_path, BY_FRAME), identity=["s"], watchdog={"max_age": 0.5, "rollover_window": 0.1})
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            peer.answer = {"in": False, "why": "not now"}
            ex.wait_for(lambda: 1000 in ex.closes.values())
            assert pid_of(feed, "x")
            assert feed.status()["endpoints"]["x"]["epoch"] == 1
            peer.answer = {"in": True}
            items += collect(feed, is_event(Restored, "x", 2))
    assert {down.reason.kind for down in events_of(items, "x", Down)} == {"recycled", "stopped"}


def test_each_replica_logs_in(tmp_path: Path) -> None:
    items: list[Item] = []
    peer = Peer()
    with Exchange(ack=peer) as ex:
        more = settings(written(tmp_path, BY_FRAME), identity=["s"], replicas=2)
        with to_the_end(items, ex.endpoint("x", **more), start_method="forkserver") as feed:
            items += collect(feed, lambda item: isinstance(item, Up) and item.live == 2)
            ex.wait_for(lambda: [next(iter(said)) for said in peer.heard].count("sub") == 2)
    assert [next(iter(said)) for said in peer.heard].count("login") == 2


def test_private_feeds_of_kraken_futures_are_subscribed_with_the_signed_challenge() -> None:
    items: list[Item] = []
    secret = base64.b64encode(b"of the account").decode()
    fills, ticker = {"feed": "fills"}, {"feed": "ticker", "product_ids": ["PF_XBTUSD"]}
    messages = ['{"feed":"fills","fills":[{"seq":100}]}', '{"feed":"ticker","product_id":"PF_XBTUSD","bid":1}']
    with Exchange(dialect="kraken_futures", messages=messages) as ex:
        endpoint = ex.endpoint("x", subscribe=[fills, ticker], login={"key": "K", "secret": secret})
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            if capabilities.custody():  # the next owner signs the same challenge
                wait_until(lambda: feed.status()["endpoints"]["x"]["in_custody"], DEADLINE)
                os.kill(pid_of(feed, "x"), signal.SIGKILL)
                items += collect(feed, is_event(Up, "x", 2))
            feed.subscribe("x", [{"feed": "balances"}])
            ex.wait_received(lambda frame: b'"balances"' in frame.payload)
        asked = [json.loads(frame.payload) for frame in ex.received if b"subscribe" in frame.payload]
        assert ex.violations == []
    (challenge,) = {frame["original_challenge"] for frame in asked if frame["feed"] != "ticker"}
    signed = {"api_key": "K", "original_challenge": challenge, "signed_challenge": signature(secret, challenge)}
    assert sorted(asked, key=lambda frame: str(frame["feed"])) == [
        {"event": "subscribe", "feed": "balances", **signed}, {"event": "subscribe", **fills, **signed},
        {"event": "subscribe", **ticker},
    ]  # fmt: skip
    assert any(b"fills" in message.data for message in messages_of(items, "x"))
    assert secret not in repr(items)


def test_private_channels_of_bitstamp_are_subscribed_with_a_token_that_is_asked_for_anew_when_it_is_old() -> None:
    items: list[Item] = []
    mine = [f"private-my_{what}_btcusd-1" for what in ("orders", "trades")]
    answers = {
        1: Answer(b'{"token":"t1","valid_sec":60}'), 2: Answer(b"busy", 503), 3: Answer(b'{"token":"t3","valid_sec":1}'),
        4: Answer(b'{"reason":"Invalid signature"}', 403),
    }  # fmt: skip
    with Rest(lambda _: answers[len(rest.asked)]) as rest, Exchange(dialect="bitstamp") as ex:
        endpoint = ex.endpoint(
            "x", subscribe=["live_trades_btcusd", mine[0]], login={**LOGIN, "rest": rest.url},
            hooks={"sign": f"{HOOKS}bitstamp_at_rest"},
        )  # fmt: skip
        with to_the_end(items, endpoint, start_method="forkserver") as feed:
            items += collect(feed, is_event(Restored, "x"))
            feed.subscribe("x", mine[1:])
            items += collect(feed, lambda item: isinstance(item, Subscribed) and item.stream == mine[1])
            feed.subscribe("x", ["private-my_trades_btcusd-2"])
            items += collect(feed, is_event(Down, "x"))
        asked = [json.loads(frame.payload)["data"] for frame in ex.received if b":subscribe" in frame.payload]
        assert ex.violations == []
    assert asked == [
        {"channel": "live_trades_btcusd"}, {"channel": mine[0], "auth": "t1"}, {"channel": mine[1], "auth": "t3"},
    ]  # fmt: skip
    assert [(one.method, one.path, one.headers["x-auth"]) for one in rest.asked] == [
        ("POST", "/api/v2/websockets_token/", "BITSTAMP K"),
    ] * 4  # fmt: skip
    (down,) = events_of(items, "x", Down)
    assert (down.reason.kind, "answered with HTTP 403" in down.reason.text) == ("login_failed", True)
