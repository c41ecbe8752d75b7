"""What goes wrong in the demonstration, one thing after the other, for ever."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attached import AttachedConsumer

from wsadapter.cli.demo import LocalExchanges


@dataclass(frozen=True)
class Fault:
    """One kind of mishap. `commands` go to the exchange, `signal` to the owner, or to the consumer."""

    story: str
    """What a person reads; {name} and {pid} are filled in."""
    commands: Sequence[str] = ()
    signal: signal.Signals | None = None
    of_consumer: bool = False

    def strike(self, name: str, pid: int | None, exchanges: LocalExchanges, consumer: AttachedConsumer) -> str:
        """Let it happen to an endpoint whose owner is `pid`, or to the consumer; the story."""
        if self.of_consumer:
            pid = consumer.kill()
            return self.story.format(name=name, pid=pid) if pid is not None else "the consumer was gone already"
        for command in self.commands:
            exchanges.command(f"{name} {command}")
        if self.signal is not None and pid is not None:
            try:
                os.kill(pid, self.signal)
            except ProcessLookupError:
                return f"{name}: owner {pid} was gone already"
        return self.story.format(name=name, pid=pid)


_OF_CONSUMER = Fault(
    "kill -9 of the consumer that is attached to the journal (pid {pid})", signal=signal.SIGKILL, of_consumer=True
)
FAULTS = (
    Fault("kill -9 of the owner of {name} (pid {pid})", signal=signal.SIGKILL),
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


def schedule(names: Sequence[str]) -> Iterator[tuple[Fault, str]]:
    """Every fault in turn, each time to the next endpoint; so every pair comes up."""
    return zip(itertools.cycle(FAULTS), _shifting(names), strict=False)


def _shifting(names: Sequence[str]) -> Iterator[str]:
    for number in itertools.count():
        cycle, place = divmod(number, len(FAULTS))
        yield names[(place + cycle) % len(names)]
