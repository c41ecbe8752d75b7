"""How an owner connects, and what it says where it can't: refusals, TLS, proxies, deadlines."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from time import time

import pytest

from tests.support.owned import Owned, forkserver
from tests.support.rawserver import RawPeer, RawServer, server_frame
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.commands import PROBE, READY
from wsadapter.contract.reasons import Reason
from wsadapter.testing.certificates import Authority, CertificateKind, server_context

__all__ = ["forkserver"]

TEXT, CLOSE = 1, 8


def refused(response: bytes, **settings: object) -> Reason:
    """Why an owner does not connect to a server that answers so."""
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, **settings))  # type: ignore[arg-type]
        peer = server.accept()
        request = peer.read_request()
        digest = hashlib.sha1((request["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        with suppress(ConnectionError):  # it need not read all of it
            peer.send(response.replace(b"ACCEPT", base64.b64encode(digest)))
        reason = owned.down()
        assert peer.at_end()
        assert "secret" not in reason.text
        return reason


UPGRADE = b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n"


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (UPGRADE.replace(b"ACCEPT", b"bm9wZQ==") + b"\r\n", "wrong Sec-WebSocket-Accept"),
        (UPGRADE.replace(b"Sec-WebSocket-Accept", b"X") + b"\r\n", "no Sec-WebSocket-Accept"),
        (UPGRADE.replace(b"Upgrade: websocket\r\n", b"") + b"\r\n", "no `Upgrade: websocket`"),
        (UPGRADE.replace(b"Connection: Upgrade\r\n", b"") + b"\r\n", "no `Connection: Upgrade`"),
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", "not an HTTP/1.1 response"),
        (UPGRADE + b"Sec-WebSocket-Protocol: other\r\n\r\n", "a subprotocol that was not offered: other"),
        (UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "an extension that was not offered"),
        (UPGRADE + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n", "more than 64 KiB of response headers"),
        (UPGRADE + b"no colon\r\n\r\n", "malformed header"),
        (b"\x16\x03\x01\r\n\r\n", "not an HTTP/1.1 response"),
        (UPGRADE + b"X: y\r\n" * 200_000 + b"\r\n", "more than 64 KiB of response headers"),
    ],
)
def test_row_61_a_101_that_is_not_quite_one_is_rejected_and_the_text_says_why(response: bytes, text: str) -> None:
    reason = refused(response)
    assert reason.kind == "handshake_rejected"
    assert text in reason.text


def test_a_refusal_gives_status_and_body_and_a_huge_body_is_cut() -> None:
    reason = refused(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\nno key and more")
    assert (reason.kind, reason.status, reason.body, reason.retry_after) == ("handshake_rejected", 401, "no key", None)
    reason = refused(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99999999999\r\n\r\n" + b"z" * 100_000)
    assert (reason.status, reason.body) == (403, "z" * 4096)


@pytest.mark.parametrize("value", ["17", "date"])
def test_retry_after_is_told_in_seconds(value: str) -> None:
    after = formatdate(time() + 17, usegmt=True) if value == "date" else value
    reason = refused(f"HTTP/1.1 429 Slow down\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n".encode())
    assert reason.status == 429
    assert reason.retry_after == pytest.approx(17, abs=3)


@pytest.mark.parametrize(("value", "wait"), [("1.5", 1.5), ("unix", 17), ("9" * 400, 365 * 86400), ("soon", None)])
def test_an_odd_retry_after_is_told_in_seconds_too(value: str, wait: float | None) -> None:
    after = str(int(time() + 17)) if value == "unix" else value
    reason = refused(f"HTTP/1.1 503 Later\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n".encode())
    assert (reason.status, reason.kind) == (503, "handshake_rejected")
    assert reason.retry_after == (wait if wait is None else pytest.approx(wait, abs=3))


def test_a_refusal_of_http_1_0_has_its_status_body_and_retry_after() -> None:
    reason = refused(b"HTTP/1.0 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nslow")
    assert (reason.kind, reason.status, reason.body, reason.retry_after) == ("handshake_rejected", 429, "slow", 30)


def test_a_chunked_refusal_is_decoded() -> None:
    reason = refused(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n4\r\n key\r\n0\r\n\r\n")
    assert (reason.status, reason.body) == (401, "no key")


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (UPGRADE + b"Set-Cookie: foo@bar=1; Domain=h\r\nSet-Cookie: x/y=1\r\nSec-WebSocket-Protocol: v1\r\n\r\n", 101),
        (b"HTTP/1.1 403 No\r\nContent-Length: " + b"9" * 5000 + b"\r\nSet-Cookie: foo@bar=1\r\n\r\n", 403),
        (b"HTTP/1.1 307 Moved\r\nLocation: \xff\r\nSet-Cookie: foo@bar=1\r\nContent-Length: 0\r\n\r\n", 307),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + UPGRADE + b"\r\n", 100),
    ],
)
def test_odd_headers_are_no_fault_of_ours(response: bytes, status: int) -> None:
    reason = refused(response)
    assert (reason.kind, reason.status) == ("handshake_rejected", status)
    assert "internal error" not in reason.text


@pytest.mark.parametrize("before", [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 16])
def test_interim_responses_before_the_101_are_read_over(before: bytes) -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url))
        peer = server.accept()
        peer.read_request()
        peer.send(before + peer.valid_response("Set-Cookie: foo@bar=1") + server_frame(TEXT, b"behind"))
        assert owned.up()["headers"]["set-cookie"] == "foo@bar=1"
        assert owned.message() == b"behind"


def test_row_61_a_redirect_is_not_followed_and_no_secret_is_shown() -> None:
    reason = refused(b"HTTP/1.1 302 Found\r\nLocation: wss://user:pw@other.example/x?token=1\r\nContent-Length: 0\r\n\r\n")
    assert (reason.status, reason.text) == (302, "a redirect is not followed; it points to wss://other.example/x")


def test_row_61_a_redirect_to_another_host_carries_no_credentials_there() -> None:
    with RawServer() as other, RawServer() as server, Owned() as owned:
        url = server.url.replace("ws://", "ws://joe:password@")
        owned.assign(Endpoint("feed", url=url, headers={"X-Key": "key", "Cookie": "session=1"}))
        peer = server.accept()
        peer.read_request()
        peer.send(f"HTTP/1.1 307 Moved\r\nLocation: {other.url}\r\nContent-Length: 0\r\n\r\n".encode())
        reason = owned.down()
        assert (reason.kind, reason.status) == ("handshake_rejected", 307)
        assert other.nobody_came()


def test_a_server_that_ends_the_connection_in_the_handshake_is_a_failed_connect() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url))
        server.accept().sock.close()
        assert owned.down().kind == "connect_failed"


def test_the_request_carries_what_the_user_set_and_nothing_else() -> None:
    with RawServer() as server, Owned() as owned:
        url = server.url.replace("ws://", "ws://joe:p%40ss@")
        owned.assign(Endpoint("feed", url=url, headers={"X-Key": "1", "Origin": "https://me"}, subprotocols=("v1", "v2")))
        peer = server.accept()
        request = peer.read_request()
        assert peer.request_line == "GET /feed?secret=1 HTTP/1.1"
        del request["sec-websocket-key"]
        assert request == {
            "host": f"127.0.0.1:{server.port}",
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-protocol": "v1, v2",
            "x-key": "1",
            "origin": "https://me",
            "authorization": "Basic " + base64.b64encode(b"joe:p@ss").decode(),
        }


def test_the_chosen_subprotocol_is_reported() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, subprotocols=("v1", "v2")))
        peer = server.accept()
        peer.read_request()
        peer.send(peer.valid_response("Sec-WebSocket-Protocol: v2"))
        assert owned.up()["subprotocol"] == "v2"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"proxy": "ftp://127.0.0.1:1"}, "the proxy must be"),
        ({"decode": "nowhere_to_be_found:hook"}, "there is no module 'nowhere_to_be_found'"),
        ({"decode": "json:nothing"}, "has no 'nothing'"),
        ({"decode": "json:__name__"}, "is not a function"),
        ({"decode": "os:replace"}, "can't be called: it takes (src, dst, "),
    ],
)
def test_settings_that_no_retry_can_mend_are_told_as_such(settings: dict[str, object], text: str) -> None:
    assert_not_tried(settings, text)


def assert_not_tried(settings: dict[str, object], text: str) -> None:
    """Fails unless it is a matter of the configuration."""
    with Owned() as owned:
        owned.assign(Endpoint("feed", url="ws://127.0.0.1:1/", **settings))  # type: ignore[arg-type]
        reason = owned.down()
        assert reason.kind == "config"
        assert text in reason.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"headers": {"X": "a\r\nEvil: 1"}}, "the header 'X'"),
        ({"headers": {"X\r\nEvil": "1"}}, "holds a line break"),
        ({"headers": {"Upgrade": "h2c"}}, "can't be set"),
        ({"subprotocols": ("a\r\nb",)}, "a subprotocol"),
    ],
)
def test_row_61_settings_that_would_put_lines_of_their_own_into_the_request_are_refused(
    settings: dict[str, object], text: str
) -> None:
    assert_not_tried(settings, text)


def test_a_socks_proxy_without_the_package_for_it_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python_socks.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Owned("spawn") as owned:
        owned.assign(Endpoint("feed", url="ws://127.0.0.1:1/", proxy="socks5://127.0.0.1:1"))
        reason = owned.down()
        assert reason.kind == "config"
        assert "pip install wsadapter[socks]" in reason.text


def test_an_ipv6_address_is_reached_and_named_in_brackets() -> None:
    try:
        server = RawServer(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url))
        peer = server.accept_websocket(behind=server_frame(TEXT, b"six"))
        assert owned.up()["peer"] == f"[::1]:{server.port}"
        assert peer.request["host"] == f"[::1]:{server.port}"
        assert owned.message() == b"six"


def test_nobody_listening_is_a_failed_connect_that_names_host_and_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Owned() as owned:
        owned.assign(Endpoint("feed", url=f"ws://127.0.0.1:{port}/"))
        reason = owned.down()
        assert (reason.kind, reason.text) == ("connect_failed", f"connecting to 127.0.0.1:{port}: Connection refused")


def test_a_name_that_does_not_exist_is_a_failed_connect() -> None:
    with Owned() as owned:
        owned.assign(Endpoint("feed", url="ws://no-such-host.invalid/"))
        reason = owned.down()
        assert reason.kind == "connect_failed"
        assert "resolving no-such-host.invalid" in reason.text


def test_a_handshake_that_is_never_answered_ends_at_its_deadline_and_probes_are_answered_meanwhile() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, timeouts={"handshake": 0.5}))
        server.accept().read_request()
        owned.tell(PROBE, 1)
        assert owned.answer().json() == {"rtt": None, "received": 0, "stage": "handshake"}
        reason = owned.down()
        assert (reason.kind, reason.text) == ("connect_failed", "handshake took longer than 0.5 s")


def test_a_resolver_that_hangs_does_not_keep_the_owner(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import socket, threading\n"
        "socket.getaddrinfo = lambda *_: threading.Event().wait()\n"
        "def hook(data, *, binary, stream): return data\n"
    )
    with Owned() as owned:
        endpoint = Endpoint("feed", url="ws://example.invalid/", decode="stuck:hook", timeouts={"resolve": 0.2})
        owned.assign(endpoint, sys_path=(str(tmp_path),))
        reason = owned.down()
        assert (reason.kind, reason.text) == ("connect_failed", "resolving took longer than 0.2 s")


def test_a_stop_while_connecting_ends_it_at_once() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url))
        server.accept().read_request()
        owned.stop()
        reason = owned.down()
        assert (reason.kind, reason.text) == ("stopped", "while connecting")


@pytest.mark.parametrize("how", ["stop", "hang_up"])
def test_an_owner_without_an_endpoint_leaves_with_0(how: str) -> None:
    with Owned() as owned:
        assert owned.answer().kind == READY
        getattr(owned, how)()
        assert owned.exit_code() == 0


def test_a_source_address_is_used() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, bind="127.0.0.2"))
        peer = server.accept_websocket()
        assert peer.sock.getpeername()[0] == "127.0.0.2"


def secure(tmp_path: Path, kind: CertificateKind = "valid") -> tuple[ssl.SSLContext, str]:
    """A server's context and the file with the authority that signed its certificate."""
    authority = Authority()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(authority.pem)
    return server_context(authority, kind), str(ca_file)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_tls_carries_messages_one_record_each_or_many_in_one(tmp_path: Path, method: str) -> None:
    context, ca_file = secure(tmp_path)
    with RawServer(context) as server, Owned(method) as owned:
        owned.assign(Endpoint("feed", url=server.url, tls={"ca_file": ca_file}))
        peer = server.accept_websocket(behind=server_frame(TEXT, b"first"))
        owned.up()
        assert owned.message() == b"first"
        sent = [b"%d" % i * 50 for i in range(2000)]
        writer = threading.Thread(target=lambda: [peer.send_frame(TEXT, message) for message in sent])
        writer.start()
        assert owned.messages(2000) == sent
        writer.join()
        peer.send_frame(TEXT, b"x" * 3_000_000)
        assert owned.message() == b"x" * 3_000_000
        owned.stop()
        assert peer.read_close() == (1000, "")
        peer.send_frame(CLOSE, b"\x03\xe8")
        assert owned.down().kind == "stopped"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("self_signed", "self-signed certificate"),
        ("expired", "certificate has expired"),
        ("wrong_host", "IP address mismatch"),
        ("valid", "unable to get local issuer certificate"),
    ],
)
def test_row_60_a_certificate_that_can_not_be_trusted_is_refused(tmp_path: Path, kind: CertificateKind, text: str) -> None:
    context, ca_file = secure(tmp_path, kind)
    tls = {} if kind == "valid" else {"ca_file": ca_file}
    with RawServer(context) as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url, tls=tls))
        with pytest.raises(ssl.SSLError):
            server.accept()
        reason = owned.down()
        assert reason.kind == "connect_failed"
        assert reason.text.startswith("TLS: ")
        assert text in reason.text
        assert reason.text.endswith("(endpoint feed)")


