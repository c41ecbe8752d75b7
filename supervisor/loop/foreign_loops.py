"""Other event loops in the user's program: those that this package can't work under are refused with a clear error."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, Final

from wsadapter.contract.errors import UsageError

_PATCHERS: Final = {
    "gevent": ("gevent.monkey", "is_module_patched", ("threading", "select", "socket", "signal")),
    "eventlet": ("eventlet.patcher", "is_monkey_patched", ("thread", "select", "socket")),
}
"""The module that patches, its question whether a module of Python's is patched, and the modules that are used here."""


def patcher(modules: Mapping[str, Any]) -> str:
    """Which of them has replaced threads, sockets, `select` or signals of Python, with what it replaced; "": none has.
    `modules`: those that are loaded, by name."""
    for name, (module, question, used) in _PATCHERS.items():
        asked = getattr(modules.get(module), question, None)
        if asked is not None and (patched := [one for one in used if asked(one)]):
            return f"{name} ({', '.join(patched)})"
    return ""


def check_not_patched() -> None:
    """Raises `UsageError` where threads and sockets of this program are not Python's own."""
    if found := patcher(sys.modules):
        raise UsageError(
            f"this program is patched by {found}: a Supervisor needs threads, sockets, select and signals of Python itself. "
            "Run it in a process of its own, without monkey-patching, for example as `python -m wsadapter.supervise`"
        )


def running_loop() -> asyncio.AbstractEventLoop:
    """The running asyncio loop. Raises `UsageError` in a coroutine of another library (trio, curio), `RuntimeError` outside of
    coroutines."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if not _runs_trio():
            raise
        raise UsageError(
            "a Supervisor's coroutines run under asyncio, and this one runs under trio: call the blocking methods in a thread "
            "(`await trio.to_thread.run_sync(feed.get)`), or use asyncio"
        ) from None


def _runs_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
