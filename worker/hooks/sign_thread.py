"""Loads the hooks of one connection, and calls `sign` and `renew` in a thread of their own, so that they can't delay a pong."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import orjson

from wsadapter.contract.dialect.templates import BadStream, needs_sign_hook, sign
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.hooks import HookError, describe_exception, load_function
from wsadapter.contract.ipc.assignment import Assignment
from wsadapter.contract.reasons import Reason
from wsadapter.worker.connect.dial import ConnectError
from wsadapter.worker.hooks import Attempt, HookFailure, LoginRefused, Signing
from wsadapter.worker.hooks.decode_thread import exit_as_requested
from wsadapter.worker.loop.wakeup import Wakeup
from wsadapter.worker.masking import masked
from wsadapter.worker.websocket.deflate import BadDeflate, TooLong

_REFUSED: Final = (401, 403)
_MOST_TEXT: Final = 1000
_MOST_BODY: Final = 4096


class Signed(NamedTuple):
    """The hook `sign` has completed a frame; or it failed with `error`."""

    frame: Mapping[str, Any]
    error: str = ""
    passing: bool = False
    """An HTTP request of the hook failed for a reason other than the keys, so a later attempt may succeed."""


class Renewed(NamedTuple):
    """The hook `renew` has returned; or it raised `error`."""

    error: str = ""


@dataclass(slots=True)
class Hooks:
    """The needed hooks of an endpoint, and the attempt with the URL and the headers of `before_connect`."""

    attempt: Attempt
    before_connect: Callable[[Attempt], Attempt] | None = None
    sign: Callable[[Signing], Any] | None = None
    renew: Callable[[Attempt], None] | None = None
    decode: Callable[[bytes], bytes] | None = None

    def prepare(self) -> None:
        """Calls `before_connect`. Raises `ConnectError`."""
        if self.before_connect is None:
            return
        try:
            attempt = _checked(self.before_connect(self.attempt))
        except HookFailure as failure:
            raise ConnectError(_reason(failure, self.attempt)) from failure
        except SystemExit as wish:
            exit_as_requested(wish)
        except BaseException as error:
            raise ConnectError(Reason(kind="connect_failed", text=f"before_connect: {_words(error, self.attempt)}")) from error
        self.attempt = attempt


def _checked(attempt: object) -> Attempt:
    """The result of `before_connect`, checked, because a user's function may return anything."""
    if not isinstance(attempt, Attempt):
        raise TypeError(f"it must return an Attempt, not {type(attempt).__name__}")
    texts = [attempt.url, *attempt.headers, *attempt.headers.values()]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("the URL and the headers of an Attempt must be strings")
    for text in texts:
        text.encode()  # a lone surrogate can't be sent
    orjson.dumps(attempt.token)
    return attempt


def load_hooks(assignment: Assignment) -> Hooks:
    """Imports the hooks that this endpoint needs. Raises `HookError`."""
    endpoint, names = assignment.endpoint, assignment.endpoint.hooks
    login = (assignment.dialect or {}).get("login", {}) if endpoint.login else {}
    needed = {
        "before_connect": assignment.resume is None,
        "sign": bool(login) and needs_sign_hook(assignment.dialect or {}),
        "renew": bool(login.get("renew_after")),
        "decode": True,
    }
    found = {
        key: load_function(names[key], assignment.sys_path, f"hooks.{key}")
        for key, wanted in needed.items() if wanted and names.get(key)
    }  # fmt: skip
    if needed["sign"] and "sign" not in found:
        raise HookError('the dialect has frames with "$sign", and there is no hook `sign`; name one in [hooks]')
    return Hooks(_attempt(assignment), **found)


def _attempt(assignment: Assignment) -> Attempt:
    endpoint = assignment.endpoint
    return Attempt(
        endpoint=endpoint.name, url=assignment.url, headers=endpoint.headers, environment=endpoint.environment,
        login=endpoint.login, token=assignment.token, transfer=partial(_transfer, endpoint),
    )  # fmt: skip


