"""Is the output what it promises? Reads its JSON lines and compares them with what the exchanges replay, byte by byte."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

_MOST_PROBLEMS = 20


@dataclass
class Tally:
    """What one endpoint delivered."""

    messages: int = 0
    missing: int = 0
    """Numbers that never came and that no `dropped` accounts for."""
    dropped: int = 0
    gaps: int = 0
    ups: int = 0
    expected: int = 1
    """The number to come."""
    epoch: int = 0
    """The epoch that is up; 0 while none is."""
    owes_gap: bool = False
    """It came up again, and has not said that something may be missing."""
    places: dict[str, set[int]] = field(default_factory=dict)
    """Where among the messages of its stream the last one may stand; of a stream that is not here the next may be any."""


@dataclass
class Continuity:
    """The judge. `recordings`: the payloads of each stream that each exchange sends, over and over."""

    recordings: Mapping[str, Mapping[str, Sequence[bytes]]]
    tallies: dict[str, Tally] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places: dict[tuple[str, str], dict[bytes, set[int]]] = {}
        for name, streams in self.recordings.items():
            self.tallies[name] = Tally()
            for stream, payloads in streams.items():
                places: dict[bytes, set[int]] = defaultdict(set)
                for place, payload in enumerate(payloads):
                    places[payload].add(place)
                self._places[name, stream] = dict(places)

    def feed(self, line: bytes) -> dict[str, Any] | None:
        """One line of the output; gives it back parsed where it is an event."""
        said: dict[str, Any] = orjson.loads(line)
        name = said.get("endpoint")
        if "event" not in said:
            self._message(str(name), said, _payload(line, said))
            return None
        if name is not None:
            self._event(str(name), said)
        return said

    def _message(self, name: str, said: dict[str, Any], payload: bytes) -> None:
        tally = self.tallies[name]
        tally.messages += 1
        if said["number"] != tally.expected:
            tally.missing += max(0, said["number"] - tally.expected)
            self._complain(f"{name}: number {said['number']} came where {tally.expected} was due")
            tally.places.clear()
        tally.expected = said["number"] + 1
        if said["epoch"] != tally.epoch:
            self._complain(f"{name}: #{said['number']} is of epoch {said['epoch']}, but epoch {tally.epoch} is up")
        if tally.owes_gap:
            tally.owes_gap = False
            self._complain(f"{name}: #{said['number']} follows a new connection without a gap between")
        self._compare(name, str(said.get("stream")), said["number"], payload)

    def _compare(self, name: str, stream: str, number: int, payload: bytes) -> None:
        before = self.tallies[name].places
        known = self._places.get((name, stream), {}).get(payload, set())
        if not known:
            self._complain(f"{name}: #{number} is not what the exchange sent for {stream}: {payload[:80]!r}")
        elif stream in before:
            size = len(self.recordings[name][stream])
            known = known & {(place + 1) % size for place in before[stream]}  # not &=: it is the index's own set
            if not known:
                self._complain(f"{name}: #{number} does not follow the message of {stream} before it in what the exchange sent")
        if known:
            before[stream] = known
        else:
            before.pop(stream, None)

    def _event(self, name: str, said: dict[str, Any]) -> None:
        tally = self.tallies[name]
        match said["event"]:
            case "up":
                if tally.epoch:
                    self._complain(f"{name}: epoch {said['epoch']} is up while epoch {tally.epoch} was not down")
                tally.epoch = said["epoch"]
                tally.owes_gap = tally.ups > 0 and not said["resumed"]
                tally.ups += 1
                tally.places.clear()
            case "down":
                tally.epoch = 0
            case "gap":
                tally.gaps += 1
                tally.owes_gap = False
                tally.places.clear()
            case "dropped" if said["first"] is not None:
                tally.dropped += said["count"]
                tally.expected = max(tally.expected, said["last"] + 1)
                tally.places.clear()

    def _complain(self, problem: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def _payload(line: bytes, said: dict[str, Any]) -> bytes:
    """The payload's own bytes; `data` is the last key and holds them as they came."""
    if "data" in said:
        return line.rstrip().partition(b'"data":')[2][:-1]
    return said["text"].encode() if "text" in said else base64.b64decode(said["binary"])
