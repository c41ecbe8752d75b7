"""A cluster in one process and in virtual time: hosts that run the real rules, a store, a log, and a network with faults.

Every host has a clock of its own (rate and offset), and each request, each answer and each change on the watch takes its time
on the network, or is lost. A freeze stops a host at any point, also between the decision to append and the append.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wsadapter.cluster.assignment import Assignment, Role, Spread
from wsadapter.cluster.fence import Claim, Fence, Tail
from wsadapter.cluster.membership import Membership, Standing, Timing
from wsadapter.cluster.records import HOST, LEASE, REBALANCE, Host, Rebalance, encode
from wsadapter.cluster.store import ABSENT, Entry, Write

TICK: Final = 0.1
TIMING: Final = Timing()
PATIENCE: Final = 2.5
"""Seconds, on the host's clock, after which a request counts as unanswered."""
EMPTY: Final = Tail(0, 0, 0, "")


@dataclass
class Server:
    """A linearizable store, and a log that compares."""

    revision: int = 0
    keys: dict[str, Entry] = field(default_factory=dict)
    history: list[tuple[float, Entry]] = field(default_factory=list)
    log: dict[str, list[Tail]] = field(default_factory=dict)
    compares: bool = True
    refused: int = 0
    bucket: int = 1
    """Which one it is: the bucket may be removed, and is made again."""

    def lose_bucket(self) -> None:
        self.revision, self.keys, self.history = 0, {}, []
        self.bucket += 1

    def write(self, key: str, value: bytes, expected: int, now: float) -> bool:
        """Create or swap."""
        if self.read(key).revision != expected:
            return False
        self.revision += 1
        entry = Entry(key, value, self.revision)
        self.keys[key] = entry
        self.history.append((now, entry))
        return True

    def read(self, key: str) -> Entry:
        return self.keys.get(key, Entry(key, b"", ABSENT))

    def tail(self, endpoint: str) -> Tail:
        return self.log[endpoint][-1] if self.log.get(endpoint) else EMPTY

    def append(self, endpoint: str, expected: int, message: Tail) -> bool:
        if self.compares and self.tail(endpoint).sequence != expected:
            self.refused += 1
            return False
        self.log.setdefault(endpoint, []).append(message)
        return True


@dataclass
class Machine:
    """A host of the cluster."""

    name: str
    rate: float
    offset: float
    boots: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    frozen: bool = False
    crashed: bool = False
    cut_out: bool = False
    cut_in: bool = False
    delay: float = 0.0
    """Of requests, and again of answers and of the watch."""
    well_since: float = 0.0
    """Real time since which nothing has been wrong with it."""
    seen: int | None = None
    """Changes of the store that the watch has passed on. None: it has not begun yet; then it passes each key as it is."""
    bucket: int = 1
    """That its watch passes."""
    process: int = 0
    """Number of the present driver; answers to an earlier driver are ignored."""
    answers: list[Callable[[], None]] = field(default_factory=list)
    writers: dict[str, Fence] = field(default_factory=dict)
    to_send: list[tuple[str, Fence, Tail]] = field(default_factory=list)
    """Appends that are decided."""
    members: Membership = field(init=False)
    assignment: Assignment = field(init=False)

    @property
    def is_well(self) -> bool:
        return not (self.frozen or self.crashed or self.cut_out or self.cut_in or self.delay)


