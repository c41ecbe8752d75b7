"""Checks of single values: names, URLs, headers, proxies, globs. Each check returns the text of a problem, or "".

Nothing here shows a value that could be a secret. Pure, except for `existing_file` and checks of installed packages.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from wsadapter.config.files import parse_json

LONGEST_NAME: Final = 100

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_BREAKS_A_HEADER: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_IMPORTABLE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_OURS: Final = frozenset(
    {"connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-accept", "sec-websocket-extensions"}
)
_WEBSOCKET_URL: Final = "expected a URL such as wss://host:port/path"
NATS_SERVERS: Final = 'expected URLs of NATS servers, such as "nats://10.0.0.1:4222,nats://10.0.0.2:4222"'
_PROXY_URL: Final = 'expected a proxy such as http://host:port, socks5://host:port or socks5h://host:port, or "none"'


def name(value: str) -> str:
    """Name of an endpoint or a supervisor: a part of file names, lock names and log lines."""
    if not value.strip():
        return "a name must not be empty"
    if len(value) > LONGEST_NAME:
        return f"a name has at most {LONGEST_NAME} characters"
    if found := sorted({c for c in value if c in "#/" or not c.isprintable()}):
        return f"a name must not hold {', '.join(map(repr, found))}"
    if value != value.strip() or not value.strip("."):
        return "a name must not begin or end with a space, nor consist of dots"
    return ""


def websocket_url(value: str) -> str:
    """RFC 6455 §3."""
    parts, wrong = _split(value)
    if parts is None:
        return f"{_WEBSOCKET_URL}: {wrong}"
    if parts.scheme not in ("ws", "wss"):
        return f"{_WEBSOCKET_URL}: the scheme must be ws or wss"
    if parts.fragment or "#" in value:
        return f"{_WEBSOCKET_URL}: a WebSocket URL has no #fragment (RFC 6455 §3)"
    return ""


def json_path(value: str) -> str:
    """Of a field within a JSON message: "data.u", "0.id"."""
    return "" if not value or all(value.split(".")) else f"expected a dotted path of a JSON field, got {json.dumps(value)}"


def field_path(value: str) -> str:
    """The same, which must be there."""
    return json_path(value) if value else "expected a dotted path of a JSON field, got an empty string"


def proxy(value: str) -> str:
    """Empty and "none" are proxies too: the environment's, and none."""
    if value in ("", "none"):
        return ""
    parts, wrong = _split(value)
    if parts is None:
        return f"{_PROXY_URL}: {wrong}"
    if parts.scheme not in ("http", "socks5", "socks5h"):
        return f"{_PROXY_URL}: the scheme is none of these"
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return f"{_PROXY_URL}: it has no path"
    if parts.scheme != "http" and find_spec("python_socks") is None:
        return "a SOCKS proxy needs the package python-socks, which is not installed here: pip install wsadapter[socks]"
    return ""


def _split(value: str) -> tuple[SplitResult | None, str]:
    if _CONTROL.search(value) or " " in value:
        return None, "it holds a space or a control character"
    if "://" not in value:
        return None, 'it has no scheme, the part that ends in "://"'
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:  # its text may quote the value
        return None, "the host or the port can't be read; a port is a number from 1 to 65535"
    if not parts.hostname:
        return None, "it has no host"
    if not _is_host(parts.hostname):
        return None, "the host is not a host name: each part of it has 1 to 63 characters on the wire"
    if port == 0:
        return None, "a port is a number from 1 to 65535"
    return parts, ""


def _is_host(value: str) -> bool:
    """A name as name resolution and TLS take it (IDNA 2003), or an address."""
    try:
        value.encode("idna")
    except UnicodeError:
        return False
    return True


def server_name(value: str) -> str:
    """Of the host that a certificate is for; empty is none."""
    good = not value or (_is_host(value) and not _CONTROL.search(value) and " " not in value)
    return "" if good else "expected a host name, such as it stands in a certificate"


