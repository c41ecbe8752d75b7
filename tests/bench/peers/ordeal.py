"""What every peer is put through, with real owners."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.peers.catalogue import Reached
from wsadapter import Down, Endpoint, Gap, LostError, Message, Supervisor, Up
from wsadapter.contract.items import Dropped, Item

_PATIENCE: Final = 40.0
_SIZES: Final = (0, 1, 125, 126, 4000, 65535, 65536, 300_000)
_RATE: Final = 1000
_CODE: Final = 4001
_REASON: Final = "bye, ünïcode"
_NO_WAIT: Final = {"backoff_initial": 0.0, "backoff_max": 0.2, "intensity": 1_000_000}
_HEARTBEAT: Final = {"kind": "ping", "interval": 0.5, "timeout": 20.0}
_LONG: Final = 4.0
"""Seconds in which several pings of the peer's go by."""


class Failed(Exception):
    """What the peer and we did is not what it must be."""


@dataclass
class Findings:
    """A row of the table. What went wrong is a text; what is right has what was measured."""

    version: str = ""
    data: str = "-"
    pings: str = "-"
    closes: str = "-"
    compression: str = "-"
    kills: str = "-"
    wrong: list[str] = field(default_factory=list)


def ordeal(reached: Reached, kills: int, seed: int) -> Findings:
    """All of it, one after the other."""
    found = Findings(reached.version)
    trials: dict[str, Callable[[Reached], str]] = {
        "data": _data,
        "compression": _compression,
        "pings": _pings,
        "closes": _closes,
        "kills": lambda peer: Kills(peer, random.Random(seed)).run(kills),
    }
    for name, trial in trials.items():
        try:
            setattr(found, name, trial(reached))
        except (Failed, TimeoutError, LostError) as error:
            text = str(error) or f"nothing came within {_PATIENCE:g} s"
            setattr(found, name, f"WRONG: {text}")
            found.wrong.append(f"{name}: {text}")
    return found


def endpoint(peer: Reached, path: str, **settings: Any) -> Endpoint:
    """One that connects to the peer."""
    usual = {"restart": _NO_WAIT, "heartbeat": _HEARTBEAT, "max_message": 64 * 1024 * 1024, "compression": False}
    settings = {**usual, "watchdog": {"progress": 5.0}, **settings}
    tls = {"ca_file": peer.ca_file} if peer.ca_file else {}
    return Endpoint("peer", url=peer.url + path, tls=tls, proxy=peer.proxy or "none", **settings)


def _until(feed: Supervisor, kind: type[Any], *, ok: tuple[type[Any], ...] = (Message,)) -> Any:
    """The next item of that kind. Raises `Failed` where an event comes that is not `ok`."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        item = feed.get(max(0.01, deadline - time.monotonic()))
        if isinstance(item, kind):
            return item
        if isinstance(item, Down | Gap | Dropped) and not isinstance(item, ok):
            raise Failed(f"{item}")


def _exchange_of_data(feed: Supervisor, messages: list[str | bytes]) -> None:
    """Each comes back as it was sent. Raises `Failed`."""
    for sent in messages:
        feed.send("peer", sent)
        back = _until(feed, Message)
        expected = sent.encode() if isinstance(sent, str) else sent
        if (back.data, back.binary) != (expected, isinstance(sent, bytes)):
            raise Failed(f"{len(expected)} bytes of {type(sent).__name__} came back as {len(back.data)}, binary={back.binary}")


def _messages(peer: Reached) -> list[str | bytes]:
    dice = random.Random(1)
    sizes = _SIZES if peer.empties else _SIZES[1:]
    texts: list[str | bytes] = ["y" * (size - 2) + "é" if size > 1 else "x" * size for size in sizes]
    return [*texts, *(dice.randbytes(size) for size in sizes), dice.randbytes(peer.largest), json.dumps(list(range(100_000)))]


def _data(peer: Reached) -> str:
    """Exact data both ways, at the borders of the frame's three lengths."""
    messages = _messages(peer)
    with Supervisor([endpoint(peer, "/echo")]) as feed:
        _until(feed, Up)
        _exchange_of_data(feed, messages)
    return f"{len(messages)} exact{'' if peer.empties else ', it sends none that is empty'}"


def _compression(peer: Reached) -> str:
    """The same with permessage-deflate offered, and what the peer says to it."""
    with Supervisor([endpoint(peer, "/echo", compression="no_context_takeover")]) as feed:
        agreed = _until(feed, Up).headers.get("sec-websocket-extensions", "")
        _exchange_of_data(feed, _messages(peer))
    if "permessage-deflate" not in agreed:
        return "declined"
    return "no takeover" if "server_no_context_takeover" in agreed else "takeover"


