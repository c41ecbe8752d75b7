"""A throw-away certificate authority without any dependency, so that tests can speak wss://.

For tests only: the arithmetic is plain Python and not constant-time, and an authority's key is meant to be forgotten with
the process. The certificates are X.509 v3 (RFC 5280) as strict as OpenSSL's X509_V_FLAG_X509_STRICT asks, which Python
sets by default from 3.13 on.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import ipaddress
import os
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final, Literal

from wsadapter.testing import p256

CertificateKind = Literal["valid", "expired", "not_yet_valid", "wrong_host", "self_signed"]
"""What a test exchange shows its clients; all but the first must be refused by them."""

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")

_CURVE = "1.2.840.10045.3.1.7"
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
_COMMON_NAME = "2.5.4.3"
_SUBJECT_KEY_ID, _KEY_USAGE, _SUBJECT_ALT_NAME = "2.5.29.14", "2.5.29.15", "2.5.29.17"
_BASIC_CONSTRAINTS, _AUTHORITY_KEY_ID, _EXTENDED_KEY_USAGE = "2.5.29.19", "2.5.29.35", "2.5.29.37"
_SERVER_AUTH, _CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
_CLOCK_SKEW = timedelta(hours=1)


class Authority:
    """A certificate authority that lives in memory. Takes some 10 ms to make; not for anything but tests.

    `name` is its common name. Thread-safe: it never changes.
    """

    def __init__(self, name: str = "wsadapter throw-away test CA") -> None:
        now = datetime.now(UTC)
        self._key = p256.new_private_key()
        self._name = name
        self._key_id = _key_id(self._key)
        extensions = [
            _extension(_BASIC_CONSTRAINTS, _sequence(_boolean(True)), critical=True),
            _extension(_KEY_USAGE, _bits(0b0000_0110, unused=1), critical=True),  # keyCertSign, cRLSign
            _extension(_SUBJECT_KEY_ID, _octets(self._key_id)),
        ]
        validity = now - _CLOCK_SKEW, now + timedelta(days=3650)
        self.pem: str = _pem("CERTIFICATE", _certificate(self._key, name, self._key, name, validity, extensions))
        """The authority's own certificate, to be trusted by clients."""

    def issue(
        self,
        hosts: Sequence[str] = LOCAL_HOSTS,
        *,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        self_signed: bool = False,
    ) -> tuple[str, str]:
        """A certificate for `hosts` (names and addresses) and its private key, both PEM; for servers, and for clients too.

        Valid from an hour ago for 30 days unless said otherwise. `self_signed` gives one that this authority has not
        signed. Raises `ValueError` without a host.
        """
        if not hosts:
            raise ValueError("a certificate needs at least one host")
        now = datetime.now(UTC)
        validity = not_before or now - _CLOCK_SKEW, not_after or now + timedelta(days=30)
        key = p256.new_private_key()
        signer, issuer, issuer_key_id = (key, hosts[0], _key_id(key)) if self_signed else (self._key, self._name, self._key_id)
        extensions = [
            _extension(_BASIC_CONSTRAINTS, _sequence(), critical=True),
            _extension(_KEY_USAGE, _bits(0b1000_0000, unused=7), critical=True),  # digitalSignature
            _extension(_EXTENDED_KEY_USAGE, _sequence(_oid(_SERVER_AUTH), _oid(_CLIENT_AUTH))),
            _extension(_SUBJECT_ALT_NAME, _sequence(*(_general_name(host) for host in hosts))),
            _extension(_SUBJECT_KEY_ID, _octets(_key_id(key))),
            _extension(_AUTHORITY_KEY_ID, _sequence(_tlv(0x80, issuer_key_id))),
        ]
        certificate = _certificate(key, hosts[0], signer, issuer, validity, extensions)
        return _pem("CERTIFICATE", certificate), _pem("EC PRIVATE KEY", _private_key(key))

    def issue_kind(self, kind: CertificateKind) -> tuple[str, str]:
        """A certificate for this machine's loopback names with the one defect that `kind` names."""
        now = datetime.now(UTC)
        match kind:
            case "valid":
                return self.issue()
            case "expired":
                return self.issue(not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
            case "not_yet_valid":
                return self.issue(not_before=now + timedelta(days=1), not_after=now + timedelta(days=2))
            case "wrong_host":
                return self.issue(["elsewhere.example"])
            case "self_signed":
                return self.issue(self_signed=True)
        raise ValueError(f"unknown kind of certificate {kind!r}; known: valid, expired, not_yet_valid, wrong_host, self_signed")

    @classmethod
    def shared(cls, folder: Path) -> Authority:
        """The authority kept in `folder` (`ca.pem`, `ca.key`), made there first if need be: for several processes at once.

        Whoever makes it first wins, so that all who ask get the same. Raises `OSError` where the folder can't be used.
        """
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "ca.key"
        if not kept.exists():
            authority = cls()
            with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".ca-") as draft:  # 0600
                draft.write(f"{authority._key:064x}\n{authority.pem}")
                draft.flush()
                _publish(draft.name, kept)
        key, _, pem = kept.read_text().partition("\n")
        authority = cls.__new__(cls)
        authority._key, authority.pem = int(key, 16), pem
        authority._name, authority._key_id = "wsadapter throw-away test CA", _key_id(int(key, 16))
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".ca-", delete=False) as public:
            public.write(pem)
        Path(public.name).replace(folder / "ca.pem")
        return authority