def ciphers(value: str) -> str:
    """OpenSSL's cipher list for TLS 1.2; empty is OpenSSL's own."""
    if not value:
        return ""
    import ssl  # few configurations need it here

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(value)
    except (ssl.SSLError, ValueError):
        return "OpenSSL knows no cipher of this list (see `openssl ciphers`); those of TLS 1.3 can't be chosen"
    return ""


def header(field: str, value: str) -> str:
    """One field of the handshake (RFC 9110 §5)."""
    if not _TOKEN.fullmatch(field):
        return "a header's name is made of letters, digits and !#$%&'*+-.^_`|~"
    if field.lower() in _OURS:
        return "the handshake sets this header itself"
    if field.lower() == "sec-websocket-protocol":
        return "use `subprotocols` for this header"
    if _BREAKS_A_HEADER.search(value):
        return "a header's value must not hold line breaks or control characters"
    return ""


def subprotocol(value: str) -> str:
    """RFC 6455 §4.1."""
    return "" if _TOKEN.fullmatch(value) else "expected a subprotocol: letters, digits and !#$%&'*+-.^_`|~"


def ip_address(value: str) -> str:
    """Empty is none."""
    try:
        if value:
            ipaddress.ip_address(value)
    except ValueError:
        return "expected an IP address of this machine"
    return ""


def sha256_pin(value: str) -> str:
    """Of a certificate, with or without colons."""
    plain = value.replace(":", "")
    return "" if re.fullmatch(r"[0-9A-Fa-f]{64}", plain) else "expected a SHA-256 in hex: 64 digits, with or without colons"


def importable(value: str) -> str:
    """Empty is none."""
    return "" if not value or _IMPORTABLE.fullmatch(value) else 'expected "package.module:function"'


def glob(value: str) -> str:
    """As `fnmatch` reads it."""
    return "" if value.strip() else "expected a glob on stream names, got an empty one"


def not_empty(value: str) -> str:
    """For frames to send."""
    return "" if value else "expected text to send, got an empty string"


def stream(value: str | Mapping[str, Any]) -> str:
    """One subscription."""
    if isinstance(value, str):
        return "" if value.strip() else "expected a stream, got an empty string"
    if not value:
        return "expected a stream, got an empty table"
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return "it is sent as JSON, which has no form for dates, times, nan and inf"
    except RecursionError:
        return "it is nested too deep"
    return ""


def json_text(value: str) -> str:
    """For heartbeats of kind "json"."""
    try:
        parse_json(value)
    except ValueError:
        return 'must be JSON text where heartbeat.kind is "json"'
    return ""


def json_object(value: str) -> str:
    """For fields to be put into a frame."""
    return "" if isinstance(_json(value), dict) else "must be a JSON object"


def json_reply(value: str) -> str:
    """For the reply to a heartbeat of kind "json"."""
    found = _json(value)
    replies = found if isinstance(found, list) and found else [found]
    good = all(isinstance(reply, dict) for reply in replies)
    return "" if good else 'must be a JSON object, or a list of them, where heartbeat.kind is "json"'


def _json(value: str) -> Any:
    try:
        return parse_json(value)
    except ValueError:
        return None


def nats_servers(value: str) -> str:
    """URLs of NATS servers, separated by commas."""
    for server in filter(None, map(str.strip, value.split(","))):
        if "${" in server:
            continue
        parts, wrong = _split(server)
        if parts is not None and parts.scheme not in ("nats", "tls", "ws", "wss"):
            wrong = "its scheme is none of nats, tls, ws, wss"
        if wrong:
            return f"{NATS_SERVERS}; {server.rpartition('@')[2]}: {wrong}"  # without a password
    return ""


def path(value: str) -> str:
    """Of a file; empty is none."""
    return "a path holds no NUL" if "\0" in value else ""


def existing_file(value: str) -> str:
    """Empty is none."""
    try:
        return "" if not value or Path(value).is_file() else "no such file"
    except OSError as error:  # a folder above it that this user may not enter, a name that is too long
        return f"can't be read: {error.strerror}"
