"""Event loops and patches of the user's program that this package can't work with: they are refused with a clear error."""

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
"""For each library: its module that patches, the function of that module that reports whether a module is patched, and
the modules of Python that this package uses."""


def patcher(modules: Mapping[str, Any]) -> str:
    """The library that has replaced threads, sockets, `select` or signals of Python, and the modules it replaced; "": none.
    `modules`: the loaded modules by name."""
    for name, (module, function, used) in _PATCHERS.items():
        is_patched = getattr(modules.get(module), function, None)
        if is_patched is not None and (patched := [one for one in used if is_patched(one)]):
            return f"{name} ({', '.join(patched)})"
    return ""


def check_not_patched() -> None:
    """Raises `UsageError` if threads or sockets of this program are not those of Python."""
    if found := patcher(sys.modules):
        raise UsageError(
            f"this program is patched by {found}: a Supervisor needs threads, sockets, select and signals of Python itself. "
            "Run it in a separate process, without monkey-patching, for example as `python -m wsadapter.supervise`"
        )


def running_loop() -> asyncio.AbstractEventLoop:
    """The running asyncio loop. Raises `UsageError` in a coroutine under trio, and `RuntimeError` outside of coroutines."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        if not _runs_trio():
            raise
        raise UsageError(
            "the coroutines of a Supervisor need asyncio, and this one runs under trio: call the blocking methods in a thread "
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
