"""Requests of foreign bytes are parsed or refused; answers are framed."""

from __future__ import annotations

import pytest

from wsadapter.exporter.http1 import BadRequest, Response, is_expected_host, parse_request
from wsadapter.exporter.server import page


def test_a_request_has_a_path_a_query_and_headers() -> None:
    request = parse_request(b"GET /ready?endpoint=a%20b&endpoint=c HTTP/1.1\r\nHost: localhost:1\r\naccept:  x \r\n\r\n")
    assert (request.method, request.path) == ("GET", "/ready")
    assert request.query == {"endpoint": ["a b", "c"]}
    assert request.headers == {"host": "localhost:1", "accept": "x"}


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET http://[::1/ HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 405),
        (b"DELETE / HTTP/1.1\r\n\r\n", 405),
    ],
)
def test_what_is_no_request_is_refused(received: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_request(received)
    assert refused.value.response.status == status


def test_an_answer_has_its_length_and_head_has_no_body() -> None:
    whole = Response("é").encode()
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 2\r\n" in whole
    assert whole.endswith(b"\r\n\r\n\xc3\xa9")
    assert Response("é").encode(with_body=False).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:9464", "[::1]", ""])
def test_this_machine_by_its_loopback_is_expected(host: str) -> None:
    assert is_expected_host(host)


@pytest.mark.parametrize("host", ["evil.example.com:9464", "localhost.evil.example.com", "10.0.0.1", "[::2]:9464", "1"])
def test_another_name_for_it_is_not(host: str) -> None:
    assert not is_expected_host(host)


def test_the_page_runs_only_its_own_script_and_loads_nothing() -> None:
    policy = page().headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    text = page().body
    assert isinstance(text, bytes)
    assert b"http://www.w3.org/2000/svg" in text  # a name, not an address
    assert text.count(b"http://") + text.count(b"https://") == 1
    assert b" style=" not in text
    assert b"innerHTML" not in text
