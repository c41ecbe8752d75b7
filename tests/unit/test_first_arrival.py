"""Several live connections of one stream: each message once, in order, whoever is ahead, joins late or leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.snapshots import transferred
from wsadapter.contract.ipc.record import BATCH, NO_IDENTITY, SNAPSHOT, RecordReader, encode
from wsadapter.endpoint.dedup import FirstArrival, Part, selected


def merged(span: float = 300.0, remembered: int = 1000) -> FirstArrival[Sequence[int]]:
    return FirstArrival(span=span, remembered=remembered)


class Fan:
    """Members show numbers, or (stream, number); what comes out is kept."""

    def __init__(self) -> None:
        self.merge = merged()
        self.out: list[int] = []
        self.now = 0.0

    def show(self, member: int, *numbers: int, streams: Sequence[str] | None = None) -> None:
        self.keep(self.merge.take(member, numbers, numbers, streams, self.now))

    def move(self) -> None:
        """As a takeover does, which waits until nothing is held."""
        if not self.merge.holding:
            snapshot = transferred(self.merge.snapshot())
            self.merge = merged()
            self.merge.restore(snapshot)
            assert transferred(self.merge.snapshot()) == snapshot

    def keep(self, parts: list[Part[Sequence[int]]]) -> None:
        self.out += [part.shown[place] for part in parts for place in part.places]


def two() -> Fan:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.merge.mark_aligned(1, 0.0)
    return fan


def test_the_same_identity_in_another_stream_is_another_message() -> None:
    fan = two()
    fan.show(0, 10, 10, streams=["a", "b"])
    fan.show(1, 10, 10, streams=["b", "a"])
    assert fan.out == [10, 10]
    assert (fan.merge.delivered("a"), fan.merge.delivered("c")) == ([10], [])


def test_a_message_that_may_repeat_by_itself_is_forgotten() -> None:
    fan = two()
    fan.merge = FirstArrival(span=5.0, repeats=True)
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.merge.mark_aligned(1, 0.0)
    for now, member, comes in ((10.0, 0, True), (14.0, 1, False), (16.0, 1, True), (17.0, 0, False)):
        fan.now = now
        fan.show(member, 7)
        assert bool(fan.out) is comes
        fan.out.clear()


def test_the_last_message_of_a_stream_is_remembered_for_any_time() -> None:
    fan = two()
    fan.show(0, 11, 12, streams=["quiet", "quiet"])
    fan.show(0, 21, streams=["b"])
    for later in (1000.0, 2000.0):
        fan.now = later
        fan.merge.leave(1)
        fan.merge.join(1, later)
        fan.show(1, 10, 11, 12, streams=["quiet"] * 3)  # a peer may repeat them to a new subscriber
        fan.keep(fan.merge.mark_aligned(1, later))
        fan.move()
    assert fan.out == [11, 12, 21]
    fan.show(1, 13, streams=["quiet"])
    fan.show(0, 13, streams=["quiet"])
    assert fan.out == [11, 12, 21, 13]
    assert fan.merge.delivered("quiet") == [13]
    fan.now = 3000.0
    fan.show(0, SNAPSHOT, 13, streams=["quiet"] * 2)
    assert fan.out == [11, 12, 21, 13, SNAPSHOT, 13]


def test_a_member_that_is_aligned_in_some_streams_waits_in_the_others() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.show(0, 11, streams=["a"])
    fan.merge.join(1, 0.0)
    fan.show(1, 13, 23, streams=["a", "b"])
    fan.keep(fan.merge.align(1, ["b"], 0.0))
    assert fan.out == [11, 23]
    fan.show(1, 11, 12, 24, streams=["a", "a", "b"])
    assert fan.out == [11, 23, 12, 24]


def test_a_stream_that_a_member_begins_anew_is_taken_from_that_member_only() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.show(0, 11, 12, streams=["a", "b"])
    fan.merge.join(1, 0.0)
    fan.merge.begin_anew("b", 1)
    messages = [("b", SNAPSHOT), ("b", 12), ("b", NO_IDENTITY), ("a", SNAPSHOT), ("a", NO_IDENTITY), ("a", 11)]
    streams, identities = zip(*messages, strict=True)
    fan.keep(fan.merge.take(1, range(100, 106), identities, streams, 0.0))
    assert fan.out == [11, 12, 100, 101, 102]
    fan.merge.leave(0)
    fan.show(1, 12, 13, streams=["b", "b"])
    assert fan.out[5:] == [12, 13]


def test_the_first_copy_of_a_message_is_delivered_and_others_are_dropped() -> None:
    fan = two()
    fan.show(0, 11, 12)
    fan.show(1, 11, 12, 13)
    fan.show(0, 13, 14)
    assert fan.out == [11, 12, 13, 14]


def test_the_first_member_begins_the_stream_and_the_next_ones_join_it() -> None:
    merge = merged()
    assert not merge.join(0, 0.0)
    assert merge.join(1, 0.0)
    assert merge.is_aligned(0)
    assert not merge.is_aligned(1)


def test_a_member_that_joins_ahead_waits_for_those_that_are_behind() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.show(0, 11)
    fan.merge.join(1, 0.0)
    fan.show(1, 14, 15, 16)
    assert fan.out == [11]
    fan.show(0, 12, 13, 14)
    assert fan.out == [11, 12, 13, 14, 15, 16]
    fan.show(0, 15, 16, 17)
    assert fan.out == [11, 12, 13, 14, 15, 16, 17]


def test_a_member_that_joins_behind_is_aligned_at_its_first_known_message() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.show(0, 11, 12, 13)
    fan.merge.join(1, 0.0)
    fan.show(1, 12, 13, 14)
    assert fan.out == [11, 12, 13, 14]


def test_a_member_with_waiting_messages_is_not_aligned_by_time_alone() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.show(1, 3)
    fan.merge.align_by_time(1, 30.0, 0.0)
    assert not fan.merge.is_aligned(1)
    fan.show(0, 1, 2, 3)
    fan.merge.align_by_time(1, 4.9, 0.0)
    assert not fan.merge.is_aligned(1)
    fan.merge.align_by_time(1, 5.0, 0.0)
    assert fan.merge.is_aligned(1)
    fan.show(1, 4)
    fan.show(0, 4, 5)
    assert fan.out == [1, 2, 3, 4, 5]


def test_a_member_that_always_has_waiting_messages_is_aligned_in_its_idle_streams() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.show(0, 10, streams=["quiet"])
    fan.show(1, 3, streams=["busy"])
    fan.merge.align_by_time(1, 60.0, 0.0)
    assert fan.merge.is_aligned(1)
    fan.show(1, 10, 11, streams=["quiet"] * 2)
    fan.show(0, 1, 2, 3, streams=["busy"] * 3)
    assert fan.out == [10, 11, 1, 2, 3]
    assert fan.merge.holding == 0


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_messages_that_wait_in_a_stream_that_begins_anew_are_released(by_snapshot: bool) -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.show(1, 3)
    if by_snapshot:
        fan.show(0, SNAPSHOT)
    else:
        fan.merge.begin_anew(None, 0)
    assert (fan.merge.holds(1), fan.merge.holding) == (0, 0)


def test_each_stream_waits_separately() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.show(0, 11, streams=["a"])
    fan.show(1, 11, 21, streams=["a", "b"])
    fan.show(1, 12, streams=["a"])
    assert fan.out == [11, 12]
    fan.show(0, 21, streams=["b"])
    assert fan.out == [11, 12, 21]


def test_waiting_messages_are_delivered_if_no_other_member_delivers_them() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.now = 1.0
    fan.show(1, 12, 13)
    fan.keep(fan.merge.overdue(0.9, 2.0))
    assert fan.out == []
    fan.keep(fan.merge.overdue(1.0, 2.0))
    assert fan.out == [12, 13]
    assert fan.merge.holds(1) == 0


def test_the_death_of_one_of_two_aligned_members_loses_nothing() -> None:
    fan = two()
    fan.show(0, 11, 12, 13)
    fan.show(1, 11)
    assert not fan.merge.leave(0)
    fan.show(1, 12, 13, 14)
    assert fan.out == [11, 12, 13, 14]
    assert fan.merge.lead == 1


def test_a_death_before_the_other_member_is_aligned_may_have_caused_a_loss() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.show(0, 11)
    fan.merge.join(1, 0.0)
    fan.show(1, 13)
    assert fan.merge.leave(0)
    fan.keep(fan.merge.mark_aligned(1, 0.0))
    assert fan.out == [11, 13]


def test_a_member_that_comes_back_duplicates_no_message() -> None:
    fan = two()
    fan.show(0, 11, 12)
    fan.show(1, 11)
    fan.merge.leave(1)
    fan.merge.join(1, 0.0)
    fan.show(1, 12, 13)
    fan.show(0, 13, 14)
    assert fan.out == [11, 12, 13, 14]


def test_equal_messages_are_delivered_as_often_as_on_one_connection() -> None:
    fan = two()
    fan.show(0, 7, 7, 8)
    fan.show(1, 7, 7, 8, 7)
    fan.show(0, 7)
    assert fan.out == [7, 7, 8, 7]


def test_a_member_that_joins_behind_a_repeated_message_delivers_the_next_one() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.show(0, 7, 7, 8)
    fan.merge.join(1, 0.0)
    fan.show(1, 8, 7)
    fan.show(0, 7)
    assert fan.out == [7, 7, 8, 7]


def test_messages_without_an_identity_are_taken_from_the_lead_only() -> None:
    fan = two()
    for member in (1, 0):
        fan.keep(fan.merge.take(member, [100 + member], [NO_IDENTITY], None, 0.0))
    assert fan.out == [100]
    fan.keep(fan.merge.take(1, [102], [NO_IDENTITY], None, 0.0, unidentified=True))
    assert fan.out == [100, 102]
    assert fan.merge.leave(0)  # the next lead may have shown some that this one had not, or the other way round


def snapshot(fan: Fan, member: int, mark: int) -> None:
    fan.keep(fan.merge.take(member, [mark], [SNAPSHOT], None, fan.now))


def test_after_a_snapshot_of_the_lead_the_others_wait_until_they_are_aligned() -> None:
    fan = two()
    fan.show(1, 11, 12, 13)  # ahead
    snapshot(fan, 1, -2)
    snapshot(fan, 0, -1)  # the state before 12
    fan.show(0, 12)
    assert fan.out == [11, 12, 13, -1, 12]
    fan.show(1, 14)
    fan.show(0, 13, 14)
    fan.show(1, 15)
    assert fan.out == [11, 12, 13, -1, 12, 13, 14, 15]


def test_messages_after_a_snapshot_on_a_slower_connection_are_not_repeated() -> None:
    fan = two()
    fan.show(0, 11, 12)
    snapshot(fan, 0, -1)
    fan.show(0, 13)
    fan.show(1, 11, 12, 13, 14)
    assert fan.out == [11, 12, -1, 13, 14]


def test_a_lead_that_dies_just_after_its_snapshot_may_have_caused_a_loss() -> None:
    fan = two()
    fan.show(1, 11, 12)
    snapshot(fan, 0, -1)
    assert fan.merge.leave(0)


def test_a_lead_that_dies_without_a_snapshot_after_another_had_one() -> None:
    fan = two()
    snapshot(fan, 1, -2)
    fan.show(0, 11)
    assert fan.merge.leave(0)


def test_a_member_that_is_silent_while_the_other_delivers_is_noticed() -> None:
    fan = two()
    for second in range(12):
        fan.now = float(second)
        fan.show(0, 100 + second)
    fan.now = 11.0
    assert fan.merge.lags.lagging(11.0, 5.0) == {1: (None, 11.0)}


def test_one_message_that_the_other_member_lacks_is_no_silence_and_is_counted() -> None:
    fan = two()
    fan.show(0, 11)
    fan.now = 100.0
    fan.show(0, 12)
    fan.show(1, 12)
    assert fan.merge.lags.lagging(200.0, 5.0) == {}
    fan.now = 201.0
    fan.show(0, 13, 14)
    fan.show(1, 14)
    assert fan.merge.lags.lagging(300.0, 5.0) == {}
    assert fan.merge.lags.missed == Counter({1: 2, 0: 0})


def test_a_merge_continues_in_another_supervisor_with_its_streams_and_snapshots() -> None:
    fan = two()
    fan.show(0, 11, 12, streams=["a", "b"])
    fan.show(0, SNAPSHOT, streams=["a"])
    fan.show(1, 11, 12, streams=["a", "b"])
    fan.move()
    fan.show(1, SNAPSHOT, streams=["a"])
    fan.show(0, 13, 14, streams=["a", "b"])
    fan.move()
    fan.show(1, 13, 14, 15, streams=["a", "b", "b"])
    fan.show(0, 15, streams=["b"])
    assert fan.out == [11, 12, SNAPSHOT, 13, 14, 15]
    assert (fan.merge.lead, fan.merge.members) == (0, {0, 1})


def test_remembered_identities_are_bounded() -> None:
    merge = merged(remembered=10)
    merge.join(0, 0.0)
    merge.join(1, 0.0)
    merge.mark_aligned(1, 0.0)
    for number in range(10, 1000):
        merge.take(0, [number], [number], None, 0.0)
    assert len(merge._order) <= 11
    assert len(merge._windows[None].delivered) <= 11
    assert len(merge._windows[None].log) <= 11


@st.composite
def showings(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What happens to two or three members of one feed that never stops: each shows the feed in order from where it was when it
    joined; at least one that is aligned is there all the time."""
    members = draw(st.integers(2, 3))
    at: dict[int, int | None] = {0: 10}
    happened: list[tuple[str, int, int]] = [("join", 0, 0)]
    since: dict[int, int] = {}
    head = 10
    for _ in range(draw(st.integers(1, 60))):
        head += draw(st.integers(0, 3))
        member = draw(st.integers(0, members - 1))
        position = at.get(member)
        if position is None:
            at[member] = head
            since[member] = head
            happened.append(("join", member, 0))
            continue
        action = draw(st.sampled_from(["show", "show", "show", "show", "align", "leave", "move"]))
        # The merge is told that one is aligned when all that the others had to show at its joining was shown.
        behind = [p for m, p in at.items() if p is not None and m != member]
        aligned = member not in since
        if action == "align" and not aligned and all(p >= since[member] for p in behind):
            del since[member]
            happened.append(("align", member, 0))
        elif action == "leave" and any(m != member and m not in since and p is not None for m, p in at.items()):
            at[member] = None
            since.pop(member, None)
            happened.append(("leave", member, 0))
        elif action == "move":
            happened.append(("move", member, 0))
        elif action == "show":
            to = draw(st.integers(position, head))
            happened += [("show", member, number) for number in range(position, to)]
            at[member] = to
    return happened


