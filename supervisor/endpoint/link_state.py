"""The life of a link, one connection over all its owners, as a table: (state, event) -> (state, action). No process, no clock.

                  START           DUE             ASSIGN              UP
        STOPPED ─────────> WAITING ──> STARTING ─────────> CONNECTING ──> UP
        FATAL ───────────────^  ^         │ ^  │ POSTPONE      ^
                             │  │         │ │  └──> READY ─────┘ ASSIGN
                             │  │         │ └──── RESUME, FOLLOW ─┐
              BACK_OFF, RETRY│  │START    │                       │
                  ┌──────────┘  │         v                       │
                  │        COOLING_DOWN <── COOL_DOWN ── *the owner is dead* ── END, GIVE_UP ──> STOPPED, FATAL
                  └──────────────────────────────────────────────────^ ^
                  *with an owner* ── REPLACE, HAND_OVER ──> LEAVING ────┘ │
                  *with an owner* ── STOP ──> STOPPING ── any of these ──> STOPPED
                  *without one*   ── STOP ──> STOPPED
        STOPPED ── RECEIVE ──> UP          STOPPED ── RECEIVE_FATAL ──> FATAL          *any* ── DISOWN ──> STOPPED

The events of a dead owner are what the restart policy decided; `after_death` makes the event of the decision.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from wsadapter.endpoint.restart_policy import Decision, RestartAction
from wsadapter.status import EndpointState

STATES: Final[dict[EndpointState, str]] = {
    "starting": "waiting for an owner process to be ready",
    "connecting": "an owner resolves, connects, shakes hands",
    "up": "the connection is open",
    "backoff": "waiting for the next start, or for the host's connect budget",
    "cooling_down": "too many restarts: waiting for `restart.cool_down`",
    "stopping": "the owner was asked to leave",
    "stopped": "stopped, or ended for good by its restart type",
    "fatal": "gave up; `restart` starts the endpoint again, with new counters",
}
"""Every state of an endpoint that users see, with its meaning."""


class LinkState(Enum):
    """Where a link is in its life."""

    STOPPED = auto()
    """It has no owner, and gets none by itself."""
    WAITING = auto()
    """It has no owner: the next one is to come after a backoff, or when the host's budget allows a connect."""
    COOLING_DOWN = auto()
    """It has no owner: there were too many restarts."""
    STARTING = auto()
    """Its owner's process is on its way."""
    READY = auto()
    """Its owner's process is warm, and waits until the host's budget allows a connect."""
    CONNECTING = auto()
    """Its owner has its assignment."""
    UP = auto()
    LEAVING = auto()
    """Its owner was asked to leave, and another one is to follow."""
    STOPPING = auto()
    """Its owner was asked to leave, and none is to follow."""
    FATAL = auto()
    """It gave up."""


class LinkEvent(Enum):
    """What can happen to it."""

    START = auto()
    """An owner is wanted that opens a connection: somebody asked for it, or a backoff is over."""
    DUE = auto()
    """An owner may be acquired now."""
    POSTPONE = auto()
    """Its owner is warm, and must wait for the host's budget: the connection that it was acquired for is gone."""
    ASSIGN = auto()
    """Its owner gets its assignment, or has it already."""
    UP = auto()
    """Its owner reported an open connection."""
    REPLACE = auto()
    """Another owner is wanted, with a new connection."""
    HAND_OVER = auto()
    """Another owner is wanted, which goes on with the same connection."""
    STOP = auto()
    RECEIVE = auto()
    """Another supervisor passed its owner, whose connection is up."""
    RECEIVE_FATAL = auto()
    """In another supervisor it had given up."""
    DISOWN = auto()
    """Its owner, if it has one, is another supervisor's now."""
    # Its owner is dead, and the policy decided:
    RESUME = auto()
    """The next owner goes on with the connection at once."""
    RESUME_LATER = auto()
    """The same after a backoff: what ended this owner's start may end the next one's."""
    FOLLOW = auto()
    """A successor has opened a connection already, or is about to."""
    RETRY = auto()
    """The next owner opens a connection, at once."""
    BACK_OFF = auto()
    """The same after a backoff."""
    COOL_DOWN = auto()
    END = auto()
    """No owner follows."""
    GIVE_UP = auto()
    """None follows, and somebody must mend the cause."""


class LinkAction(Enum):
    """What is to be done on the way; the link has a method for each."""

    NOTHING = auto()
    RESERVE_CONNECT = auto()
    ACQUIRE_OWNER = auto()
    ASK_TO_LEAVE = auto()
    ASK_TO_STOP = auto()
    KILL = auto()
    ADOPT_SUCCESSOR = auto()
    AWAIT_RETRY = auto()
    AWAIT_RESUMPTION = auto()
    DISOWN = auto()
    REPORT_END = auto()
    REPORT_FATAL = auto()


