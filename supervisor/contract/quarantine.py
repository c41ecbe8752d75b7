"""Keeps messages on which a decode hook failed, or while parsing which owner after owner died."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final

import orjson

_MOST: Final = 64 * 1024 * 1024
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Quarantine:
    """The quarantine of one endpoint: a file with one JSON line per message, up to 64 MiB."""

    def __init__(self, folder: str, endpoint: str) -> None:
        """`folder`: empty if messages are only counted."""
        self._path = Path(folder) / f"{endpoint.replace(os.sep, '_')}.jsonl" if folder else None

    def keep(self, payload: bytes, *, binary: bool, error: str) -> str:
        """Keeps a message; returns the result as a phrase for a report."""
        if self._path is None:
            return ""
        line = orjson.dumps({"error": error, "binary": binary, "data": base64.b64encode(payload).decode()}) + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(self._path, _FLAGS, 0o600), "ab") as file:
                if file.tell() + len(line) > _MOST:
                    return f"; not kept, {self._path} is full"
                file.write(line)
        except OSError as failure:
            return f"; not kept: {failure}"
        return f"; kept in {self._path}"