def _pings(peer: Reached) -> str:
    """Ours are answered, and the peer, which pings too, is content with our answers."""
    with Supervisor([endpoint(peer, "/echo")]) as feed:
        _until(feed, Up)
        began = time.monotonic()
        rtt = None
        while (waited := time.monotonic() - began) < _LONG or (rtt is None and waited < _PATIENCE):
            with suppress(TimeoutError):
                item = feed.get(0.1)
                if isinstance(item, Down):
                    raise Failed(f"{item}")
            rtt = feed.status()["endpoints"]["peer"]["rtt"]
    if rtt is None:
        raise Failed("no ping of ours was answered")
    return f"{rtt * 1000:.1f} ms"


def _closes(peer: Reached) -> str:
    """The peer's code and reason arrive here, and ours there."""
    with Supervisor([endpoint(peer, f"/close?code={_CODE}&reason=bye%2C%20%C3%BCn%C3%AFcode")]) as feed:
        _until(feed, Up)
        feed.send("peer", "now")
        reason = _until(feed, Down, ok=(Down,)).reason
    if reason.code != _CODE:
        raise Failed(f"closed with {reason.code} ({reason.text}) instead of {_CODE}")
    said = "" if reason.text == _REASON else f", reason {reason.text!r}"
    before = len(peer.server.closes("/echo"))
    with Supervisor([endpoint(peer, "/echo")]) as feed:
        _until(feed, Up)
    deadline = time.monotonic() + _PATIENCE
    while len(peer.server.closes("/echo")) <= before:
        if time.monotonic() > deadline:
            raise Failed("the peer did not notice that we closed")
        time.sleep(0.02)
    code = peer.server.closes("/echo")[-1]
    return f"{_CODE}{said}; ours {code}"


class Judge:
    """What one endpoint's items must be. Each connection of the peer counts from 0. Pure."""

    def __init__(self) -> None:
        self._expected = 0
        self._covered = True
        self.received = self.gaps = self.resumed = 0

    def take(self, item: Item) -> None:
        """Raises `Failed` where a message is missing without a gap, comes twice, or was dropped."""
        if isinstance(item, Message):
            number = json.loads(item.data)["n"]
            if number != self._expected and not self._covered:
                raise Failed(f"message {number} where {self._expected} was expected, without a gap")
            self._expected = number + 1
            self._covered = False
            self.received += 1
        elif isinstance(item, Gap):
            self.gaps += 1
            self._covered = True
        elif isinstance(item, Dropped):
            raise Failed(f"{item}")
        elif isinstance(item, Up):
            self.resumed += item.resumed


class Kills:
    """`kill -9` of owners under numbered messages."""

    def __init__(self, peer: Reached, dice: random.Random) -> None:
        self._peer = peer
        self._dice = dice
        self._judge = Judge()
        self._killed = 0

    def run(self, kills: int) -> str:
        """So many. Raises `Failed` where a message is lost in silence or comes twice, or where anything is lost on ws://."""
        with Supervisor([endpoint(self._peer, f"/count?rate={_RATE}")]) as feed:
            items = self._items(feed)
            for _ in range(kills):
                self._until_flowing(feed, items)
                self._wait(items, self._dice.uniform(0.0, 0.3))
                pid = feed.status()["endpoints"]["peer"]["pid"]
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    self._killed += 1
                self._until_next_owner(items)
            self._until_flowing(feed, items)
        found = self._judge
        if self._peer.lossless and (found.gaps or found.resumed != self._killed):
            raise Failed(f"{found.gaps} gaps, {found.resumed} of {self._killed} connections went on")
        return f"{self._killed}: {found.received:,} messages, {found.gaps} gaps"

    def _items(self, feed: Supervisor) -> Iterator[Item | None]:
        """Each is judged before it is given; None every now and then where nothing comes."""
        while True:
            try:
                item = feed.get(0.05)
            except TimeoutError:
                yield None
                continue
            self._judge.take(item)
            yield item

    def _until_flowing(self, feed: Supervisor, items: Iterator[Item | None]) -> None:
        """Until messages come, a warm spare is there, and the connection would outlive its owner, where it can."""
        mark = self._judge.received + 20
        deadline = time.monotonic() + _PATIENCE
        look_at = 0.0
        for _ in items:
            now = time.monotonic()
            if now > deadline:
                raise Failed("the next owner did not get to work")
            if self._judge.received < mark or now < look_at:
                continue
            look_at = now + 0.05
            status = feed.status()
            one = status["endpoints"]["peer"]
            if status["spares"] and one["state"] == "up" and (one["in_custody"] or not self._peer.lossless):
                return

    def _wait(self, items: Iterator[Item | None], seconds: float) -> None:
        end = time.monotonic() + seconds
        for _ in items:
            if time.monotonic() >= end:
                return

    def _until_next_owner(self, items: Iterator[Item | None]) -> None:
        deadline = time.monotonic() + _PATIENCE
        for item in items:
            if isinstance(item, Up):
                return
            if time.monotonic() > deadline:
                raise Failed("no owner came after a kill")
