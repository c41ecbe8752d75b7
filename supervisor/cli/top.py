"""`wsadapter top`: finds the supervisor, and starts the terminal view if textual (extra `console`) is installed."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

from wsadapter.cli.which import DONE, ask, name_of
from wsadapter.contract.errors import UsageError


def top(options: argparse.Namespace) -> int:
    """Until it is left."""
    name = name_of(options)
    options.name = name
    ask(options, "watch")  # raises if nothing runs under that name
    if find_spec("textual") is None:
        raise UsageError("top needs textual: pip install 'wsadapter[console]'; without it there is: wsadapter status --watch")
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError("top needs a terminal; for a pipe or a file there is: wsadapter status --watch")
    from wsadapter.cli.top_app import Top

    Top(name, options.runtime_dir).run()
    return DONE
