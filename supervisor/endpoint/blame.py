"""Streams because of which the peer closed connections, or may have. Pure; the clock is passed in.

An owner reports two kinds of evidence. An error after which the peer closes (`closes` of a dialect's [[error]]) is about one
stream, or about one of several. A close without a word says nothing, so what was asked for just before and was not answered
is suspected once that has happened again: the next owner asks for all other streams first and then for the suspects in small
groups, until one closing after the other is about the same single stream, on connections that worked for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

SUSPECT_AFTER: Final = 2
"""The number of connections that are closed without any answer to a stream before other streams are requested first."""
GUILTY_AFTER: Final = 3
"""The number of connections that are closed with only this stream unanswered before it counts as the cause."""
_FIRST_RETRY: Final = 3600.0
_LAST_RETRY: Final = 86400.0
"""Seconds until a stream is asked for again: the pause doubles from the first to the last. Each try may cost a connection."""


@dataclass(slots=True)
class BlameRecord:
    """The evidence about one stream."""

    error: str = ""
    """The peer's, or ours; empty: it is no more than suspected."""
    suspected: bool = False
    closes: int = 0
    """How many connections were closed without a word when the stream was unanswered."""
    alone: int = 0
    """The number of them with no other unanswered stream, and with a confirmed one."""
    verdicts: int = 0
    retry_at: float = 0.0
    """Monotonic seconds."""

    @property
    def guessed(self) -> bool:
        """Whether the error is ours."""
        return self.alone >= GUILTY_AFTER


class Blame:
    """Of one endpoint, over its connections. Not thread-safe."""

    def __init__(self, snapshot: Mapping[str, BlameRecord] | None = None) -> None:
        """`snapshot`: of the same endpoint in another supervisor."""
        self._records = {name: replace(record) for name, record in (snapshot or {}).items()}

    def __contains__(self, name: str) -> bool:
        """Whether the stream would not be asked for like any other."""
        record = self._records.get(name)
        return record is not None and record.suspected

    def clear(self, name: str) -> None:
        """The peer has taken the stream, or it is not wanted any more, or the user asks for it."""
        self._records.pop(name, None)

    def reported(self, name: str, error: str, now: float) -> None:
        """The peer closed a connection because of this stream, by its error text; without an error: because of this or
        another."""
        record = self._records.setdefault(name, BlameRecord())
        record.suspected = True
        if error:
            self._convict(record, error, now)

    def closed(self, names: Iterable[str], *, alone: bool, within: float, now: float) -> list[str]:
        """The peer closed a connection without a word, at most `within` seconds after the frames that asked for these streams,
        and before it answered them. `alone`: it is one stream, and others had been confirmed. Returns those that are suspected
        from now on."""
        new: list[str] = []
        for name in names:
            record = self._records.setdefault(name, BlameRecord())
            record.closes += 1
            record.alone += alone
            if record.closes >= SUSPECT_AFTER and not record.suspected:
                record.suspected = True
                new.append(name)
            if alone and record.guessed:
                closed = f"the peer closed {record.alone} connections within {within:g} s after this stream was asked for"
                self._convict(record, f"no answer: {closed}, and had confirmed others on them", now)
        return new

    def _convict(self, record: BlameRecord, error: str, now: float) -> None:
        record.error = error
        record.retry_at = now + min(_FIRST_RETRY * 2**record.verdicts, _LAST_RETRY)
        record.verdicts = min(record.verdicts + 1, 16)

    def for_owner(self, now: float) -> dict[str, str]:
        """`Assignment.blamed` of a new connection: those that were closed over least go first. What was refused long enough ago
        is a suspect again."""
        suspects = sorted((each for each in self._records.items() if each[1].suspected), key=lambda each: each[1].closes)
        return {name: record.error if now < record.retry_at else "" for name, record in suspects}

    def retries(self, now: float) -> dict[str, float]:
        """`Assignment.retry_at` of an owner: only what the peer refused with words is left alone until the next connection."""
        return {name: record.retry_at for name, record in self._records.items() if record.guessed and now < record.retry_at}

    def snapshot(self) -> dict[str, BlameRecord]:
        """For another supervisor, by the names of the streams."""
        return dict(self._records)
