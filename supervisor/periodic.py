"""What a running supervisor does periodically: counts for the rates, the check of the clock, cleaning of the quarantine,
how late the reactor is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic, time, time_ns

from wsadapter.contract.items import ClockStep, Event
from wsadapter.control.quarantine_folder import INTERVAL as CLEANING_INTERVAL
from wsadapter.endpoint.rates import INTERVAL, Count, Rate
from wsadapter.endpoint.samples import Samples
from wsadapter.loop.lag import LagMeter
from wsadapter.loop.reactor import Reactor

logger = logging.getLogger("wsadapter.supervisor")


class PeriodicWork:
    """The periodic work of one supervisor. All methods under the reactor's lock, except `uptime`."""

    def __init__(
        self,
        reactor: Reactor,
        counts: Callable[[], Mapping[str, Count]],
        put_event: Callable[[Event], None],
        clean: Callable[[], None],
    ) -> None:
        """`counts` returns what each endpoint has received. `put_event` puts an event into the main stream. `clean` removes
        what has no place in the quarantine any more."""
        self._reactor = reactor
        self._counts = counts
        self._put_event = put_event
        self._clean = clean
        self._samples = Samples(monotonic(), time())
        self.lag = LagMeter(reactor)

    def start(self) -> None:
        """The supervisor starts now."""
        self._samples.started_at = monotonic()
        self._sample()
        self._clean_and_repeat()
        self.lag.begin()

    @property
    def uptime(self) -> float:
        """Seconds since the supervisor started; before the start, since it was made."""
        return monotonic() - self._samples.started_at

    def rate(self, name: str, count: Count) -> Rate:
        """Messages and bytes per second of an endpoint that has received `count`."""
        return self._samples.rate(name, monotonic(), count)

    def _sample(self) -> None:
        step = self._samples.take(monotonic(), time(), self._counts())
        if step is not None:
            logger.warning("the wall clock jumped by %+.1f s; do not compare timestamps from before and after the jump", step)
            self._put_event(ClockStep("", 0, time_ns(), round(step, 6)))
        self._reactor.call_later(INTERVAL, self._sample)

    def _clean_and_repeat(self) -> None:
        self._clean()
        self._reactor.call_later(CLEANING_INTERVAL, self._clean_and_repeat)