@pytest.mark.slow
@settings(max_examples=examples(200))
@given(showings())
def test_each_message_is_delivered_once_and_in_order(happened: list[tuple[str, int, int]]) -> None:
    fan = Fan()
    for what, member, number in happened:
        fan.now += 1.0
        if what == "join":
            fan.merge.join(member, fan.now)
        elif what == "align":
            fan.keep(fan.merge.mark_aligned(member, fan.now))
        elif what == "leave":
            assert not fan.merge.leave(member)
        elif what == "move":
            fan.move()
        else:
            fan.show(member, number)
    assert fan.out == list(range(10, 10 + len(fan.out)))
    shown = [number for what, _, number in happened if what == "show"]
    assert fan.out == [] or fan.out[-1] <= max(shown)


def test_messages_that_the_lead_repeats_after_a_snapshot_are_remembered_longer_than_those_before_it() -> None:
    fan = Fan()
    fan.merge = merged(span=1.0)
    fan.merge.join(0, 0.0)
    fan.show(0, 20)
    fan.now = 0.5
    fan.show(0, SNAPSHOT, 20)
    fan.now = 1.2  # what came before the snapshot is forgotten, what came behind it is not
    fan.show(0, 21)
    assert fan.merge.delivered(None) == [20, 21]


@settings(max_examples=examples(300))
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.9]), st.booleans(), st.sampled_from([SNAPSHOT, 20, 21])), max_size=40))
def test_snapshots_and_repeated_messages_at_any_time_leave_no_state(shown: list[tuple[float, bool, int]]) -> None:
    fan = two()
    fan.merge = merged(span=1.0)
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.merge.mark_aligned(1, 0.0)
    for pause, other, identity in [*shown, (5.0, False, 30), (5.0, False, 31)]:
        fan.now += pause
        fan.show(int(other), identity)
    window = fan.merge._windows[None]
    assert [identity for identity, _ in window.log] == [31]
    assert (window.before, window.stale, window.delivered) == (Counter(), 0, Counter([31]))
    assert window.lacking[0] == Counter()


