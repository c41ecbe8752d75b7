"""HTTP responses of foreign servers: heads, bodies and `Retry-After`."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.worker.connect.response import LONGEST_WAIT, BadResponse, Head, parse_body, parse_head, retry_after

NOW = 1_790_000_000.0


def head(*lines: str, status: int = 401) -> Head:
    return parse_head("\r\n".join([f"HTTP/1.1 {status} No", *lines]).encode())


@pytest.mark.parametrize(
    ("line", "minor", "status", "phrase"),
    [
        ("HTTP/1.1 101 Switching Protocols", 1, 101, "Switching Protocols"),
        ("HTTP/1.0 429 Too Many Requests", 0, 429, "Too Many Requests"),
        ("HTTP/1.1 503", 1, 503, ""),
        ("HTTP/1.1 503 ", 1, 503, ""),
        ("HTTP/1.1 999 Odd", 1, 999, "Odd"),
    ],
)
def test_a_status_line_is_read(line: str, minor: int, status: int, phrase: str) -> None:
    assert parse_head(line.encode()) == Head(minor, status, phrase, {})


@pytest.mark.parametrize(
    "line",
    ["", "HTTP/2 101", "HTTP/1.2 200 OK", "http/1.1 101 x", "HTTP/1.1  101 x", "HTTP/1.1 1011 x", "HTTP/1.1 000 x",
     "HTTP/1.1 1_1 x", "HTTP/1.1 +10 x", "HTTP/1.1 " + "9" * 5000, "HTTP/1.1 \xb9\xb2\xb3 x", "PRI * HTTP/2.0", "\x16\x03\x01"],
)  # fmt: skip
def test_what_is_no_status_line_is_told_and_cut(line: str) -> None:
    with pytest.raises(BadResponse, match=r"^not an HTTP/1.1 response: ") as bad:
        parse_head(line.encode("latin-1"))
    assert len(str(bad.value)) < 600
    assert bad.value.status is None


def test_headers_are_joined_and_their_names_are_in_lower_case() -> None:
    assert head("X-A: 1", "x-a:2 ", "Set-Cookie: foo@bar=1").headers == {"x-a": "1, 2", "set-cookie": "foo@bar=1"}


@pytest.mark.parametrize("line", ["no colon", " folded: 1", ": no name", "", "X : y"])
def test_a_malformed_header_line_is_told_with_the_status(line: str) -> None:
    with pytest.raises(BadResponse, match="a malformed header line") as bad:
        head(line, "X: y")
    assert bad.value.status == 401


def test_interim_responses_are_those_that_another_one_follows() -> None:
    assert [status for status in (100, 101, 102, 103, 199, 200) if head(status=status).is_interim] == [100, 102, 103, 199]


CHUNKED = b'1c\r\n{"error":"token has expired"\r\n1;name=value\r\n}\r\n0\r\nTrailer: 1\r\n\r\n'


def test_a_chunked_body_is_decoded_wherever_it_is_cut() -> None:
    whole = b'{"error":"token has expired"}'
    for size in range(len(CHUNKED) + 1):
        content, over = parse_body(head("Transfer-Encoding: gzip, Chunked"), CHUNKED[:size], 4096)
        assert whole.startswith(content)
        assert over is (b"0\r\n" in CHUNKED[:size])
        if over:
            assert content == whole


@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b"no chunk\r\nat all", b"no chunk\r\nat all"),
        (b"2\r\nabXX0\r\n\r\n", b"ab"),
        (b"2\r\nab\r\n-1\r\nxx", b"ab"),
        (b"2\r\nab\r\n" + b"f" * 5000 + b"\r\n", b"ab"),
        (b"2\r\nab\r\n" + b"f" * 5000, b"ab"),
    ],
)
def test_a_chunked_body_ends_where_it_can_not_be_read(raw: bytes, content: bytes) -> None:
    assert parse_body(head("Transfer-Encoding: chunked"), raw, 4096) == (content, True)


@pytest.mark.parametrize(
    ("lines", "raw", "found"),
    [
        (("Content-Length: 2",), b"no and more", (b"no", True)),
        (("Content-Length: 2",), b"n", (b"n", False)),
        (("Content-Length: 0",), b"", (b"", True)),
        (("Content-Length: 0002",), b"no", (b"no", True)),
        (("Content-Length: " + "9" * 5000,), b"no", (b"no", False)),
        (("Content-Length: -1",), b"no", (b"no", False)),
        (("Content-Length: 2, 2",), b"no", (b"no", False)),
        ((), b"no", (b"no", False)),
        ((), b"x" * 9, (b"x" * 8, True)),
        (("Content-Length: 99",), b"x" * 9, (b"x" * 8, True)),
    ],
)
def test_a_body_is_as_long_as_its_header_says_and_cut(lines: tuple[str, ...], raw: bytes, found: tuple[bytes, bool]) -> None:
    assert parse_body(head(*lines), raw, 8) == found


def test_some_statuses_have_no_body() -> None:
    assert parse_body(head(status=304), b"x", 8) == (b"", True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        ("2.", 2.0),
        ("007", 7.0),
        (f"{NOW + 30:.0f}", 30.0),
        (f"{NOW + 30.25:.2f}", 30.25),
        (f"{(NOW + 30) * 1e3:.0f}", 30.0),
        (f"{(NOW + 30) * 1e6:.0f}", 30.0),
        (f"{int(NOW + 30) * 10**9}", 30.0),
        (f"{NOW - 30:.0f}", 0.0),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (format_datetime(datetime.fromtimestamp(NOW + 30, UTC)).replace("+0000", "-0000"), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
        ("31536000", 31536000.0),
        ("99999999", LONGEST_WAIT),
        ("9" * 400, LONGEST_WAIT),
        ("9" * 5000, LONGEST_WAIT),
        ("9" * 20 + ".5", LONGEST_WAIT),
        ("1." + "9" * 5000, 2.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
    ],
)
def test_retry_after_is_seconds_a_date_or_a_unix_time_in_any_unit(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-5", "+5", "1e400", "0x10", "nan", "inf", "1,5", "\xb2", "5 s", "Mon, 01 Jan 99999 00:00:00 GMT",
     "Mon, 31 Feb 2020 25:61:61 +9999999", "Mon, 99 Jan 2027"],
)  # fmt: skip
def test_a_retry_after_that_says_nothing_is_none(value: str) -> None:
    assert retry_after(value, NOW) is None


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_no_retry_after_raises_or_is_out_of_bounds(value: str) -> None:
    wait = retry_after(value, NOW)
    assert wait is None or 0.0 <= wait <= LONGEST_WAIT


_LINES = st.sampled_from(
    ["Transfer-Encoding: chunked", "Content-Length: 5", "Content-Length: " + "9" * 5000, "Set-Cookie: a@b=1", "x", ":", " y: z"]
)


@given(st.lists(_LINES, max_size=4), st.binary(max_size=300), st.binary(max_size=60))
def test_no_bytes_of_a_server_raise_anything_but_bad_response(lines: list[str], raw: bytes, first: bytes) -> None:
    for start in (first, b"HTTP/1.1 401 " + first):
        try:
            found = parse_head(b"\r\n".join([start, *(line.encode() for line in lines)]))
        except BadResponse:
            continue
        assert len(parse_body(found, raw, 64)[0]) <= 64
