"""The link emulator's decisions: what arrives of a packet, what a NAT lets through, and the RST that it answers."""

from __future__ import annotations

import random
import struct

import pytest

from tests.bench.accounts import Totals
from tests.bench.network.link import FAIR, Nat, Weather, checksum, fate, flow_of, reset_for
from tests.bench.network.trials import EITHER, KEPT, LOST, judge

CLIENT, HOST = bytes([198, 51, 100, 1]), bytes([198, 51, 100, 2])
SYN, ACK, RST = 2, 16, 4


def packet(flags: int, *, port: int = 5000, back: bool = False, size: int = 0) -> bytes:
    """Of the client's connection to port 80; `back`: from the host."""
    source, target = (80, port) if back else (port, 80)
    tcp = struct.pack("!HHIIBBHHH", source, target, 7, 1234, 5 << 4, flags, 100, 0, 0) + b"x" * size
    addresses = HOST + CLIENT if back else CLIENT + HOST
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses + tcp


def arrived(weather: Weather, *, way: str = "to_host", size: int = 100, count: int = 1000) -> list[list[bytes]]:
    dice = random.Random(1)
    one = packet(ACK, size=size)
    return [[sent.packet for sent in fate(one, way, weather, dice)] for _ in range(count)]  # type: ignore[arg-type]


def test_fair_weather_changes_nothing() -> None:
    assert arrived(FAIR) == [[packet(ACK, size=100)]] * 1000
    assert [sent.after for sent in fate(packet(ACK), "to_host", FAIR, random.Random(1))] == [0.0]


def test_lost_and_copied_packets_are_as_many_as_asked_for() -> None:
    assert 150 < sum(not copies for copies in arrived(Weather(loss=0.2))) < 250
    assert 150 < sum(len(copies) == 2 for copies in arrived(Weather(copies=0.2))) < 250


def test_an_error_is_one_bit_behind_the_ip_header() -> None:
    sent = packet(ACK, size=100)
    spoilt = [copies[0] for copies in arrived(Weather(errors=1.0))]
    for one in spoilt:
        differing = int.from_bytes(sent, "big") ^ int.from_bytes(one, "big")
        assert (differing.bit_count(), one[:20]) == (1, sent[:20])
    assert len(set(spoilt)) > 300


def test_a_hole_is_one_way_if_asked_for_and_a_narrow_place_swallows_the_large() -> None:
    hole = Weather(to_client=False)
    assert not any(arrived(hole, way="to_client"))
    assert all(arrived(hole, way="to_host"))
    narrow = Weather(largest=900)
    assert all(arrived(narrow, size=860))
    assert not any(arrived(narrow, size=861))


def test_delay_jitter_and_overtaking() -> None:
    dice = random.Random(1)
    weather = Weather(delay=0.1, jitter=0.05, reorder=0.3)
    sent = [one for _ in range(1000) for one in fate(packet(ACK), "to_host", weather, dice)]
    assert all(0.1 <= one.after <= 0.16 for one in sent)
    assert 200 < sum(one.overtaken for one in sent) < 400


def test_both_ways_of_a_connection_are_one_flow() -> None:
    assert flow_of(packet(ACK), "to_host") == flow_of(packet(ACK, back=True), "to_client")
    assert flow_of(packet(ACK), "to_host") != flow_of(packet(ACK, port=5001), "to_host")
    udp = packet(ACK)[:9] + b"\x11" + packet(ACK)[10:]
    assert flow_of(udp, "to_host") is None


def test_a_nat_knows_connections_that_the_client_began_until_it_forgets() -> None:
    nat = Nat()
    assert not nat.passes(packet(ACK), "to_host", 0.0)
    assert not nat.passes(packet(SYN | ACK, back=True), "to_client", 0.0)
    assert nat.passes(packet(SYN), "to_host", 1.0)
    assert nat.passes(packet(SYN | ACK, back=True), "to_client", 1.0)
    assert nat.passes(packet(ACK), "to_host", 1000.0)
    nat.forget()
    assert not nat.passes(packet(ACK), "to_host", 1001.0)
    assert nat.passes(packet(SYN, port=5001), "to_host", 1001.0)


def test_an_unused_mapping_is_forgotten_and_each_packet_keeps_it() -> None:
    nat = Nat()
    nat.idle = 2.0
    nat.passes(packet(SYN), "to_host", 0.0)
    assert nat.passes(packet(ACK, back=True), "to_client", 1.5)
    assert nat.passes(packet(ACK), "to_host", 3.0)
    assert not nat.passes(packet(ACK), "to_host", 5.0)
    assert not nat.passes(packet(ACK), "to_host", 5.1)


def test_the_reset_of_a_nat_fits_the_clients_connection() -> None:
    nat = Nat()
    assert nat.answer(packet(ACK), "to_host") is None
    nat.resets = True
    answer = nat.answer(packet(ACK), "to_host")
    assert answer is not None
    assert (answer[12:16], answer[16:20], checksum(answer[:20])) == (HOST, CLIENT, 0)
    source, target, number = struct.unpack_from("!HHI", answer, 20)
    assert (source, target, number, answer[33]) == (80, 5000, 1234, RST)
    assert checksum(answer[12:20] + struct.pack("!BBH", 0, 6, 20) + answer[20:]) == 0
    assert nat.answer(packet(ACK, back=True), "to_client") is None
    assert reset_for(packet(RST | ACK)) is None
    assert reset_for(packet(SYN)) is None


@pytest.mark.parametrize(
    ("kind", "after", "good"),
    [
        (KEPT, Totals(received=9), True),
        (KEPT, Totals(received=9, downs=2, resumed=2), True),
        (KEPT, Totals(received=9, downs=1), False),
        (KEPT, Totals(received=9, gaps=1, covered=3), False),
        (KEPT, Totals(received=9, silent=1), False),
        (LOST, Totals(received=9, downs=1, gaps=1, covered=3), True),
        (LOST, Totals(received=9, downs=1), False),
        (LOST, Totals(received=9, downs=1, gaps=1, doubled=1), False),
        (EITHER, Totals(received=9, downs=1, gaps=1, covered=3), True),
        (EITHER, Totals(received=9), True),
        (EITHER, Totals(received=9, silent=1), False),
    ],
)
def test_what_a_fault_may_cost(kind: str, after: Totals, good: bool) -> None:
    assert (judge(kind, {"ws": Totals()}, {"ws": after}) == []) is good
