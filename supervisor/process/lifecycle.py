"""The life of an owner process as a table: (state, event) -> (state, action). No process, no clock in here.

   stop
┌──────── QUEUED
│           │ launching
│           v    started        ready         assign
│       SPAWNING ─────> STARTING ───> WARM ──────────> SERVING
│           │ stop         │            │ stop          │ stop   │ hung
│           v              │            v               v        v
└──────> UNWANTED          │          ASKED <───────────┘     DUMPING
            │ started      │ stop       │ deadline               │ deadline
            │              v            v                        │
            │          TERMINATED <─────┘                        │
            │              │ deadline                            │
            v              v                                     v
          KILLED <─────────┴─────── abort, from anywhere ────────┘
            │ deadline     death, from anywhere
            v                        │
        ABANDONED ──death──> DEAD <──┘
"""

from __future__ import annotations

import signal
from enum import Enum, auto
from typing import Final

from wsadapter.contract.endpoint import Timeouts, Watchdog

_DUMP_PATIENCE: Final = 0.5
"""Seconds that a hung process gets to write its stack."""
_STUCK_INTERVAL: Final = 30.0
"""Seconds between log lines about a process that SIGKILL does not end."""


class State(Enum):
    """The state of a process."""

    QUEUED = auto()
    """Requested from the launcher, which starts the processes that were requested before."""
    SPAWNING = auto()
    """The launcher is starting it; there is no pid yet."""
    UNWANTED = auto()
    """Requested, but not to be started, or to be killed as soon as it is started."""
    STARTING = auto()
    """It runs and imports modules."""
    WARM = auto()
    """It waits for an endpoint."""
    SERVING = auto()
    """It has an endpoint."""
    ASKED = auto()
    """Asked to exit, or about to exit by itself."""
    DUMPING = auto()
    """Hung; it is writing its stack."""
    TERMINATED = auto()
    """SIGTERM was sent."""
    KILLED = auto()
    """SIGKILL was sent."""
    ABANDONED = auto()
    """SIGKILL has not ended it (an uninterruptible sleep): the endpoint goes on without it."""
    DEAD = auto()


BEFORE_ITS_END: Final = frozenset({State.QUEUED, State.SPAWNING, State.STARTING, State.WARM, State.SERVING})
"""The states of a process that is neither exiting nor to be ended."""


class Event(Enum):
    """What can happen to a process."""

    LAUNCHING = auto()
    """The launcher begins to start it."""
    STARTED = auto()
    FAILED = auto()
    """The launcher could not start it."""
    READY = auto()
    ASSIGN = auto()
    LEAVING = auto()
    """It sent its last report."""
    STOP = auto()
    HUNG = auto()
    ABORT = auto()
    """What it sent is invalid, so that nothing more of it can be used."""
    DEADLINE = auto()
    """The time limit of the state has passed."""
    DEATH = auto()


