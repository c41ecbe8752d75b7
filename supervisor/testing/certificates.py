"""A throw-away certificate authority, so that tests can speak wss://. It needs the extra `testing` (trustme).

For tests only: an authority's key is meant to be forgotten with the process.
"""

from __future__ import annotations

import atexit
import os
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from wsadapter.contract.errors import UsageError

if TYPE_CHECKING:
    import trustme

CertificateKind = Literal["valid", "expired", "not_yet_valid", "wrong_host", "self_signed"]
"""What a test exchange shows its clients; all but the first must be refused by them."""

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
_NAME: Final = "wsadapter throw-away test CA"
_CLOCK_SKEW = timedelta(hours=1)


def _trustme() -> Any:
    """The module, imported here because a test exchange without TLS does without the extra. Raises `UsageError` where it is
    missing."""
    try:
        import trustme
    except ImportError as error:
        text = f"certificates for tests need the extra `testing`: pip install 'wsadapter[testing]' ({error})"
        raise UsageError(text) from error
    return trustme


class Authority:
    """A certificate authority in memory, for tests only. Thread-safe: it never changes."""

    def __init__(self, name: str = _NAME, *, ca: trustme.CA | None = None) -> None:
        """`name` is shown as the organization of the issuer. `ca`: one that exists."""
        self._ca = ca or _trustme().CA(organization_name=name)
        self.pem: str = self._ca.cert_pem.bytes().decode()
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

        Valid from an hour ago for 30 days by default. `self_signed` returns the certificate of another authority,
        which has signed itself, is for no host, and is valid as its maker chose. Raises `ValueError` without a host.
        """
        if not hosts:
            raise ValueError("a certificate needs at least one host")
        if self_signed:
            stranger = _trustme().CA(organization_name=hosts[0])
            return stranger.cert_pem.bytes().decode(), stranger.private_key_pem.bytes().decode()
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            *hosts, not_before=not_before or now - _CLOCK_SKEW, not_after=not_after or now + timedelta(days=30)
        )
        return leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()

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

        The first process creates it, and all others read the same one. Raises `OSError` if the folder can't be used.
        """
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "ca.key"
        if not kept.exists():
            ca = _trustme().CA(organization_name=_NAME)
            with tempfile.NamedTemporaryFile("wb", dir=folder, prefix=".ca-") as draft:  # 0600
                draft.write(ca.private_key_pem.bytes() + ca.cert_pem.bytes())
                draft.flush()
                _publish(draft.name, kept)
        text = kept.read_bytes()  # each of the two is found in it by its own marks
        authority = cls(ca=_trustme().CA.from_pem(text, text))
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".ca-", delete=False) as public:
            public.write(authority.pem)
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
