"""Makes TLS contexts of settings, and texts of TLS errors."""

from __future__ import annotations

import hashlib
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Final

from wsadapter.contract.endpoint import Tls

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class BadTlsSettings(ValueError):
    """A file of the settings is missing or invalid, so no retry can help."""


class PinMismatch(ssl.SSLError):
    """The server's certificate is not in `tls.pin_sha256`."""


def default_context() -> ssl.SSLContext:
    """The context with the system's certificates. To build it costs 45 ms and 1 MiB, so the fork server builds it once; an
    owner builds a new one only if the certificates have changed since then."""
    return _context_of(_trusted())


def _trusted() -> tuple[object, ...]:
    """A value that changes if the system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR, are replaced."""
    paths = ssl.get_default_verify_paths()
    return tuple((path, _state_of(path)) for path in (paths.cafile, paths.capath) if path)


def _state_of(path: str) -> tuple[int, ...]:
    try:
        about = Path(path).stat()
    except OSError:  # the file does not exist any more
        return ()
    return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=1)
def _context_of(_trusted_now: tuple[object, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def make_context(settings: Tls) -> ssl.SSLContext:
    """The context for these settings. Raises `BadTlsSettings`."""
    if settings == Tls(pin_sha256=settings.pin_sha256, server_name=settings.server_name):
        return default_context()
    try:
        return _build(settings)
    except BadTlsSettings:
        raise
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise BadTlsSettings(f"tls settings: {_file_error(error)}") from error


def _build(settings: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    context.minimum_version = _VERSIONS[settings.min_version]
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert_file:
        # The password is never None: OpenSSL would ask for it on the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file or None, settings.key_password)
    if settings.ciphers:
        try:
            context.set_ciphers(settings.ciphers)
        except ssl.SSLError as error:
            text = "tls.ciphers: OpenSSL knows no cipher of this list; those of TLS 1.3 can't be chosen"
            raise BadTlsSettings(text) from error
    return context


def _file_error(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return describe_tls_error(error)
    return str(error)


def name_in_certificates(host: str) -> str:
    """The host name to send (SNI) and to check: without the dot at the end of an absolute name (RFC 6066 §3)."""
    return host.removesuffix(".")


def check_pin(tls: ssl.SSLObject, settings: Tls) -> None:
    """Raises `PinMismatch` if pins are set and the server's certificate is none of them."""
    if not settings.pin_sha256:
        return
    certificate = tls.getpeercert(binary_form=True) or b""
    found = hashlib.sha256(certificate).hexdigest()
    if found not in {pin.replace(":", "").lower() for pin in settings.pin_sha256}:
        raise PinMismatch(f"the certificate's SHA-256 is {found}, which is not pinned")


def describe_tls_error(error: ssl.SSLError) -> str:
    """The error as one phrase, without OpenSSL's file and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, PinMismatch):
        return str(error.args[0])
    reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()  # errors that CPython itself raises have none
    return reason or str(error.args[-1])
