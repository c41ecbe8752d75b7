"""The life of one subscription on one connection as a table: (state, event) -> (state, action). No frames and no clock here.

                  ask               yes                data
    WANTED ────────────> REQUESTED ──────> CONFIRMED ────────> LIVE
                          │   │  │ data        │   ^             ^
                          │   │  └─────────────┼───┼─────────────┤
                     later│   │no       silence│   │             │ data
                          v   │                v   │             │
                     RETRYING │              SILENT┼─────────────┤
                       ask ┘  v                    │ yes         │
                            REJECTED ──────────────┴─────────────┘
                                ^      no, of what was confirmed (revoked)
                                └──────────── CONFIRMED, LIVE, SILENT

    from anywhere: leave ──> LEAVING ──left──> GONE; and LEAVING ──left, wanted again──> WANTED

A stream that delivers is LIVE, whether an answer has come or not. No refusal is final: a REJECTED stream is requested again, at
growing intervals, and a late yes makes it CONFIRMED.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Where a subscription is in its life."""

    WANTED = auto()
    """To be requested."""
    REQUESTED = auto()
    """Requested, unanswered."""
    RETRYING = auto()
    """Deferred by the exchange (a rate or capacity limit); requested again after a pause."""
    CONFIRMED = auto()
    """Confirmed by the exchange; no message has come yet."""
    LIVE = auto()
    """A message has come."""
    SILENT = auto()
    """Confirmed and requested again, but no message has come; this was reported."""
    REJECTED = auto()
    """Refused by the exchange, or never answered."""
    LEAVING = auto()
    """The frame that unsubscribes is unanswered."""
    GONE = auto()
    """No longer wanted."""


class Event(Enum):
    """What can happen to a subscription."""

    ASK = auto()
    """A frame requests it."""
    YES = auto()
    """The exchange confirmed it."""
    NO = auto()
    """The exchange refused it, or it was given up because no answer came."""
    LATER = auto()
    """The exchange put it off."""
    REVOKED = auto()
    """An error came after the yes."""
    ASSUME = auto()
    """The time for a refusal is over, and the exchange confirms nothing."""
    DATA = auto()
    """A message of the stream came."""
    SILENCE = auto()
    """The time for a first message is over."""
    LEAVE = auto()
    """It is to be unsubscribed."""
    LEFT = auto()
    """The frame that unsubscribes was answered, or its time is over."""
    AGAIN = auto()
    """As LEFT, and the stream is wanted again."""


class Action(Enum):
    """What to do at a transition."""

    NOTHING = auto()
    CONFIRM = auto()
    """Report the stream as subscribed if it was not reported yet, and wait for a first message."""
    LIVE = auto()
    """Report the stream as subscribed if it was not reported yet."""
    REJECT = auto()
    """The refusal was reported; request the stream again later."""
    STALL = auto()
    """Report the silence."""


_ON: dict[Event, tuple[State, Action]] = {
    Event.YES: (State.CONFIRMED, Action.CONFIRM),
    Event.NO: (State.REJECTED, Action.REJECT),
    Event.REVOKED: (State.REJECTED, Action.REJECT),
    Event.DATA: (State.LIVE, Action.LIVE),
}
"""What these events do in every state in which they have an effect."""

TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.WANTED, Event.ASK): (State.REQUESTED, Action.NOTHING),
    (State.RETRYING, Event.ASK): (State.REQUESTED, Action.NOTHING),
    (State.REQUESTED, Event.LATER): (State.RETRYING, Action.NOTHING),
    (State.REQUESTED, Event.ASSUME): (State.CONFIRMED, Action.NOTHING),
    (State.CONFIRMED, Event.SILENCE): (State.SILENT, Action.STALL),
    **{(state, Event.YES): _ON[Event.YES] for state in (State.WANTED, State.REQUESTED, State.RETRYING, State.REJECTED)},
    **{(state, Event.NO): _ON[Event.NO] for state in (State.WANTED, State.REQUESTED, State.RETRYING, State.REJECTED)},
    **{(state, Event.REVOKED): _ON[Event.REVOKED] for state in (State.CONFIRMED, State.LIVE, State.SILENT, State.REJECTED)},
    **{
        (state, Event.DATA): _ON[Event.DATA]
        for state in (State.REQUESTED, State.RETRYING, State.CONFIRMED, State.SILENT, State.REJECTED)
    },
    **{(state, Event.LEAVE): (State.LEAVING, Action.NOTHING) for state in State if state not in (State.LEAVING, State.GONE)},
    (State.LEAVING, Event.LEFT): (State.GONE, Action.NOTHING),
    (State.LEAVING, Event.AGAIN): (State.WANTED, Action.NOTHING),
}


def step(state: State, event: Event) -> tuple[State, Action]:
    """The next state and what to do. A pair that is not in the table changes nothing: a second yes, or a refusal of a confirmed
    stream that was only requested again."""
    return TABLE.get((state, event), (state, Action.NOTHING))
