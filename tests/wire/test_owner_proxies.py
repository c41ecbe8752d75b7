"""An owner behind a proxy: HTTP CONNECT, SOCKS5, the environment's, and proxies that don't do what they should."""

from __future__ import annotations

import base64
import ssl

import pytest

from tests.support.owned import Owned, forkserver
from tests.support.proxies import Proxy, hanging, http_answer, http_connect, socks5, socks5_refusing
from tests.support.rawserver import RawPeer, RawServer
from wsadapter.contract.endpoint import Endpoint
from wsadapter.testing.certificates import Authority, ca_file, server_context

__all__ = ["forkserver"]

CLOSE = 8
NAMES = ("ws_proxy", "wss_proxy", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
VARIABLES = (*NAMES, *(name.upper() for name in NAMES))


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def reached(owned: Owned, server: RawServer, url: str, **settings: object) -> RawPeer:
    """The server's end of a connection through whatever lies between."""
    owned.assign(Endpoint("feed", url=url, **settings))  # type: ignore[arg-type]
    peer = server.accept_websocket()
    owned.up()
    return peer


def left(owned: Owned, peer: RawPeer) -> None:
    peer.send_frame(CLOSE, b"")
    assert owned.down().kind == "closed_by_peer"
    peer.sock.close()


def test_an_http_proxy_gets_its_own_credentials_and_the_server_sees_none_of_them() -> None:
    with RawServer() as server, Proxy(http_connect, server.port) as proxy, Owned() as owned:
        peer = reached(owned, server, f"ws://feed.invalid:{server.port}/", proxy=f"http://a:b%40@127.0.0.1:{proxy.port}")
        assert proxy.seen[0] == f"CONNECT feed.invalid:{server.port} HTTP/1.1"
        assert "Proxy-Authorization: Basic " + base64.b64encode(b"a:b@").decode() in proxy.seen
        assert peer.request["host"] == f"feed.invalid:{server.port}"
        assert "proxy-authorization" not in peer.request
        left(owned, peer)


def test_tls_goes_through_an_http_proxy_to_the_server_itself() -> None:
    authority = Authority()
    with RawServer(server_context(authority)) as server, Proxy(http_connect, server.port) as proxy, Owned() as owned:
        url = f"wss://localhost:{server.port}/"
        peer = reached(owned, server, url, proxy=f"http://127.0.0.1:{proxy.port}", tls={"ca_file": ca_file(authority)})
        assert isinstance(peer.sock, ssl.SSLSocket)
        assert proxy.seen[0] == f"CONNECT localhost:{server.port} HTTP/1.1"
        left(owned, peer)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_used_with_and_without_credentials(scheme: str) -> None:
    pytest.importorskip("python_socks")
    for credentials in ("", "joe:secret@"):
        with RawServer() as server, Proxy(socks5, server.port) as proxy, Owned() as owned:
            host = "feed.invalid" if scheme == "socks5h" else "127.0.0.1"
            url = f"ws://{host}:{server.port}/"
            peer = reached(owned, server, url, proxy=f"{scheme}://{credentials}127.0.0.1:{proxy.port}")
            said = ["joe:secret"] if credentials else []
            assert proxy.seen == [*said, f"{host}:{server.port}"]
            left(owned, peer)


def test_a_socks_proxy_that_refuses_is_a_failed_connect() -> None:
    pytest.importorskip("python_socks")
    with Proxy(socks5_refusing) as proxy, Owned() as owned:
        owned.assign(Endpoint("feed", url="ws://127.0.0.1:1/", proxy=f"socks5://joe:secret@127.0.0.1:{proxy.port}"))
        reason = owned.down()
        assert reason.kind == "connect_failed"
        assert reason.text.startswith(f"proxy 127.0.0.1:{proxy.port}: ")
        assert "secret" not in reason.text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (b"", ""),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, ""),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000, ""),
    ],
    ids=["407", "502", "no-http", "end", "a-megabyte-in-a-line", "a-megabyte-in-lines"],
)
def test_a_proxy_that_does_not_connect_is_a_failed_connect_that_names_it(answer: bytes, text: str) -> None:
    with Proxy(http_answer(answer)) as proxy, Owned() as owned:
        owned.assign(Endpoint("feed", url="ws://feed.invalid/", proxy=f"http://joe:secret@127.0.0.1:{proxy.port}"))
        reason = owned.down()
        assert reason.kind == "connect_failed"
        assert reason.text.startswith(f"proxy 127.0.0.1:{proxy.port}: ")
        assert text in reason.text
        assert "secret" not in reason.text
        assert len(reason.text) < 1000


def test_a_proxy_that_hangs_is_given_up_at_the_connect_deadline() -> None:
    with Proxy(hanging) as proxy, Owned() as owned:
        url = f"http://127.0.0.1:{proxy.port}"
        owned.assign(Endpoint("feed", url="ws://feed.invalid/", proxy=url, timeouts={"connect": 0.5}))
        reason = owned.down()
        assert (reason.kind, reason.text) == ("connect_failed", "connecting took longer than 0.5 s")


@pytest.mark.parametrize("secure", [False, True])
def test_the_environments_proxy_is_used_for_its_scheme_only(secure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    context = server_context(authority) if secure else None
    with RawServer(context) as server, Proxy(http_connect, server.port) as proxy:
        monkeypatch.setenv("https_proxy" if secure else "http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy" if secure else "https_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        with Owned("spawn") as owned:
            url = f"{'wss' if secure else 'ws'}://localhost:{server.port}/"
            peer = reached(owned, server, url, tls={"ca_file": ca_file(authority)} if secure else {})
            assert proxy.seen[0] == f"CONNECT localhost:{server.port} HTTP/1.1"
            left(owned, peer)


@pytest.mark.parametrize(("no_proxy", "setting"), [("localhost", ""), ("*", ""), ("", "none")])
def test_no_proxy_and_none_go_around_the_environments_proxy(
    no_proxy: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    with RawServer() as server, Owned("spawn") as owned:
        left(owned, reached(owned, server, f"ws://localhost:{server.port}/", proxy=setting))


def test_a_proxy_that_is_not_there_is_a_failed_connect() -> None:
    with Owned() as owned:
        owned.assign(Endpoint("feed", url="ws://feed.invalid/", proxy="http://127.0.0.1:1"))
        reason = owned.down()
        assert (reason.kind, reason.text) == ("connect_failed", "proxy 127.0.0.1:1: Connection refused")
