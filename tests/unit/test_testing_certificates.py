"""The throw-away authority's certificates, judged by OpenSSL."""

from __future__ import annotations

import ssl
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wsadapter.cli import demo
from wsadapter.contract.errors import UsageError
from wsadapter.testing import Authority, Exchange
from wsadapter.testing.certificates import server_context

pytestmark = pytest.mark.version


def shake_hands(server: ssl.SSLContext, ca_pem: str, host: str = "127.0.0.1") -> dict[str, object]:
    """A TLS handshake in memory, with a client as strict as it can be; gives the server's certificate."""
    context = ssl.create_default_context(cadata=ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    peer = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, peer):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(client.getpeercert() or {})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_strict_client_accepts_it_for_every_loopback_name(host: str) -> None:
    authority = Authority()
    certificate = shake_hands(server_context(authority), authority.pem, host)
    assert certificate["subjectAltName"] == (
        ("DNS", "localhost"), ("IP Address", "127.0.0.1"), ("IP Address", "0:0:0:0:0:0:0:1"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("expired", "has expired"),
        ("not_yet_valid", "not yet valid"),
        ("wrong_host", "not valid for '127.0.0.1'"),
        ("self_signed", "self-signed"),
    ],
)
def test_each_defect_is_refused_for_what_it_is(kind: str, text: str) -> None:
    authority = Authority()
    with pytest.raises(ssl.SSLCertVerificationError, match=text):
        shake_hands(server_context(authority, kind), authority.pem)  # type: ignore[arg-type]


def test_another_authority_is_not_trusted() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(Authority()), Authority("another").pem)


def test_hosts_and_times_are_those_asked_for(tmp_path: Path) -> None:
    authority = Authority()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    certificate, key = authority.issue(["feed.example"], not_after=until)
    (tmp_path / "both.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    shown = shake_hands(context, authority.pem, "feed.example")
    assert shown["subjectAltName"] == (("DNS", "feed.example"),)
    assert ssl.cert_time_to_seconds(str(shown["notAfter"])) == until.timestamp()
    with pytest.raises(ValueError, match="at least one host"):
        authority.issue([])


def test_many_authorities_have_well_formed_certificates() -> None:
    # keys, serials and signatures are random: leading zeros and sign bits must not depend on luck
    for _ in range(30):
        authority = Authority()
        shake_hands(server_context(authority), authority.pem)


def test_an_authority_and_a_certificate_take_a_moment() -> None:
    began = time.process_time()
    Authority().issue()
    assert time.process_time() - began < 0.2


def test_processes_that_name_one_folder_share_an_authority(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    with ThreadPoolExecutor(8) as pool:
        authorities = list(pool.map(lambda _: Authority.shared(folder), range(8)))
    assert {authority.pem for authority in authorities} == {(folder / "ca.pem").read_text("utf-8")}
    for authority in authorities:
        shake_hands(server_context(authority), (folder / "ca.pem").read_text("utf-8"))
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["ca.key", "ca.pem"]


def test_without_the_extra_only_tls_is_missing_and_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    Exchange()
    with pytest.raises(UsageError, match=r"pip install 'wsadapter\[testing\]'"):
        Authority()


@pytest.mark.slow
def test_the_demonstration_does_without_tls_where_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    with demo.LocalExchanges(tmp_path) as exchanges:
        assert all(url.startswith("ws://") for url in exchanges.urls.values())
        assert "ca_file" not in demo.configuration(exchanges.urls, exchanges.ca_file, "demo")
    assert "ca_file" in demo.configuration({"bybit": "wss://127.0.0.1:1/"}, tmp_path / "ca.pem", "demo")
