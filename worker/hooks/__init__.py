"""What a dialect can't say as data: the signatures of hooks, and what they are given. All of them run in the owner.

    [hooks] of a dialect, or [endpoints.NAME.hooks]     "package.module:function"

The module is searched on `sys.path`, then in the folder of the configuration file, then in that of the dialect's file.

    before_connect(attempt: Attempt) -> Attempt         before each connect; may ask the exchange for a token or a listen key
    sign(signing: Signing) -> Any                       what stands for "$sign" in a frame: anything JSON can say; may ask too
    renew(attempt: Attempt) -> None                     every `renew_after` seconds of the connection's life
    decode(payload: bytes) -> bytes                     a binary message as the dialect's other rules are to see it

    [endpoints.NAME] decode = "package.module:function"   another hook, of the user's own, for each message that is delivered:

    decode(data: bytes, *, binary: bool, stream: str | None) -> bytes | list[bytes] | None

`binary` and `stream` may be left out: `decode(data)` is called with what it takes. Its result is delivered in place of the
message; None delivers nothing (counted as `filtered`), a list several messages. Where it raises, or returns anything else, the
message is put aside (`Dropped`, cause "decode"). Acks, heartbeats and gap rules have seen the original before.

A function that can't be called so is refused by `--check`; in an owner it is a failed connect with the reason `config`. A hook
is a plain function: not `async def`, no generator.

`before_connect` runs in the thread that connects, within `timeouts.handshake`; `sign` and `renew` in a thread of their own, one
call after the other, within [login] `timeout`: whatever they do delays no pong. `decode` is part of the dialect and of the
receive loop: it must be quick (what is slow, or your own, is for the endpoint's `decode`, which has a thread to itself); where
it raises the connection is closed with 1007.

A hook that refuses the keys raises `LoginRefused`; any other exception of `before_connect` is a failed connect, one of `sign` a
failed login, and one of `renew` makes the owner ask for a new connection, with a new login, before this one goes. But after a
`HookFailure` of `sign` for a frame that subscribes the frame is made anew after 1 s, then 2 s, six times, and then its streams
are `Rejected`. No value that a hook gets or gives is ever logged; the text of its exceptions is, with the words of [login]
masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson


class HookFailure(Exception):
    """What a hook asked for was refused.

    `status`: the HTTP status; `body`: the first 4 KiB of the answer; `retry_after`: seconds that the peer asked us to wait.
    None where there is none. 401 and 403 are taken for a refused login.
    """

    def __init__(self, text: str, *, status: int | None = None, body: str = "", retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status, self.body, self.retry_after = status, body, retry_after


class LoginRefused(HookFailure):
    """The keys are wrong, or not allowed to do this."""


def _no_requests(_method: str, url: str, _headers: Mapping[str, str], _body: bytes) -> bytes:
    raise HookFailure(f"{url.partition('?')[0]} can't be asked: there is no endpoint to ask for")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """What may ask the exchange over HTTP."""

    transfer: Callable[[str, str, Mapping[str, str], bytes], bytes] = field(default=_no_requests, repr=False)
    """See `fetch`."""

    def fetch(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
        """An HTTP(S) request over the endpoint's proxy or from its `bind`, with its TLS settings (but the pin, which is
        another host's), within `timeouts.handshake`; the body of the answer, at most 1 MiB. Redirects are not followed. Raises
        `HookFailure` where the status is not 2xx or there is no answer."""
        return self.transfer(method, url, headers or {}, body)

    def fetch_json(self, url: str, **request: Any) -> Any:
        """`fetch`, parsed. Raises `HookFailure` where it is not JSON."""
        body = self.fetch(url, **request)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            text = f"{url.partition('?')[0]} did not answer in JSON"
            raise HookFailure(text, body=body[:4096].decode(errors="replace")) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(_Asking):
    """One attempt to connect. Immutable: `before_connect` gives back another one, made by `changed`."""

    endpoint: str
    """Its name."""
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    environment: str
    """ "live" or "test"."""
    login: Mapping[str, str] = field(repr=False)
    """The endpoint's [login]; empty for public streams."""
    token: Any = field(default=None, repr=False)
    """What `before_connect` keeps for `sign` and `renew`, such as a listen key: anything JSON can say."""

    def changed(self, **fields: Any) -> Attempt:
        """With another `url`, `headers` or `token`."""
        return replace(self, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing(_Asking):
    """A frame to be signed."""

    endpoint: str
    url: str = field(default="", repr=False)
    """Of the connection, as `before_connect` left it; an owner that goes on with a connection has the endpoint's."""
    login: Mapping[str, str] = field(repr=False)
    frame: Mapping[str, Any] = field(repr=False)
    """Filled in but for "$sign": its ids, its times and the exchange's challenge are those that will be sent."""
    now: float
    """Wall clock, seconds since 1970."""
    token: Any = field(default=None, repr=False)
    """See `Attempt.token`."""
