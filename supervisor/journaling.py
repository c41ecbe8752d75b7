"""The journal of a running supervisor: opened before its endpoints start, closed after they have ended.

The order matters. What a dead supervisor has written is known before the first owner starts, so that the run, the numbers and
the epochs go on; and the last `Down` is written before the journal is let go.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time_ns
from typing import Final

from wsadapter.cluster.control import ClusterControl
from wsadapter.config.settings import JournalSettings
from wsadapter.contract.errors import JournalError
from wsadapter.contract.items import Down
from wsadapter.contract.reasons import Reason
from wsadapter.control.claim import NameClaim
from wsadapter.control.instance import configured_folder
from wsadapter.delivery.inbox import Inbox
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.subscriptions import Numbers
from wsadapter.journal.positions import OF_SINKS
from wsadapter.journal.state import Progress, State
from wsadapter.journal.thread import JournalThread
from wsadapter.registry.registry import EndpointRegistry
from wsadapter.sinks.supervision import JournalEnd, Sinks
from wsadapter.status import ConsumerStatus, JournalStatus, SinkStatus

_PATIENCE: Final = 10.0
"""Seconds to write the backlog at the end, and for a supervisor that was taken over to write the rest."""


def inbox_of(journaling: Journaling | None) -> Inbox:
    """For a consumer of some of the endpoints."""
    return Inbox() if journaling is None else journaling.inbox(delivers=True)


class Journaling:
    """Between the endpoints of a supervisor and the thread that writes."""

    def __init__(
        self, settings: JournalSettings, registry: Callable[[], EndpointRegistry], sinks: Sinks, cluster: ClusterControl | None
    ) -> None:
        """`sinks`: what the journal is carried to, while it is open; the agent of the `cluster` is one."""
        self.cluster = cluster
        self.thread = JournalThread(settings, self._overflowed)
        self.sinks = sinks
        self._registry = registry
        self.found: dict[str, Progress] = {}
        """How far each endpoint had come in the journal as it was opened."""
        self._dead_epochs: dict[str, int] = {}
        """By endpoint: epochs of a supervisor that was killed, whose `Down` is missing."""

    def inbox(self, *, delivers: bool) -> Inbox:
        """For a consumer (`delivers`), or for none."""
        return self.thread.inbox(delivers=delivers)

    def open(self, claim: NameClaim, *, taken_over: bool) -> str:
        """Take the journal and continue it. Returns the run that continues, "" if endpoints were `taken_over` with their own.
        Raises `JournalError`; the supervisor's name is given back then."""
        try:
            # As an absolute path, also if it is from the environment: consumers have another environment and working folder.
            folder = configured_folder(claim.runtime_dir)
            runtime_dir = str(Path(folder).absolute()) if folder else ""
            state = self.thread.open(claim.name, runtime_dir, _PATIENCE if taken_over else 0.0)
        except JournalError:
            claim.close()
            claim.release()
            raise
        if not taken_over:
            self._dead_epochs = {name: progress.epoch for name, progress in state.endpoints.items() if progress.up}
        self.found = state.endpoints
        self._continue(state)
        self.thread.start()
        self.sinks.start()
        return "" if taken_over else state.run

    def _continue(self, state: State) -> None:
        registry = self._registry()
        retired: dict[str, Numbers] = {}
        for name, progress in state.endpoints.items():
            endpoint = registry.endpoints.get(name)
            if endpoint is None:
                retired[name] = _numbers(progress)
            elif (
                endpoint.stream.numbers.last_number <= progress.number
            ):  # otherwise the journal was taken over, and continues in the other supervisor
                _go_on(endpoint, progress)
        registry.removed.add_numbers(retired)

    def lives(self, name: str) -> None:
        """The last epoch of this endpoint goes on: its owner was received."""
        self._dead_epochs.pop(name, None)

    def begin(self) -> None:
        """The supervisor before this one was killed: nobody else reports the end of its epochs. A host of a cluster gets its
        endpoints from then on."""
        registry = self._registry()
        reason = Reason(kind="supervisor_gone", text="the supervisor before this one did not stop in order")
        for name, epoch in self._dead_epochs.items():
            endpoint = registry.endpoints.get(name)
            put = registry.main.put_event if endpoint is None else endpoint.stream.put
            put(Down(name, epoch, time_ns(), reason))
        self._dead_epochs.clear()
        if self.cluster is not None:
            self.cluster.start()

    def stopping(self) -> None:
        """The supervisor begins to stop: it gets no endpoint any more."""
        if self.cluster is not None:
            self.cluster.end()

    def _overflowed(self, name: str) -> None:
        """More of an endpoint waits for the disk than may."""
        endpoint = self._registry().endpoints.get(name)
        if endpoint is not None:
            queue = self.thread.queue
            endpoint.group.overflowed((queue.backlog(endpoint.stream.backlog), queue.inbox))

    def wake(self, peer: socket.socket) -> None:
        """From now on each commit sends a byte to this consumer."""
        self.thread.wakers.add(peer)

    def close(self) -> None:
        """Write the backlog, and release the journal; then end the sinks, which carry it to its end."""
        self.thread.close(_PATIENCE)
        self.sinks.close()

    def sinks_status(self) -> dict[str, SinkStatus]:
        """How each sink is."""
        writer = self.thread.writer
        state = State() if writer is None else writer.state  # the writer's thread replaces it, and never changes it
        received = [progress.at for progress in state.endpoints.values() if progress.at is not None]
        return self.sinks.status(JournalEnd(state.seq, state.bytes, max(received, default=0)))

    def status(self, sinks: Mapping[str, SinkStatus]) -> JournalStatus:
        """How it is. `sinks`: see `sinks_status`; each is a consumer too."""
        status = self.thread.status()
        status["consumers"] = {**status["consumers"], **_as_consumers(sinks)}
        return status


def _as_consumers(sinks: Mapping[str, SinkStatus]) -> dict[str, ConsumerStatus]:
    """Those whose position is known."""
    return {
        f"{OF_SINKS}{name}": {"pid": sink["pid"], "position": sink["position"], "lag": sink["lag"]}
        for name, sink in sinks.items()
        if sink["position"] is not None and sink["lag"] is not None
    }


def _go_on(endpoint: EndpointRuntime, progress: Progress) -> None:
    """Before its first owner: an earlier supervisor came that far."""
    endpoint.stream.numbers = _numbers(progress)
    for link in endpoint.links:
        link.output.epoch = progress.epoch
        link.output.counters.last_lost_at = progress.at


def _numbers(progress: Progress) -> Numbers:
    return Numbers(progress.epoch, progress.number, progress.at, ever_up=progress.epoch > 0)
