"""What goes wrong in the demonstration, one thing after the other, for ever."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from wsadapter.cli.demo import LocalExchanges


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `commands` go to the exchange, `signal` to the owner of the endpoint."""

    story: str
    """What a person reads; {name} and {pid} are filled in."""
    commands: Sequence[str] = ()
    signal: signal.Signals | None = None
    target: Literal["endpoint", "consumer", "supervisor"] = "endpoint"

    def strike(self, name: str, pid: int | None, exchanges: LocalExchanges) -> str:
        """Inject it into an endpoint whose owner is `pid`. Returns the story."""
        for command in self.commands:
            exchanges.command(f"{name} {command}")
        if self.signal is not None and pid is not None:
            try:
                os.kill(pid, self.signal)
            except ProcessLookupError:
                return f"{name}: owner {pid} was gone already"
        return self.story.format(name=name, pid=pid)

    def of_process(self, pid: int | None) -> str:
        """The story of a kill of the consumer or the supervisor; None: there was no such process."""
        return f"the {self.target} was gone already" if pid is None else self.story.format(pid=pid)


_OF_CONSUMER = Fault("kill -9 of the consumer that is attached to the journal (pid {pid})", target="consumer")
FAULTS = (
    Fault("kill -9 of the owner of {name} (pid {pid})", signal=signal.SIGKILL),
    Fault("kill -9 of the supervisor (pid {pid})", target="supervisor"),
    _OF_CONSUMER,
    Fault("{name} drops the connection without a word", ["drop"]),
    Fault("{name} goes mute: TCP stays up, nothing comes", ["mute"]),
    Fault("{name} resets the connection and answers the next two handshakes with 503", ["refuse 503 2", "reset"]),
    _OF_CONSUMER,
    Fault("{name} sends half a frame and then nothing", ["mute_mid_frame"]),
    Fault("the owner of {name} (pid {pid}) is frozen with SIGSTOP", signal=signal.SIGSTOP),
    Fault("{name} closes with 1012, service restart", ["close 1012"]),
    Fault("the owner of {name} (pid {pid}) crashes: SIGSEGV", signal=signal.SIGSEGV),
)


def schedule(faults: Sequence[Fault], names: Sequence[str]) -> Iterator[tuple[Fault, str]]:
    """Every fault in turn, each time to the next endpoint; so every pair comes up."""
    return zip(itertools.cycle(faults), _shifting(names, len(faults)), strict=False)


def _shifting(names: Sequence[str], period: int) -> Iterator[str]:
    for number in itertools.count():
        cycle, place = divmod(number, period)
        yield names[(place + cycle) % len(names)]
