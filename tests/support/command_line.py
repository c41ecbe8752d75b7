"""The command line as a user meets it: as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.support.waiting import wait_until
from wsadapter.contract.errors import ControlError
from wsadapter.control.instance import running
from wsadapter.control.server import ask

PATIENCE = 20.0


def environment(folder: Path) -> dict[str, str]:
    """Separate runtime folders, so that tests and other supervisors of this user do not see each other."""
    inherited = {name: value for name, value in os.environ.items() if name != "RUNTIME_DIRECTORY"}
    return {**inherited, "XDG_RUNTIME_DIR": str(folder), "WSADAPTER_RUNTIME_DIR": str(folder / "wsadapter")}


MODULE = (sys.executable, "-m", "wsadapter.supervise")
SCRIPT = (str(Path(sys.executable).with_name("wsadapter")), "run")
"""Two ways to start the runner."""


def wsadapter(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m wsadapter ...`, to its end."""
    return ended(folder, sys.executable, "-m", "wsadapter", *words)


def ended(folder: Path, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        command, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd
    )


def status_of(folder: Path, name: str = "") -> dict[str, Any]:
    """The status of the supervisor of this name, or of the only one that runs in `folder`; empty if it does not answer. Over
    its control socket: the command would be a new interpreter for each question of a test that waits."""
    where = str(folder / "wsadapter")
    names = [name] if name else running(where)
    if len(names) != 1:
        return {}
    try:
        found: dict[str, Any] = ask(names[0], {"command": "status"}, runtime_dir=where)["status"]
    except ControlError:
        return {}
    return found


def supervise(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m wsadapter.supervise ...`, to its end."""
    return ended(folder, *MODULE, *words)


class Running:
    """`python -m wsadapter.supervise ...`, running; killed at the end of the block if it still does."""

    def __init__(self, folder: Path, *words: str, program: Sequence[str] = MODULE, **options: Any) -> None:
        self.folder = folder
        self.output: list[dict[str, Any]] = []
        """The lines so far, parsed."""
        self.log: list[str] = []
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        self.process = subprocess.Popen([*program, *words], env=environment(folder), **options)
        self._readers = [
            threading.Thread(target=read, args=(pipe,))
            for read, pipe in ((self._read_output, self.process.stdout), (self._read_log, self.process.stderr))
            if pipe is not None
        ]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Its exit code, once all its output was read."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
            assert not reader.is_alive(), (
                f"{self.process.pid} has ended, and another process holds its standard output or error"
            )
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def status(self) -> dict[str, Any]:
        """Its endpoints, as `status --json` shows them; empty if it does not answer."""
        endpoints: dict[str, Any] = status_of(self.folder).get("endpoints", {})
        return endpoints

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of that kind so far."""
        return [line for line in list(self.output) if line.get("event") == kind]

    def messages(self, endpoint: str) -> list[dict[str, Any]]:
        """The messages of that endpoint so far."""
        return [line for line in list(self.output) if "number" in line and line["endpoint"] == endpoint]

    def wait_until(self, done: Callable[[], object], what: str = "") -> None:
        """With the log in the failure."""
        wait_until(done, PATIENCE, lambda: "\n".join([what, *self.log]))

    def wait_for_log(self, text: str) -> None:
        """Until a log line has that in it."""
        self.wait_until(lambda: any(text in line for line in list(self.log)), f"{text!r} was not logged")

    def _read_output(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self.output.append(json.loads(line))

    def _read_log(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self.log.append(line.decode().rstrip())


def write_config(path: Path, endpoints: dict[str, str], *, more: str = "", output: str = "-") -> Path:
    """A configuration with these endpoints (name: url); `more` stands behind."""
    tables = "\n".join(f"[endpoints.{name}]\nurl = {json.dumps(url)}" for name, url in endpoints.items())
    path.write_text(f"[output]\npath = {json.dumps(output)}\n[defaults.restart]\nbackoff_max = 0.5\n{tables}\n{more}\n")
    return path
