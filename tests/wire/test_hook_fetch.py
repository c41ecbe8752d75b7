"""HTTP for hooks, against servers and proxies that are anything but helpful."""

from __future__ import annotations

import contextlib
import gc
import gzip
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.black_hole import deaf_listener
from tests.support.rest import Answer, Rest
from wsadapter.contract.endpoint import Endpoint
from wsadapter.testing import Exchange
from wsadapter.testing.certificates import Authority, ca_file, server_context
from wsadapter.worker.hooks import HookFailure
from wsadapter.worker.hooks.http import transfer

SECRET = "n0-0ne-must-see-this"


def fetched(url: str, headers: dict[str, str] | None = None, **settings: Any) -> bytes:
    endpoint = Endpoint("x", url="ws://x/", **{"proxy": "none", "timeouts": {"handshake": 0.5}, **settings})
    return transfer(endpoint, "GET", url, headers or {}, b"")


def failure(url: str, headers: dict[str, str] | None = None, **settings: Any) -> HookFailure:
    with pytest.raises(HookFailure) as raised:
        fetched(url, headers, **settings)
    error: BaseException | None = raised.value
    while error is not None:  # nor may a traceback show it
        assert SECRET not in str(error)
        error = error.__cause__
    return raised.value


@contextlib.contextmanager
def raw(answer: bytes, *, ends: bool = True) -> Iterator[str]:
    """An HTTP server's URL that answers one request with these bytes, and then ends the connection or just stays."""
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            client.recv(65536)
            client.sendall(answer)
            if not ends:
                over.wait(10.0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/t?key={SECRET}"
        finally:
            over.set()
            thread.join(10.0)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/t?key={SECRET} x", {}),
        ("/t", {"X-Key": SECRET + "\n"}),
        ("/t", {"X-Key": SECRET + "\nX-Other: 1"}),
        (f"/t?key={SECRET}\u20ac", {}),
        ("/t", {f"{SECRET}:": "1"}),
    ],
)
def test_what_may_not_stand_in_a_request_is_refused_without_showing_it(path: str, headers: dict[str, str]) -> None:
    with Rest(lambda _: Answer()) as rest:
        assert "contains an invalid character" in str(failure(rest.url + path, headers))
        assert not rest.asked


@pytest.mark.parametrize(
    "url", [f"http://me:{SECRET}@127.0.0.1:1/t", f"http:///?{SECRET}", f"ftp://h/?{SECRET}", "http://a..b/"]
)
def test_a_url_of_another_kind_is_refused_without_showing_what_is_secret_in_it(url: str) -> None:
    failure(url)


def test_a_refusal_whose_body_does_not_come_is_a_refusal() -> None:
    head = b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: 50\r\n\r\nbeg"
    for ends in (True, False):
        with raw(head, ends=ends) as url:
            found = failure(url)
            assert (found.status, found.retry_after) == (429, 7.0)
    with raw(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n") as url:
        assert failure(url).status == 401


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nbeg", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 1_100_000, "more than 1048576 bytes"),
        (b"nonsense\r\n\r\n", ""),
        (b"", ""),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n", ""),
    ],
)
def test_half_an_answer_one_too_large_and_nonsense_are_failures(answer: bytes, text: str) -> None:
    with raw(answer) as url:
        found = failure(url)
        assert found.status is None
        assert text in str(found)


def test_a_slow_answer_is_given_up() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nbeg", ends=False) as url:
        assert "timed out" in str(failure(url))


def test_chunks_are_put_together_and_what_is_packed_comes_as_it_is() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") as url:
        assert fetched(url) == b"abc"
    packed = gzip.compress(b"{}")
    with Rest(lambda _: Answer(packed, headers={"Content-Encoding": "gzip"})) as rest:
        assert fetched(rest.url) == packed  # nobody had asked for that
        assert rest.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with Rest(lambda _: Answer(status=status, headers={"Location": f"{rest.url}/other"})) as rest:
        assert failure(f"{rest.url}/t").status == status
        assert len(rest.asked) == 1


def test_whose_certificate_is_not_trusted_gets_no_request() -> None:
    with Exchange(tls=True) as ex:
        text = str(failure(ex.url.replace("wss://", "https://") + f"?key={SECRET}"))
        assert "certificate" in text.lower()
        assert not ex.requests


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({"http_proxy": "127.0.0.1:{port}", "no_proxy": ".example"}, ""),
        ({"ALL_PROXY": "http://127.0.0.1:{port}"}, ""),
        ({"no_proxy": "*"}, "http://127.0.0.1:{port}"),
    ],
)
def test_the_proxy_is_the_one_that_the_connection_itself_takes(
    environment: dict[str, str], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Rest(lambda _: Answer(b"via")) as rest:
        port = rest.url.rpartition(":")[2]
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(port=port))
        assert fetched("http://exchange.invalid/t", proxy=proxy.format(port=port)) == b"via"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetched(f"{rest.url}/direct", proxy="") == b"via"
        assert [asked.path for asked in rest.asked] == ["http://exchange.invalid/t", "/direct"]


def test_a_proxy_gets_it_and_one_that_refuses_is_told() -> None:
    with Rest(lambda _: Answer(b"via")) as proxy:
        assert fetched("http://exchange.invalid/t", proxy=proxy.url) == b"via"
        assert proxy.asked[0].path == "http://exchange.invalid/t"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # http.client leaves a refusal to the collector before 3.12
            assert "501" in str(failure("https://exchange.invalid/t", proxy=proxy.url))
            gc.collect()
    assert "SOCKS" in str(failure("http://exchange.invalid/t", proxy="socks5://127.0.0.1:1"))


@pytest.mark.native
def test_a_host_is_reached_at_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any) -> list[Any]:
        return [found for name in ("127.0.0.2", "127.0.0.1") for found in real(name, *rest)]

    with Rest(lambda _: Answer(b"here")) as rest:
        port = int(rest.url.rpartition(":")[2])
        with deaf_listener("127.0.0.2", port), monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", getaddrinfo)
            began = time.monotonic()
            assert fetched(f"http://rest.test:{port}/t", timeouts={"handshake": 10.0}) == b"here"
            assert time.monotonic() - began < 5.0
            assert rest.asked[0].headers["host"] == f"rest.test:{port}"


@pytest.mark.native
def test_https_and_the_source_address_are_as_the_endpoint_says() -> None:
    authority = Authority()
    callers: list[str] = []

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            callers.append(client.getpeername()[0])
            with server_context(authority).wrap_socket(client, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsafe")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://localhost:{listener.getsockname()[1]}/t"
        settings = {"bind": "127.0.0.9", "tls": {"ca_file": ca_file(authority)}, "timeouts": {"handshake": 5.0}}
        assert fetched(url, **settings) == b"safe"
        thread.join(10.0)
    assert callers == ["127.0.0.9"]