_S, _E, _A = LinkState, LinkEvent, LinkAction
WITHOUT_OWNER: Final = (_S.STOPPED, _S.WAITING, _S.COOLING_DOWN, _S.FATAL)
WITH_OWNER: Final = (_S.STARTING, _S.READY, _S.CONNECTING, _S.UP, _S.LEAVING)
"""STOPPING has one too, which is the last."""
OF_A_DEATH: Final = (
    _E.RESUME, _E.RESUME_LATER, _E.FOLLOW, _E.RETRY, _E.BACK_OFF, _E.COOL_DOWN, _E.END, _E.GIVE_UP,
)  # fmt: skip
"""The events of a dead owner."""

TABLE: Final[dict[tuple[LinkState, LinkEvent], tuple[LinkState, LinkAction]]] = {
    **{(state, _E.START): (_S.WAITING, _A.RESERVE_CONNECT) for state in WITHOUT_OWNER},
    **{(state, _E.STOP): (_S.STOPPED, _A.REPORT_END) for state in WITHOUT_OWNER},
    (_S.STOPPED, _E.RECEIVE): (_S.UP, _A.NOTHING),
    (_S.STOPPED, _E.RECEIVE_FATAL): (_S.FATAL, _A.NOTHING),
    **{(state, _E.DISOWN): (_S.STOPPED, _A.DISOWN) for state in _S},
    (_S.WAITING, _E.DUE): (_S.STARTING, _A.ACQUIRE_OWNER),
    (_S.STARTING, _E.POSTPONE): (_S.READY, _A.NOTHING),
    (_S.STARTING, _E.ASSIGN): (_S.CONNECTING, _A.NOTHING),
    (_S.READY, _E.ASSIGN): (_S.CONNECTING, _A.NOTHING),
    (_S.CONNECTING, _E.UP): (_S.UP, _A.NOTHING),
    **{(state, _E.REPLACE): (_S.LEAVING, _A.ASK_TO_LEAVE) for state in (*WITH_OWNER, _S.STOPPING)},
    **{(state, _E.HAND_OVER): (_S.LEAVING, _A.KILL) for state in (*WITH_OWNER, _S.STOPPING)},
    **{(state, _E.STOP): (_S.STOPPING, _A.ASK_TO_STOP) for state in (*WITH_OWNER, _S.STOPPING)},
    **{(state, _E.RESUME): (_S.STARTING, _A.ACQUIRE_OWNER) for state in WITH_OWNER},
    **{(state, _E.RESUME_LATER): (_S.WAITING, _A.AWAIT_RESUMPTION) for state in WITH_OWNER},
    **{(state, _E.FOLLOW): (_S.STARTING, _A.ADOPT_SUCCESSOR) for state in WITH_OWNER},
    **{(state, _E.RETRY): (_S.WAITING, _A.RESERVE_CONNECT) for state in WITH_OWNER},
    **{(state, _E.BACK_OFF): (_S.WAITING, _A.AWAIT_RETRY) for state in WITH_OWNER},
    **{(state, _E.COOL_DOWN): (_S.COOLING_DOWN, _A.AWAIT_RETRY) for state in WITH_OWNER},
    **{(state, _E.END): (_S.STOPPED, _A.REPORT_END) for state in WITH_OWNER},
    **{(state, _E.GIVE_UP): (_S.FATAL, _A.REPORT_FATAL) for state in WITH_OWNER},
    **{(_S.STOPPING, event): (_S.STOPPED, _A.REPORT_END) for event in OF_A_DEATH},
}


def step(state: LinkState, event: LinkEvent) -> tuple[LinkState, LinkAction]:
    """The next state and what to do. What is not in the table changes nothing, such as a second report of being up."""
    return TABLE.get((state, event), (state, LinkAction.NOTHING))


def after_death(decision: Decision, *, alive: bool, follows: bool, waits: bool) -> LinkEvent:
    """The event that a decision of the restart policy is. `alive`: the connection outlived its owner; `waits`: even so the next
    start has to wait. `follows`: there is a successor to go on with."""
    match decision.action:
        case RestartAction.RESTART if alive:
            return LinkEvent.RESUME_LATER if waits else LinkEvent.RESUME
        case RestartAction.RESTART if follows:
            return LinkEvent.FOLLOW
        case RestartAction.RESTART:
            return LinkEvent.BACK_OFF if decision.delay else LinkEvent.RETRY
        case RestartAction.COOL_DOWN:
            return LinkEvent.COOL_DOWN
        case RestartAction.FATAL:
            return LinkEvent.GIVE_UP
        case RestartAction.END | RestartAction.STOP_SUPERVISOR:  # pragma: no branch - there is no other action (mypy)
            return LinkEvent.END


_SHOWN: Final[dict[LinkState, EndpointState]] = {
    _S.STOPPED: "stopped",
    _S.WAITING: "backoff",
    _S.COOLING_DOWN: "cooling_down",
    _S.STARTING: "starting",
    _S.READY: "backoff",
    _S.CONNECTING: "connecting",
    _S.UP: "up",
    _S.STOPPING: "stopping",
    _S.FATAL: "fatal",
}


def shown(state: LinkState, *, assigned: bool, was_up: bool) -> EndpointState:
    """The state for users. An owner that is to be replaced is shown as far as it had come: `assigned` if it had its assignment,
    `was_up` if its connection was open."""
    if state is LinkState.LEAVING:
        return "up" if was_up else "connecting" if assigned else "starting"
    return _SHOWN[state]
