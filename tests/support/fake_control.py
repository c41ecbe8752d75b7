"""A control socket on which a test answers in place of a supervisor."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class FakeControl:
    """While it is entered, requests to the supervisor NAME in `folder` are answered by `answer`."""

    def __init__(self, folder: Path, name: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.requests: list[dict[str, Any]] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f"{name}.sock"))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                for line in stream:
                    self.requests.append(json.loads(line))
                    stream.write(json.dumps(self._answer(self.requests[-1])).encode() + b"\n")
                    stream.flush()
