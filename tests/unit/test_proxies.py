"""Which proxy leads to a host: tables of environments, hosts and what follows."""

from __future__ import annotations

import pytest

from wsadapter.contract.endpoint import Endpoint
from wsadapter.worker.connect.proxies import BadProxy, Proxy, is_excepted, proxy_for

P, Q = "http://p:1", "http://q:2"


def chosen(environment: dict[str, str], scheme: str = "wss", *, proxy: str = "") -> str | None:
    found = proxy_for(Endpoint("a", url="wss://x/", proxy=proxy), environment, scheme, "feed.example", 443)
    return f"{found.protocol}://{found.address}" if found else None


@pytest.mark.parametrize(
    ("environment", "scheme", "expected"),
    [
        ({}, "wss", None),
        ({"https_proxy": P}, "wss", P),
        ({"https_proxy": P}, "ws", None),
        ({"https_proxy": P}, "https", P),
        ({"http_proxy": P}, "ws", P),
        ({"http_proxy": P}, "http", P),
        ({"http_proxy": P}, "wss", None),
        ({"HTTPS_PROXY": P}, "wss", P),
        ({"HTTP_PROXY": P}, "ws", P),
        ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, "ws", None),
        ({"http_proxy": P, "REQUEST_METHOD": "GET"}, "ws", P),
        ({"https_proxy": P, "HTTPS_PROXY": Q}, "wss", P),
        ({"https_proxy": "", "HTTPS_PROXY": Q}, "wss", None),
        ({"wss_proxy": P, "https_proxy": Q}, "wss", P),
        ({"wss_proxy": P}, "https", None),
        ({"all_proxy": P}, "wss", P),
        ({"ALL_PROXY": P}, "ws", P),
        ({"all_proxy": P, "https_proxy": Q}, "wss", Q),
        ({"https_proxy": "p:3128"}, "wss", "http://p:3128"),
        ({"https_proxy": "localhost:3128"}, "wss", "http://localhost:3128"),
        ({"https_proxy": "10.0.0.1"}, "wss", "http://10.0.0.1:80"),
        ({"https_proxy": "u:p@p:3128"}, "wss", "http://p:3128"),
        ({"https_proxy": "[::1]:3128"}, "wss", "http://[::1]:3128"),
        ({"https_proxy": "https://p:3128"}, "wss", "http://p:3128"),
        ({"https_proxy": "  http://p:1 "}, "wss", P),
        ({"all_proxy": "socks5h://p"}, "wss", "socks5h://p:1080"),
        ({"all_proxy": "socks5://p:9"}, "wss", "socks5://p:9"),
        ({"https_proxy": P, "no_proxy": "feed.example"}, "wss", None),
        ({"https_proxy": P, "NO_PROXY": "feed.example"}, "wss", None),
        ({"https_proxy": P, "no_proxy": "", "NO_PROXY": "feed.example"}, "wss", P),
        ({"all_proxy": P, "no_proxy": "*"}, "wss", None),
    ],
)
def test_the_environment_names_the_proxy(environment: dict[str, str], scheme: str, expected: str | None) -> None:
    assert chosen(environment, scheme) == expected


def test_the_endpoint_s_own_holds_whatever_the_environment_says() -> None:
    assert chosen({"https_proxy": P, "no_proxy": "*"}, proxy=Q) == Q
    assert chosen({"https_proxy": P}, proxy="none") is None


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("", "a.example", 443, False),
        ("*", "a.example", 443, True),
        ("x, *", "a.example", 443, True),
        ("example", "example", 443, True),
        ("example", "a.example", 443, True),
        ("example", "a.b.example", 443, True),
        ("example", "notexample", 443, False),
        (".example", "a.example", 443, True),
        (".example", "example", 443, True),
        (".example", "notexample", 443, False),
        ("*.example", "a.example", 443, True),
        ("*.example", "notexample", 443, False),
        ("EXAMPLE", "a.example", 443, True),
        ("example", "A.EXAMPLE", 443, True),
        ("example", "a.example.", 443, True),
        ("example.", "a.example", 443, True),
        ("foo, example", "a.example", 443, True),
        ("foo example", "a.example", 443, True),
        ("foo,,example,", "a.example", 443, True),
        (",", "a.example", 443, False),
        (".", "a.example", 443, False),
        ("a.example:443", "a.example", 443, True),
        ("a.example:8443", "a.example", 443, False),
        ("example:443", "b.example", 443, True),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1:81", "127.0.0.1", 80, False),
        ("127.0.0.0/8", "127.1.2.3", 80, True),
        ("127.0.0.1/8", "127.1.2.3", 80, True),
        ("10.0.0.0/8", "127.1.2.3", 80, False),
        ("0.0.1", "127.0.0.1", 80, False),
        ("10.0.0.0/8", "10.example", 80, False),
        ("10.0.0.0/99", "10.0.0.1", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("0:0:0:0:0:0:0:1", "[::1]", 80, True),
        ("fd00::/8", "fd00::7", 80, True),
        ("[fd00::]/8", "fd00::7", 80, True),
        ("fd00::/8", "127.0.0.1", 80, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, expected: bool) -> None:
    assert is_excepted(no_proxy, host, port) is expected


def test_user_and_password_are_decoded() -> None:
    found = proxy_for(Endpoint("a", url="ws://x/"), {"http_proxy": "http://u%40x:p%40s%3As@p:1"}, "ws", "x", 80)
    assert found == Proxy("http", "p", 1, ("u@x", "p@s:s"))


@pytest.mark.parametrize("text", ["socks4://u:secret@p:1", "http://u:secret@:1", "p:secret", "http://[secret", "ftp://secret"])
def test_a_proxy_that_can_t_be_used_is_named_by_its_variable_and_not_shown(text: str) -> None:
    with pytest.raises(BadProxy, match=r"the environment's proxy \(all_proxy\).*proxy = \"none\"") as caught:
        chosen({"all_proxy": text})
    assert "secret" not in str(caught.value)
    with pytest.raises(BadProxy, match="the proxy"):
        chosen({}, proxy=text)
