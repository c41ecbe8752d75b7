"""Where a message ends, by its frames' headers alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsadapter.poison import message_end
from wsadapter.testing.frames import encode_frame

payloads = st.one_of(st.binary(max_size=200), st.integers(125, 127).map(bytes), st.just(bytes(70_000)))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One in fragments, with control frames between them."""
    parts = draw(st.lists(payloads, min_size=1, max_size=4))
    frames = []
    for place, part in enumerate(parts):
        frames.append(encode_frame(1 if not place else 0, part, fin=place == len(parts) - 1))
        if place < len(parts) - 1 and draw(st.booleans()):
            frames.append(encode_frame(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=20))))
    return b"".join(frames)


@given(messages(), st.binary(max_size=30), st.data())
def test_a_message_ends_with_its_last_fragment(message: bytes, behind: bytes, data: st.DataObject) -> None:
    assert message_end(message + behind) == len(message)
    assert message_end(message[: data.draw(st.integers(0, len(message) - 1))]) is None


def test_what_a_client_would_send_is_no_message_of_a_server() -> None:
    assert message_end(bytes([0x81, 0x81, 1, 2, 3, 4, 5])) is None
