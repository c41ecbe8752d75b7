"""A user's function named in the configuration: imported, and checked for how it can be called.

The same code for `--check` and for the owner: what the one accepts the other can call.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

SIGNATURES: Final = {
    "decode": "decode(data: bytes, *, binary: bool, stream: str | None) -> bytes | list[bytes] | None",
    "hooks.before_connect": "before_connect(attempt: Attempt) -> Attempt",
    "hooks.sign": "sign(signing: Signing) -> Any",
    "hooks.renew": "renew(attempt: Attempt) -> None",
    "hooks.decode": "decode(payload: bytes) -> bytes",
}
"""By the key of the configuration. Of `decode`, a function may leave out `binary`, `stream` or both."""
_OPTIONAL: Final = {"decode": ("binary", "stream")}
"""The keywords with which a hook is called only if it takes them."""

_REMARK: Final = {
    "decode": " (`binary` and `stream` may be left out)",
    "hooks.decode": " (the endpoint's own `decode` is another hook, with `binary` and `stream`)",
}
"""Behind the signature in the text of an error."""


class HookError(Exception):
    """The hook can't be imported, or can't be called as one. The text names the key, the cause and the remedy."""


def words(error: BaseException) -> str:
    """What an exception of the user's says, as a report can carry it: it may hold half a character, or have no text at all."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  it is the user's too
        text = "without words"
    return f"{type(error).__name__}: {text}".encode(errors="replace").decode()


def load_function(name: str, sys_path: Sequence[str], key: str) -> Callable[..., Any]:
    """Import "package.module:function", which stands at `key`, one of `SIGNATURES`.

    Raises `HookError` with the cause, also if the import itself raises, or the function can't be called as that hook.
    """
    sys.path[:0] = [folder for folder in sys_path if folder not in sys.path]
    module_name, _, function_name = name.partition(":")
    try:
        hook: object = importlib.import_module(module_name)
        for attribute in function_name.split("."):
            hook = getattr(hook, attribute)
    except SystemExit:
        raise
    except BaseException as error:
        raise HookError(f"{key} = {name!r} can't be imported: {words(error)}") from error
    if not callable(hook):
        raise HookError(f"{key} = {name!r} is not a function but a {type(hook).__name__}")
    if wrong := _unfit(key, hook):
        remedy = f"write a function `def {SIGNATURES[key]}`{_REMARK.get(key, '')}"
        raise HookError(f"{key} = {name!r} can't be called: {wrong}; {remedy}")
    function: Callable[..., Any] = hook
    return function


def keywords_of(key: str, hook: Callable[..., Any]) -> tuple[str, ...] | None:
    """With which of its optional keywords a hook can be called besides its one argument; None if it can't be called."""
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        return ()  # many functions written in C don't tell; they take one argument
    optional = _OPTIONAL.get(key, ())
    for taken in (optional, *((keyword,) for keyword in optional), ()):
        try:
            signature.bind(None, **dict.fromkeys(taken))
        except TypeError:
            continue
        return taken
    return None


def _unfit(key: str, hook: Callable[..., Any]) -> str:
    """Why it is no hook; "" if it is one."""
    called = hook if inspect.isroutine(hook) or isinstance(hook, type) else getattr(hook, "func", type(hook).__call__)
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        return "it is a coroutine function, and a hook is called without an event loop"
    if inspect.isgeneratorfunction(called):
        return "it is a generator function, of which a call returns no data"
    if keywords_of(key, hook) is None:
        return f"it takes {inspect.signature(hook)}"
    return ""
