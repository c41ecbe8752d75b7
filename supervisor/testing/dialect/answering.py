"""How a test tells an exchange when, how often and in which order to answer: methods of `Exchange` that need a dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from wsadapter.testing.dialect.conversation_driver import Venue


class Answered(ABC):
    """Orders about the answers to frames that subscribe and unsubscribe. They hold from now on, on every connection.

    They may be given from any thread, also before `start()`, and together. Each raises `ValueError` where the exchange has no
    dialect.
    """

    @abstractmethod
    def _tell(self, order: Callable[[Venue], None]) -> None:
        """Carries out `order` in the exchange's own time."""

    def _answering(self, **settings: Any) -> None:
        def settle(venue: Venue) -> None:
            for name, value in settings.items():
                setattr(venue.orders.answering, name, value)

        self._tell(settle)

    def answer_after(self, seconds: float) -> None:
        """Each frame is looked at and answered so late, and the data of its streams begin then; 0 ends it."""
        self._answering(after=seconds)

    def answer_times(self, times: int) -> None:
        """Each answer is sent so many times. 2: twice. 0: never, while the data flow. 1 ends it."""
        self._answering(times=times)

    def answer_reversed(self, frames: int = 2) -> None:
        """A connection's frames wait until there are so many of them; then they are answered, the last first. 0 ends it; frames
        that wait are answered with the next one."""
        self._answering(reverse=frames)

    def data_first(self, messages: int = 1) -> None:
        """So many messages of each stream are sent before the answer, and its data go on behind it; 0 ends it.

        Needs messages that are known beforehand (a list, a recording), and `resume="start"`.
        """
        self._answering(data_first=messages)

    def answer_with_data(self, on: bool = True) -> None:
        """Answers carry the stream's first message, if the dialect's [[ack]] has `data`: what was recorded as an answer, else
        the first message of its data, which is then not sent again. Needs what `data_first` needs."""
        self._answering(with_data=on)

    def stray_answers(self, count: int = 1) -> None:
        """Before each answer come so many that say yes to a frame that no client sent; none if the dialect's answers would not
        say so. 0 ends it."""
        self._answering(strays=count)

    def pad_answers(self, size: int) -> None:
        """Answers have at least so many bytes: made-up streams are added if the dialect's answers list streams (`accepted`,
        `whole_set`), else a field of no meaning. 0 ends it."""
        self._answering(padding=size)

    def refuse_later(self, frames: int = 1) -> None:
        """The next so many frames that subscribe, of any client, are answered: later. By the dialect's [[later]], or by its
        [[error]] if it has none. 0 ends it."""
        self._answering(later=frames)

    def refuse_repeats(self, on: bool | None = True) -> None:
        """A client that subscribes a stream again is told that it has it: by the dialect's [[already]], by its [[error]] if it
        has none. False: it is told yes once more. None: as `True` if the dialect has [[already]], else as `False`."""
        self._answering(repeats=on)
