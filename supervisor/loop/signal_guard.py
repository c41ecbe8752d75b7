"""Work that the program's signal handlers must not cut in two.

A handler written in Python runs in the main thread between any two instructions, and may raise there: KeyboardInterrupt does.
Blocking signals in that thread does not help where the program has others: the kernel gives the signal to one of those, and
the interpreter runs the handler in the main thread all the same. So, for the moment of the work, a stand-in is in the
handlers' place, which takes note of the signal; behind the work the handlers are back, and those that are due are called.

The exchange costs some microseconds. Who waits for something to work on raises the shield before that: until the work begins,
a stand-in calls the program's handler at once. So does one that was left behind, should an interrupt cut the exchange in two;
the next work puts it right.
"""

from __future__ import annotations

import os
import signal
import threading
from _thread import get_ident
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
"""Those of the instruction that a thread is at: they are neither held back nor blocked."""
_NUMBERS = tuple(int(n) for n in sorted(signal.valid_signals() - FAULTS - {signal.SIGKILL, signal.SIGSTOP}) if n < 32)
"""Those that a program may have a handler for; real-time signals are left out, nobody interrupts by them."""

# `signal.signal` and `signal.getsignal` less their conversion to enums, which costs more than they do.
_get: Callable[[int], Any] = import_module("_signal").getsignal
_set: Callable[[int, Any], Any] = import_module("_signal").signal

_main_thread = threading.main_thread().ident
_replaced: dict[int, Any] = {}
_handlers: list[Any] = []
_callable: list[tuple[int, Any]] = []
"""Of `_handlers` those written in Python, with their numbers."""
_noted: list[tuple[int, FrameType | None]] = []
_raised = False
"""Every handler has its stand-in. What is in `_replaced` does not say so: an interrupt may have left something there."""
_working = False
_passed = False
"""A handler was called while the shield was raised, and may have set others."""


def raise_up() -> None:
    """For `whole`, which follows; else `lower` is to be called. Signals are the program's until then."""
    if threading.get_ident() == _main_thread and not _working and not _raised:
        _step_in()


def lower() -> None:
    """No work after all."""
    if threading.get_ident() == _main_thread and not _working:
        _step_out()


def whole(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """`work(*args)`, done whole: in the main thread, signal handlers of the program run behind it instead of within it."""
    global _working
    if _working or get_ident() != _main_thread:
        return work(*args)
    try:
        if _passed or not _raised:
            _step_in()
        _working = True
        return work(*args)
    finally:
        try:
            _step_out()
        finally:
            _working = False
            if _noted:
                _call_noted()


# The loops are functions of their own: from CPython 3.12 on, an interrupt that strikes on a loop's way back passes by the
# `try` around the loop, and its `finally` is never run. A call within the `try` is safe.


def _step_in() -> None:
    global _handlers, _callable, _passed, _raised
    _passed = False
    handlers = list(map(_get, _NUMBERS))
    if handlers != _handlers:  # else they are as they were the last time
        _handlers = handlers
        _callable = [(n, h) for n, h in zip(_NUMBERS, handlers, strict=True) if callable(h) and h is not _stand_in]
    for number, handler in _callable:
        _replaced[number] = handler
        _set(number, _stand_in)
    _raised = True


def _step_out() -> None:
    global _raised
    _raised = False
    while _replaced:
        number = next(iter(_replaced))
        if _get(number) is _stand_in:  # else somebody's work set a handler of its own
            _set(number, _replaced[number])
        del _replaced[number]


def _call_noted() -> None:
    while _noted:
        number, frame = _noted[0]
        del _noted[0]
        handler = _get(number)
        if callable(handler):
            handler(number, frame)


def _stand_in(number: int, frame: FrameType | None) -> None:
    global _passed
    if _working:
        _noted.append((number, frame))
    elif number in _replaced:
        _passed = True
        _replaced[number](number, frame)


def _after_fork_in_child() -> None:
    global _main_thread
    _main_thread = threading.get_ident()


os.register_at_fork(after_in_child=_after_fork_in_child)
