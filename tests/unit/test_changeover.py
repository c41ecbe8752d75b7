"""Whether a new connection continues the stream of the old one without a loss: only what can be seen counts."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsadapter.changeover import Changeover, Changing
from wsadapter.contract.commands import Report
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.record import BATCH, NO_IDENTITY, REPORT, SNAPSHOT, Record, RecordReader, encode, field
from wsadapter.merge import merge_for
from wsadapter.reactor import Reactor
from wsadapter.succession import Office, Phase, Succession

READY_AT = 10_000_000_000
EARLY, LATE = READY_AT - 400_000_000, READY_AT - 100_000_000
"""Whether there was time for the old connection to bring it too."""


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


def read(body: bytes, **fields: Any) -> Record:
    (record,) = RecordReader().feed(encode(body, sequence=1, **fields))
    return record


def said(event: str, **fields: Any) -> Record:
    return read(Report(event=event, fields=fields).encode(), kind=REPORT, received_at=0)


def message(identity: int, at: int, stream: int = 0) -> Record:
    tables: dict[str, Any] = {"identities": [identity], "streams": [stream] if stream else None}
    return read(b"x", kind=BATCH, received_at=at, layout=field(0, 1), count=1, **tables)


def continues(reactor: Reactor, delivered: list[int], shown: list[Record], *, in_order: bool, identity: Any = ("n",)) -> bool:
    """`delivered` by the old owner, without a stream; `shown` by its successor, which is ready."""
    endpoint = Endpoint("a", url="ws://localhost", identity=identity)
    office = SimpleNamespace(successor_ready=lambda: None, is_receiving=True)
    succession = Succession(reactor, endpoint, cast("Office", office), "recycled", frozenset(), identified=True)
    succession.phase = Phase.CONNECTING
    for record in shown:
        succession.on_record(cast("Any", None), record)
    succession.ready_at = READY_AT
    change = Changeover(cast("Changing", SimpleNamespace(endpoint=endpoint, dialect=None)), reactor)
    change.merge = merge_for(endpoint, None)
    assert change.merge is not None
    change.merge.new(0, delivered, None, 0.0)
    return change._continues(succession, in_order=in_order)


RESTORED = said("restored", ok=0, failed=[])


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize(
    ("delivered", "shown", "wanted"),
    [
        ([1, 2], [RESTORED, message(2, EARLY)], (True, True)),
        ([1, 2], [RESTORED, message(4, EARLY)], (False, False)),  # 3 may have come on neither
        ([1, 2], [RESTORED, message(4, LATE)], (True, False)),  # it had no time to come on the old one
        ([1, 2], [RESTORED, message(4, EARLY), message(2, EARLY)], (True, True)),
        ([1, 2], [RESTORED], (True, False)),
        ([1, 2], [message(2, EARLY)], (False, False)),  # it is not subscribed
        ([1, 2], [message(2, EARLY), RESTORED], (True, False)),  # of another stream more may have come before that
        ([1, 2], [RESTORED, message(NO_IDENTITY, EARLY), message(SNAPSHOT, EARLY)], (True, False)),
        ([1, 2], [RESTORED, said("stream", index=1, name="b"), message(2, EARLY, stream=1)], (False, False)),
    ],
)
def test_it_does_where_both_show_the_same_or_nothing_can_be_missing(
    reactor: Reactor, delivered: list[int], shown: list[Record], wanted: tuple[bool, bool], in_order: bool
) -> None:
    assert continues(reactor, delivered, shown, in_order=in_order) is wanted[0 if in_order else 1]


@pytest.mark.parametrize("in_order", [True, False])
def test_where_two_messages_may_be_the_same_their_likeness_proves_nothing(reactor: Reactor, in_order: bool) -> None:
    assert continues(reactor, [1], [RESTORED, message(1, EARLY)], in_order=in_order, identity="bytes") is in_order
