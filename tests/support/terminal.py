"""A pseudo terminal, as a person has it in front of them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from tests.support.command_line import environment


class Terminal:
    """A pseudo terminal with a program in it."""

    def __init__(self, folder: Path, *command: str, columns: int = 120, cwd: Path | None = None) -> None:
        self._master, inner = pty.openpty()
        self.resize(columns)
        self.modes = termios.tcgetattr(self._master)
        self.text = ""
        self.program = subprocess.Popen(
            command, env={**environment(folder), "TERM": "xterm-256color"}, stdin=inner, stdout=inner, stderr=inner,
            start_new_session=True, cwd=cwd,
        )  # fmt: skip
        os.close(inner)

    def resize(self, columns: int) -> None:
        """Another size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def wait(self, done: Callable[[], object], what: str) -> None:
        """Read what is drawn until `done()`."""
        deadline = monotonic() + 40
        while not done():
            assert monotonic() < deadline, f"{what}: {self.text[-3000:]!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self._master, 65536).decode(errors="replace")
                except OSError:  # Linux: the program has closed its side
                    return

    def close(self) -> None:
        """The end of it."""
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait()
        os.close(self._master)
