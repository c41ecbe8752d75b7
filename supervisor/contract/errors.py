"""The errors of wsadapter as one tree, split by who caused them.

    WsAdapterError
    ├── ConfigError                 the configuration: every problem at once, each with its path
    ├── UsageError                  a call with invalid arguments, or at the wrong time
    │   ├── UnknownEndpoint         no endpoint of that name
    │   ├── UnknownSink             no sink of that name
    │   ├── DuplicateEndpoint       an endpoint of that name exists already
    │   ├── ConcurrentIteration     a second consumer on one stream
    │   ├── DuplicateRequest        a request of that id waits for its answer already
    │   ├── WrongProcess            the supervisor was inherited by a forked process
    │   ├── WrongType               an argument of the wrong type; a TypeError too
    │   └── UnsupportedPlatform     no processes and pipes to build on (Windows: use WSL 2)
    ├── AlreadyRunning              another supervisor of that name runs
    ├── TakeoverError               endpoints are being transferred to another supervisor, or could not be taken over
    ├── ClosedError                 you closed it
    │   ├── SupervisorStopped       stop() was called
    │   └── MonitorReleased         the monitor was released
    ├── LostError                   the connection or its owner is gone
    │   ├── NotConnected            the endpoint is down: nothing was sent
    │   │   └── NotSent             a request of which no byte was sent: it may be repeated
    │   ├── SendFailed              the owner could not send it, or died while it sent it: its fate is unknown
    │   └── OutcomeUnknown          a request that was lost or timed out after sending: ask the peer before repeating it
    ├── RequestRejected             the peer answered a request with an error
    ├── ControlError                a running supervisor, asked by another process, refused a command
    │   ├── NotRunning              no supervisor of that name runs here
    │   └── NoAnswer                it did not answer in time, or closed the connection instead
    ├── JournalError                a journal that cannot be written or read
    │   ├── NotAJournal             the path is no journal
    │   ├── NewerJournal            a newer version of wsadapter has written it
    │   ├── JournalInUse            another supervisor writes it
    │   ├── ConsumerInUse           another process reads it under that consumer name
    │   ├── ConsumerReplaced        another process took over that consumer name
    │   ├── UnknownConsumer         no consumer of that name has a position
    │   └── PositionBeyondEnd       a position that the journal has not reached
    └── AllFatal                    no endpoint is left that could deliver

Every text names the endpoint and the remedy. A raw `OSError`, `EOFError` or `BrokenPipeError` is a bug of wsadapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_LONGEST_SHOWN: Final = 500
"""Bytes of an answer in the text of an error."""


class WsAdapterError(Exception):
    """The root of all errors of wsadapter."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a configuration."""

    path: str
    """The place: `endpoints.binance.timeouts.connect`."""
    message: str
    """What was expected; for an unknown key, the nearest known key."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(WsAdapterError):
    """The configuration is invalid. `problems` contains every problem, not only the first."""

    def __init__(self, problems: list[Problem], *, source: str = "") -> None:
        self.problems = problems
        self.source = source
        head = f"{source}: " if source else ""
        lines = "\n".join(f"  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{head}{count}\n{lines}")


class UsageError(WsAdapterError):
    """A call with invalid arguments, or at the wrong time. Nothing was done."""


class UnknownEndpoint(UsageError, KeyError):
    """No endpoint of that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        shown = ", ".join(known) if known else "none yet"
        super().__init__(f"no endpoint named {name!r}; known: {shown}")

    def __str__(self) -> str:  # KeyError would show the repr of the text
        return str(self.args[0])


class UnknownSink(UsageError):
    """No sink of that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        shown = ", ".join(known) if known else "none"
        super().__init__(f"no sink named {name!r}; known: {shown}")


class DuplicateEndpoint(UsageError):
    """An endpoint of that name exists already."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"an endpoint named {name!r} exists already; remove() it first or choose another name")


class ConcurrentIteration(UsageError):
    """A second consumer iterates a stream that has one. `feed.stream(...)` gives an endpoint a stream of its own."""


class DuplicateRequest(UsageError):
    """A request with that id waits for its answer on that connection, or has timed out: two answers could not be told apart.
    Nothing was sent; use another id, or none."""

    def __init__(self, endpoint: str, id: str) -> None:  # noqa: A002 - its name in the settings
        self.endpoint = endpoint
        self.id = id
        super().__init__(f"{endpoint}: a request with the id {id!r} has no answer yet; give this one another id, or none")


class WrongProcess(UsageError):
    """The supervisor belongs to the process that made it; a forked child has no owners and no sockets of it."""


class WrongType(UsageError, TypeError):
    """An argument is of the wrong type: one stream instead of a list of them, a number instead of text. Nothing was done."""


class UnsupportedPlatform(UsageError):
    """This platform has no fork-safe processes and pipes to build on. On Windows, use WSL 2."""


class TakeoverError(WsAdapterError):
    """Endpoints are being transferred to another supervisor, so nothing may be changed for some seconds; or they could not be
    taken over, and the running supervisor continues. The text says which."""


