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


class ProcessState(Enum):
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
    """SIGKILL has not ended it (an uninterruptible sleep): the endpoint continues without it."""
    DEAD = auto()


BEFORE_ITS_END: Final = frozenset(
    {ProcessState.QUEUED, ProcessState.SPAWNING, ProcessState.STARTING, ProcessState.WARM, ProcessState.SERVING}
)
"""The states of a process that is neither exiting nor to be ended."""


class ProcessEvent(Enum):
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
    """The process sent invalid data, so nothing that it sends can be used any more."""
    DEADLINE = auto()
    """The time limit of the state has passed."""
    DEATH = auto()


class ProcessAction(Enum):
    """What a transition does. An action may also have a time limit (`time_limit`) and a signal (`SIGNALS`)."""

    NOTHING = auto()
    AWAIT_START = auto()
    WITHDRAW = auto()
    """Withdraw the request from the launcher."""
    AWAIT_READY = auto()
    REPORT_READY = auto()
    ASSIGN = auto()
    """Send the endpoint. The caller that applies the event does that, because it has the endpoint."""
    ASK = auto()
    """Send a STOP. The caller that applies the event does that, because it has the reason."""
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


TABLE: dict[tuple[ProcessState, ProcessEvent], tuple[ProcessState, ProcessAction]] = {
    (ProcessState.QUEUED, ProcessEvent.LAUNCHING): (ProcessState.SPAWNING, ProcessAction.AWAIT_START),
    (ProcessState.QUEUED, ProcessEvent.FAILED): (ProcessState.DEAD, ProcessAction.FINISH),
    (ProcessState.QUEUED, ProcessEvent.STOP): (ProcessState.UNWANTED, ProcessAction.WITHDRAW),
    (ProcessState.QUEUED, ProcessEvent.ABORT): (ProcessState.UNWANTED, ProcessAction.WITHDRAW),
    (ProcessState.SPAWNING, ProcessEvent.STARTED): (ProcessState.STARTING, ProcessAction.AWAIT_READY),
    (ProcessState.SPAWNING, ProcessEvent.FAILED): (ProcessState.DEAD, ProcessAction.FINISH),
    (ProcessState.SPAWNING, ProcessEvent.STOP): (ProcessState.UNWANTED, ProcessAction.AWAIT_END),
    (ProcessState.SPAWNING, ProcessEvent.ABORT): (ProcessState.UNWANTED, ProcessAction.AWAIT_END),
    (ProcessState.SPAWNING, ProcessEvent.DEADLINE): (ProcessState.DEAD, ProcessAction.GIVE_UP_START),
    (ProcessState.UNWANTED, ProcessEvent.LAUNCHING): (ProcessState.UNWANTED, ProcessAction.AWAIT_END),
    (ProcessState.UNWANTED, ProcessEvent.STARTED): (ProcessState.KILLED, ProcessAction.KILL),
    (ProcessState.UNWANTED, ProcessEvent.FAILED): (ProcessState.DEAD, ProcessAction.FINISH),
    (ProcessState.UNWANTED, ProcessEvent.DEADLINE): (ProcessState.DEAD, ProcessAction.GIVE_UP_START),
    (ProcessState.STARTING, ProcessEvent.READY): (ProcessState.WARM, ProcessAction.REPORT_READY),
    (ProcessState.STARTING, ProcessEvent.STOP): (ProcessState.TERMINATED, ProcessAction.TERMINATE),
    (ProcessState.STARTING, ProcessEvent.DEADLINE): (ProcessState.KILLED, ProcessAction.KILL),
    (ProcessState.WARM, ProcessEvent.ASSIGN): (ProcessState.SERVING, ProcessAction.ASSIGN),
    (ProcessState.WARM, ProcessEvent.STOP): (ProcessState.ASKED, ProcessAction.ASK),
    (ProcessState.SERVING, ProcessEvent.STOP): (ProcessState.ASKED, ProcessAction.ASK),
    (ProcessState.SERVING, ProcessEvent.LEAVING): (ProcessState.ASKED, ProcessAction.AWAIT_END),
    (ProcessState.SERVING, ProcessEvent.HUNG): (ProcessState.DUMPING, ProcessAction.DUMP),
    (ProcessState.DUMPING, ProcessEvent.DEADLINE): (ProcessState.KILLED, ProcessAction.KILL),
    (ProcessState.ASKED, ProcessEvent.DEADLINE): (ProcessState.TERMINATED, ProcessAction.TERMINATE),
    (ProcessState.TERMINATED, ProcessEvent.DEADLINE): (ProcessState.KILLED, ProcessAction.KILL),
    (ProcessState.KILLED, ProcessEvent.DEADLINE): (ProcessState.ABANDONED, ProcessAction.GIVE_UP_ON_STUCK),
    (ProcessState.ABANDONED, ProcessEvent.DEADLINE): (ProcessState.ABANDONED, ProcessAction.REPORT_STUCK),
    **{
        (state, ProcessEvent.ABORT): (ProcessState.KILLED, ProcessAction.KILL)
        for state in (
            ProcessState.STARTING,
            ProcessState.WARM,
            ProcessState.SERVING,
            ProcessState.ASKED,
            ProcessState.DUMPING,
            ProcessState.TERMINATED,
        )
    },
    **{
        (state, ProcessEvent.DEATH): (ProcessState.DEAD, ProcessAction.FINISH)
        for state in ProcessState
        if state
        not in (ProcessState.QUEUED, ProcessState.SPAWNING, ProcessState.UNWANTED, ProcessState.ABANDONED, ProcessState.DEAD)
    },
    (ProcessState.ABANDONED, ProcessEvent.DEATH): (ProcessState.DEAD, ProcessAction.RELEASE_STUCK),
}


def step(state: ProcessState, event: ProcessEvent) -> tuple[ProcessState, ProcessAction]:
    """The next state and the action. A pair that is not in the table changes nothing: a second stop, an event after the
    death."""
    return TABLE.get((state, event), (state, ProcessAction.NOTHING))


SIGNALS: Final = {
    ProcessAction.DUMP: signal.SIGUSR2,
    ProcessAction.TERMINATE: signal.SIGTERM,
    ProcessAction.KILL: signal.SIGKILL,
}
"""The signal that an action sends to the process."""


def time_limit(action: ProcessAction, timeouts: Timeouts, watchdog: Watchdog) -> float:
    """Seconds from the action to the event DEADLINE; 0: the state that it leads to has no limit."""
    match action:
        case ProcessAction.AWAIT_START | ProcessAction.AWAIT_READY:
            return watchdog.startup  # each gets the whole time: waiting in the launcher's queue isn't counted
        case ProcessAction.ASK | ProcessAction.AWAIT_END | ProcessAction.TERMINATE | ProcessAction.KILL:
            return timeouts.close
        case ProcessAction.DUMP:
            return _DUMP_PATIENCE
        case ProcessAction.GIVE_UP_ON_STUCK | ProcessAction.REPORT_STUCK:
            return _STUCK_INTERVAL
    return 0.0
