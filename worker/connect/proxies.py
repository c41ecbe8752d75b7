"""Finds the proxy for a host: the endpoint's, otherwise the environment's, by the rules of curl and urllib. Pure.

    wss://  wss_proxy, https_proxy, all_proxy      ws://  ws_proxy, http_proxy, all_proxy      no_proxy  hosts without a proxy

The first variable that is set applies. A name in lower case takes precedence over the same name in upper case, also if its
value is empty. In a CGI program HTTP_PROXY is ignored, because there it is a header of the request (CVE-2016-1000110).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

from wsadapter.contract.endpoint import Endpoint
from wsadapter.worker.connect.tcp import ascii_host

_VARIABLES: Final = {
    "wss": ("wss_proxy", "https_proxy", "all_proxy"),
    "ws": ("ws_proxy", "http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
    "http": ("http_proxy", "all_proxy"),
}
_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}
_FORMS: Final = "http://host:port, socks5://host:port or socks5h://host:port"


class BadProxy(ValueError):
    """The text of a proxy is invalid. The message does not show the text, because it may contain a password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """The parts of a proxy's URL."""

    protocol: str
    """http, socks5 (we resolve names), or socks5h (the proxy resolves names)."""
    host: str
    port: int
    auth: tuple[str, str] | None
    """User and password."""

    @property
    def address(self) -> str:
        """`host:port`, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_for(endpoint: Endpoint, environment: Mapping[str, str], scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a URL with this scheme (ws, wss, http, https), host and port; None: no proxy. Raises `BadProxy`."""
    if endpoint.proxy == "none":
        return None
    if endpoint.proxy:
        return _parse(endpoint.proxy, "the proxy")
    name, text = _named(environment, scheme)
    if not text or is_excepted(_variable(environment, "no_proxy"), host, port):
        return None
    if "://" not in text:
        text = f"http://{text}"
    elif text.startswith("https://"):  # as in urllib: the proxy for https URLs, not a proxy that speaks TLS
        text = f"http://{text.removeprefix('https://')}"
    try:
        return _parse(text, f"the environment's proxy ({name})")
    except BadProxy as error:
        raise BadProxy(f'{error}; set proxy = "none" to use no proxy') from error


def _parse(text: str, what: str) -> Proxy:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadProxy(f"{what} is malformed: it must be {_FORMS}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise BadProxy(f"{what} must be {_FORMS}")
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return Proxy(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], auth)


def _named(environment: Mapping[str, str], scheme: str) -> tuple[str, str]:
    """The variable that names the proxy for this scheme, and its value; ("", "") if there is none."""
    for name in _VARIABLES[scheme]:
        if text := _variable(environment, name):
            return name, text
    return "", ""


def _variable(environment: Mapping[str, str], name: str) -> str:
    if name in environment:
        return environment[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environment:
        return ""
    return environment.get(name.upper(), "").strip()


def is_excepted(no_proxy: str, host: str, port: int) -> bool:
    """True if `no_proxy` names the host. Entries are separated by commas or blanks: "*", domains with their subdomains,
    addresses, networks (CIDR); an entry with a port is valid for that port only."""
    host = host.strip("[]").rstrip(".").lower()
    return any(_excepts(entry.lower(), host, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def _excepts(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, its_port = _split_port(entry)
    if its_port not in ("", str(port)):
        return False
    with suppress(ValueError):
        address = ip_address(host)
        with suppress(ValueError):
            return address in ip_network(name, strict=False)
        return False
    domain = name.removeprefix("*").strip(".")
    with suppress(UnicodeError):
        domain = ascii_host(domain)
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """Splits "host:port", "[::1]:port", or one of them without a port; IPv6 addresses may be written without brackets."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name + (rest if rest.startswith("/") else ""), rest.removeprefix(":") if rest.startswith(":") else ""
    name, colon, port = entry.rpartition(":")
    return (name, port) if colon and ":" not in name and port.isdigit() else (entry, "")