class Cluster:
    """All of it."""

    def __init__(
        self,
        rates: list[float],
        endpoints: dict[str, Spread],
        membership: type[Membership] = Membership,
        *,
        compares: bool = True,
    ) -> None:
        self.now = 0.0
        self.server = Server(compares=compares)
        self.endpoints = endpoints
        self.membership = membership
        self.machines = [Machine(f"h{index}", rate, 1000.0 * index) for index, rate in enumerate(rates)]
        self.fenced_well: list[str] = []
        """Hosts that were fenced although nothing had been wrong with them for long."""
        self.longest_overlap = 0.0
        """Real seconds for which two hosts acted as the holder of one exclusive endpoint."""
        self._overlaps: dict[str, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sequence = itertools.count(1)
        self._leases = itertools.count(1)
        for machine in self.machines:
            self._boot(machine)

    def clock(self, machine: Machine) -> float:
        return machine.offset + self.now * machine.rate

    def _boot(self, machine: Machine) -> None:
        self._join(machine, f"{machine.name}/{next(machine.boots)}")

    def _join(self, machine: Machine, boot: str) -> None:
        """A new boot, or another agent process of the same one."""
        host = Host(boot=boot)
        machine.process += 1
        machine.members = self.membership(machine.name, host, TIMING, self.clock(machine))
        machine.assignment = Assignment(machine.members, self.endpoints, TIMING, lambda: f"lease {next(self._leases)}")
        machine.writers, machine.to_send, machine.answers, machine.seen = {}, [], [], None

    # -- faults ----------------------------------------------------------------------------------------------------------

    def crash(self, machine: Machine) -> None:
        machine.crashed = True

    def start(self, machine: Machine) -> None:
        if machine.crashed:
            machine.crashed = False
            machine.well_since = self.now
            self._boot(machine)

    def remove_record(self, machine: Machine) -> None:
        """As an operator does by hand."""
        entry = self.server.read(HOST + machine.name)
        if entry.value:
            self.server.write(entry.key, b"", entry.revision, self.now)

    def rebalance(self) -> None:
        entry = self.server.read(REBALANCE)
        hosts = {m.name: m.members.host.boot for m in self.machines if m.members.standing is Standing.MEMBER}
        self.server.write(REBALANCE, encode(Rebalance(id=str(entry.revision), hosts=hosts)), entry.revision, self.now)

    # -- time ------------------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            for machine in self.machines:
                if not machine.is_well:
                    machine.well_since = self.now
                if not machine.frozen and not machine.crashed:
                    self._turn(machine)
            self._look_for_overlaps()

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), action))

    def _turn(self, machine: Machine) -> None:
        self._send_appends(machine)  # as decided before: a freeze, or the loss of the lease, may lie between
        answers, machine.answers = machine.answers, []
        for answer in answers:
            answer()
        self._pass_changes(machine)
        if machine.members.standing is Standing.FENCED:
            self._boot(machine)
        if machine.seen is None:
            return  # the rules are driven once every key is known
        now = self.clock(machine)
        for write in machine.members.due(now):
            self._send(machine, write, machine.members.settle)
        for write in machine.assignment.due(now):
            self._send(machine, write, machine.assignment.settle)
        self._decide_appends(machine, now)

    def _pass_changes(self, machine: Machine) -> None:
        if machine.cut_in or (machine.seen is None and machine.cut_out):
            return
        if machine.seen is None:
            machine.bucket = self.server.bucket
        if machine.bucket != self.server.bucket:
            return  # the watch ended with the bucket
        history = self.server.history
        if machine.seen is None:
            machine.seen = len(history)
            for entry in self.server.keys.values():
                self._pass(machine, entry)
        while machine.seen < len(history) and history[machine.seen][0] + machine.delay <= self.now:
            machine.seen += 1
            self._pass(machine, history[machine.seen - 1][1])

    def _pass(self, machine: Machine, entry: Entry) -> None:
        now = self.clock(machine)
        if entry.key.startswith(HOST):
            machine.members.observe(entry, now)
        elif entry.key.startswith(LEASE):
            machine.assignment.observe(entry, now)
        else:
            machine.assignment.observe_order(entry)

    def _send(self, machine: Machine, write: Write, settle: Callable[[Write, Entry | None, float], None]) -> None:
        process = machine.process
        ended: list[bool] = []

        def end(entry: Entry | None) -> None:
            if ended or machine.process != process:
                return
            ended.append(True)
            if entry is not None and entry.revision < write.expected:  # no key goes back: it is another bucket
                self._join(machine, machine.members.host.boot)
                return
            settle(write, entry, self.clock(machine))

        def arrive() -> None:
            target = self._machine_of(write)
            well = target is not None and target.is_well and self.now - target.well_since > 1.5 * TIMING.lease
            if self.server.write(write.key, write.value, write.expected, self.now) and target is not machine and well:
                self.fenced_well.append(write.key)
            entry = self.server.read(write.key)
            self._at(machine.delay, lambda: None if machine.cut_in else machine.answers.append(lambda: end(entry)))

        if not machine.cut_out:
            self._at(machine.delay, arrive)
        self._at(PATIENCE / machine.rate, lambda: machine.answers.append(lambda: end(None)))

    def _machine_of(self, write: Write) -> Machine | None:
        return next((machine for machine in self.machines if write.key == HOST + machine.name), None)

    # -- the log ---------------------------------------------------------------------------------------------------------

    def role(self, machine: Machine, endpoint: str) -> Role:
        """Its role for the endpoint, by its own state; "none": it has no role."""
        if machine.frozen or machine.crashed:
            return "none"
        return machine.assignment.role(endpoint, self.clock(machine))

    def _decide_appends(self, machine: Machine, now: float) -> None:
        for endpoint in self.endpoints:
            role = machine.assignment.role(endpoint, now)
            if role in {"preparing", "leaving"}:
                machine.assignment.confirm(endpoint)
            if role != "holder" or machine.cut_in or machine.cut_out:
                machine.writers.pop(endpoint, None)
                continue
            lease = machine.assignment.lease(endpoint)
            assert lease is not None
            writer = machine.writers.get(endpoint)
            if writer is None or writer.lease != lease.id:
                writer = Fence(f"{machine.process}/{lease.id}", lease.term, lease.id, self.server.tail(endpoint))
                machine.writers[endpoint] = writer
            if writer.state is Claim.LOST:
                write = machine.assignment.raise_term(endpoint, max(writer.term, self.server.tail(endpoint).term), now)
                if write is not None:
                    self._send(machine, write, machine.assignment.settle)
            else:
                message = Tail(next(self._sequence), writer.term, writer.tail.number + 1, writer.writer, writer.lease)
                machine.to_send.append((endpoint, writer, message))

    def _send_appends(self, machine: Machine) -> None:
        appends, machine.to_send = machine.to_send, []
        for endpoint, writer, message in appends:
            is_there = not machine.cut_out and self.server.append(endpoint, writer.tail.sequence, message)
            if machine.cut_in or machine.cut_out:
                continue
            if is_there:
                writer.appended(message.sequence, message.number)
            else:
                writer.refused(self.server.tail(endpoint))

    # -- what must be true -----------------------------------------------------------------------------------------------

    def _look_for_overlaps(self) -> None:
        for endpoint in (name for name, spread in self.endpoints.items() if spread.exclusive):
            acting = [machine for machine in self.machines if self.role(machine, endpoint) == "holder"]
            if len(acting) < 2:
                self._overlaps.pop(endpoint, None)
                continue
            since = self._overlaps.setdefault(endpoint, self.now)
            self.longest_overlap = max(self.longest_overlap, self.now - since + TICK)

    def check_log(self) -> None:
        for endpoint, log in self.server.log.items():
            numbers = [message.number for message in log]
            assert numbers == list(range(1, len(log) + 1)), f"{endpoint}: numbers {numbers}"
            terms = [message.term for message in log]
            assert terms == sorted(terms), f"{endpoint}: terms {terms}"
            leases = {message.term: message.lease for message in log}
            assert all(leases[message.term] == message.lease for message in log), f"{endpoint}: two leases of one term"

    def holders(self) -> dict[str, tuple[str, int]]:
        """Of each endpoint the host that acts as its holder, and its term."""
        found: dict[str, tuple[str, int]] = {}
        for endpoint in self.endpoints:
            for machine in self.machines:
                lease = machine.assignment.lease(endpoint)
                if lease is not None and self.role(machine, endpoint) == "holder":
                    found[endpoint] = (machine.name, lease.term)
        return found
