"""Whether the functions, and the classes of sinks, that a configuration names can be imported and called.

Only for `--check`, because an import runs the user's modules. It is done in a child process with the `sys.path` of an owner;
what the modules print goes to standard error. If a module never ends, or ends the process, only the child is lost.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import IO, Final, Self

from wsadapter import import_path
from wsadapter.config.dialect import Dialects, is_path
from wsadapter.config.settings import Settings
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.errors import Problem

TIMEOUT: Final = 20.0
"""Seconds that the import of one hook may take."""
_PROGRAM: Final = (
    "import json, sys; request = json.load(sys.stdin); sys.path[:] = request['sys_path']; "
    "from wsadapter.worker.hooks.check import main; main(request, int(sys.argv[1]))"
)
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class _Hook:
    key: str
    """Of the configuration: "decode", "hooks.sign", "kind" of a sink."""
    name: str
    folders: tuple[str, ...]
    """Where its module is searched."""


def hook_problems(settings: Settings, timeout: float = TIMEOUT) -> list[Problem]:
    """What is wrong with the hooks of the endpoints, and of dialects of the user's own, and with the classes of sinks.

    `timeout`: seconds that each hook may take. `settings`: as `load` returns them; hooks are also searched in the folder of the
    file.
    """
    places = [
        (f"endpoints.{endpoint.name}.{hook.key}", hook)
        for endpoint in settings.endpoints
        for hook in _named(endpoint, settings)
    ]
    folders = import_path.for_hooks(settings.folder)
    kinds = [(f"sink[{index}].kind", sink.kind) for index, sink in enumerate(settings.sinks) if ":" in sink.kind]
    places += [(place, _Hook("kind", kind, folders)) for place, kind in kinds]
    wrong = dict(_tried(tuple(dict.fromkeys(hook for _, hook in places)), timeout))
    return [Problem(place, wrong[hook]) for place, hook in places if wrong[hook]]


def _named(endpoint: Endpoint, settings: Settings) -> Iterator[_Hook]:
    """Hooks of a bundled dialect are not checked here: they are tested with the dialect."""
    folders = import_path.with_dialect_folder(import_path.for_hooks(settings.folder), endpoint.dialect)
    own = Dialects(settings.dialects).load(endpoint.dialect).get("hooks", {}) if is_path(endpoint.dialect) else {}
    named = {f"hooks.{name}": function for name, function in {**own, **endpoint.hooks}.items()}
    for key, function in {"decode": endpoint.decode, **named}.items():
        if function:
            yield _Hook(key, function, folders)


def _tried(hooks: Iterable[_Hook], timeout: float) -> Iterator[tuple[_Hook, str]]:
    """Each hook with its problem. After a hook that ends or blocks its process, the others are tried in another process."""
    left = deque(hooks)
    while left:
        alive = True
        with _Child(left) as child:
            while left and alive:
                said, alive = child.next_answer(left[0], timeout)
                yield left.popleft(), said


class _Child:
    """A process that tries hooks, one after the other. As a context manager it leaves no process behind."""

    def __init__(self, hooks: Iterable[_Hook]) -> None:
        answers, write_end = os.pipe()
        self._answers: IO[bytes] = open(answers, "rb", buffering=0)  # noqa: SIM115
        self._unread = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", _PROGRAM, str(write_end)],
                stdin=subprocess.PIPE, stdout=_STDERR, pass_fds=[write_end], start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._answers.close()
            raise
        finally:
            os.close(write_end)
        request = {"sys_path": import_path.for_owners(), "hooks": [asdict(hook) for hook in hooks]}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # the process died: `next_answer` reports that
            stdin.write(json.dumps(request).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with what the modules started
        self._process.wait()
        self._answers.close()

    def next_answer(self, hook: _Hook, timeout: float) -> tuple[str, bool]:
        """The problem of the hook that is tried now, and whether the process can try the next one."""
        deadline = monotonic() + timeout
        while b"\n" not in self._unread:
            if not select.select([self._answers], [], [], max(0.0, deadline - monotonic()))[0]:
                return f"{hook.key} = {hook.name!r} is not imported after {timeout:g} s; {_REMEDY}", False
            chunk = self._answers.read(65536)
            if not chunk:
                return f"{hook.key} = {hook.name!r} can't be imported: {self._end(deadline)}; {_REMEDY}", False
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return str(json.loads(line)), True

    def _end(self, deadline: float) -> str:
        try:
            code = self._process.wait(max(0.1, deadline - monotonic()))
        except subprocess.TimeoutExpired:  # a module closed the descriptor
            return "its module closes descriptors that are not its own"
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"its module ended the process {how}"


_REMEDY: Final = "what takes long or may end the process belongs into a function, not at the top of the module"
