"""Settings fit to be shown: what a secret may stand in is replaced by ***. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
SECRET: Final = frozenset({"url", "headers", "proxy", "login", "send_on_up", "tls.key_password", "heartbeat.payload"})
"""The settings of an endpoint, by their dotted keys, of which a text must not show the value."""

_AUTHORITY: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)?(?:[^/?#]*@)?")
_ONLY_A_REFERENCE: Final = re.compile(r"\$\{[^}]*\}")


def mask_url(url: str) -> str:
    """`url` fit to be shown: user info and query are replaced by ***. Never raises, whatever `url` is."""
    before_fragment, hash_sign, _ = url.partition("#")
    before_query, question, _ = before_fragment.partition("?")
    found = _AUTHORITY.match(before_query)
    scheme = found[1] or "" if found else ""
    rest = before_query[found.end() :] if found else before_query
    user = f"{MASK}@" if found and found.end() > len(scheme) else ""
    hidden = f"?{MASK}" if question else f"#{MASK}" if hash_sign else ""
    return f"{scheme}{user}{rest}{hidden}"


def mask_setting(key: str, value: Any) -> Any:
    """The value of a setting with its secrets masked: user info and query of URLs, the values of headers and of a login, raw
    frames, passwords. What is nothing but a `${...}` stays as written. Never raises, whatever the value is."""
    if key not in SECRET:
        return value
    if isinstance(value, Mapping):
        return {name: _mask(item) for name, item in value.items()}
    if isinstance(value, str):
        return mask_url(value) if key in ("url", "proxy") else _mask(value)
    if isinstance(value, list | tuple):
        return [mask_setting(key, item) for item in value]
    return value if value is None else MASK


def _mask(value: object) -> object:
    return value if isinstance(value, str) and (not value or _ONLY_A_REFERENCE.fullmatch(value)) else MASK
