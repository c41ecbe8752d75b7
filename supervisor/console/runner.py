"""The main job: one configuration, one supervisor, one output, from the start to the exit code.

    signals ──> thread ─┐                     ┌──> output (main thread)
                        ├──> Supervisor ──────┤
    control socket ─────┘    (its reactor)    └──> log lines ──> thread ──> standard error

The main thread does nothing but carry items to the output. If that blocks (nobody reads the pipe), supervision, signals and
commands go on without it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, time_ns
from typing import Final

import orjson

from wsadapter.config import load
from wsadapter.config.settings import Settings
from wsadapter.console.logs import LogThread
from wsadapter.console.signals import SignalThread
from wsadapter.contract.errors import AllFatal, AlreadyRunning, ConfigError, SupervisorStopped, UsageError, WsAdapterError
from wsadapter.contract.items import Batch, Gap, Started
from wsadapter.outputs import Output, OutputFailed, open_output
from wsadapter.outputs.jsonl import continuation_gaps
from wsadapter.supervisor import Supervisor

logger = logging.getLogger("wsadapter.runner")

STOPPED: Final = 0
OUR_FAULT: Final = 1
CONFIGURATION: Final = 2
ALL_FATAL: Final = 3
ALREADY_RUNNING: Final = 4
OUTPUT_FAILED: Final = 5
EXIT_CODES: Final[Mapping[int, str]] = {
    STOPPED: "stopped as asked",
    OUR_FAULT: "our own fault: a bug; the traceback says where",
    CONFIGURATION: "the configuration or the command line is wrong; nothing was started",
    ALL_FATAL: "every endpoint is fatal: nothing is left that could deliver",
    ALREADY_RUNNING: "another supervisor of that name is running",
    OUTPUT_FAILED: "the output failed: a full disk, a closed pipe",
}
"""Every exit code with its meaning. A second stop signal ends the program at once with 128 + its number, as shells count."""

_FLUSH_INTERVAL: Final = 1.0
_PATIENCE_FOR_STATUS: Final = 2.0


class Runner:
    """Runs one configuration. For the main thread."""

    def __init__(self, settings: Settings, path: Path, log: LogThread, *, duration: float | None = None) -> None:
        """`path`: what a reload reads again. `duration`: seconds after which it stops by itself.

        Raises `ConfigError`, `UnsupportedPlatform`.
        """
        self._settings = settings
        self._path = path
        self._log = log
        self._duration = duration
        self._feed = Supervisor.from_settings(settings)
        self._started = threading.Event()
        self._stop_wanted = False

    def run(self) -> int:
        """From the start to the exit code; what went wrong is logged."""
        try:
            with SignalThread(stop=self._stop, leave=self._leave, reload=self._reload, dump=self._dump):
                return self._run()
        except AlreadyRunning as error:
            return _give_up(error, ALREADY_RUNNING)
        except (ConfigError, UsageError) as error:
            return _give_up(error, CONFIGURATION)
        except OutputFailed as error:
            return _give_up(error, OUTPUT_FAILED)
        except AllFatal as error:
            return _give_up(error, ALL_FATAL)

    def _run(self) -> int:
        self._feed.start()  # first of all: where another one runs, its output must not be touched
        try:
            self._after_start()
            self._carry()
        finally:
            self._feed.stop()
            self._summarise()
        return STOPPED

    def _after_start(self) -> None:
        self._started.set()
        if self._stop_wanted:
            self._feed.ask_to_stop()
        if self._duration is not None:
            duration = self._duration
            self._feed.reactor.call(lambda: self._feed.reactor.call_later(duration, self._time_is_up))

    # -- the stream ------------------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        output = open_output(self._settings.output)
        try:
            names = [endpoint.name for endpoint in self._settings.endpoints]
            self._carry_to(output, continuation_gaps(output.continued(names), at=time_ns()))
        finally:
            output.close()

    def _carry_to(self, output: Output, gaps: list[Gap]) -> None:
        flush_at = monotonic() + _FLUSH_INTERVAL
        feed = self._feed
        for item in feed.batches():
            if isinstance(item, Batch):
                output.write_batch(item)
            else:
                output.write_event(item)
                if isinstance(item, Started):
                    for gap in gaps:
                        output.write_event(gap)
            if not feed.pending or monotonic() >= flush_at:
                output.flush()
                flush_at = monotonic() + _FLUSH_INTERVAL

    # -- what comes from outside, in other threads -----------------------------------------------------------------------

    def _stop(self, why: str) -> None:
        logger.info("stopping: %s", why)
        self._stop_wanted = True
        if self._started.is_set():
            self._feed.ask_to_stop()

    def _time_is_up(self) -> None:
        self._stop(f"{self._duration:g} s are over")

    def _leave(self, number: int) -> None:
        """The owners close their connections (1001) as soon as we are gone."""
        logger.warning("asked to stop again: leaving at once")
        self._log.finish(0.5)
        os._exit(128 + number)

    def _reload(self) -> None:
        try:
            settings = load(self._path)
            changes = self._feed.reload(settings)
        except ConfigError as error:
            _refuse_reload(error)
            return
        except SupervisorStopped:
            return
        said = [f"{kind} {', '.join(names)}" for kind, names in changes.items() if names]
        logger.info("reloaded %s: %s", self._path, "; ".join(said) or "nothing changed")
        if _apart_from_endpoints(settings) != _apart_from_endpoints(self._settings):
            logger.warning("[supervisor] and [output] hold from the next start on")

    def _dump(self) -> None:
        logger.warning("stacks, as asked by SIGUSR1:\n%s", _stacks())
        try:
            status = self._feed.reactor.call(self._feed.status, _PATIENCE_FOR_STATUS)
        except (TimeoutError, SupervisorStopped) as error:
            logger.warning("no status: %r", error)
            return
        logger.warning("status, as asked by SIGUSR1: %s", orjson.dumps(status).decode())

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _summarise(self) -> None:
        for name, endpoint in self._feed.status()["endpoints"].items():
            logger.info(
                "%s: %s messages, %d restarts, %d gaps, %s dropped",
                name, f"{endpoint['messages']:,}", endpoint["restarts"], endpoint["gaps"], f"{endpoint['dropped']:,}",
            )  # fmt: skip


def _give_up(error: WsAdapterError, code: int) -> int:
    logger.error("%s", error)
    return code


def _refuse_reload(error: ConfigError) -> None:
    logger.error("reload refused, the old configuration runs on: %s", error)


def _apart_from_endpoints(settings: Settings) -> tuple[object, ...]:
    return (
        settings.runtime_dir, settings.strategy, settings.spares, settings.start_method, settings.busy_poll, settings.output
    )  # fmt: skip


def _stacks() -> str:
    """Of all threads. Not by `faulthandler`: that writes to a descriptor, and standard error may be blocked."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for ident, frame in sys._current_frames().items()
    )
