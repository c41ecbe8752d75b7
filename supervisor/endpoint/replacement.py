"""How a link's connection is replaced as planned. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

_MEMORY_MARGIN: Final = 1.25
"""Above this multiple of `watchdog.memory` an owner is killed at once, whether its successor is ready or not."""


class Replacement(Enum):
    """How a connection is replaced."""

    NOTHING = auto()
    ROLL_OVER = auto()
    """Open the next connection first, then let the owner leave."""
    INSIST = auto()
    """A rollover is under way already; it is wanted for this reason too."""
    LEAVE = auto()
    """Ask the owner to leave; the next one connects after that."""
    HAND_OVER = auto()
    """End the owner; the next one continues with the same connection."""
    KILL = auto()
    """End the owner at once, as after a fault."""
    LATER = auto()
    """Look again later: no other replica delivers everything now."""
    START = auto()
    """There is no owner: acquire one at once."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Of a link."""

    has_owner: bool
    stays: bool
    """Its connection is open, and not on its way out."""
    in_custody: bool
    """Its connection can outlive its owner."""
    rolls_over: bool
    """A rollover is under way."""
    make_before_break: bool
    """The endpoint's setting."""
    is_replicated: bool
    is_redundant: bool
    """Other links deliver all that it delivers."""

    @property
    def can_overlap(self) -> bool:
        """Whether a second connection may be opened beside it."""
        return self.stays and self.make_before_break and not self.is_replicated


def for_restart(now: Situation, *, new_connection: bool, at_once: bool) -> Replacement:
    """A user, or the strategy, wants another owner. `new_connection`: with a new connection; `at_once`: without a rollover."""
    if not now.has_owner:
        return Replacement.START
    if now.in_custody and not new_connection:
        return Replacement.HAND_OVER
    return Replacement.ROLL_OVER if now.can_overlap and not at_once else Replacement.LEAVE


def for_new_connection(now: Situation) -> Replacement:
    """The peer, a watchdog or a dialect's rule wants another connection."""
    if now.is_replicated and not now.is_redundant:
        return Replacement.LATER
    if not now.stays:
        return Replacement.NOTHING
    if now.rolls_over:
        return Replacement.INSIST
    return Replacement.ROLL_OVER if now.can_overlap else Replacement.LEAVE


def for_memory(now: Situation, resident: int, allowed: int) -> Replacement:
    """The owner has `resident` bytes, which are more than are `allowed`."""
    if now.stays and now.is_redundant:
        return Replacement.LEAVE
    # A rollover would open a new connection although the next owner could continue with this one.
    if resident <= allowed * _MEMORY_MARGIN and now.can_overlap and not now.in_custody:
        return Replacement.ROLL_OVER
    return Replacement.KILL