class Action(Enum):
    """What a transition does. An action may also have a time limit (`time_limit`) and a signal (`SIGNALS`)."""

    NOTHING = auto()
    AWAIT_START = auto()
    WITHDRAW = auto()
    """Withdraw the request from the launcher."""
    AWAIT_READY = auto()
    REPORT_READY = auto()
    ASSIGN = auto()
    """Send the endpoint. The caller that applies the event does that, because it knows the endpoint."""
    ASK = auto()
    """Send a STOP. The caller that applies the event does that, because it knows the reason."""
    AWAIT_END = auto()
    DUMP = auto()
    TERMINATE = auto()
    KILL = auto()
    GIVE_UP_START = auto()
    """The launcher is stuck with the start: replace the launcher."""
    GIVE_UP_ON_STUCK = auto()
    """Report the process as dead, although SIGKILL has not ended it."""
    REPORT_STUCK = auto()
    FINISH = auto()
    """Close everything, and report its death."""
    RELEASE_STUCK = auto()
    """The process has ended now: close everything."""


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.QUEUED, Event.LAUNCHING): (State.SPAWNING, Action.AWAIT_START),
    (State.QUEUED, Event.FAILED): (State.DEAD, Action.FINISH),
    (State.QUEUED, Event.STOP): (State.UNWANTED, Action.WITHDRAW),
    (State.QUEUED, Event.ABORT): (State.UNWANTED, Action.WITHDRAW),
    (State.SPAWNING, Event.STARTED): (State.STARTING, Action.AWAIT_READY),
    (State.SPAWNING, Event.FAILED): (State.DEAD, Action.FINISH),
    (State.SPAWNING, Event.STOP): (State.UNWANTED, Action.AWAIT_END),
    (State.SPAWNING, Event.ABORT): (State.UNWANTED, Action.AWAIT_END),
    (State.SPAWNING, Event.DEADLINE): (State.DEAD, Action.GIVE_UP_START),
    (State.UNWANTED, Event.LAUNCHING): (State.UNWANTED, Action.AWAIT_END),
    (State.UNWANTED, Event.STARTED): (State.KILLED, Action.KILL),
    (State.UNWANTED, Event.FAILED): (State.DEAD, Action.FINISH),
    (State.UNWANTED, Event.DEADLINE): (State.DEAD, Action.GIVE_UP_START),
    (State.STARTING, Event.READY): (State.WARM, Action.REPORT_READY),
    (State.STARTING, Event.STOP): (State.TERMINATED, Action.TERMINATE),
    (State.STARTING, Event.DEADLINE): (State.KILLED, Action.KILL),
    (State.WARM, Event.ASSIGN): (State.SERVING, Action.ASSIGN),
    (State.WARM, Event.STOP): (State.ASKED, Action.ASK),
    (State.SERVING, Event.STOP): (State.ASKED, Action.ASK),
    (State.SERVING, Event.LEAVING): (State.ASKED, Action.AWAIT_END),
    (State.SERVING, Event.HUNG): (State.DUMPING, Action.DUMP),
    (State.DUMPING, Event.DEADLINE): (State.KILLED, Action.KILL),
    (State.ASKED, Event.DEADLINE): (State.TERMINATED, Action.TERMINATE),
    (State.TERMINATED, Event.DEADLINE): (State.KILLED, Action.KILL),
    (State.KILLED, Event.DEADLINE): (State.ABANDONED, Action.GIVE_UP_ON_STUCK),
    (State.ABANDONED, Event.DEADLINE): (State.ABANDONED, Action.REPORT_STUCK),
    **{
        (state, Event.ABORT): (State.KILLED, Action.KILL)
        for state in (State.STARTING, State.WARM, State.SERVING, State.ASKED, State.DUMPING, State.TERMINATED)
    },
    **{
        (state, Event.DEATH): (State.DEAD, Action.FINISH)
        for state in State
        if state not in (State.QUEUED, State.SPAWNING, State.UNWANTED, State.ABANDONED, State.DEAD)
    },
    (State.ABANDONED, Event.DEATH): (State.DEAD, Action.RELEASE_STUCK),
}


def step(state: State, event: Event) -> tuple[State, Action]:
    """The next state and the action. A pair that is not in the table changes nothing: a second stop, an event after the
    death."""
    return TABLE.get((state, event), (state, Action.NOTHING))


SIGNALS: Final = {Action.DUMP: signal.SIGUSR2, Action.TERMINATE: signal.SIGTERM, Action.KILL: signal.SIGKILL}
"""The signal that an action sends to the process."""


def time_limit(action: Action, timeouts: Timeouts, watchdog: Watchdog) -> float:
    """Seconds from the action to the event DEADLINE; 0: the state that it leads to has no limit."""
    match action:
        case Action.AWAIT_START | Action.AWAIT_READY:
            return watchdog.startup  # each gets the whole time: waiting in the launcher's queue isn't counted
        case Action.ASK | Action.AWAIT_END | Action.TERMINATE | Action.KILL:
            return timeouts.close
        case Action.DUMP:
            return _DUMP_PATIENCE
        case Action.GIVE_UP_ON_STUCK | Action.REPORT_STUCK:
            return _STUCK_INTERVAL
    return 0.0
