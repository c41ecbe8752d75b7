"""The main job: one configuration, one supervisor, one output, from the start to the exit code.

    signals ──> thread ─┐                     ┌──> output (main thread)
                        ├──> Supervisor ──────┤
    control socket ─────┘    (its reactor)    └──> log lines ──> thread ──> standard error

The main thread only writes items to the output. If the output blocks (no process reads the pipe), supervision, signals and
commands go on.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from time import monotonic, time_ns
from typing import Any, Final, cast

import orjson

from wsadapter.cli.backstop import Backstop
from wsadapter.cli.exporter_process import ExporterProcess
from wsadapter.cli.keeper import GAVE_UP, Keeping
from wsadapter.cli.logs import LogThread
from wsadapter.cli.memory import Trimming
from wsadapter.cli.service_manager import ServiceManager
from wsadapter.cli.signals import SignalThread
from wsadapter.config import load
from wsadapter.config.settings import Settings
from wsadapter.contract.errors import (
    AllFatal,
    AlreadyRunning,
    ConfigError,
    ControlError,
    JournalError,
    JournalInUse,
    NewerJournal,
    NotAJournal,
    SupervisorStopped,
    TakeoverError,
    UsageError,
    WsAdapterError,
)
from wsadapter.contract.items import Batch, Gap, Started
from wsadapter.control.server import ask_to_stop
from wsadapter.outputs import Output, OutputFailed, open_output
from wsadapter.outputs.jsonl import continuation_gaps
from wsadapter.supervisor import Supervisor
from wsadapter.takeover.keeping import keep
from wsadapter.takeover.new_side import OtherContract, take
from wsadapter.takeover.old_side import Flush, allow_takeover
from wsadapter.takeover.supervisor_state import adopt

logger = logging.getLogger("wsadapter.runner")

STOPPED: Final = 0
OUR_FAULT: Final = 1
CONFIGURATION: Final = 2
ALL_FATAL: Final = 3
ALREADY_RUNNING: Final = 4
OUTPUT_FAILED: Final = 5
EXIT_CODES: Final[Mapping[int, str]] = {
    STOPPED: "stopped as asked",
    OUR_FAULT: "a bug in wsadapter; the traceback shows where",
    CONFIGURATION: "the configuration or the command line is wrong; nothing was started",
    ALL_FATAL: "every endpoint has failed for good (fatal)",
    ALREADY_RUNNING: "another supervisor of that name is running; with --takeover: it could not be taken over",
    OUTPUT_FAILED: "the output failed: a full disk, a closed pipe; or the journal cannot be opened, or has not all at the end",
    GAVE_UP: "the supervisor was killed again and again; the keeper (`journal.keeper`) starts it no more",
}
"""Every exit code with its meaning. A second stop signal ends the program at once with 128 + its number, as shells count."""

_FLUSH_INTERVAL: Final = 1.0
_PATIENCE_FOR_STATUS: Final = 2.0
_PATIENCE_FOR_UPS: Final = 30.0


class Runner:
    """Runs one configuration. For the main thread."""

    def __init__(
        self,
        settings: Settings,
        path: Path,
        log: LogThread,
        *,
        duration: float | None = None,
        takeover: bool = False,
        keeping: Keeping | None = None,
    ) -> None:
        """`path`: the file that a reload reads again. `duration`: seconds after which it stops by itself. `takeover`: continue
        all that the running supervisor of that name has. `keeping`: what the keeper passes, if there is one.

        Raises `ConfigError`, `UnsupportedPlatform`.
        """
        self._settings = settings
        self._path = path
        self._log = log
        self._duration = duration
        self._takeover = takeover
        self._keeping = keeping
        self._manager = ServiceManager(os.environ)
        self._reloading = threading.Lock()
        self._feed = Supervisor.from_settings(replace(settings, endpoints=()) if _recovers(keeping) else settings)
        self._taken: frozenset[str] = frozenset()
        """Endpoints that came from another supervisor."""
        self._is_beside = False
        """Another supervisor of that name runs, which can't be taken over."""
        self._started = threading.Event()
        self._stop_wanted = False
        self._is_open = False
        """The output is open."""
        path_or_dash = settings.output.path
        self._backstop = Backstop("standard output" if path_or_dash == "-" else path_or_dash, self._give_up_output)

    def run(self) -> int:
        """From the start to the exit code; what went wrong is logged."""
        try:
            signals = SignalThread(stop=self._stop, leave=self._leave, reload=self._reload, dump=self._dump)
            with self._backstop, Trimming(), signals:
                return self._run()
        except (AlreadyRunning, JournalInUse) as error:
            return _give_up(error, ALREADY_RUNNING)
        except (ConfigError, UsageError, NotAJournal, NewerJournal) as error:
            return _give_up(error, CONFIGURATION)
        except (OutputFailed, JournalError) as error:
            return _give_up(error, OUTPUT_FAILED)
        except TakeoverError as error:
            return _give_up(error, ALREADY_RUNNING)
        except AllFatal as error:
            return _give_up(error, ALL_FATAL)

    def _run(self) -> int:
        if self._takeover and self._settings.cluster is not None:
            raise TakeoverError(
                "a host of a cluster is not taken over in place: stop it, and start it again; other hosts have its endpoints "
                "meanwhile"
            )
        if self._takeover:
            self._take_over()
        if self._settings.cluster is None:
            allow_takeover(self._feed.runtime)
        if self._keeping is not None:
            keep(self._feed.runtime, *self._keeping)
        self._feed.start()  # before the output is opened: if another supervisor runs, its output must not be touched
        with ExporterProcess(self._settings):  # it shows the stop too
            try:
                if self._taken or _recovers(self._keeping):
                    self._apply()
                self._after_start()
                self._carry()
            finally:
                self._manager.stopping()
                self._feed.stop()
                self._summarise()
        journaling = self._feed.runtime.journaling
        return OUTPUT_FAILED if journaling is not None and journaling.thread.has_lost_its_end else STOPPED

    def _take_over(self) -> None:
        """Take over everything from the running supervisor, with its configuration. If none runs, the start is an ordinary
        one."""
        settings = self._settings
        try:
            taken = take(settings.name, settings.runtime_dir)
        except OtherContract as error:
            logger.warning(
                "takeover not possible (%s): starting alongside the running supervisor, which will be stopped once all "
                "endpoints are up here",
                error,
            )
            self._feed = Supervisor.from_settings(replace(settings, name=""))
            self._is_beside = True
            return
        if taken is None:
            logger.info("no supervisor named %r runs here: nothing to take over", settings.name)
            return
        self._feed = Supervisor.from_settings(replace(settings, endpoints=()))
        adopt(self._feed.runtime, taken)
        self._taken = frozenset(endpoint.name for endpoint in self._feed.runtime.endpoints())
        logger.info("took over from pid %d: %s", taken.pid, ", ".join(sorted(self._taken)) or "no endpoints")

    def _succeed(self) -> None:
        """Stop the supervisor that could not be taken over, and take its name. Runs in a thread."""
        runtime, settings = self._feed.runtime, self._settings
        if not runtime.reactor.run_until(
            lambda: all(endpoint.state == "up" for endpoint in runtime.endpoints()), _PATIENCE_FOR_UPS
        ):
            logger.warning("not all endpoints are up after %g s; the other supervisor is stopped anyway", _PATIENCE_FOR_UPS)
        try:
            ask_to_stop(settings.name, runtime_dir=settings.runtime_dir)
            runtime.claim.take(settings.name)
        except (ControlError, AlreadyRunning) as error:
            logger.error(  # noqa: TRY400
                "the other supervisor may still run, so this one runs without the name %r: %s", settings.name, error
            )
        else:
            logger.info("the other supervisor has stopped; this one has the name %r now", settings.name)

    def _apply(self) -> None:
        """Apply our configuration to the endpoints that were taken over."""
        changes = self._feed.reload(self._settings)
        if said := [f"{kind.replace('_', ' ')} {', '.join(names)}" for kind, names in changes.items() if names]:
            logger.info("the new configuration: %s", "; ".join(said))

    def _after_start(self) -> None:
        self._started.set()
        runtime = self._feed.runtime
        runtime.claim.commands |= {"reload": self._begin_reload, "log": self._recent_log}

        def states() -> dict[str, str]:
            return {endpoint.name: endpoint.state for endpoint in runtime.endpoints()}

        runtime.reactor.call(lambda: self._manager.begin(runtime.reactor, states))
        if self._is_beside:
            threading.Thread(target=self._succeed, name="wsadapter-succeed", daemon=True).start()
        if self._stop_wanted:
            self._feed.ask_to_stop()
        if self._duration is not None:
            duration = self._duration
            self._feed.runtime.reactor.call(lambda: self._feed.runtime.reactor.call_later(duration, self._time_is_up))

    # -- the stream ------------------------------------------------------------------------------------------------------

    def _carry(self) -> None:
        self._backstop.begin()  # opening a named pipe waits for a reader
        output = open_output(self._settings.output)
        self._backstop.end()
        self._is_open = True
        try:
            names = [endpoint.name for endpoint in self._feed.runtime.endpoints() if endpoint.name not in self._taken]
            self._carry_to(output, continuation_gaps(output.continued(names), at=time_ns()))
        finally:
            self._backstop.begin()
            output.close()
            self._backstop.over()

    def _carry_to(self, output: Output, gaps: list[Gap]) -> None:
        flush_at = monotonic() + _FLUSH_INTERVAL
        feed = self._feed
        backstop = self._backstop
        for item in feed.batches():
            backstop.begin()
            if isinstance(item, Batch):
                output.write_batch(item)
            elif isinstance(cast("object", item), Flush):
                output.flush()
                cast("Flush", item).written.set_result(None)
                backstop.end()
                continue
            else:
                output.write_event(item)
                if isinstance(item, Started):
                    for gap in gaps:
                        output.write_event(gap)
            if not feed.pending or monotonic() >= flush_at:
                output.flush()
                flush_at = monotonic() + _FLUSH_INTERVAL
            backstop.end()

    # -- signals and commands, in other threads --------------------------------------------------------------------------

    def _stop(self, why: str) -> None:
        logger.info("stopping: %s", why)
        self._stop_wanted = True
        self._manager.stopping()
        self._backstop.stop_wanted()
        if self._started.is_set():
            self._feed.ask_to_stop()

    def _give_up_output(self) -> None:
        """The output blocks the main thread, which can't be interrupted: items that it has not accepted can't be written any
        more."""
        try:
            self._feed.stop(_PATIENCE_FOR_STATUS)
        except TimeoutError as error:
            logger.warning("%s", error)
        if self._is_open:
            logger.error("the output accepts nothing: the items that it has not received are lost")
        else:
            logger.warning("no process reads the output: nothing is written")
        self._summarise()
        self._log.finish(0.5)
        os._exit(OUTPUT_FAILED if self._is_open else STOPPED)

    def _time_is_up(self) -> None:
        self._stop(f"{self._duration:g} s are over")

    def _leave(self, number: int) -> None:
        """The owners close their connections (1001) as soon as this process has ended."""
        logger.warning("second request to stop: exiting at once")
        self._log.finish(0.5)
        os._exit(128 + number)

    def _reload(self) -> None:
        try:
            self._apply_file()
        except SupervisorStopped:
            return
        except WsAdapterError as error:
            _refuse_reload(error)
            return
        except Exception:  # the next reload may succeed: this thread must continue
            logger.exception("reload failed, the old configuration stays in use; this is a bug in wsadapter")

    def _begin_reload(self, _request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """For the control socket: in a thread, because it reads files."""
        done: Future[dict[str, Any]] = Future()

        def run() -> None:
            try:
                done.set_result({"path": str(self._path), "changes": self._apply_file()})
            except WsAdapterError as error:
                _refuse_reload(error)
                done.set_exception(error)
            except Exception as error:
                logger.exception("reload failed, the old configuration stays in use; this is a bug in wsadapter")
                done.set_exception(error)

        threading.Thread(target=run, name="wsadapter-reload-asked", daemon=True).start()
        return done

    def _recent_log(self, _request: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """For the control socket."""
        done: Future[dict[str, Any]] = Future()
        done.set_result({"lines": self._log.recent()})
        return done

    def _apply_file(self) -> dict[str, list[str]]:
        """Read the configuration again; the names by the kind of change. Raises `WsAdapterError` if nothing was changed."""
        with self._reloading:
            self._manager.reloading()
            try:
                settings = load(self._path)
                changes = self._feed.reload(settings)
            finally:
                self._manager.reloaded()
        said = [f"{kind.replace('_', ' ')} {', '.join(names)}" for kind, names in changes.items() if names]
        logger.info("reloaded %s: %s", self._path, "; ".join(said) or "nothing changed")
        if _of_the_start(settings) != _of_the_start(self._settings):
            logger.warning("[supervisor], [output], [journal], [cluster] and [exporter] take effect at the next start")
        return changes

    def _dump(self) -> None:
        logger.warning("stacks, as asked by SIGUSR1:\n%s", _stacks())
        try:
            status = self._feed.runtime.reactor.call(self._feed.status, _PATIENCE_FOR_STATUS)
        except (TimeoutError, SupervisorStopped) as error:
            logger.warning("no status: %r", error)
            return
        logger.warning("status, as asked by SIGUSR1: %s", orjson.dumps(status).decode())

    # -- the end ---------------------------------------------------------------------------------------------------------

    def _summarise(self) -> None:
        for name, endpoint in self._feed.status()["endpoints"].items():
            logger.info(
                "%s: %s, %s, %s, %s dropped",
                name, _counted(endpoint["messages"], "message"), _counted(endpoint["restarts"], "restart"),
                _counted(endpoint["gaps"], "gap"), f"{endpoint['dropped']:,}",
            )  # fmt: skip


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _recovers(keeping: Keeping | None) -> bool:
    """Whether a supervisor that was killed has left something: the configuration is applied after it is received."""
    return keeping is not None and keeping.number > 1


def _give_up(error: WsAdapterError, code: int) -> int:
    logger.error("%s", error)
    return code


def _refuse_reload(error: WsAdapterError) -> None:
    logger.error("reload refused, the old configuration stays in use: %s", error)


def _of_the_start(settings: Settings) -> tuple[object, ...]:
    return (
        settings.runtime_dir, settings.state_dir, settings.quarantine_max_bytes, settings.quarantine_max_age,
        settings.strategy, settings.spares, settings.start_method, settings.busy_poll, settings.output,
        settings.journal, settings.cluster, settings.exporter,
    )  # fmt: skip


def _stacks() -> str:
    """The stacks of all threads. `faulthandler` isn't used, because it writes to a descriptor, and standard error may be
    blocked."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - documented
    )
