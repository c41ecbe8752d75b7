"""What the supervisors of an owner have demanded so far, to be reported to a supervisor that follows one that died."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wsadapter.contract.dialect.templates import stream_name
from wsadapter.contract.endpoint import Subscription
from wsadapter.contract.ipc.commands import SUBSCRIBE, UNSUBSCRIBE, Command
from wsadapter.contract.ipc.reports import Change, Rejoined


class Demands:
    """Those of one owner. Not thread-safe."""

    def __init__(self) -> None:
        self._last_ref = 0
        self._wanted: dict[str, Subscription] = {}

    def assigned(self, wanted: Iterable[Subscription]) -> None:
        """The owner has its assignment."""
        self._wanted = {stream_name(stream): stream for stream in wanted}

    def note(self, command: Command) -> None:
        """A command came. Raises `ValueError`, `KeyError` or `TypeError` if the body is malformed."""
        self._last_ref = max(self._last_ref, command.ref)
        if command.kind == SUBSCRIBE:
            self._wanted.update((stream_name(stream), stream) for stream in command.json()["streams"])
        elif command.kind == UNSUBSCRIBE:
            for stream in command.json()["streams"]:
                self._wanted.pop(stream_name(stream), None)

    def report(self, number: int, stage: str, changes: Sequence[Change], requests: Sequence[str]) -> Rejoined:
        """The answer to the call of this number. `changes` and `requests`: those that have not ended."""
        return Rejoined(number, stage, self._last_ref, tuple(self._wanted.values()), tuple(changes), tuple(requests))
