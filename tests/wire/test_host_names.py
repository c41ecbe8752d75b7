"""Host names of a URL: what of them stands in the Host header and in TLS (RFC 6066 §3)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.support.names import Names
from tests.support.owned import Owned, forkserver
from tests.support.proxies import Proxy, http_connect
from tests.support.rawserver import RawServer
from wsadapter.testing.certificates import Authority, ca_file, server_context

__all__ = ["forkserver"]

CLOSE = 8
LABEL = "xn--bcher-kva.test"


def test_an_international_name_is_sent_as_its_a_labels(tmp_path: Path) -> None:
    names = Names(tmp_path, {LABEL: ["127.0.0.1"]})
    with RawServer() as server, Owned() as owned:
        names.connect(owned, f"ws://b\u00fccher.test:{server.port}/")
        peer = server.accept_websocket()
        owned.up()
        assert peer.request["host"] == f"{LABEL}:{server.port}"
        peer.send_frame(CLOSE, b"")
        assert owned.down().kind == "closed_by_peer"


def test_a_proxy_is_asked_for_the_a_labels_too(tmp_path: Path) -> None:
    names = Names(tmp_path, {})
    with RawServer() as server, Proxy(http_connect, server.port) as proxy, Owned() as owned:
        names.connect(owned, f"ws://b\u00fccher.test:{server.port}/", proxy=f"http://127.0.0.1:{proxy.port}")
        peer = server.accept_websocket()
        owned.up()
        assert proxy.seen[:2] == [f"CONNECT {LABEL}:{server.port} HTTP/1.1", f"Host: {LABEL}:{server.port}"]
        peer.send_frame(CLOSE, b"")
        assert owned.down().kind == "closed_by_peer"
        peer.sock.close()


def test_a_name_that_is_none_is_a_configuration_error(tmp_path: Path) -> None:
    with Owned() as owned:
        Names(tmp_path, {}).connect(owned, "ws://b\u00fc..test/")
        reason = owned.down()
        assert (reason.kind, reason.text) == ("config", "the URL's host is not a host name")


@pytest.mark.parametrize(
    ("host", "settings", "sent"),
    [("localhost.", {}, "localhost"), ("127.0.0.1", {"server_name": "localhost."}, "localhost")],
)
def test_the_dot_of_an_absolute_name_is_not_part_of_the_name_in_tls(
    tmp_path: Path, host: str, settings: dict[str, str], sent: str
) -> None:
    authority = Authority()
    context = server_context(authority)
    names: list[str | None] = []

    def note(_sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        names.append(name)

    context.sni_callback = note
    with RawServer(context) as server, Owned() as owned:
        tls = {"ca_file": ca_file(authority), **settings}
        Names(tmp_path, {"localhost.": ["127.0.0.1"]}).connect(owned, f"wss://{host}:{server.port}/", tls=tls)
        peer = server.accept_websocket()
        owned.up()
        assert names == [sent]
        assert peer.request["host"] == f"{host}:{server.port}"
        peer.send_frame(CLOSE, b"")
        assert owned.down().kind == "closed_by_peer"


@pytest.mark.parametrize(
    ("tls", "text"),
    [
        ({"server_name": ".example"}, "tls.server_name, or the URL's host, can't be the name in a certificate"),
        ({"ciphers": "nonsense"}, "tls.ciphers: OpenSSL knows no cipher of this list"),
        ({"ciphers": "a\0b"}, "tls settings: embedded null character"),
    ],
)
def test_tls_settings_that_no_retry_can_mend_are_a_configuration_error(tls: dict[str, str], text: str, tmp_path: Path) -> None:
    with RawServer() as server, Owned() as owned:
        Names(tmp_path, {}).connect(owned, f"wss://127.0.0.1:{server.port}/", tls=tls)
        reason = owned.down()
        assert reason.kind == "config"
        assert reason.text.startswith(text)
