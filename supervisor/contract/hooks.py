"""Imports a user's function or class that the configuration names, and checks how it can be called.

`--check`, the owner and the process of a sink use the same code, so that they can call what `--check` accepts.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

SIGNATURES: Final = {
    "decode": "decode(data: bytes, *, binary: bool, stream: str | None) -> bytes | list[bytes] | None",
    "hooks.before_connect": "before_connect(attempt: Attempt) -> Attempt",
    "hooks.sign": "sign(signing: Signing) -> Any",
    "hooks.renew": "renew(attempt: Attempt) -> None",
    "hooks.decode": "decode(payload: bytes) -> bytes",
}
"""The signature of each hook, by its key in the configuration. A function for `decode` may leave out `binary`, `stream` or
both."""
_OPTIONAL: Final = {"decode": ("binary", "stream")}
"""The keywords that are passed to a hook only if it takes them."""

_REMARK: Final = {
    "decode": " (`binary` and `stream` may be left out)",
    "hooks.decode": " (the endpoint's own `decode` is another hook, with `binary` and `stream`)",
}
"""Follows the signature in the text of an error."""
_REMEDY: Final = (
    "modules of hooks are searched on sys.path, then in the folder of the configuration and in that of the dialect: "
    "put it there, install it, or set PYTHONPATH"
)
_SINK_REMEDY: Final = (
    "the module of a sink is searched on sys.path, then in the folder of the configuration: put it there, install it, or set "
    "PYTHONPATH"
)


class HookError(Exception):
    """The hook can't be imported, or can't be called as a hook. The text names the key, the cause and the remedy."""


def describe_exception(error: BaseException) -> str:
    """Type and text of a user's exception, as valid Unicode: its text may contain a lone surrogate, and `str` of it may
    raise."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  a user's `__str__` may raise anything
        text = "its text can't be read"
    return f"{type(error).__name__}: {text}".encode(errors="replace").decode()


def load_function(name: str, sys_path: Sequence[str], key: str) -> Callable[..., Any]:
    """Import "package.module:function", which stands at `key`, one of `SIGNATURES`.

    The folders of `sys_path` are searched last: no module in them takes the place of one of Python, of ours or of one that is
    installed. Raises `HookError` with the cause and the remedy, also if the import itself raises, or the function can't be
    called as that hook.
    """
    hook = _import(name, sys_path, f"{key} = {name!r}", _REMEDY)
    if not callable(hook):
        raise HookError(f"{key} = {name!r} is not a function but of type {type(hook).__name__}")
    if wrong := _unfit(key, hook):
        remedy = f"write a function `def {SIGNATURES[key]}`{_REMARK.get(key, '')}"
        raise HookError(f"{key} = {name!r} can't be called: {wrong}; {remedy}")
    function: Callable[..., Any] = hook
    return function


def load_sink_class(name: str, sys_path: Sequence[str]) -> Callable[[str, Mapping[str, str]], Any]:
    """Import "package.module:Class", the `kind` of a sink, in the same way. Raises `HookError`."""
    found = _import(name, sys_path, f"kind = {name!r}", _SINK_REMEDY)
    if not callable(found):
        raise HookError(f"kind = {name!r} is not a class but of type {type(found).__name__}")
    make: Callable[[str, Mapping[str, str]], Any] = found
    return make


def _import(name: str, sys_path: Sequence[str], setting: str, remedy: str) -> object:
    sys.path += [folder for folder in sys_path if folder not in sys.path]
    module_name, _, attribute_name = name.partition(":")
    try:
        return _attribute(importlib.import_module(module_name), attribute_name, setting)
    except (SystemExit, HookError):
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise HookError(f"{setting} can't be imported: there is no module {error.name!r}; {remedy}") from error
        raise HookError(f"{setting} can't be imported: {describe_exception(error)}{_place(error)}") from error


def _attribute(module: ModuleType, path: str, setting: str) -> object:
    found: object = module
    for name in path.split("."):
        if not hasattr(found, name):
            file = getattr(module, "__file__", None) or "a part of Python"
            known = [known for known, value in vars(module).items() if callable(value)]
            raise HookError(f"{setting} can't be imported: {module.__name__} ({file}) has no {path!r}{_near(path, known)}")
        found = getattr(found, name)
    return found


def _near(name: str, known: Sequence[str]) -> str:
    import difflib  # not needed unless there is an error

    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _place(error: BaseException) -> str:
    """Where the user's code raised the error; "" if the text contains the place already, or it is unknown."""
    import traceback  # not needed unless there is an error

    importing = (__file__, importlib.__file__)
    traced = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in traced if frame.filename not in importing and "<frozen" not in frame.filename]
    return f" ({frames[-1].filename} line {frames[-1].lineno})" if frames and not isinstance(error, SyntaxError) else ""


def keywords_of(key: str, hook: Callable[..., Any]) -> tuple[str, ...] | None:
    """The optional keywords that a hook takes in addition to its one argument; None if it can't be called."""
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return ()  # many functions written in C have no signature; they are called with one argument
    optional = _OPTIONAL.get(key, ())
    for taken in (optional, *((keyword,) for keyword in optional), ()):
        try:
            signature.bind(None, **dict.fromkeys(taken))
        except TypeError:
            continue
        return taken
    return None


def _unfit(key: str, hook: Callable[..., Any]) -> str:
    """Why the function can't be called as this hook; "" if it can."""
    called = hook if inspect.isroutine(hook) or isinstance(hook, type) else getattr(hook, "func", type(hook).__call__)
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        return "it is a coroutine function, and a hook is called without an event loop"
    if inspect.isgeneratorfunction(called):
        return "it is a generator function, of which a call returns no data"
    if keywords_of(key, hook) is None:
        return f"it takes {inspect.signature(hook)}"
    return ""
