"""Work that the program's signal handlers must not interrupt.

A handler written in Python runs in the main thread between any two instructions, and may raise an exception there:
KeyboardInterrupt does. Blocking signals in that thread does not help if the program has other threads: the kernel delivers the
signal to one of those, and the interpreter still runs the handler in the main thread. So, while the work runs, each handler is
replaced by a stand-in that records the signal. After the work the handlers are put back, and those whose signals were recorded
are called.

Replacing the handlers costs some microseconds. A caller that waits for something to work on calls `arm` before it waits: until
the work begins, a stand-in calls the program's handler at once. If an interrupt leaves only some handlers replaced, each
stand-in calls the original handler too; the next guarded call replaces and restores all of them.
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
"""Signals that are caused by the instruction a thread is at: they are neither deferred nor blocked."""
_NUMBERS = tuple(int(n) for n in sorted(signal.valid_signals() - FAULTS - {signal.SIGKILL, signal.SIGSTOP}) if n < 32)
"""The signals that a program may have a handler for. Real-time signals are left out, because nobody interrupts with them."""

# `signal.signal` and `signal.getsignal` without their conversion to enums, which costs more than the calls themselves.
_get: Callable[[int], Any] = import_module("_signal").getsignal
_set: Callable[[int, Any], Any] = import_module("_signal").signal

_main_thread = threading.main_thread().ident
_replaced: dict[int, Any] = {}
_handlers: tuple[list[Any], list[tuple[int, Any]]] = ([], [])
"""All handlers as they were at the last look, and those that are written in Python, with their numbers. One value, because an
interrupt between two would leave them of different times."""
_recorded: list[tuple[int, FrameType | None]] = []
_armed = False
"""Whether `arm` has replaced every handler. `_replaced` is no evidence of that: an interrupt may have left entries in it."""
_working = False
_called_while_armed = False
"""A handler was called between `arm` and the work, and may have set other handlers."""


def arm() -> None:
    """Replace the handlers now, for `run_guarded`, which must follow; if there is no work, or an interrupt comes before it,
    `disarm` must follow. Until then a signal still reaches the program's handler."""
    global _armed
    if threading.get_ident() == _main_thread and not _working:
        _replace_handlers()  # also if the guard is armed: an interrupt may have left it so, and the program has set handlers
        _armed = True


def disarm() -> None:
    """Put the handlers back, because there is no work."""
    if threading.get_ident() == _main_thread and not _working:
        _restore_handlers()


def run_guarded(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """Return `work(*args)`. In the main thread, signal handlers of the program run after the work instead of within it."""
    global _working
    if _working or get_ident() != _main_thread:
        return work(*args)
    try:
        if _called_while_armed or not _armed:
            _replace_handlers()
        _working = True
        return work(*args)
    finally:
        _working = False  # first: an interrupt that came before this would leave all later work unguarded
        try:
            _restore_handlers()
        finally:
            if _replaced:  # an interrupt came while they were put back
                _restore_handlers()
            if _recorded:
                _call_recorded()


# Each loop is a separate function: from CPython 3.12 on, an interrupt at a loop's jump back isn't covered by the `try` around
# the loop, and the `finally` never runs. A call within the `try` is safe.


def _replace_handlers() -> None:
    global _handlers, _called_while_armed
    _called_while_armed = False
    handlers = list(map(_get, _NUMBERS))
    if handlers != _handlers[0]:  # the program has changed a handler since the last time
        called = [(n, h) for n, h in zip(_NUMBERS, handlers, strict=True) if callable(h) and h is not _stand_in]
        _handlers = (handlers, called)
    for number, handler in _handlers[1]:
        _replaced[number] = handler
        _set(number, _stand_in)


def _restore_handlers() -> None:
    global _armed
    _armed = False
    while _replaced:
        number = next(iter(_replaced))
        if _get(number) is _stand_in:  # otherwise the work has set another handler, which stays
            _set(number, _replaced[number])
        del _replaced[number]


def _call_recorded() -> None:
    while _recorded:
        number, frame = _recorded[0]
        del _recorded[0]
        handler = _get(number)
        if callable(handler):
            handler(number, frame)


def _stand_in(number: int, frame: FrameType | None) -> None:
    global _called_while_armed
    if _working:
        _recorded.append((number, frame))
    elif number in _replaced:
        _called_while_armed = True
        _replaced[number](number, frame)


def _after_fork_in_child() -> None:
    global _main_thread
    _main_thread = threading.get_ident()


os.register_at_fork(after_in_child=_after_fork_in_child)
