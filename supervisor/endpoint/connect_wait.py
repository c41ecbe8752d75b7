"""What a link waits for before its next owner may come, or may connect: a backoff, or the connect budget of the host."""

from __future__ import annotations

from collections.abc import Callable

from wsadapter.endpoint.connect_slot import Cancellable, Clock, ConnectSlot


class ConnectWait:
    """The wait of one link, and the connect that its next owner is to make. All methods under the reactor's lock."""

    def __init__(self, clock: Clock, reserve: Callable[[], ConnectSlot]) -> None:
        """`reserve` reserves a connect in the budget of the host."""
        self._clock = clock
        self._reserve = reserve
        self._backoff: Cancellable | None = None
        self.slot: ConnectSlot | None = None
        """The connect of the next owner, until that owner makes it; None: none is reserved."""

    def back_off(self, delay: float, call: Callable[[], None]) -> None:
        """Call it after `delay` seconds, but not after `cancel`."""
        self._backoff = self._clock.call_later(delay, call)

    def reserve_connect(self, call: Callable[[], None]) -> bool:
        """Reserve a connect. Returns whether it is allowed at once; if not, `call` is called when it is allowed, but not after
        `cancel`."""
        self.slot = self._reserve()
        if self.slot.wait > 0:
            self.slot.when_allowed(call)
            return False
        return True

    def take_slot(self) -> ConnectSlot | None:
        """The reserved connect, which the caller has to make."""
        slot, self.slot = self.slot, None
        return slot

    def cancel(self) -> None:
        """Wait for nothing any more, and give the connect back to the budget if it was not allowed yet."""
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None
        if self.slot is not None:
            self.slot.cancel()
            self.slot = None
