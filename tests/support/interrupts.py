"""Interrupts at any place of the code under test, as a signal handler of the program raises them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupt_at(
    step: int, call: Callable[[], None], files: Callable[[str], bool], may: Callable[[FrameType], bool] = lambda _: True
) -> bool:
    """Run `call` and raise an Interrupt at the `step`-th bytecode in `files` before which it `may` come. False: `call` was over
    before."""
    steps = count(1)

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        frame.f_trace_opcodes = files(frame.f_code.co_filename)
        if event == "opcode" and may(frame) and next(steps) == step:
            sys.settrace(None)
            raise Interrupt
        return trace

    tracer = sys.gettrace()  # coverage measures with one
    sys.settrace(trace)
    try:
        call()
    except Interrupt:
        return True
    finally:
        sys.settrace(tracer)
    return False
