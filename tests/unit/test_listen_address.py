"""Where the exporter listens, as it is written."""

from __future__ import annotations

import pytest

from wsadapter.config.listen_address import ListenAddress, check_listen, listen_address


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464), True),
        ("127.9.9.9:1", ("127.9.9.9", 1), True),
        ("localhost:0", ("localhost", 0), True),
        ("[::1]:9464", ("::1", 9464), True),
        ("0.0.0.0:9464", ("0.0.0.0", 9464), False),
        ("[::]:9464", ("::", 9464), False),
        (":9464", ("", 9464), False),
        ("feeds.example.com:80", ("feeds.example.com", 80), False),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int], loopback: bool) -> None:
    assert listen_address(text) == address
    assert listen_address(text).is_loopback is loopback
    assert str(ListenAddress(*address)) == text
    assert check_listen(text) == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("127.0.0.1", "HOST:PORT"),
        ("9464", "HOST:PORT"),
        ("127.0.0.1:http", "HOST:PORT"),
        ("127.0.0.1:-1", "HOST:PORT"),
        ("127.0.0.1:٣", "HOST:PORT"),
        ("127.0.0.1:65536", "the largest is 65535"),
        ("::1:9464", "brackets: [::1]:9464"),
    ],
)
def test_what_is_no_address_says_what_one_looks_like(text: str, wrong: str) -> None:
    assert wrong in check_listen(text)


def test_without_one_there_is_no_exporter() -> None:
    assert check_listen("") == ""
