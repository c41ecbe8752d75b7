"""Three hosts under the real rules of the cluster, in virtual time, with faults at any step."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tests.support.cluster import TICK, TIMING, Cluster, Machine
from tests.support.examples import examples
from wsadapter.cluster.assignment import Spread
from wsadapter.cluster.membership import Membership
from wsadapter.cluster.store import Entry

ENDPOINTS = {"a": Spread(), "b": Spread(hosts=2), "c": Spread(exclusive=True), "d": Spread(hosts=2, exclusive=True)}
ALLOWED_OVERLAP = TIMING.hold / 0.8 - TIMING.lease / 1.25 + 2 * TICK
"""Real seconds, with clock rates of 0.8 and 1.25: they differ by more than the factor 1.5 that the rules cover."""
TAKEN_WITHIN = TIMING.lease / 0.8 * 2 + 3.0
"""Real seconds: a lease to be sure of oneself, a lease to declare the dead ones dead, and a few beats."""

machines = st.integers(0, 2)


class Faults(RuleBasedStateMachine):
    """Each rule is a fault, its end, or time."""

    membership: type[Membership] = Membership
    compares = True

    @initialize(rates=st.lists(st.sampled_from([0.8, 1.0, 1.25]), min_size=3, max_size=3))
    def begin(self, rates: list[float]) -> None:
        self.cluster = Cluster(rates, ENDPOINTS, self.membership, compares=self.compares)

    def machine(self, index: int) -> Machine:
        return self.cluster.machines[index]

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.5, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @rule(index=machines, seconds=st.sampled_from([0.3, 2.0, 4.0]))
    def freeze(self, index: int, seconds: float) -> None:
        self.machine(index).frozen = True
        self.cluster.advance(seconds)

    @rule(index=machines)
    def thaw(self, index: int) -> None:
        self.machine(index).frozen = False

    @rule(index=machines)
    def crash(self, index: int) -> None:
        self.cluster.crash(self.machine(index))

    @rule(index=machines)
    def start(self, index: int) -> None:
        self.cluster.start(self.machine(index))

    @rule(index=machines, out=st.booleans(), back=st.booleans())
    def cut(self, index: int, out: bool, back: bool) -> None:
        self.machine(index).cut_out, self.machine(index).cut_in = out, back

    @rule(index=machines, seconds=st.sampled_from([0.0, 0.4, 1.0, 2.0]))
    def answers_are_late(self, index: int, seconds: float) -> None:
        self.machine(index).delay = seconds

    @rule(index=machines, seconds=st.sampled_from([2.0, 3.0, 3.6]))
    def the_last_answer_is_late(self, index: int, seconds: float) -> None:
        """Nothing reaches it for a while; then it hears of what it has sent, and is cut off."""
        machine = self.machine(index)
        machine.cut_in, machine.cut_out = True, False
        self.cluster.advance(seconds)
        machine.cut_in, machine.cut_out = False, True
        self.cluster.advance(2 * TICK)
        machine.cut_in = True

    @rule()
    def rebalance(self) -> None:
        self.cluster.rebalance()

    @rule(dead=st.sets(machines, max_size=2))
    def peace(self, dead: set[int]) -> None:
        """Only crashes are left: soon each endpoint has one living holder, which writes, and nothing changes any more."""
        cluster = self.cluster
        for index, machine in enumerate(cluster.machines):
            machine.frozen = machine.cut_in = machine.cut_out = False
            machine.delay = 0.0
            if index in dead:
                cluster.crash(machine)
            else:
                cluster.start(machine)
        cluster.advance(TAKEN_WITHIN + 2 * TIMING.lease / 0.8)  # and hosts that rejoin under the name of a dead boot
        holders = cluster.holders()
        assert set(holders) == set(ENDPOINTS)
        for endpoint, spread in ENDPOINTS.items():
            standbys = [machine for machine in cluster.machines if cluster.role(machine, endpoint) == "standby"]
            assert len(standbys) == min(spread.hosts - 1, 2 - len(dead))
            assert holders[endpoint][0] not in {machine.name for machine in standbys}
        before = {endpoint: len(log) for endpoint, log in cluster.server.log.items()}
        cluster.advance(5.0)
        assert cluster.holders() == holders
        assert all(len(cluster.server.log[endpoint]) > before.get(endpoint, 0) for endpoint in ENDPOINTS)

    @rule(index=machines)
    @precondition(lambda self: all(machine.is_well for machine in self.cluster.machines))
    def a_crash_in_peace_is_noticed_in_time(self, index: int) -> None:
        cluster = self.cluster
        cluster.advance(TAKEN_WITHIN + 2 * TIMING.lease / 0.8)
        cluster.crash(self.machine(index))
        cluster.advance(TIMING.lease / 0.8 + 1.0)
        assert set(cluster.holders()) == set(ENDPOINTS)

    @invariant()
    def log_is_one_stream(self) -> None:
        self.cluster.check_log()

    @invariant()
    def no_healthy_host_is_fenced(self) -> None:
        assert self.cluster.fenced_well == []

    @invariant()
    def holders_of_an_exclusive_endpoint_do_not_overlap(self) -> None:
        assert self.cluster.longest_overlap <= ALLOWED_OVERLAP + 1e-6


class Hands(Faults):
    """And an operator who removes what the rules stand on."""

    @rule()
    def the_bucket_is_removed(self) -> None:
        self.cluster.server.lose_bucket()

    @rule(index=machines)
    def a_record_is_removed(self, index: int) -> None:
        self.cluster.remove_record(self.machine(index))


def search(faults: type[Faults], *, examples: int, fresh: bool = False) -> None:
    """`fresh`: others than each time before; the suite finds the same each time."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not fresh,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(faults, settings=chosen)


