"""Asks the supervisor for its status, once a second, in a thread; all else of the exporter sees only the last reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic, time
from typing import Final, cast

from wsadapter.contract.errors import ControlError
from wsadapter.control.server import ask
from wsadapter.exporter.history import History
from wsadapter.exporter.processes import Processes
from wsadapter.exporter.reading import INTERVAL, Reading
from wsadapter.status import FORMAT, Status

_PATIENCE: Final = 5.0
"""Seconds that the supervisor may take for an answer."""


class Watch:
    """The last reading, and who waits for the next. For one event loop."""

    def __init__(self, name: str, runtime_dir: str) -> None:
        self._name = name
        self._runtime_dir = runtime_dir
        self._processes = Processes()
        self.reading = Reading(monotonic(), problem="it was not asked yet")
        self.history = History()
        self._next: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            began = monotonic()
            self.reading = await asyncio.to_thread(self._ask)
            self.history.add(self.reading)
            if self._next is not None:
                self._next.set_result(None)
                self._next = None
            await asyncio.sleep(max(0.0, began + INTERVAL - monotonic()))

    async def next(self) -> None:
        """Wait for the next reading."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._next)  # others wait for it too

    def _ask(self) -> Reading:
        """The kernel is asked for the owners' memory here, and not in the supervisor."""
        began = monotonic()
        before = replace(self.reading, asked_at=began)
        request = {"command": "watch"}
        try:
            status = cast("Status", ask(self._name, request, runtime_dir=self._runtime_dir, timeout=_PATIENCE)["status"])
        except ControlError as error:
            return replace(before, problem=str(error))
        if status["format"] != FORMAT:
            return replace(before, problem=f"its status has format {status['format']}, this exporter reads {FORMAT}")
        answered = monotonic()
        usage = self._processes.measure(_pids(status))
        return Reading(began, status, answered, time(), answered - began, "", usage)


def _pids(status: Status) -> Iterator[int]:
    yield status["pid"]
    for endpoint in status["endpoints"].values():
        for process in (endpoint, *endpoint.get("members", ())):
            if process["pid"] is not None:
                yield process["pid"]