class AlreadyRunning(WsAdapterError):
    """Another supervisor of that name is running (`pid`)."""

    def __init__(self, name: str, pid: int | None, path: str) -> None:
        self.name = name
        self.pid = pid
        who = f"pid {pid}" if pid else "an unknown process"
        super().__init__(
            f"a supervisor named {name!r} is already running ({who} holds {path}); stop it with "
            f"`python -m wsadapter stop --name {name}`, take it over with --takeover, or give this one another name"
        )


class ClosedError(WsAdapterError):
    """The object was closed by this program."""


class SupervisorStopped(ClosedError):
    """The supervisor was stopped; make a new one."""


class MonitorReleased(ClosedError):
    """The monitor was released; take a new one."""


class LostError(WsAdapterError):
    """The connection or its owner is gone."""


class NotConnected(LostError):
    """The endpoint has no open connection; nothing was sent and nothing is queued."""


class SendFailed(LostError):
    """The owner could not send the bytes, or died while it sent them: it is unknown whether the peer received them."""


class NotSent(NotConnected):
    """A request of which no byte was sent: it may be repeated without harm."""


class OutcomeUnknown(LostError):
    """A request was sent, at least in part, and its answer will not reach the caller: it is unknown whether the peer acted on
    it. Ask the peer before repeating it."""

    def __init__(self, endpoint: str, id: str, why: str, *, timed_out: bool = False) -> None:  # noqa: A002 - as above
        self.endpoint = endpoint
        self.id = id
        self.timed_out = timed_out
        """The request timed out, or its caller was cancelled: the answer may still come, as a `LateAnswer`."""
        super().__init__(f"{endpoint}: request {id}: {why}; its outcome is unknown, ask before repeating it")


class RequestRejected(WsAdapterError):
    """The peer answered a request with an error. `body` is the answer as it came, bytes."""

    def __init__(self, endpoint: str, id: str, body: bytes) -> None:  # noqa: A002 - as above
        self.endpoint = endpoint
        self.id = id
        self.body = body
        shown = body[:_LONGEST_SHOWN].decode(errors="replace")
        more = f" ... ({len(body)} bytes)" if len(body) > _LONGEST_SHOWN else ""
        super().__init__(f"{endpoint}: request {id} was rejected: {shown}{more}")


class ControlError(WsAdapterError):
    """A command that another process gave to a running supervisor failed. Nothing was done, unless it is `NoAnswer`."""


class NotRunning(ControlError):
    """No supervisor of that name runs here: none at all, or it has another user or another runtime folder."""


class NoAnswer(ControlError):
    """The supervisor did not answer in time, or closed the connection instead: whether it did what was asked is not known."""


class JournalError(WsAdapterError):
    """A journal cannot be written or read. The text names the path and the remedy."""


class NotAJournal(JournalError):
    """The path is not a journal: nothing is there, a file, or a folder with something else in it."""


class NewerJournal(JournalError):
    """A newer version of wsadapter has written the journal, in a format that this version does not know."""

    def __init__(self, path: str, found: int, known: int) -> None:
        self.path = path
        self.format = found
        super().__init__(
            f"{path}: a journal of format {found}; this version of wsadapter knows format {known}: upgrade wsadapter"
        )


class JournalInUse(JournalError):
    """Another supervisor (`pid`) writes the journal."""

    def __init__(self, path: str, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        who = f"pid {pid}" if pid else "an unknown process"
        super().__init__(f"{path}: another supervisor ({who}) writes this journal; stop it, or give this one another path")


class ConsumerInUse(JournalError):
    """Another process (`pid`) reads the journal under that consumer name."""

    def __init__(self, consumer: str, pid: int | None) -> None:
        self.consumer = consumer
        self.pid = pid
        who = f"pid {pid}" if pid else "an unknown process"
        super().__init__(f"consumer {consumer!r} is attached already ({who}); use another name, or takeover=True to replace it")


class ConsumerReplaced(JournalError):
    """Another process took over the consumer name, with `takeover=True`. What this one commits from now on has no effect."""

    def __init__(self, consumer: str) -> None:
        self.consumer = consumer
        super().__init__(f"another process took over the consumer {consumer!r}; this one is detached")


class UnknownConsumer(JournalError):
    """No consumer of that name has a position in the journal."""

    def __init__(self, consumer: str, known: list[str]) -> None:
        self.consumer = consumer
        self.known = known
        shown = ", ".join(known) if known else "none yet"
        super().__init__(f"no consumer named {consumer!r} has a position in this journal; known: {shown}")


class PositionBeyondEnd(JournalError):
    """A position that the journal has not reached. The text names the end of the journal."""


class AllFatal(WsAdapterError):
    """Every endpoint is fatal or has ended for good: nothing will ever be delivered again.

    `reasons` holds, per endpoint, the last `Reason`.
    """

    def __init__(self, reasons: dict[str, object]) -> None:
        self.reasons = reasons
        shown = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "no endpoints"
        super().__init__(f"no endpoint is left that could deliver ({shown}); remove the cause and restart() an endpoint")
