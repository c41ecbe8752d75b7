"""An owner parses the internet and may have been taken over by it: nothing it says may end the supervisor's loop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import FakeSupervisor, connected, die, say, up
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
def supervisor() -> Iterator[FakeSupervisor]:
    supervisor = FakeSupervisor()
    yield supervisor
    supervisor.reactor.close()


def downs(supervisor: FakeSupervisor) -> list[Down]:
    return [item for item in consume(supervisor.inbox) if isinstance(item, Down)]


@settings(deadline=None)
@given(st.lists(owner_reports(), max_size=5))
def test_no_report_of_an_owner_ends_the_loop(supervisor: FakeSupervisor, said: list[OwnerReport]) -> None:
    """Reports that parse, in any order and with any values; what does not parse is test_reports.py's."""
    link = connected(supervisor)
    for report in said:
        say(supervisor.process, report.encode())
    for item in consume(supervisor.inbox):
        orjson.dumps(item.to_json())
    die(supervisor.process)
    orjson.dumps(status_of(link))
    link.stop()


@pytest.mark.parametrize("body", [b"nonsense", b'{"event":"up","fields":{}}', StreamNamed(2, "a").encode()])
def test_a_report_that_is_invalid_or_contradicts_an_earlier_one_ends_its_owner(supervisor: FakeSupervisor, body: bytes) -> None:
    link = connected(supervisor)
    say(supervisor.process, body)
    assert [aborted.kind for aborted in supervisor.process.aborted] == ["corrupt"]
    die(supervisor.process)
    link.stop()


@pytest.mark.parametrize(
    "reason",
    [
        [], "", 1, {"kind": []}, {"kind": "crashed", "retry_after": "soon"}, {"kind": "crashed", "status": "4"},
        {"kind": "crashed", "text": 5}, {"kind": "crashed", "signal": 9},
    ],
)  # fmt: skip
def test_last_words_that_are_no_reason_are_corrupt_and_their_epoch_has_one_down(
    supervisor: FakeSupervisor, reason: Any
) -> None:
    link = connected(supervisor)
    say(supervisor.process, orjson.dumps({"event": "down", "fields": {"reason": reason}}))
    assert [aborted.kind for aborted in supervisor.process.aborted] == ["corrupt"]
    die(supervisor.process)
    assert len(downs(supervisor)) == 1
    link.stop()


@pytest.mark.parametrize("kind", [commands.TAKEN, commands.REFUSED, commands.PROBED, 0, 255])
@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b'{"fate":[],"text":{}}', b'{"rtt":"x"}'])
@pytest.mark.parametrize("ref", [0, 1, 2**64 - 1])
def test_no_answer_of_an_owner_ends_the_loop_or_leaves_a_send_waiting(
    supervisor: FakeSupervisor, kind: int, body: bytes, ref: int
) -> None:
    link = connected(supervisor)
    up(supervisor.process)
    sent = link.connection.requests.send(b"x", binary=False)
    supervisor.process.listener.on_command(supervisor.process, Command(kind, ref, body))
    die(supervisor.process)
    assert sent.done()
    orjson.dumps(status_of(link))
    link.stop()


def test_a_send_that_its_caller_gave_up_is_still_answered_without_harm(supervisor: FakeSupervisor) -> None:
    link = connected(supervisor)
    up(supervisor.process)
    taken, refused, lost = (link.connection.requests.send(b"x", binary=False) for _ in range(3))
    restarted = link.restart()
    for future in (taken, refused, lost, restarted):
        future.cancel()
    process = supervisor.process
    process.listener.on_command(process, Command(commands.TAKEN, 1, b""))
    process.listener.on_command(process, Command(commands.REFUSED, 2, b"{}"))
    die(supervisor.process)
    up(supervisor.process)
    link.stop()


def test_a_send_that_was_refused_in_nonsense_has_an_unknown_fate(supervisor: FakeSupervisor) -> None:
    link = connected(supervisor)
    up(supervisor.process)
    sent: Future[None] = link.connection.requests.send(b"x", binary=False)
    supervisor.process.listener.on_command(supervisor.process, Command(commands.REFUSED, 1, b"[]"))
    assert supervisor.process.aborted
    die(supervisor.process)
    with pytest.raises(SendFailed):
        sent.result(0)
    link.stop()


def test_a_restart_while_it_waits_for_the_connect_budget_skips_no_epoch(supervisor: FakeSupervisor) -> None:
    supervisor.budget = ConnectBudget()
    link = connected(supervisor, limits={"connects": 1, "connects_period": 3600.0})
    die(supervisor.process)
    link.wait.cancel()
    link.step(LinkEvent.START)  # the backoff is over
    assert link.state == "backoff"
    link.restart()
    link.wait.cancel()
    link.step(LinkEvent.DUE)
    assert link.epoch == 2
    link.stop()


@pytest.mark.parametrize("handed", [True, False])
def test_an_owner_that_goes_on_with_another_connection_than_its_own_is_not_believed(
    supervisor: FakeSupervisor, handed: bool
) -> None:
    link = connected(supervisor)
    assert link.owner is not None
    link.owner.epoch.resuming = handed
    say(supervisor.process, ConnectionUp({}, None, resumed=not handed).encode())
    assert [reason.kind for reason in supervisor.process.aborted] == ["corrupt"]
