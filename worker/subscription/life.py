"""The life of one subscription on one connection as a table: (state, event) -> (state, action). No frame, no clock in here.

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

A stream that delivers is LIVE, whether an answer has come or not. A refusal is final only for the moment: a REJECTED stream is
asked for again, slowly, and a late yes makes it CONFIRMED.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Where a subscription is in its life."""

    WANTED = auto()
    """To be asked for."""
    REQUESTED = auto()
    """Asked for, unanswered."""
    RETRYING = auto()
    """Refused for the moment (a rate or capacity limit); it is asked for again after a pause."""
    CONFIRMED = auto()
    """The exchange said yes, and nothing was delivered yet."""
    LIVE = auto()
    """It delivers."""
    SILENT = auto()
    """Confirmed, asked for once more, and still nothing was delivered: that was reported."""
    REJECTED = auto()
    """The exchange said no, or nothing at all."""
    LEAVING = auto()
    """The frame that unsubscribes is unanswered."""
    GONE = auto()
    """Not wanted any more."""


class Event(Enum):
    """What can happen to it."""

    ASK = auto()
    """A frame asks for it."""
    YES = auto()
    NO = auto()
    """Refused, or unanswered for good."""
    LATER = auto()
    """Refused for the moment."""
    REVOKED = auto()
    """An error after the yes."""
    ASSUME = auto()
    """The time for an answer is over where the exchange does not answer."""
    DATA = auto()
    """A message of it came."""
    SILENCE = auto()
    """The time for a first message is over."""
    LEAVE = auto()
    LEFT = auto()
    """The frame that unsubscribes was answered, or its time is over."""
    AGAIN = auto()
    """The same, of a stream that is wanted again."""


class Action(Enum):
    """What is to be done on the way."""

    NOTHING = auto()
    CONFIRM = auto()
    """Report it as subscribed, unless that was done, and wait for a first message."""
    LIVE = auto()
    """Report it as subscribed, unless that was done; nothing is waited for any more."""
    REJECT = auto()
    """Report the refusal, unless this one was reported already; ask again later."""
    STALL = auto()
    """Report the silence."""


_ON: dict[Event, tuple[State, Action]] = {
    Event.YES: (State.CONFIRMED, Action.CONFIRM),
    Event.NO: (State.REJECTED, Action.REJECT),
    Event.REVOKED: (State.REJECTED, Action.REJECT),
    Event.DATA: (State.LIVE, Action.LIVE),
}
"""What most events do wherever they have an effect."""

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
    """The next state and what to do. What is not in the table changes nothing: a second yes, a refusal of what is confirmed
    and was only asked for once more."""
    return TABLE.get((state, event), (state, Action.NOTHING))
