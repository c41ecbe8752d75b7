"""Decides whether one host may append to one endpoint's subject. Pure.

    claiming ──the claim is appended──> writing ──refused, and the last message is another writer's──> lost
        └──the last message has a higher term, or this term of another lease──> lost

Every append names the sequence of the message that it follows, and the server refuses it if another message is the last one.
So a success of the claim proves that the old holder's last message is known, and every append that a frozen host had in flight
when it was replaced is refused. A writer that is refused does not simply try again behind the new message: it reads the term.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Claim(Enum):
    """The state of a writer."""

    CLAIMING = "claiming"
    WRITING = "writing"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Tail:
    """The last message of a subject."""

    sequence: int
    """0: the subject is empty."""
    term: int
    number: int
    """Number of the last message of the endpoint up to there."""
    writer: str
    lease: str = ""
    """Id of the lease under which it was written."""


class Fence:
    """One writer of one endpoint, under one term."""

    def __init__(self, writer: str, term: int, lease: str, tail: Tail) -> None:
        """`writer`: unique for the process. `lease`: its id. `tail`: read after the lease was won."""
        self.writer = writer
        self.term = term
        self.lease = lease
        self.tail = tail
        self.state = Claim.LOST if self._is_ahead(tail) else Claim.CLAIMING

    def _is_ahead(self, tail: Tail) -> bool:
        """Whether the log knows a lease that this one does not follow. Two leases have one term if the bucket was lost."""
        return tail.term > self.term or (tail.term == self.term and tail.lease != self.lease)

    def appended(self, sequence: int, number: int) -> None:
        """The server has acknowledged an append behind `tail`. `number`: of the endpoint's last message in it."""
        self.tail = Tail(sequence, self.term, number, self.writer, self.lease)
        self.state = Claim.WRITING

    def refused(self, tail: Tail) -> None:
        """The server refused an append, or did not answer; `tail` is the last message now. If an append of this writer is there
        whose answer was lost, `self.tail.number` is the number that it reached; the next append begins behind it."""
        if tail == self.tail:
            return  # not there, or not there yet: the next append names the same sequence, so that only one of them is accepted
        if tail.writer == self.writer and tail.term == self.term:
            self.appended(tail.sequence, tail.number)
        elif self.state is Claim.WRITING or self._is_ahead(tail):
            self.state = Claim.LOST
        else:
            self.tail = (
                tail  # the old holder has written once more, or another process of this lease has: the claim is made behind it
            )
