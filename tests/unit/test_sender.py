"""What is sent when: the order of frames, and what may follow which."""

from __future__ import annotations

import socket

from wsadapter.worker.channel import PlainChannel
from wsadapter.worker.frames import TEXT, encode_close, encode_frame
from wsadapter.worker.sender import Sender


class Slow(PlainChannel):
    """Takes no more than it has room for."""

    def __init__(self, room: int) -> None:
        super().__init__(socket.socket())
        self.sock.close()
        self.room = room
        self.taken = b""

    def send(self, sealed: memoryview) -> int:
        size = min(self.room, len(sealed))
        self.room -= size
        self.taken += sealed[:size]
        return size


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
    assert not sender.waits
    assert sender.paced_until() is None
    assert sender.abandon() == [(2, "not_sent")]
