"""`python -m wsadapter.sinks`: the process of one sink. A supervisor starts it; its first line of input is the task."""

from __future__ import annotations

from wsadapter.import_path import forget_program_folder

if __name__ == "__main__":
    forget_program_folder()  # before other modules are imported: a file in the working folder may have the name of one

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from wsadapter.contract.reasons import Reason
from wsadapter.sinks.base import Sink
from wsadapter.sinks.carry import Carrier, Ending, reason_of
from wsadapter.sinks.kinds import make_sink
from wsadapter.sinks.store import SinkStore
from wsadapter.sinks.task import Report, Task

logger = logging.getLogger("wsadapter.sinks")

FAILED: Final = 1


Make = Callable[[Task, Callable[[Report], None], Ending], Sink]


def main(make: Make = lambda task, _report, _ending: make_sink(task.sink, task.sys_path)) -> int:
    """Carry until standard input ends; the exit code. `make`: the sink, which may report on its own, in any thread."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    reports = os.dup(1)
    os.dup2(2, 1)  # what a class of the user's prints is a log line
    ending = Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with open(0, "rb", buffering=0, closefd=False) as lines:
        task = Task.parse(lines.readline())
        threading.Thread(target=_await_end, args=(ending,), name="wsadapter-lifeline", daemon=True).start()
        reporting = threading.Lock()

        def report(report: Report) -> None:
            with reporting:
                _report(reports, report)

        reason = _run(make, task, ending, report)
    report(Report(reason=reason))
    return 0 if reason.kind == "stopped" else FAILED


def _run(make: Make, task: Task, ending: Ending, report: Callable[[Report], None]) -> Reason:
    store = sink = None
    try:
        store = SinkStore(Path(task.journal), task.sink.name)
        sink = make(task, report, ending)
        Carrier(Path(task.journal), task.sink, sink, store, report).run(ending)
    except Exception as error:
        reason = reason_of(error)
        if reason.kind == "failed":
            logger.exception("sink %s failed", task.sink.name)
        return reason
    finally:
        if sink is not None:
            _close(sink, task.sink.name)
        if store is not None:
            store.close()
    return Reason(kind="stopped")


def _close(sink: object, name: str) -> None:
    try:
        sink.close()  # type: ignore[attr-defined]
    except Exception:
        logger.exception("sink %s could not be closed", name)


def _await_end(ending: Ending) -> None:
    """Standard input ends with the supervisor, also if that is killed."""
    while said := os.read(0, 4096):
        ending.said += said
    ending.set()


def _report(fd: int, report: Report) -> None:
    try:
        line = memoryview(report.encode())
        while line:
            line = line[os.write(fd, line) :]
    except BrokenPipeError:
        return  # the supervisor has ended, and this process ends too, because its standard input has ended


if __name__ == "__main__":
    sys.exit(main())
