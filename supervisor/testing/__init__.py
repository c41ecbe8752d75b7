"""For tests of programs that use wsadapter: an exchange that misbehaves on command, recordings, and a feed without sockets.

`Exchange`        a WebSocket server on real sockets, with TLS by a throw-away authority (`Authority`); it may speak the dialect
                  of a real exchange
`FakeFeed`        iterates given items without processes or sockets
`make_journal`    a journal of given messages, written by a supervisor and test exchanges, for programs that `attach`
`load_recording`  what real exchanges sent, with times
`wsadapter.testing.fixtures`  the same as pytest fixtures: `pytest_plugins = ["wsadapter.testing.fixtures"]`
`python -m wsadapter.testing serve`  the exchange as a process
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsadapter.testing.certificates import Authority as Authority
    from wsadapter.testing.exchange import Exchange as Exchange
    from wsadapter.testing.fake_feed import FakeFeed as FakeFeed
    from wsadapter.testing.made_journal import make_journal as make_journal
    from wsadapter.testing.recording import Recording as Recording
    from wsadapter.testing.recording import big_message as big_message
    from wsadapter.testing.recording import bundled as bundled
    from wsadapter.testing.recording import load_recording as load_recording

_HOMES = {
    "Authority": "wsadapter.testing.certificates",
    "Exchange": "wsadapter.testing.exchange",
    "FakeFeed": "wsadapter.testing.fake_feed",
    "Recording": "wsadapter.testing.recording",
    "big_message": "wsadapter.testing.recording",
    "bundled": "wsadapter.testing.recording",
    "load_recording": "wsadapter.testing.recording",
    "make_journal": "wsadapter.testing.made_journal",
}

__all__ = ["Authority", "Exchange", "FakeFeed", "Recording", "big_message", "bundled", "load_recording", "make_journal"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
