"""How a test controls when, how often and in which order an exchange answers: methods of `Exchange` that need a dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from wsadapter.testing.dialect.client_driver import DialectServer


class AnswerControls(ABC):
    """Controls for the answers to frames that subscribe and unsubscribe. A setting applies from now on, on every connection.

    They may be called from any thread, also before `start()`, and combined. Each raises `ValueError` if the exchange has no
    dialect.
    """

    @abstractmethod
    def _override(self, change: Callable[[DialectServer], None]) -> None:
        """Carry out `change` in the exchange's event loop, if the exchange runs."""

    def _answering(self, **settings: Any) -> None:
        def settle(dialect_server: DialectServer) -> None:
            for name, value in settings.items():
                setattr(dialect_server.overrides.answering, name, value)

        self._override(settle)

    def answer_after(self, seconds: float) -> None:
        """Handle and answer each frame after `seconds`; the data of its streams begin then. 0 ends it."""
        self._answering(after=seconds)

    def answer_times(self, times: int) -> None:
        """Send each answer `times` times. 0: never, while the data flow. 1 ends it."""
        self._answering(times=times)

    def answer_reversed(self, frames: int = 2) -> None:
        """Collect `frames` frames of a connection; then answer them, the last first. 0 ends it:
        frames that wait are answered with the next one."""
        self._answering(reverse=frames)

    def data_first(self, messages: int = 1) -> None:
        """Send `messages` messages of each stream before the answer, and the other messages after it; 0 ends it.

        Needs messages that are known beforehand (a list, a recording), and `resume="start"`.
        """
        self._answering(data_first=messages)

    def answer_with_data(self, on: bool = True) -> None:
        """Answers carry the stream's first message, if the dialect's [[ack]] has `data`: what was recorded as an answer, else
        the first message of its data, which is then not sent again. Needs what `data_first` needs."""
        self._answering(with_data=on)

    def stray_answers(self, count: int = 1) -> None:
        """Before each answer, send `count` answers that confirm a frame which no client sent; none if the dialect's answers
        don't name the frame that they confirm. 0 ends it."""
        self._answering(strays=count)

    def pad_answers(self, size: int) -> None:
        """Send answers of at least `size` bytes: made-up streams are added if the dialect's answers list streams (`accepted`,
        `whole_set`), else a field of no meaning. 0 ends it."""
        self._answering(padding=size)

    def refuse_later(self, frames: int = 1) -> None:
        """Refuse the next `frames` frames that subscribe, of any client, with the dialect's [[later]], or with its [[error]] if
        it has no [[later]]. 0 ends it."""
        self._answering(later=frames)

    def refuse_repeats(self, on: bool | None = True) -> None:
        """Refuse a stream that the client has subscribed already, with the dialect's [[already]], or with its [[error]] if it
        has no [[already]]. False: confirm the stream again. None: as `True` if the dialect has [[already]], otherwise as
        `False`."""
        self._answering(repeats=on)