@pytest.mark.parametrize("faults", [Faults, Hands])
def test_no_order_of_faults_breaks_the_rules(faults: type[Faults]) -> None:
    search(faults, examples=examples(25))


class NoFence(Faults):
    compares = False


class CountedFromTheAnswer(Membership):
    def observe(self, entry: Entry, now: float) -> None:
        self._sent = dict.fromkeys(self._sent, now)
        super().observe(entry, now)


def overlap(membership: type[Membership], seconds: float) -> float:
    """Of the holders of an exclusive endpoint, when the first one is not reached for a while, and then reaches nobody."""
    cluster = Cluster([1.0, 1.0, 1.0], ENDPOINTS, membership)
    cluster.advance(10.0)
    holder = next(machine for machine in cluster.machines if machine.name == cluster.holders()["c"][0])
    holder.cut_in = True
    cluster.advance(seconds)
    holder.cut_in, holder.cut_out = False, True  # its last renewal is passed on only now
    cluster.advance(2 * TICK)
    holder.cut_in = True
    cluster.advance(8.0)
    return cluster.longest_overlap


class LateLease(Faults):
    membership = CountedFromTheAnswer


def test_a_lease_that_is_counted_from_the_answer_is_held_too_long() -> None:
    cases = [1.5 + 0.3 * step for step in range(8)]
    assert max(overlap(Membership, seconds) for seconds in cases) <= ALLOWED_OVERLAP
    assert max(overlap(CountedFromTheAnswer, seconds) for seconds in cases) > ALLOWED_OVERLAP


class WallClocks(Membership):
    """Compares the time that the other host wrote with its own clock, which runs elsewhere."""

    def observe(self, entry: Entry, now: float) -> None:
        super().observe(entry, now)
        peer = self.peers.get(entry.key.removeprefix("host."))
        if peer is not None and not entry.key.endswith(self.name):
            peer.changed_at = 1000.0 * int(entry.key[-1])


class OtherClocks(Faults):
    membership = WallClocks


BROKEN = [NoFence, OtherClocks, LateLease]


@pytest.mark.slow
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_found(broken: type[Faults]) -> None:
    with pytest.raises(AssertionError):
        search(broken, examples=400)