def test_a_member_that_left_does_not_align_and_leaves_once() -> None:
    fan = two()
    assert fan.merge.leave(1) is False
    assert fan.merge.leave(1) is False
    assert fan.merge.mark_aligned(1, 0.0) == []
    assert (fan.merge.members, fan.merge.is_aligned(1)) == (frozenset({0}), False)


def test_the_last_member_that_leaves_leaves_no_state() -> None:
    fan = two()
    fan.merge.leave(1)
    assert fan.merge.leave(0) is False
    assert (fan.merge.lead, fan.merge.members) == (None, frozenset())


def test_the_waiting_messages_of_a_member_can_be_dropped() -> None:
    fan = Fan()
    fan.merge.join(0, 0.0)
    fan.merge.join(1, 0.0)
    fan.show(1, 7, 8)
    assert (fan.merge.holds(1), fan.merge.holding) == (2, 2)
    fan.merge.let_go(1)
    assert (fan.merge.holds(1), fan.merge.holding) == (0, 0)
    assert fan.merge.mark_aligned(1, 0.0) == []
    assert fan.out == []


def test_the_streams_that_began_with_a_snapshot_are_known() -> None:
    fan = two()
    fan.show(0, 7, streams=["a"])
    fan.show(0, SNAPSHOT, streams=["b"])
    assert fan.merge.begun_by_snapshot == ["b"]


@pytest.mark.parametrize("places", [[0, 1, 2], [0, 2]])
def test_a_part_is_the_whole_record_or_only_its_messages(places: list[int]) -> None:
    (record,) = RecordReader().feed(
        encode(b"abc", sequence=1, kind=BATCH, received_at=1, layout="0x1s0x1s0x1s", count=3, streams=[1, 0, 2])
    )
    batch, streams = selected(Part(0, (record, ["x", None, "y"]), places))
    assert batch.payloads == tuple(b"abc"[place : place + 1] for place in places)
    assert streams == [["x", None, "y"][place] for place in places]
    assert (batch is record) == (len(places) == 3)
