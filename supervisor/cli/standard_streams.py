"""Standard input, output and error of a command: closed descriptors, and an output that cannot be written."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

from wsadapter.contract.errors import WsAdapterError
from wsadapter.contract.ipc.bootstrap import hold_standard_descriptors

_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}
"""In the order of the descriptors 0 to 2."""


class CannotPrint(WsAdapterError):
    """Standard output cannot be written: a full disk."""


def hold_standard_streams() -> None:
    """Opens the null device for each standard stream that is closed. Python has None in `sys` for such a stream: code that
    reads the stream fails, and what is meant for standard error is printed on standard output.

    A character that the encoding of the terminal does not have is printed as its escape sequence.
    """
    hold_standard_descriptors()
    for fd, (name, mode) in enumerate(_MODES.items()):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - until the process ends
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """On standard output, at once. Raises `CannotPrint`, and `BrokenPipeError` if nobody reads the output any more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CannotPrint(f"standard output can't be written: {error.strerror}") from error


def discard_output() -> None:
    """Standard output leads to the null device from now on, because the interpreter writes the rest of the output at its end,
    and would report the same error again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
