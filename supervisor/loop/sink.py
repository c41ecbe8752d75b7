"""Where a turn of the loop delivers what it received, if a consumer runs the turn."""

from __future__ import annotations

from collections.abc import Callable


class Sink:
    """What a consumer passes to `Reactor.run_until`. It belongs to the thread that runs the turn.

    If only one descriptor is ready, nothing else can come before what this descriptor brings. The loop then sets `accepting`,
    and a handler may deliver a single message directly: it gives the message to the consumer and sets `delivered`. In every
    other turn `finish` delivers, as the last part of the turn, so that the order is kept."""

    __slots__ = ("accepting", "delivered", "finish")

    def __init__(self, finish: Callable[[], bool]) -> None:
        self.finish = finish
        """Delivers what has been queued. True: the consumer has something, and `run_until` returns."""
        self.accepting = False
        """Whether a message may be delivered directly in this turn."""
        self.delivered = False
        """Whether a message was delivered directly in this turn, so that `finish` isn't needed."""
