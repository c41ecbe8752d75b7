"""What is sent when: the order of frames, what may follow which, and how much is done at a time."""

from __future__ import annotations

import os
import socket

from wsadapter.worker.websocket.byte_stream import PlainByteStream
from wsadapter.worker.websocket.frames import PONG, TEXT, encode_close, encode_frame
from wsadapter.worker.websocket.sender import AT_ONCE, Frame, Sender


class Slow(PlainByteStream):
    """Takes no more than it has room for."""

    def __init__(self, room: int = 1 << 40) -> None:
        super().__init__(socket.socket())
        self.sock.close()
        self.room = room
        self.taken = b""
        self.sealed: list[int] = []

    def seal(self, plain: bytes | memoryview) -> bytes | memoryview:
        self.sealed.append(len(plain))
        return plain

    def send(self, sealed: memoryview) -> int:
        size = min(self.room, len(sealed))
        self.room -= size
        self.taken += sealed[:size]
        return size


class Steps:
    """Makes a frame in so many steps."""

    def __init__(self, frame: bytes, steps: int) -> None:
        self._frame = frame
        self.left = steps
        self.dropped = False

    def step(self) -> Frame | None:
        self.left -= 1
        return None if self.left else self._frame

    def drop(self) -> None:
        self.dropped = True


def test_no_frame_follows_a_close_frame() -> None:
    channel = Slow(room=3)
    sender = Sender(channel)
    begun, behind, close = (encode_frame(TEXT, b"begun"), encode_frame(TEXT, b"behind"), encode_close(1002))
    sender.put(begun, ref=1)
    sender.put(behind, ref=2)
    assert list(sender.flush(0.0)) == []
    sender.put(close, urgent=True)
    channel.room = 1000
    assert list(sender.flush(0.0)) == [1]
    assert channel.taken == begun + close
    assert sender.idle
    assert not sender.has_waiting
    assert sender.paced_until() is None
    assert sender.abandon() == [(2, "not_sent")]


def test_a_frame_is_made_in_its_turn_one_step_at_a_time_and_pongs_are_sent_in_between() -> None:
    channel = Slow()
    sender = Sender(channel)
    makers = [Steps(b"first", 3), Steps(b"second", 1)]
    for ref, maker in enumerate(makers, start=1):
        sender.put(maker, ref=ref)
    pongs = [encode_frame(PONG, b"%d" % n) for n in range(2)]
    for pong in pongs:
        assert list(sender.flush(0.0)) == []
        assert (sender.wants_flush, sender.idle, makers[1].left) == (True, False, 1)
        sender.put(pong, urgent=True)
    assert list(sender.flush(0.0)) == [1, 2]
    assert channel.taken == b"".join(pongs) + b"firstsecond"
    assert not sender.wants_flush


def test_a_frame_that_was_begun_to_be_made_can_be_withdrawn_or_be_too_late_and_its_maker_is_told() -> None:
    channel = Slow()
    sender = Sender(channel)
    makers = [Steps(b"withdrawn", 2), Steps(b"too late", 3), Steps(b"sent", 1)]
    for ref, maker in enumerate(makers, start=1):
        sender.put(maker, ref=ref, until=5.0 if ref == 2 else 9.0)
    assert list(sender.flush(0.0)) == []
    assert sender.withdraw(1)
    assert list(sender.flush(1.0)) == []
    assert list(sender.flush(5.0)) == [3]
    assert sender.overdue() == [2]
    assert [maker.dropped for maker in makers] == [True, True, False]
    assert channel.taken == b"sent"


def test_a_made_frame_whose_announcement_waits_can_be_withdrawn() -> None:
    sender, maker = Sender(Slow()), Steps(b"made", 1)
    sender.announce = lambda *_: False
    sender.put(maker, ref=1)
    assert list(sender.flush(0.0)) == []
    assert (maker.left, maker.dropped, sender.wants_flush) == (0, False, False)
    assert sender.withdraw(1)
    assert maker.dropped
    assert sender.idle


def test_what_was_announced_is_sent_next_whatever_comes_meanwhile() -> None:
    """Else a peer that pings faster than a large frame is announced would keep it from being sent for ever."""
    channel, told, taken = Slow(), list[bytes](), False
    sender = Sender(channel)
    sender.announce = lambda _ref, _position, frame, _allowed_at: told.append(bytes(frame)) or taken
    sender.put(b"large", ref=1)
    assert list(sender.flush(0.0)) == []
    for _ in range(100):
        sender.put(encode_frame(PONG, b""), urgent=True)
        assert list(sender.flush(0.0)) == []
    assert set(told) == {b"large"}
    taken = True
    assert list(sender.flush(0.0)) == [1]
    assert channel.taken.startswith(b"large\x8a")


