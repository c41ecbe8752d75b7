"""Masks settings that may contain a secret, so that they can be shown: *** replaces their values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "***"
SECRET: Final = frozenset({"url", "headers", "proxy", "login", "send_on_up", "tls.key_password", "heartbeat.payload"})
"""The settings of an endpoint, by their dotted keys, of which a text must not show the value."""

_SHORTEST: Final = 5
_AUTHORITY: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?(?:[^/?#]*@)?")
_END_OF_HOST: Final = re.compile(r"[/?#]")
_ONLY_A_REFERENCE: Final = re.compile(r"\$\{[^}]*\}")


def mask_url(url: str) -> str:
    """`url` with user info and query replaced by ***. Never raises, whatever `url` is."""
    before_fragment, hash_sign, _ = url.partition("#")
    before_query, question, _ = before_fragment.partition("?")
    found = _AUTHORITY.match(before_query)
    scheme = found[1] or "" if found else ""
    rest = before_query[found.end() :] if found else before_query
    user = f"{MASK}@" if found and found.end() > len(scheme) else ""
    hidden = f"?{MASK}" if question else f"#{MASK}" if hash_sign else ""
    return f"{scheme}{user}{rest}{hidden}"


def host_of(url: str) -> str:
    """The host and, if it is written, the port of `url`: never a secret. Never raises, whatever `url` is."""
    found = _AUTHORITY.match(url)
    return _END_OF_HOST.split(url[found.end() :] if found else url, maxsplit=1)[0]


def mask_setting(key: str, value: Any) -> Any:
    """The value of a setting with its secrets masked: user info and query of URLs, the values of headers and of a login, raw
    frames, passwords. A value that is only `${...}` stays as written. Never raises, whatever the value is."""
    if key not in SECRET:
        return value
    if isinstance(value, Mapping):
        return {name: _mask(item) for name, item in value.items()}
    if isinstance(value, str):
        return mask_url(value) if key in ("url", "proxy") else _mask(value)
    if isinstance(value, list | tuple):
        return [mask_setting(key, item) for item in value]
    return value if value is None else MASK


class Secrets:
    """Values that were sent to a peer and that no text may show: a server's text that repeats them is masked. Pure."""

    def __init__(self, values: Iterable[str]) -> None:
        """Of a value that is a URL, the user info and the values of the query are secrets. Values of less than five characters
        are not masked, because any text may contain them."""
        parts = {part for value in values for part in (_parts_of_url(value) if "://" in value else [value])}
        known = {form for part in parts if len(part) >= _SHORTEST for form in (part, quote(part), quote(part, safe=""))}
        self._longest_first = sorted(known, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """`text` with *** in place of each secret."""
        for secret in self._longest_first:
            text = text.replace(secret, MASK)
        return text


def _parts_of_url(url: str) -> list[str]:
    before, _, query = url.partition("?")
    found = _AUTHORITY.match(before)
    user = found[0].removeprefix(found[1] or "").removesuffix("@").split(":") if found else []
    return [*user, *(pair.partition("=")[2] for pair in query.partition("#")[0].split("&"))]


def _mask(value: object) -> object:
    return value if isinstance(value, str) and (not value or _ONLY_A_REFERENCE.fullmatch(value)) else MASK