def _transfer(endpoint: Endpoint, method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    from wsadapter.worker.hooks.http import transfer  # most owners never need it

    return transfer(endpoint, method, url, headers, body)


def _refuses_keys(failure: HookFailure) -> bool:
    return isinstance(failure, LoginRefused) or failure.status in _REFUSED


def _reason(failure: HookFailure, attempt: Attempt) -> Reason:
    """The reason of a failed connect, with every field checked, because a user's exception may contain anything."""
    status = failure.status if isinstance(failure.status, int) and 100 <= failure.status <= 999 else None
    given: Any = failure.body
    body = given.decode(errors="replace") if isinstance(given, bytes) else str(given)
    wait = failure.retry_after if isinstance(failure.retry_after, int | float) and isfinite(failure.retry_after) else None
    return Reason(
        kind="login_failed" if _refuses_keys(failure) else "connect_failed",
        text=f"before_connect: {_words(failure, attempt)}", status=status,
        body=masked(body.encode(errors="replace").decode()[:_MOST_BODY], attempt.login.values()), retry_after=wait,
    )  # fmt: skip


def _words(error: BaseException, attempt: Attempt) -> str:
    text = describe_exception(error)
    if isinstance(error, HookFailure):
        text = text.partition(": ")[2]
    return masked(text, attempt.login.values())[:_MOST_TEXT]


class Decoding:
    """Decodes binary messages with the dialect's hook, in the receive loop."""

    def __init__(self, hook: Callable[[bytes], bytes]) -> None:
        self._hook = hook

    def unpack(self, payload: bytes, limit: int) -> bytes:
        """As `Unpacker.unpack`."""
        try:
            result = self._hook(payload)
        except SystemExit as wish:
            exit_as_requested(wish)
        except BaseException as error:
            raise BadDeflate(f"the hook decode: {describe_exception(error)[:_MOST_TEXT]}") from error
        if not isinstance(result, bytes):
            raise BadDeflate(f"the hook decode returned {type(result).__name__}, not bytes")
        if len(result) > limit:
            raise TooLong
        return result


class HookThread:
    """Calls the hooks one after the other, in the order of the requests. The owner's loop calls all methods except `_run`."""

    def __init__(self, hooks: Hooks, wakeup: Wakeup) -> None:
        self._hooks = hooks
        self._wakeup = wakeup
        self._todo: SimpleQueue[Callable[[], Signed | Renewed]] = SimpleQueue()
        self._done: deque[Signed | Renewed] = deque()
        self._thread: threading.Thread | None = None

    def sign(self, frame: Mapping[str, Any]) -> None:
        """Calls `sign` in the thread; a `Signed` follows."""
        self._call(partial(self._signed, frame))

    def renew(self) -> None:
        """Calls `renew` in the thread; a `Renewed` follows."""
        self._call(self._renewed)

    def outcomes(self) -> list[Signed | Renewed]:
        """The outcomes since the last call; `wakeup` is woken at each."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def _call(self, call: Callable[[], Signed | Renewed]) -> None:
        self._todo.put(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._done.append(self._todo.get()())
            self._wakeup.wake()

    def _signed(self, frame: Mapping[str, Any]) -> Signed:
        attempt, hook = self._hooks.attempt, self._hooks.sign
        assert hook is not None
        try:
            signing = Signing(
                endpoint=attempt.endpoint, url=attempt.url, login=attempt.login, frame=frame, now=time.time(),
                token=attempt.token, transfer=attempt.transfer,
            )  # fmt: skip
            signature = hook(signing)
            complete = sign(frame, signature)
            orjson.dumps(complete)
        except SystemExit as wish:
            exit_as_requested(wish)
        except BadStream as error:
            return Signed(frame, str(error))
        except BaseException as error:  # noqa: BLE001  the user's function may raise anything
            passing = isinstance(error, HookFailure) and not _refuses_keys(error)
            return Signed(frame, f"the hook sign: {_words(error, attempt)}", passing)
        return Signed(complete)

    def _renewed(self) -> Renewed:
        assert self._hooks.renew is not None
        try:
            self._hooks.renew(self._hooks.attempt)
        except SystemExit as wish:
            exit_as_requested(wish)
        except BaseException as error:  # noqa: BLE001  the same
            return Renewed(f"the hook renew: {_words(error, self._hooks.attempt)}")
        return Renewed()