def test_a_pong_that_was_announced_is_not_dropped_for_newer_ones() -> None:
    channel, told, taken = Slow(), list[bytes](), False
    sender = Sender(channel)
    sender.announce = lambda _ref, _position, frame, _allowed_at: told.append(bytes(frame)) or taken
    pongs = [encode_frame(PONG, b"%d" % n) for n in range(70)]
    for pong in pongs:
        sender.put(pong, urgent=True)
        assert list(sender.flush(0.0)) == []
    taken = True
    assert list(sender.flush(0.0)) == []
    assert channel.taken == pongs[0] + b"".join(pongs[-63:])


def test_no_flush_gives_the_kernel_more_than_its_share_or_seals_much_at_once() -> None:
    channel, frame = Slow(), os.urandom(3 * AT_ONCE + 5)
    sender = Sender(channel)
    sender.put(frame, ref=1)
    sizes = []
    while not sender.idle:
        before = len(channel.taken)
        done = list(sender.flush(0.0))
        sizes.append(len(channel.taken) - before)
        assert sender.wants_flush is (not done)
    assert sizes == [AT_ONCE, AT_ONCE, AT_ONCE, 5]
    assert channel.taken == frame
    assert max(channel.sealed) <= AT_ONCE / 4


def test_a_flush_that_ends_with_a_frame_goes_on_with_the_next_one_soon() -> None:
    channel = Slow()
    sender = Sender(channel)
    sender.put(bytes(AT_ONCE), ref=1)
    sender.put(b"next", ref=2)
    assert list(sender.flush(0.0)) == [1]
    assert sender.wants_flush
    assert list(sender.flush(0.0)) == [2]
    assert not sender.wants_flush


def test_a_kernel_that_is_full_is_waited_for() -> None:
    channel = Slow(room=10)
    sender = Sender(channel)
    sender.put(bytes(100), ref=1)
    assert list(sender.flush(3.0)) == []
    assert (sender.wants_flush, sender.blocked, sender.stuck_since) == (False, True, 3.0)
    assert sender.position == 10
    assert sender.abandon() == [(1, "unknown")]


def test_a_successor_can_go_on_while_frames_that_it_would_send_itself_wait() -> None:
    channel = Slow()
    sender = Sender(channel, pace=1.0)
    sender.put(b"on_up 1", once=True)
    sender.put(b"on_up 2", once=True)
    sender.put(b"subscribe")
    assert not sender.can_hand_off
    assert list(sender.flush(0.0)) == []
    assert not sender.can_hand_off
    assert list(sender.flush(1.0)) == []
    assert channel.taken == b"on_up 1on_up 2"
    assert sender.can_hand_off
    assert not sender.idle


def test_a_successor_can_not_go_on_in_the_middle_of_something() -> None:
    channel = Slow(room=3)
    sender = Sender(channel)
    sender.put(b"partly out")
    assert list(sender.flush(0.0)) == []
    assert not sender.can_hand_off
    channel.room = 1000
    assert list(sender.flush(0.0)) == []
    assert sender.can_hand_off
    sender.announce = lambda *_: False
    sender.put(b"announced")
    assert list(sender.flush(0.0)) == []
    assert not sender.can_hand_off
    sender.announce = None
    assert list(sender.flush(0.0)) == []
    sender.put(b"login", urgent=True)
    assert not sender.can_hand_off
    assert list(sender.flush(0.0)) == []
    assert sender.can_hand_off
    sender.put(encode_close(1000))
    assert list(sender.flush(0.0)) == []
    assert not sender.can_hand_off


def test_the_pace_goes_on_where_each_sender_is_followed_by_the_next_one() -> None:
    sent: list[tuple[str, float]] = []
    allowed_at, pace, now = 0.0, 0.25, 10.0
    for flushes in (1, 20, 3, 7, 1, 1, 30):
        channel, announced = Slow(), [allowed_at]
        sender = Sender(channel, pace=pace, allowed_at=allowed_at)
        sender.announce = lambda _ref, _position, _frame, until, announced=announced: announced.append(until) or True
        sender.put(b"!", urgent=True)  # it does not wait, and counts
        for _ in range(100):
            sender.put(b"a")
        for _ in range(flushes):
            before = len(channel.taken)
            assert list(sender.flush(now)) == []
            sent += [(chr(frame), now) for frame in channel.taken[before:]]
            now += 0.1
        allowed_at = announced[-1]
    paced = [(at, when) for at, (frame, when) in enumerate(sent) if frame == "a"]
    assert len(paced) >= 10
    assert all(when >= 10.0 + at * pace - 1e-9 for at, when in paced)