def certificate_sha256(server: RawServer, context: ssl.SSLContext) -> str:
    """Of the certificate that the server shows."""
    certificates: list[bytes | None] = []

    def look() -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", server.port)) as sock, client.wrap_socket(sock) as tls:
            certificates.append(tls.getpeercert(binary_form=True))

    visitor = threading.Thread(target=look)
    visitor.start()
    server.accept()
    visitor.join()
    return hashlib.sha256(certificates[0] or b"").hexdigest()


def test_row_60_a_pinned_certificate_is_accepted_and_another_is_not(tmp_path: Path) -> None:
    context, ca_file = secure(tmp_path)
    with RawServer(context) as server:
        pin = certificate_sha256(server, context)
        with Owned() as owned:
            owned.assign(Endpoint("feed", url=server.url, tls={"ca_file": ca_file, "pin_sha256": (pin.upper(),)}))
            server.accept_websocket()
            owned.up()
        with Owned() as owned:
            owned.assign(Endpoint("feed", url=server.url, tls={"ca_file": ca_file, "pin_sha256": ("00" * 32,)}))
            server.accept()
            reason = owned.down()
            assert reason.kind == "connect_failed"
            assert pin in reason.text


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with RawServer() as server, Owned() as owned:
        url = server.url.replace("ws://", "wss://")
        owned.assign(Endpoint("feed", url=url, tls={"ca_file": str(tmp_path / "none.pem")}))
        reason = owned.down()
        assert reason.kind == "config"
        assert "No such file" in reason.text


def test_a_server_that_speaks_no_tls_is_told_apart() -> None:
    with RawServer() as server, Owned() as owned:
        owned.assign(Endpoint("feed", url=server.url.replace("ws://", "wss://")))
        peer: RawPeer = server.accept()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        reason = owned.down()
        assert reason.kind == "connect_failed"
        assert reason.text == "TLS: wrong version number (endpoint feed)"
