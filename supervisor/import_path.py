"""Where modules are imported from, in our programs, in owners and for hooks.

Python puts the folder of the program, or the working folder, in front of `sys.path`: a `queue.py` or `websocket.py` in that
folder is imported instead of the real module. In the user's own process the user decides about that; in an owner it would break
every connection. So an owner does not search that folder until a hook is imported, which may be in it, and then searches it
last.

Our programs import this module before all others, so it needs nothing that is not loaded at the start of the interpreter.
"""

from __future__ import annotations

import os
import sys


def forget_program_folder() -> None:
    """For our own commands: remove what Python put in front of `sys.path` for the program, so that `wsadapter run` and
    `python -m wsadapter.supervise` import the same modules in every working folder."""
    if not sys.flags.safe_path and sys.path and sys.path[0] in _program_folders() and not _holds_us(sys.path[0]):
        del sys.path[0]


def for_owners() -> list[str]:
    """`sys.path` of an owner: that of this process, without the folder of the program and the working folder. If this package
    itself is in one of the two, that folder comes last."""
    folders = _folders()
    program = {os.path.normpath(folder) for folder in _program_folders() if folder}
    kept = [folder for folder in folders if os.path.normpath(folder) not in program]
    return kept + [folder for folder in folders if folder not in kept and _holds_us(folder)]


def for_hooks(*beside: str) -> tuple[str, ...]:
    """The folders in which an owner searches the modules of hooks, after its own `sys.path`: `sys.path` of this process, then
    the folders `beside`, those of the files that name the hooks. Empty names are left out."""
    return tuple(dict.fromkeys([*_folders(), *(folder for folder in beside if folder)]))


def with_dialect_folder(folders: tuple[str, ...], dialect: str) -> tuple[str, ...]:
    """`folders`, and after them the folder of a dialect that is the user's own, because a dialect may name hooks too."""
    return tuple(dict.fromkeys([*folders, os.path.dirname(dialect)])) if os.path.isabs(dialect) else folders


def _folders() -> list[str]:
    """`sys.path` of this process as absolute paths. Relative entries are left out if the working folder was deleted."""
    working = working_folder()
    return [os.path.join(working, folder) if folder else working for folder in sys.path if os.path.isabs(folder) or working]


def _program_folders() -> set[str]:
    """What Python may have put in front of `sys.path`: "" and the working folder, the folder of the program's file."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    working = working_folder()
    beside = [os.path.dirname(path) for path in _spellings(file, working)] if file else []
    return {"", working, *beside}


def _spellings(file: str, working: str) -> list[str]:
    path = os.path.join(working, file)
    return [path, os.path.realpath(path)]  # Python follows symbolic links of a script


def working_folder() -> str:
    """The working folder; "" if it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _holds_us(folder: str) -> bool:
    """Whether this package was imported from there, as after `pip install --target`."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return bool(folder or working_folder()) and os.path.realpath(folder or working_folder()) == os.path.realpath(ours)
