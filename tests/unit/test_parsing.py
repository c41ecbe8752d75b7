"""JSON lines and the items that they were made of."""

from __future__ import annotations

import pytest

from wsadapter.contract.items import (
    AnyEvent,
    Batch,
    ClockStep,
    Down,
    Dropped,
    Fatal,
    Gap,
    LateAnswer,
    Notice,
    Rejected,
    Restored,
    Stalled,
    Started,
    Subscribed,
    Up,
)
from wsadapter.contract.reasons import Reason
from wsadapter.outputs.lines import batch_lines, event_line
from wsadapter.outputs.parsing import NotALine, parse

EVENTS: list[AnyEvent] = [
    Started("", 0, 1, "run", "prices", "1.0"),
    Up("a", 1, 2, "v1", {"server": "x"}, member=2, live=1),
    Down("a", 1, 3, Reason(kind="closed_by_peer", code=1006, text='é","data":1')),
    Gap("a", 2, 4, "sequence", 3, None, 5, 7, 'x","data":'),
    Dropped("a", 2, 5, 7, 9, 3, 30, "overflow"),
    Subscribed("a", 2, 6, "trades"),
    Rejected("a", 2, 6, "trades", "no"),
    Restored("a", 2, 6, 3, ("x", "y")),
    Stalled("a", 2, 6, None, 1.5),
    Notice("a", 2, 6, "bye"),
    LateAnswer("a", 2, 6, "7", b'{"data": 1 }'),
    LateAnswer("a", 2, 6, "7", b"no json"),
    ClockStep("", 0, 6, -1.5),
    Fatal("a", 2, 6, Reason(kind="handshake_rejected", status=401)),
]
PAYLOADS = [b'{"p": 1.50 }', b" [1] ", b"no json", b"\xff\x00", b'"x\\"data\\":1"', b"", b"1", b'{"a":\n1}']


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_is_as_it_was(event: AnyEvent) -> None:
    assert list(parse(event_line(event))) == [event]


@pytest.mark.parametrize("streams", [None, ['a,"data":1', None, "b", "b", "b", "b", "b", "b"]])
def test_messages_are_as_they_were(streams: list[str | None] | None) -> None:
    binary = [payload == b"\xff\x00" for payload in PAYLOADS]
    batch = Batch('a"b', PAYLOADS, epoch=3, first_number=7, received_at=99, binary=binary, streams=streams)
    (found,) = parse(batch_lines(batch))
    assert isinstance(found, Batch)
    assert found.messages() == batch.messages()


def test_what_was_not_read_at_once_is_not_one_batch() -> None:
    def made(number: int, at: int, epoch: int = 1) -> Batch:
        return Batch("a", [b"1", b"2"], epoch=epoch, first_number=number, received_at=at)

    batches = [made(1, 5), made(3, 6), made(5, 6, 2), made(9, 6, 2)]
    lines = b"".join(map(batch_lines, batches)) + event_line(EVENTS[1]) + batch_lines(made(11, 6, 2))
    shown = [(item.first_number, len(item)) if isinstance(item, Batch) else item for item in parse(lines)]
    assert shown == [(1, 2), (3, 2), (5, 2), (9, 2), EVENTS[1], (11, 2)]


@pytest.mark.parametrize("line", [b"{", b"{}", b'{"event":"of a newer version"}', b'{"event":"down","reason":{}}', b"[1]"])
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(NotALine):
        list(parse(line + b"\n"))
