"""A supervisor that was killed is replaced, and no connection closes: marks of the running one, and the start of the next one.

    running ── marks ──> the journal's queue ──confirmed──> mark, in memory that the keeper holds
    killed
    next: deposits ──> last mark of each owner ──> Link.receive, called by its rejoin socket
                   ──> what was read behind the mark, again: what the journal has is left out, the rest keeps its numbers
                   ──> thaw: the pipe is read on; Rejoined says what went through the control socket of the dead supervisor

The journal says, of each endpoint, which record of its owner is the last that a row is of (`Progress`). So what is read again
is put into the stream from exactly the next item on. All other state (subscriptions, counters, the names of streams) is what
the records make of it, so all records behind the mark are applied, in the journal or not.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from wsadapter.contract.ipc.record import CorruptRecord
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.journal.marks import Mark, MarkFile
from wsadapter.journal.state import Progress
from wsadapter.process.deposits import Deposit, KeeperLine, Kept
from wsadapter.process.lifecycle import ProcessState
from wsadapter.process.owner_process import OwnerProcess
from wsadapter.process.process_snapshot import ProcessSnapshot
from wsadapter.process.read_log import ReadLog
from wsadapter.registry.shards import number_of
from wsadapter.takeover.endpoint_state import EndpointSnapshot, receive, snapshot_of, thaw
from wsadapter.takeover.replay import NewItems
from wsadapter.takeover.transfer import close_all

if TYPE_CHECKING:
    from wsadapter.runtime import Runtime

logger = logging.getLogger("wsadapter.takeover")

Deposits = Mapping[int, tuple[Deposit, list[int]]]
"""By the pid of the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkBody:
    """The state of an endpoint between two records of its owner."""

    position: int
    """Of the next record, in the read log."""
    endpoint: EndpointSnapshot
    group: str | None
    """The group of which the endpoint is a shard."""
    configured: str
    """The fingerprint of the settings of that group, or of the endpoint."""


def keep(runtime: Runtime, sock: socket.socket, deposits: Deposits, number: int) -> None:
    """Before the start: let the keeper at the other end of `sock` hold what must outlive this supervisor, and go on with
    `deposits`. `number`: of this supervisor among those of the keeper."""
    line = KeeperLine(runtime.reactor, sock, lambda kept: _mark(runtime, kept))
    runtime.owners.keeper = line.deposit
    keeper, kills = os.getppid(), number - 1
    runtime.takeover.keeper = lambda: {"pid": keeper, "alive": line.is_alive, "kills": kills}
    recovery = Recovery(runtime, line, deposits, number)
    runtime.takeover.recover = recovery.begin
    runtime.takeover.end = line.close


# -- the running supervisor ----------------------------------------------------------------------------------------------


def _mark(runtime: Runtime, kept: Kept) -> None:
    """A mark of this owner is due. It is put off while the state of its endpoint has parts that no snapshot has."""
    endpoint, process = runtime.registry.endpoints.get(kept.name), kept.process
    assert runtime.journaling is not None
    kept.postpone()
    if endpoint is None or endpoint.replicas is not None or process.state is not ProcessState.SERVING:
        return
    link = endpoint.link
    if link.owner is None or link.owner.process is not process or not link.stays:
        kept.due = 0  # it is connecting, or a successor
        return
    if link.rollover.merge is not None or link.connection.requests.awaits_announced:
        kept.due = 0
        return
    registry = runtime.registry
    group = next((name for name, shards in registry.groups.items() if kept.name in shards), None)
    configured = registry.configured.get(group or kept.name, "")
    position = kept.log.end - process.data.records.torn
    body = msgspec.json.encode(MarkBody(position=position, endpoint=_state_of(endpoint), group=group, configured=configured))
    log = kept.log
    mark = Mark(body, kept.marks, lambda: log.release(position))
    runtime.journaling.thread.queue.put_mark(mark, endpoint.stream.backlog)


def _state_of(endpoint: EndpointRuntime) -> EndpointSnapshot:
    """As for another supervisor, without what goes through control sockets: that dies with this supervisor."""
    snapshot, _ = snapshot_of(endpoint)
    (link,) = snapshot.links
    owner = link.owner
    bare = replace(owner, process=_bare(owner.process), holder=None if owner.holder is None else _bare(owner.holder))
    connection = replace(link.connection, sender=replace(link.connection.sender, sent={}))
    return replace(snapshot, links=[replace(link, owner=bare, connection=connection)])


def _bare(process: ProcessSnapshot) -> ProcessSnapshot:
    records = replace(process.records, unfinished=b"")
    return replace(process, records=records, unread=b"", unsent=b"", log=b"", held=None, has_descriptor=False, has_rejoin=True)


# -- the next supervisor -------------------------------------------------------------------------------------------------


