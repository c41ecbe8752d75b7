"""Hooks of an invented exchange's dialect, as a user would write them. They run in the owner."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from wsadapter.worker.dialects.hooks import bitstamp
from wsadapter.worker.hooks import Attempt, HookFailure, LoginRefused, Signing


def token(attempt: Attempt) -> Attempt:
    """Asks the exchange, whose REST address is among the headers, for a token, and connects with it."""
    rest = attempt.headers["X-Rest"]
    token = attempt.fetch_json(f"{rest}/token?key={attempt.login.get('key', '')}", method="POST", body=b"{}")["token"]
    return attempt.changed(url=f"{attempt.url}?token={token}", headers={"X-Via": "hook"}, token=[rest, token])


def sign(signing: Signing) -> dict[str, Any]:
    """What shows that it was given all that it needs."""
    return {"key": signing.login["key"], "signed": [signing.frame.get("id"), signing.token]}


def fresh(signing: Signing) -> str:
    """Something else each time."""
    return f"{signing.login['key']} {signing.frame['sub'][0]} {signing.frame['n']}"


def challenged(signing: Signing) -> str:
    """A signature of the peer's challenge."""
    return f"{signing.login['key']} signs {signing.frame['challenge']}"


def renew(attempt: Attempt) -> None:
    """Notifies the exchange, which may refuse the login."""
    rest, what = attempt.token
    attempt.fetch(f"{rest}/renew/{what}", method="PUT")


def broken(_signing: Signing) -> dict[str, Any]:
    """A mistake in it."""
    return {"key": {}["missing"]}


def hangs(_signing: Signing) -> str:
    """It never comes back."""
    while True:
        time.sleep(1)


def refuses(_attempt: Attempt) -> Attempt:
    """The keys are no good."""
    raise LoginRefused("this key may not trade")


def slow(signing: Signing) -> dict[str, Any]:
    """A signature takes a moment, but not at the login."""
    if "login" not in signing.frame:
        time.sleep(0.4)
    return {"by": signing.login["key"]}


class Cancelled(BaseException):
    """As `asyncio.CancelledError` is: no `Exception`."""


def cancels(_given: object) -> Any:
    """It raises what few expect."""
    raise Cancelled("no such thing")


def refuses_oddly(_attempt: Attempt) -> Attempt:
    """What it raises has fields of other types."""
    raise HookFailure("odd", status="503", body=b"\xff", retry_after="soon")  # type: ignore[arg-type]


def talks(signing: Signing) -> dict[str, Any]:
    """A signature that looks like one, and more words than are good."""
    print(f"signing {signing!r}")
    if "sub" in signing.frame and "c" in signing.frame["sub"]:
        raise ValueError(f"what is {signing.login['secret']}?")
    return {"sig": f"{signing.login['secret']} signed", "key": signing.login["key"]}


def bitstamp_at_rest(signing: Signing) -> str:
    """The bundled hook, which asks the REST address that is among the login's words; for trades, as if an hour had gone."""
    transfer = signing.transfer

    def at_rest(method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        return transfer(method, signing.login["rest"] + urlsplit(url).path, headers, body)

    later = 3600.0 if "trades_btcusd-" in signing.frame["data"]["channel"] else 0.0
    return bitstamp.sign(replace(signing, transfer=at_rest, now=signing.now + later))
