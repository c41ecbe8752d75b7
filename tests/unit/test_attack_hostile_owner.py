"""An owner parses the internet and may have been taken over by it: nothing it says may end the supervisor's loop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FakeOffice, connected, die, say, up
from tests.support.records import consume
from tests.support.reports import owner_reports
from wsadapter.contract.errors import SendFailed
from wsadapter.contract.ipc import commands
from wsadapter.contract.ipc.commands import Command
from wsadapter.contract.ipc.reports import ConnectionUp, OwnerReport, StreamNamed
from wsadapter.contract.items import Down
from wsadapter.endpoint.link_state import LinkEvent
from wsadapter.endpoint.link_status import status_of
from wsadapter.endpoint.restart_policy import ConnectBudget


@pytest.fixture(scope="module")
def office() -> Iterator[FakeOffice]:
    office = FakeOffice()
    yield office
    office.reactor.close()


def downs(office: FakeOffice) -> list[Down]:
    return [item for item in consume(office.inbox) if isinstance(item, Down)]


@settings(deadline=None)
@given(st.lists(owner_reports(), max_size=5))
def test_no_report_of_an_owner_ends_the_loop(office: FakeOffice, said: list[OwnerReport]) -> None:
    """Reports that parse, in any order and with any values; what does not parse is test_reports.py's."""
    link = connected(office)
    for report in said:
        say(office.child, report.encode())
    for item in consume(office.inbox):
        orjson.dumps(item.to_json())
    die(office.child)
    orjson.dumps(status_of(link))
    link.stop()


@pytest.mark.parametrize("body", [b"nonsense", b'{"event":"up","fields":{}}', StreamNamed(2, "a").encode()])
def test_a_report_that_is_invalid_or_contradicts_an_earlier_one_ends_its_owner(office: FakeOffice, body: bytes) -> None:
    link = connected(office)
    say(office.child, body)
    assert [aborted.kind for aborted in office.child.aborted] == ["corrupt"]
    die(office.child)
    link.stop()


@pytest.mark.parametrize(
    "reason",
    [
        [], "", 1, {"kind": []}, {"kind": "crashed", "retry_after": "soon"}, {"kind": "crashed", "status": "4"},
        {"kind": "crashed", "text": 5}, {"kind": "crashed", "signal": 9},
    ],
)  # fmt: skip
def test_last_words_that_are_no_reason_are_corrupt_and_their_epoch_has_one_down(office: FakeOffice, reason: Any) -> None:
    link = connected(office)
    say(office.child, orjson.dumps({"event": "down", "fields": {"reason": reason}}))
    assert [aborted.kind for aborted in office.child.aborted] == ["corrupt"]
    die(office.child)
    assert len(downs(office)) == 1
    link.stop()


@pytest.mark.parametrize("kind", [commands.TAKEN, commands.REFUSED, commands.PROBED, 0, 255])
@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b'{"fate":[],"text":{}}', b'{"rtt":"x"}'])
@pytest.mark.parametrize("ref", [0, 1, 2**64 - 1])
def test_no_answer_of_an_owner_ends_the_loop_or_leaves_a_send_waiting(
    office: FakeOffice, kind: int, body: bytes, ref: int
) -> None:
    link = connected(office)
    up(office.child)
    sent = link.connection.requests.send(b"x", binary=False)
    office.child.listener.on_command(office.child, Command(kind, ref, body))
    die(office.child)
    assert sent.done()
    orjson.dumps(status_of(link))
    link.stop()


def test_a_send_that_its_caller_gave_up_is_still_answered_without_harm(office: FakeOffice) -> None:
    link = connected(office)
    up(office.child)
    taken, refused, lost = (link.connection.requests.send(b"x", binary=False) for _ in range(3))
    restarted = link.restart()
    for future in (taken, refused, lost, restarted):
        future.cancel()
    child = office.child
    child.listener.on_command(child, Command(commands.TAKEN, 1, b""))
    child.listener.on_command(child, Command(commands.REFUSED, 2, b"{}"))
    die(office.child)
    up(office.child)
    link.stop()


def test_a_send_that_was_refused_in_nonsense_has_an_unknown_fate(office: FakeOffice) -> None:
    link = connected(office)
    up(office.child)
    sent: Future[None] = link.connection.requests.send(b"x", binary=False)
    office.child.listener.on_command(office.child, Command(commands.REFUSED, 1, b"[]"))
    assert office.child.aborted
    die(office.child)
    with pytest.raises(SendFailed):
        sent.result(0)
    link.stop()


def test_a_restart_while_it_waits_for_the_connect_budget_skips_no_epoch(office: FakeOffice) -> None:
    office.budget = ConnectBudget()
    link = connected(office, limits={"connects": 1, "connects_period": 3600.0})
    die(office.child)
    link.wait.cancel()
    link.step(LinkEvent.START)  # the backoff is over
    assert link.state == "backoff"
    link.restart()
    link.wait.cancel()
    link.step(LinkEvent.DUE)
    assert link.epoch == 2
    link.stop()


@pytest.mark.parametrize("handed", [True, False])
def test_an_owner_that_goes_on_with_another_connection_than_its_own_is_not_believed(office: FakeOffice, handed: bool) -> None:
    link = connected(office)
    assert link.owner is not None
    link.owner.epoch.resuming = handed
    say(office.child, ConnectionUp({}, None, resumed=not handed).encode())
    assert [reason.kind for reason in office.child.aborted] == ["corrupt"]
