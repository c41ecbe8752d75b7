"""Hooks: functions for what a dialect can't express as data. Their signatures and arguments. All hooks run in the owner
process.

    [hooks] of a dialect, or [endpoints.NAME.hooks]     "package.module:function"

The module is searched on `sys.path`, then in the folder of the configuration file, then in the folder of the dialect's file.

    before_connect(attempt: Attempt) -> Attempt         before each connect; may request a token or a listen key
    sign(signing: Signing) -> Any                       the value of "$sign" in a frame: any JSON value; may send requests too
    renew(attempt: Attempt) -> None                     every `renew_after` seconds of the connection's life
    decode(payload: bytes) -> bytes                     a binary message, decoded for the other rules of the dialect

    [endpoints.NAME] decode = "package.module:function"   another hook, of the user, for each message that is delivered:

    decode(data: bytes, *, binary: bool, stream: str | None) -> bytes | list[bytes] | None

A function may leave out `binary` and `stream`: it is called with the keywords that it has. Its result is delivered in place of
the message. None delivers nothing (counted as `filtered`), and a list delivers several messages. If the function raises, or
returns anything else, the message goes to the quarantine (`Dropped`, cause "decode"). Acks, heartbeats and gap rules have used
the original message before.

`--check` refuses a function that can't be called in this way; in an owner it is a failed connect with the reason `config`. A
hook is a plain function: no `async def`, no generator.

`before_connect` runs in the thread that connects, within `timeouts.handshake`. `sign` and `renew` run in a thread of their
own, one call after the other, within the `timeout` of [login], so they delay no pong. The dialect's `decode` runs in the
receive loop, so it must be fast; slow code belongs into the endpoint's `decode`, which has a separate thread. If the
dialect's `decode` raises, the connection is closed with 1007.

A hook raises `LoginRefused` if the exchange refuses the keys. Any other exception of `before_connect` is a failed connect, of
`sign` a failed login, and of `renew` a request for a new connection, with a new login, before this one ends. Exception: after
a `HookFailure` of `sign` for a frame that subscribes, the frame is made again after 1 s, then 2 s and so on, six times, and
then its streams are `Rejected`. Arguments and results of hooks are never logged. The texts of their exceptions are logged,
with the values of [login] masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson


class HookFailure(Exception):
    """A request of a hook was refused or failed.

    `status`: the HTTP status; `body`: the first 4 KiB of the answer; `retry_after`: seconds that the peer asked us to wait.
    None if there is none. The statuses 401 and 403 count as a refused login.
    """

    def __init__(self, text: str, *, status: int | None = None, body: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status, self.body, self.retry_after = status, body, retry_after


class LoginRefused(HookFailure):
    """The keys are wrong, or lack a permission."""


def _no_requests(_method: str, url: str, _headers: Mapping[str, str], _body: bytes) -> bytes:
    raise HookFailure(f"{url.partition('?')[0]} can't be requested: this object belongs to no endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """An argument of a hook with which the hook may send HTTP requests."""

    transfer: Callable[[str, str, Mapping[str, str], bytes], bytes] = field(default=_no_requests, repr=False)
    """See `fetch`."""

    def fetch(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
        """Sends an HTTP(S) request over the endpoint's proxy or from its `bind`, with its TLS settings (except the pin, which
        is for another host), within `timeouts.handshake`. Returns the body of the answer, at most 1 MiB. Redirects are not
        followed. Raises `HookFailure` if the status is not 2xx or there is no answer."""
        return self.transfer(method, url, headers or {}, body)

    def fetch_json(self, url: str, **request: Any) -> Any:
        """As `fetch`, but returns the parsed body. Raises `HookFailure` also if the body is not JSON."""
        body = self.fetch(url, **request)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            text = f"{url.partition('?')[0]} did not answer in JSON"
            raise HookFailure(text, body=body[:4096].decode(errors="replace")) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(_Asking):
    """One attempt to connect. Immutable: `before_connect` returns another one, made by `changed`."""

    endpoint: str
    """The name of the endpoint."""
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    environment: str
    """ "live" or "test"."""
    login: Mapping[str, str] = field(repr=False)
    """The endpoint's [login]; empty for public streams."""
    token: Any = field(default=None, repr=False)
    """A value that `before_connect` keeps for `sign` and `renew`, such as a listen key: any JSON value."""

    def changed(self, **fields: Any) -> Attempt:
        """A copy with another `url`, `headers` or `token`."""
        return replace(self, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing(_Asking):
    """A frame to be signed."""

    endpoint: str
    url: str = field(default="", repr=False)
    """The URL of the connection, as `before_connect` returned it. An owner that continues a connection has the endpoint's
    URL."""
    login: Mapping[str, str] = field(repr=False)
    frame: Mapping[str, Any] = field(repr=False)
    """The frame, complete except for "$sign": its ids, its times and the challenge are those that will be sent."""
    now: float
    """Wall clock, seconds since 1970."""
    token: Any = field(default=None, repr=False)
    """See `Attempt.token`."""