class Recovery:
    """What a killed supervisor has left. Under the reactor's lock."""

    def __init__(self, runtime: Runtime, line: KeeperLine, deposits: Deposits, number: int) -> None:
        self._runtime = runtime
        self._line = line
        self._deposits = dict(deposits)
        self._number = number

    def begin(self) -> None:
        """Go on with each endpoint that can; the others' processes are let go, and end."""
        runtime = self._runtime
        assert runtime.journaling is not None
        self._line.watch()
        for endpoint in runtime.endpoints():  # of a takeover: they belong to another keeper, or to none
            for link in endpoint.links:
                for process in link.owner.processes if link.owner is not None else ():
                    process.data.keeper = self._line.deposit
                    process.data.deposit(endpoint.endpoint)
        found = latest(self._bodies())
        for name, (pid, body) in found.items():
            progress = runtime.journaling.found.get(name)
            if progress is None or progress.epoch != body.endpoint.links[0].owner.epoch.number:
                continue  # its Up is not in the journal, or it had ended
            needed = [pid, *([] if (holder := body.endpoint.links[0].owner.holder) is None else [holder.pid])]
            if not all(each in self._deposits for each in needed):
                continue
            self._go_on(body, [self._deposits.pop(each) for each in needed], progress)
        for group, shards in runtime.registry.groups.items():
            # Its last mark may be older than the second shard, and then it has no group.
            if group in found and group in runtime.registry.endpoints and group not in shards:
                shards.append(group)
            shards.sort(key=number_of)
        for pid, (_, fds) in self._deposits.items():
            close_all(fds)
            self._line.withdraw(pid)
        self._deposits.clear()

    def _go_on(self, body: MarkBody, deposits: list[tuple[Deposit, list[int]]], progress: Progress) -> None:
        runtime, name = self._runtime, name_of(body)
        try:
            endpoint = self._receive(body, deposits)
        except Exception:  # the other endpoints must not end because of it
            logger.exception("%s can't go on, it gets a new owner; this is a bug in wsadapter", name)
            for _, fds in deposits:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fds[2], signal.SIGKILL)
            return
        runtime.registry.configured[body.group or name] = body.configured
        if body.group is not None:
            runtime.registry.groups.setdefault(body.group, []).append(name)
        runtime.registry.removed.take_numbers(name)
        runtime.registry.register(endpoint)
        assert runtime.journaling is not None
        runtime.journaling.lives(name)
        _read_again(endpoint, body.position, progress)
        thaw(endpoint)

    def _bodies(self) -> Iterable[tuple[int, MarkBody]]:
        for pid, (deposit, fds) in self._deposits.items():
            body = MarkFile(fds[5]).load()
            try:
                if body is not None:
                    yield pid, msgspec.json.decode(body, type=MarkBody)
            except msgspec.DecodeError as error:
                logger.error("%s: a mark cannot be read: %s", deposit.name, error)  # noqa: TRY400

    def _receive(self, body: MarkBody, deposits: list[tuple[Deposit, list[int]]]) -> EndpointRuntime:
        """The endpoint, frozen. `deposits`: of its owner, and of the process that holds its TLS."""
        fds = [fd for deposit in deposits for fd in _of_a_snapshot(*deposit)]
        endpoint = receive(self._runtime, body.endpoint, iter(fds))
        owner = endpoint.link.owner
        assert owner is not None
        owner.connection.commands.pause()  # until Rejoined: a ref may be one that the dead supervisor used
        for process, (deposit, its) in zip(reversed(owner.processes), deposits, strict=True):
            process.data.keeper = self._line.deposit
            process.data.keep(Kept(self._line, process, deposit, ReadLog(its[4]), MarkFile(its[5])))
            _call(process, self._number)
        return endpoint


def name_of(body: MarkBody) -> str:
    """Of the endpoint."""
    return str(body.endpoint.endpoint["name"])


def latest(bodies: Iterable[tuple[int, MarkBody]]) -> dict[str, tuple[int, MarkBody]]:
    """Of each endpoint the mark of the last epoch, with the pid of its owner."""
    found: dict[str, tuple[int, MarkBody]] = {}
    for pid, body in bodies:
        name = name_of(body)
        before = found.get(name)
        if before is None or before[1].endpoint.links[0].owner.epoch.number < body.endpoint.links[0].owner.epoch.number:
            found[name] = pid, body
    return found


def _of_a_snapshot(deposit: Deposit, fds: list[int]) -> list[int]:
    """The descriptors in the order of a `ProcessSnapshot`. The control socket is one to nobody: `ControlChannel.call`
    follows."""
    data, log, pidfd, rejoin = fds[:4]
    ours, theirs = socket.socketpair()
    theirs.close()
    return [data, ours.detach(), log, pidfd, rejoin, *(fds[6:] if deposit.lifeline else ())]


def _call(process: OwnerProcess, number: int) -> None:
    try:
        process.control.call(number)
    except OSError as error:  # it has died meanwhile: its pidfd says so
        logger.debug("pid %s cannot be called: %s", process.pid, error)


def _read_again(endpoint: EndpointRuntime, position: int, progress: Progress) -> None:
    """Apply the records behind the mark. The items that the journal has are left out."""
    stream, owner = endpoint.stream, endpoint.link.owner
    assert owner is not None
    process, reader, inbox = owner.process, owner.process.data.records, stream.inbox
    assert process.data.kept is not None
    new = NewItems(stream, progress)
    stream.inbox = new
    count = 0
    try:
        for chunk in process.data.kept.log.read_again(position):
            for received in reader.feed(chunk):
                new.begin(received.sequence)
                owner.on_record(process, received)
                count += 1
    except CorruptRecord as error:
        process.abort(Reason(kind="corrupt", text=str(error)))
    finally:
        new.end()
        stream.inbox = inbox
    logger.info("%s/%d: goes on with pid %s; %d records are read again", endpoint.name, owner.epoch.number, process.pid, count)
