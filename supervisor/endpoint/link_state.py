"""The life of a link, one connection over all its owners, as a table: (state, event) -> (state, action). No process, no clock.

    state         owner              shown to users as            ends with
    STOPPED       none               stopped                      START (RECEIVE: another supervisor passed its owner)
    WAITING       none               backoff                      DUE: a backoff is over, or the budget allows a connect
    COOLING_DOWN  none               cooling_down                 START, when the cool-down is over
    FATAL         none               fatal                        START, by a user
    STARTING      its process starts starting                     ASSIGN, or POSTPONE: the budget allows no connect
    READY         waits, warm        backoff                      ASSIGN
    CONNECTING    has an assignment  connecting                   UP
    UP            is connected       up                           the death of its owner
    LEAVING       was asked to leave as before it was asked       the death of its owner; another owner follows
    STOPPING      was asked to leave stopping                     the death of its owner; none follows

    STOPPED, COOLING_DOWN, FATAL ──START──> WAITING ──DUE──> STARTING ──ASSIGN──────────> CONNECTING ──UP──> UP
                                                                └──POSTPONE──> READY ──ASSIGN──^

    any state with an owner ──REPLACE, HAND_OVER──> LEAVING
                            ──STOP──> STOPPING ──its owner is dead──> STOPPED
                            ──its owner is dead──> STARTING (RESUME, FOLLOW), WAITING (RETRY, BACK_OFF, RESUME_LATER),
                                                   COOLING_DOWN (COOL_DOWN), STOPPED (END), FATAL (GIVE_UP)
    any state without one   ──STOP──> STOPPED
    any state               ──DISOWN──> STOPPED

The events of a dead owner are what the restart policy decided: `after_death` turns the decision into an event.
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
    """The link has no owner, and none starts by itself."""
    WAITING = auto()
    """The link has no owner. The next owner starts after a backoff, or when the budget of the host allows a connect."""
    COOLING_DOWN = auto()
    """The link has no owner, because there were too many restarts."""
    STARTING = auto()
    """The process of the owner starts."""
    READY = auto()
    """The process of the owner is warm, and waits until the budget of the host allows a connect."""
    CONNECTING = auto()
    """The owner has its assignment."""
    UP = auto()
    """The connection is open."""
    LEAVING = auto()
    """The owner was asked to leave, and another owner follows."""
    STOPPING = auto()
    """The owner was asked to leave, and no owner follows."""
    FATAL = auto()
    """The link gave up: a user has to mend the cause."""


class LinkEvent(Enum):
    """What can happen to a link."""

    START = auto()
    """An owner that opens a connection is wanted: a user asked for one, or a backoff is over."""
    DUE = auto()
    """An owner may be acquired now."""
    POSTPONE = auto()
    """The owner is warm, and must wait for the budget of the host, because the connection that it should continue has ended."""
    ASSIGN = auto()
    """The owner gets its assignment, or has it already."""
    UP = auto()
    """The owner reported an open connection."""
    REPLACE = auto()
    """Another owner is wanted, on a new connection."""
    HAND_OVER = auto()
    """Another owner is wanted, on the same connection."""
    STOP = auto()
    """No owner is wanted any more."""
    RECEIVE = auto()
    """Another supervisor passed its owner, whose connection is up."""
    RECEIVE_FATAL = auto()
    """The link had given up in another supervisor."""
    DISOWN = auto()
    """The owner, if there is one, belongs to another supervisor now."""
    # The owner is dead, and the restart policy decided:
    RESUME = auto()
    """The next owner continues on the connection, at once."""
    RESUME_LATER = auto()
    """The next owner continues on the connection, after a backoff: the start of the dead owner failed, and the next start may
    fail in the same way."""
    FOLLOW = auto()
    """A successor is there that has opened a connection, or is about to."""
    RETRY = auto()
    """The next owner opens a connection, at once."""
    BACK_OFF = auto()
    """The next owner opens a connection, after a backoff."""
    COOL_DOWN = auto()
    """There were too many restarts: the next owner starts after `restart.cool_down`."""
    END = auto()
    """No owner follows."""
    GIVE_UP = auto()
    """No owner follows, and a user must mend the cause."""


class LinkAction(Enum):
    """What the link does on the way to the next state (`Link.step`)."""

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
"""STOPPING has an owner too: the last one."""
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
    """The next state and what to do. An event that the table does not list changes nothing, such as a second report of UP."""
    return TABLE.get((state, event), (state, LinkAction.NOTHING))


def after_death(decision: Decision, *, alive: bool, follows: bool, waits: bool) -> LinkEvent:
    """The event for a decision of the restart policy. `alive`: the connection outlived its owner; `waits`: the next start has
    to wait even so. `follows`: there is a successor."""
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
    """The state for users. LEAVING is shown as the state before: `assigned` if the owner had its assignment, `was_up` if its
    connection was open."""
    if state is LinkState.LEAVING:
        return "up" if was_up else "connecting" if assigned else "starting"
    return _SHOWN[state]
