"""The cases of tests/support/conversations with owners, sockets and a supervisor: what an exchange says, and what comes out.

tests/unit/test_conversations.py plays all of them without sockets; here are those that take few seconds of their own clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.conversations.driver import Conversation, name_of
from tests.support.conversations.script import cases_of, dialects, without_clock
from tests.support.conversations.server import SAID, Played, Server
from wsadapter import Down, Endpoint, Gap, Item, Message, Notice, Rejected, Restored, Stalled, Subscribed, Supervisor, Up
from wsadapter.config.dialect import load_dialect

LONGEST = 6.0
"""Seconds of a case's own clock."""
REFUSED_AT_START = {"without a login a private feed is rejected, and no challenge is asked for"}
"""What a configuration can't ask for."""
DEADLINE = 60.0
NO_HEARTBEATS = {"kind": "none", "server_interval": 3600.0}
"""The cases have none in so short a time, but a slow machine may take longer."""
PARTS = 4
HOOKS = "tests.support.conversations.hooks"
UNSUBSCRIBED = b"unsubscribed"


def short_cases(part: int) -> dict[str, dict[str, Any]]:
    """The cases of every fourth dialect, by the names of their endpoints."""
    found = {}
    for dialect in dialects()[part::PARTS]:
        for place, case in enumerate(cases_of(dialect)):
            if case["name"] in REFUSED_AT_START or "hooks" in case:  # with hooks: signatures of a certain second
                continue
            conversation = Conversation(case)
            conversation.run()
            if conversation.now <= LONGEST:
                found[f"{dialect}-{place}"] = case
    return found


def endpoint(name: str, case: Mapping[str, Any], port: int) -> Endpoint:
    settings = case.get("settings", {})
    hooks = {}
    if case.get("login"):
        own = load_dialect(case["dialect"]).get("hooks", {})
        hooks = {hook: f"{HOOKS}:{hook}" for hook in ("sign", "before_connect") if hook in own}
    return Endpoint(
        name,
        url=f"ws://127.0.0.1:{port}/{name}",
        dialect=case["dialect"],
        subscribe=case.get("subscribe", ()),
        login=case.get("login", {}),
        hooks=hooks,
        restart={"backoff_initial": 600.0, "backoff_max": 600.0},
        **{**settings, "heartbeat": {**NO_HEARTBEATS, **settings.get("heartbeat", {})}},
    )


class Case:
    """One case while it is played."""

    def __init__(self, name: str, played: Played) -> None:
        self.name = name
        self.case = played.case
        self.played = played
        self.items: list[Item] = []
        self._went_on = False
        self._unsubscribed = False
        self._pinged = False
        self._texts_before = 0

    @property
    def _received(self) -> list[str]:
        return self.played.connections[0].received if self.played.connections else []

    @property
    def _pongs(self) -> set[bytes]:
        return self.played.connections[0].pongs if self.played.connections else set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [item for item in self.items if isinstance(item, kind)]

    def step(self, feed: Supervisor, server: Server) -> None:
        """What is to be done now that something may have come."""
        if not self._went_on and self.of(Restored if self.case.get("subscribe") else Up):
            self._went_on = True
            server.go_on(self.name)
        gone = self.case.get("unsubscribe")
        if gone and not self._unsubscribed and SAID in self._pongs:
            self._unsubscribed = True
            self._texts_before = len(self._received)
            feed.unsubscribe(self.name, gone)
        elif self._unsubscribed and not self._pinged and len(self._farewells()) >= len(self.case["farewells"]):
            self._pinged = True
            server.ping(self.name, UNSUBSCRIBED)

    def done(self) -> bool:
        if "down" in self.case:
            return bool(self.of(Down))
        found = self._found()
        last = UNSUBSCRIBED if self.case.get("unsubscribe") else SAID
        return last in self._pongs and all(len(found[key]) >= len(value) for key, value in self._wanted().items())

    def differences(self) -> list[str]:
        """What came out and is not what must come out, when all is over."""
        wanted = self._wanted()
        found = self._found()
        texts = [f"{key}: {found[key]} instead of {value}" for key, value in wanted.items() if found[key] != value]
        texts += [f"not sent: {text}" for text in self.case.get("sent", ()) if text not in self._received]
        for text in self.case.get("never_sent", ()):
            texts += [f"sent: {sent}" for sent in self._received if text in sent]
        return texts

    def _farewells(self) -> list[str]:
        return self._received[self._texts_before :] if self._unsubscribed else []

    def _wanted(self) -> dict[str, list[Any]]:
        case = self.case
        texts = [what for what in case.get("sends", ()) if isinstance(what, str)]
        wanted = {
            "messages": case.get("delivered", texts),
            "rejected": sorted(map(name_of, case.get("rejected", ()))),
            "stalled": sorted(map(name_of, case.get("stalled", ()))),
            "gaps": ["sequence"] * case.get("gaps", 0),
            "notices": sorted([*case.get("notices", ()), *case.get("reconnects", ())]),
            "down": [case["down"][0]] if "down" in case else ["recycled"] * len(case.get("reconnects", ())),
        }
        if case.get("unsubscribe"):
            wanted["farewells"] = list(map(without_clock, case["farewells"]))
        if "streams" in case:
            wanted["streams"] = [name_of(stream) or None for stream in case["streams"]]
        if "subscribed" in case:
            wanted["subscribed"] = sorted(map(name_of, case["subscribed"]))
        return wanted

    def _found(self) -> dict[str, list[Any]]:
        messages, downs = self.of(Message), [down.reason for down in self.of(Down)]
        return {
            "messages": [message.data.decode() for message in messages],
            "streams": [message.stream for message in messages],
            "farewells": list(map(without_clock, self._farewells())),
            "rejected": sorted(event.stream for event in self.of(Rejected)),
            "stalled": sorted(event.stream for event in self.of(Stalled)),
            "gaps": [event.cause for event in self.of(Gap) if event.cause == "sequence"],
            "notices": sorted(event.text for event in self.of(Notice)),
            "subscribed": sorted(event.stream for event in self.of(Subscribed)),
            "down": [reason.kind for reason in downs if reason.kind != "stopped"],
        }


@pytest.mark.parametrize("part", range(PARTS))
def test_what_must_come_out_of_owners_comes_out(part: int) -> None:
    cases = short_cases(part)
    assert len(cases) > 20
    with Server(cases) as server:
        playing = {name: Case(name, played) for name, played in server.played.items()}
        endpoints = [endpoint(name, case, server.port) for name, case in cases.items()]
        with Supervisor(endpoints) as feed:
            end = time.monotonic() + DEADLINE
            left = dict(playing)
            while left and time.monotonic() < end:
                _take(feed, playing)
                for name, case in list(left.items()):
                    case.step(feed, server)
                    if case.done():
                        del left[name]
        for item in feed:
            if item.endpoint:
                playing[item.endpoint].items.append(item)
    wrong = []
    for name, case in playing.items():
        late = [f"not over within {DEADLINE:g} s: {case.items[-5:]}"] if name in left else []
        wrong += [f"{name}: {case.case['name']}: {text}" for text in [*late, *case.differences()]]
    if wrong:
        pytest.fail("\n".join(wrong))
    assert server.errors == []


def _take(feed: Supervisor, playing: Mapping[str, Case]) -> None:
    """What has come; waits a moment for the first."""
    timeout = 0.02
    while True:
        try:
            item = feed.get(timeout)
        except TimeoutError:
            return
        if item.endpoint:
            playing[item.endpoint].items.append(item)
        timeout = 0.0
