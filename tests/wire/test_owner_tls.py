"""TLS as an endpoint's settings ask for it: client certificates, versions, names."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawServer, TlsByHand, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.reasons import Reason
from wsadapter.testing.certificates import Authority, ca_file, server_context

pytestmark = pytest.mark.version

__all__ = ["forkserver"]


def accepted(server: RawServer, **tls: object) -> None:
    """Fails unless an owner with these settings gets a connection."""
    with Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, tls=tls))  # type: ignore[arg-type]
        server.accept_websocket()
        owned.up()


def refused(server: RawServer, **tls: object) -> Reason:
    """Why an owner with these settings gets none."""
    with Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, tls=tls))  # type: ignore[arg-type]
        with suppress(ssl.SSLError, ConnectionError):  # one of the two sides finds it out first
            server.accept()
        return owned.down()


BAD_RECORDS = {
    "garbage": (b"\x17\x03\x03\x00\x20" + b"g" * 32, "BAD_RECORD_MAC"),
    "plain alert": (b"\x15\x03\x03\x00\x02\x02\x50", "BAD_RECORD_TYPE"),
    "too long": (b"\x17\x03\x03\xff\xff" + b"x" * 100, "TOO_LONG"),
}


@pytest.mark.parametrize("bad", BAD_RECORDS)
@pytest.mark.parametrize("close", [False, True], ids=["messages", "messages and a close frame"])
def test_what_came_before_a_record_that_cannot_be_read_is_delivered(bad: str, close: bool) -> None:
    authority, (record, word) = Authority(), BAD_RECORDS[bad]
    good = [b"%d" % n for n in range(5)]
    with RawServer(server_context(authority), by_hand=True) as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, tls={"ca_file": ca_file(authority)}))
        peer = server.accept_websocket()
        owned.up()
        assert isinstance(peer.sock, TlsByHand)
        frames = [server_frame(1, message) for message in good] + [server_frame(8, b"\x0f\xa1bye")] * close
        peer.sock.raw.sendall(b"".join(map(peer.sock.seal, frames)) + record)
        assert owned.messages(5) == good
        peer.sock.close()
        reason = owned.down()
    if close:
        assert (reason.kind, reason.code, reason.text) == ("closed_by_peer", 4001, "bye")
    else:
        assert (reason.kind, reason.code) == ("closed_by_peer", 1006)
        assert word in reason.text.upper().replace(" ", "_")


def test_the_response_and_what_stands_behind_it_come_before_a_record_that_cannot_be_read() -> None:
    authority = Authority()
    with RawServer(server_context(authority), by_hand=True) as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, tls={"ca_file": ca_file(authority)}))
        peer = server.accept()
        peer.read_request()
        assert isinstance(peer.sock, TlsByHand)
        peer.sock.raw.sendall(peer.sock.seal(peer.valid_response() + server_frame(1, b"good")) + BAD_RECORDS["garbage"][0])
        owned.up()
        assert owned.message() == b"good"
        assert owned.down().code == 1006


def certificate_files(authority: Authority, folder: Path) -> tuple[str, str]:
    """A certificate and its key, in files of their own."""
    files = folder / "client.pem", folder / "client.key"
    for file, text in zip(files, authority.issue(["client.example"]), strict=True):
        file.write_text(text)
    return str(files[0]), str(files[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_for_a_certificate_gets_it_and_one_without_is_refused_with_the_reason(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    authority = Authority()
    context = server_context(authority)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    cert_file, key_file = certificate_files(authority, tmp_path)
    both = tmp_path / "both.pem"
    both.write_text(Path(cert_file).read_text("utf-8") + Path(key_file).read_text("utf-8"))
    trusted = ca_file(authority)
    with RawServer(context) as server:
        accepted(server, ca_file=trusted, cert_file=cert_file, key_file=key_file)
        accepted(server, ca_file=trusted, cert_file=str(both))
        reason = refused(server, ca_file=trusted)
        assert reason.kind == "connect_failed"
        # With TLS 1.3 the alert comes after the handshake, and a reset by the server may be faster than it.
        assert reason.text.startswith("TLS: ") or (version == ssl.TLSVersion.TLSv1_3 and "reset" in reason.text), reason


def test_a_client_certificate_that_is_not_one_is_a_configuration_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate\n")
    with RawServer(server_context(Authority())) as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, tls={"cert_file": str(broken)}))
        server._listener.accept()[0].close()
        assert owned.down().kind == "config"


def test_row_60_a_protocol_older_than_the_lowest_allowed_is_refused() -> None:
    authority = Authority()
    context = server_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with RawServer(context) as server:
        accepted(server, ca_file=ca_file(authority), min_version="1.2")
        reason = refused(server, ca_file=ca_file(authority), min_version="1.3")
        assert reason.kind == "connect_failed"
        assert "protocol version" in reason.text


def test_the_server_name_is_sent_and_checked_instead_of_the_urls_host(tmp_path: Path) -> None:
    authority = Authority()
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = tmp_path / "server.pem"
    chain.write_text("".join(authority.issue(["feed.example"])))
    context.load_cert_chain(chain)
    context.sni_callback = lambda _tls, name, _context: names.append(name)
    with RawServer(context) as server:
        accepted(server, ca_file=ca_file(authority), server_name="feed.example")
        assert names == ["feed.example"]
        assert "mismatch" in refused(server, ca_file=ca_file(authority)).text
        assert "mismatch" in refused(server, ca_file=ca_file(authority), server_name="other.example").text


def test_without_verification_a_pin_still_has_to_fit() -> None:
    with RawServer(server_context(Authority())) as server:
        accepted(server, verify=False)
        reason = refused(server, verify=False, pin_sha256=("00" * 32,))
        assert reason.kind == "connect_failed"
