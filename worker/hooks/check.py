"""Checks whether hooks, and the classes of sinks ("kind"), can be imported and called. This is a process of its own,
because an import runs the user's modules.

    standard input      {"sys_path": [...], "hooks": [{"key": "decode", "name": "module:function", "folders": [...]}, ...]}
    the descriptor      one line of JSON per hook, in the same order, as soon as it is known: the problem, or ""

The modules print to the output of this process. `config/hooks.py` is the other end.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

from wsadapter.contract.hooks import HookError, load_function, load_sink_class


def main(request: dict[str, Any], answers: int) -> None:
    """Writes the answers to the descriptor `answers` and ends the process, without waiting for threads of the modules."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # as in an owner
    os.close(null)
    for hook in request["hooks"]:
        wrong = _wrong(hook["key"], hook["name"], hook["folders"])
        for stream in (sys.stdout, sys.stderr):  # before the answer, because this process may be killed after the last one
            with suppress(AttributeError, OSError, ValueError):  # a module has removed or closed it
                stream.flush()
        os.write(answers, json.dumps(wrong).encode() + b"\n")
    os._exit(0)


def _wrong(key: str, name: str, folders: list[str]) -> str:
    try:
        if key == "kind":
            load_sink_class(name, folders)
        else:
            load_function(name, folders, key)
    except HookError as error:
        return str(error)
    except SystemExit as error:
        return f"{key} = {name!r} can't be imported: its module calls sys.exit({error.code!r})"
    return ""