def _publish(draft: str, final: Path) -> None:
    try:
        os.link(draft, final)
    except FileExistsError:
        return  # another process was first: its authority is the one


@cache
def process_authority() -> Authority:
    """The authority that this process's exchanges share."""
    return Authority()


@cache
def ca_file(authority: Authority) -> str:
    """Path of a file with the authority's certificate, removed when the process exits."""
    with tempfile.NamedTemporaryFile("w", prefix="wsadapter-ca-", suffix=".pem", delete=False) as file:
        file.write(authority.pem)
    atexit.register(_remove_own, file.name, os.getpid())
    return file.name


def _remove_own(path: str, owner: int) -> None:
    if os.getpid() == owner:  # not a forked copy of it
        Path(path).unlink(missing_ok=True)


def server_context(authority: Authority, kind: CertificateKind = "valid") -> ssl.SSLContext:
    """A server-side TLS context with a certificate of that kind. The key is on disk for a moment, for our eyes only."""
    certificate, key = authority.issue_kind(kind)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # load_cert_chain takes only paths
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _certificate(
    key: int, subject: str, signer: int, issuer: str, validity: tuple[datetime, datetime], extensions: list[bytes]
) -> bytes:
    algorithm = _sequence(_oid(_ECDSA_WITH_SHA256))
    body = _sequence(
        _tlv(0xA0, _integer(2)),  # version 3
        _integer(secrets.randbits(126) + 1),
        algorithm,
        _name(issuer),
        _sequence(*(_time(moment) for moment in validity)),
        _name(subject),
        _sequence(_sequence(_oid(_EC_PUBLIC_KEY), _oid(_CURVE)), _bit_string(_public_bytes(key))),
        _tlv(0xA3, _sequence(*extensions)),
    )
    r, s = p256.sign(signer, body)
    return _sequence(body, algorithm, _bit_string(_sequence(_integer(r), _integer(s))))


def _private_key(key: int) -> bytes:
    """RFC 5915."""
    return _sequence(
        _integer(1), _octets(key.to_bytes(32)), _tlv(0xA0, _oid(_CURVE)), _tlv(0xA1, _bit_string(_public_bytes(key)))
    )


@cache
def _public_bytes(key: int) -> bytes:
    x, y = p256.public_point(key)
    return b"\x04" + x.to_bytes(32) + y.to_bytes(32)


def _key_id(key: int) -> bytes:
    """RFC 5280 §4.2.1.2, method 1."""
    return hashlib.sha1(_public_bytes(key), usedforsecurity=False).digest()


def _general_name(host: str) -> bytes:
    try:
        return _tlv(0x87, ipaddress.ip_address(host).packed)
    except ValueError:
        return _tlv(0x82, host.encode("idna"))


def _name(common_name: str) -> bytes:
    attribute = _sequence(_oid(_COMMON_NAME), _tlv(0x0C, common_name.encode()))
    return _sequence(_tlv(0x31, attribute))


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    return _sequence(_oid(oid), _boolean(True) if critical else b"", _octets(value))


def _time(moment: datetime) -> bytes:
    """UTCTime up to 2049 (RFC 5280 §4.1.2.5)."""
    utc = moment.astimezone(UTC)
    if 1950 <= utc.year < 2050:
        return _tlv(0x17, utc.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(0x18, utc.strftime("%Y%m%d%H%M%SZ").encode())


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tlv(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1))  # one bit more, for the sign


def _boolean(value: bool) -> bytes:
    return _tlv(0x01, b"\xff" if value else b"\x00")


def _octets(content: bytes) -> bytes:
    return _tlv(0x04, content)


def _bit_string(content: bytes) -> bytes:
    return _tlv(0x03, b"\x00" + content)


def _bits(value: int, *, unused: int) -> bytes:
    return _tlv(0x03, bytes((unused, value)))


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(part) for part in dotted.split("."))
    return _tlv(0x06, b"".join(_base128(number) for number in (40 * first + second, *rest)))


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | (number & 0x7F))
    return bytes(reversed(digits))


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
