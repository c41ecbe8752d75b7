"""The exporter as a child of the runner: started, its lines logged, started again if it ends, ended with the runner.

Only a separate thread waits for it. The exporter ends when its standard input ends, so also if the runner is killed.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from time import monotonic
from types import TracebackType
from typing import Final, Self

from wsadapter.config.settings import Settings

logger = logging.getLogger("wsadapter.exporter")

_FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 60.0
"""Seconds: an exporter that cannot run is started once a minute, and costs nothing else."""
_GOOD_LIFE: Final = 60.0
"""Seconds after which an exporter that ended is no failure of its start."""
_END_WITHIN: Final = 1.0


def next_start(lived: float, failures: int) -> tuple[float, int]:
    """Seconds until the next start of an exporter that ended after `lived` seconds, and how many failures that makes, after
    `failures` in a row."""
    failures = 1 if lived >= _GOOD_LIFE else failures + 1
    return min(LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(failures - 1, 16)), failures


class ExporterProcess:
    """While it is entered, the exporter that the settings ask for runs; without `listen`, there is none."""

    def __init__(self, settings: Settings) -> None:
        self._command = [
            sys.executable, "-P", "-m", "wsadapter.exporter", "--name", settings.name, "--listen", settings.exporter.listen,
            "--runtime-dir", settings.runtime_dir, "--until-eof",
        ]  # fmt: skip
        self._is_wanted = bool(settings.exporter.listen)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name="wsadapter-exporter", daemon=True)

    def __enter__(self) -> Self:
        if self._is_wanted:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._is_wanted:
            return
        with self._lock:  # no other one is started from here on
            self._stopping.set()
            process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join()

    def _run(self) -> None:
        failures = 0
        while True:
            began = monotonic()
            problem = self._live()
            if self._stopping.is_set():
                return
            delay, failures = next_start(monotonic() - began, failures)
            logger.warning("the exporter ended: %s; next start in %g s. The feeds are not affected", problem, delay)
            if self._stopping.wait(delay):
                return

    def _live(self) -> str:
        """One exporter, from its start to its end; why it ended."""
        with self._lock:
            if self._stopping.is_set():
                return ""
            try:
                process = self._process = subprocess.Popen(  # noqa: S603 - our own module
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                    encoding="utf-8", errors="replace",
                    start_new_session=True,  # Ctrl-C is for the runner, which ends it last
                )  # fmt: skip
            except OSError as error:
                self._process = None
                return f"it could not be started: {error}"
        assert process.stderr is not None
        said = ""
        with process.stderr:
            for line in process.stderr:
                said = line.rstrip()
                logger.info("%s", said)
        code = process.wait()
        with self._lock:
            self._process = None
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
        return f"exit code {code}{f', {said}' if code == 1 else ''}"
