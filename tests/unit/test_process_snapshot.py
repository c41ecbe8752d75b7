"""An owner process on its way to another supervisor, with real descriptors; the process is this one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import Pipe

import pytest

from tests.support.snapshots import transferred
from wsadapter.contract.endpoint import Timeouts, Watchdog
from wsadapter.contract.ipc.assignment import Custody
from wsadapter.contract.ipc.record import ReaderSnapshot
from wsadapter.handoff.held_connection import Announced, HeldSnapshot
from wsadapter.loop.reactor import Reactor
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import IgnoreOwnerEvents, OwnerProcess, ProcessLimits
from wsadapter.process.process_snapshot import ProcessSnapshot, can_go, receive, snapshot_of

pytestmark = pytest.mark.native

PLAIN = ProcessSnapshot(
    pid=os.getpid(),
    records=ReaderSnapshot(limit=1000, sequence=3, position=70, unfinished=b"\xffhalf", tail=b"\x81"),
    unread=b"\x01",
    unsent=b"\x02\x03",
    log=b"no line yet",
    held=None,
    has_descriptor=False,
    has_rejoin=False,
    has_lifeline=False,
)
HELD = HeldSnapshot(Custody(received=120, sent=240), Announced(7, 50, b"\x81\x00", 1.5))


class Descriptors:
    """Those of a process: `given` are passed, the other ends stay here."""

    def __init__(self, snapshot: ProcessSnapshot) -> None:
        data, self.data = Pipe(duplex=False)
        control, self.control = socket.socketpair()
        log, self.log = Pipe(duplex=False)
        self.given = [os.dup(data.fileno()), control.detach(), os.dup(log.fileno()), os.pidfd_open(os.getpid())]
        self.rest = list[int]()
        for wanted in (snapshot.held is not None, snapshot.has_descriptor, snapshot.has_rejoin, snapshot.has_lifeline):
            if wanted:
                end, other = socket.socketpair()
                self.given.append(end.detach())
                self.rest.append(other.detach())
        data.close()
        log.close()

    def close(self) -> None:
        for end in (self.data, self.control, self.log):
            end.close()
        for fd in self.rest:
            os.close(fd)


@pytest.fixture(
    params=[
        PLAIN,
        replace(PLAIN, held=HELD),
        replace(PLAIN, held=HeldSnapshot(HELD.custody, None), has_lifeline=True),
        replace(PLAIN, has_rejoin=True),
        replace(PLAIN, held=HELD, has_descriptor=True, has_rejoin=True, has_lifeline=True),
    ]
)
def moved(request: pytest.FixtureRequest) -> Iterator[tuple[ProcessSnapshot, list[int], OwnerProcess]]:
    """The snapshot that was received, the descriptors, and the process."""
    snapshot: ProcessSnapshot = request.param
    reactor, ends = Reactor(), Descriptors(snapshot)
    fds = iter(ends.given)
    process = receive(reactor, IgnoreOwnerEvents(), ProcessLimits(Timeouts(), Watchdog()), transferred(snapshot), fds)
    assert next(fds, None) is None
    yield snapshot, ends.given, process
    process.disown()
    ends.close()
    reactor.close()


def test_a_process_that_was_received_can_be_passed_on_as_it_was(
    moved: tuple[ProcessSnapshot, list[int], OwnerProcess],
) -> None:
    snapshot, fds, process = moved
    assert (process.state, process.is_frozen) == (ProcessState.SERVING, True)
    assert can_go(process)
    assert snapshot_of(process) == (snapshot, fds)


def test_a_process_that_is_disowned_closes_all_its_descriptors(
    moved: tuple[ProcessSnapshot, list[int], OwnerProcess],
) -> None:
    _, fds, process = moved
    process.disown()
    still_open = [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")]
    assert still_open == []
    assert not can_go(process)
