"""References in settings: found, filled in, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsadapter.config.interpolate import UnresolvedReference, anchor, expand, expand_endpoint, references
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.masking import mask_url

ENVIRON = {"KEY": "k-123", "EMPTY": "", "NESTED": "${KEY}", "BREAK": "a\r\nEvil: 1"}


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("plain", "plain"),
        ("${KEY}", "k-123"),
        ("a${KEY}b${KEY}c", "ak-123bk-123c"),
        ("${EMPTY}", ""),
        ("$${KEY}", "${KEY}"),
        ("$${", "${"),
        ("$${${KEY}}", "${k-123}"),
        ("costs $5 and $KEY", "costs $5 and $KEY"),
        ("${NESTED}", "${KEY}"),
    ],
)
def test_a_value_is_filled_in_once(written: str, filled: str) -> None:
    assert expand(written, environ=ENVIRON) == filled


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${NOPE}", "${NOPE}: the environment variable NOPE is not set"),
        ("${", "a ${ without its }; write $${ for a literal one"),
        ("x ${KEY", "a ${ without its }; write $${ for a literal one"),
        ("${}", "${} is neither ${NAME} nor ${file:PATH}; write $${ for a literal ${"),
        ("${file:}", "${file:} is neither ${NAME} nor ${file:PATH}; write $${ for a literal ${"),
        ("${1st}", "${1st} is neither ${NAME} nor ${file:PATH}; write $${ for a literal ${"),
        ("${file:nope.txt}", "${file:nope.txt}: the file can't be read: No such file or directory"),
    ],
)
def test_what_is_missing_is_named(written: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnresolvedReference) as caught:
        expand(written, environ=ENVIRON, base_dir=tmp_path)
    assert [problem.message for problem in caught.value.problems] == [message]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("s3cret\n", "s3cret"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a"), ("", ""), ("a\nb\n", "a\nb"), ("\ufeffa\n", "a"),
    ],
)  # fmt: skip
def test_a_file_gives_its_content_less_one_final_newline(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    assert expand("${file:key}", base_dir=tmp_path) == value
    assert expand(f"${{file:{tmp_path}/key}}") == value


def test_a_file_that_is_not_text_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"s3cret\xff")
    with pytest.raises(UnresolvedReference, match="not UTF-8 text") as caught:
        expand("${file:key}", base_dir=tmp_path)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_references_are_listed_in_order() -> None:
    assert [(r.name, r.path) for r in references("${A} $${B} ${file:c d}")] == [("A", ""), ("", "c d")]


def test_relative_file_references_are_anchored_and_absolute_ones_stay() -> None:
    assert anchor("${file:k} ${file:/x/k} ${A} $${file:k}", Path("/base")) == "${file:/base/k} ${file:/x/k} ${A} $${file:k}"


def test_every_string_that_goes_out_is_filled_in() -> None:
    endpoint = Endpoint(
        "x",
        url=("wss://${KEY}/",),
        headers={"A": "${KEY}"},
        subscribe=("${KEY}", {"channel": "${KEY}", "list": ["${KEY}", 1]}),
        send_on_up=("${KEY}",),
        proxy="http://${KEY}:1",
        login={"key": "${KEY}"},
        tls={"key_password": "${KEY}", "ca_file": "${KEY}"},  # type: ignore[arg-type]
        heartbeat={"kind": "text", "payload": "${KEY}"},  # type: ignore[arg-type]
    )
    filled = expand_endpoint(endpoint, environ=ENVIRON)
    assert "${" not in repr(filled)
    assert filled.subscribe == ("k-123", {"channel": "k-123", "list": ["k-123", 1]})
    assert filled.tls.ca_file == filled.heartbeat.payload == filled.login["key"] == "k-123"
    assert endpoint.headers == {"A": "${KEY}"}


def test_an_endpoint_names_every_missing_reference_with_its_path() -> None:
    endpoint = Endpoint("x", url="wss://h/${A}", headers={"T": "${B}"}, tls={"key_password": "${C}"})  # type: ignore[arg-type]
    with pytest.raises(UnresolvedReference) as caught:
        expand_endpoint(endpoint, environ={})
    paths = [problem.path.removeprefix("endpoints.x.") for problem in caught.value.problems]
    assert paths == ["url", "headers.T", "tls.key_password"]


@pytest.mark.parametrize("settings", [{"url": "wss://h/${BREAK}"}, {"url": "wss://h", "headers": {"T": "${BREAK}"}}])
def test_a_value_that_would_break_out_of_its_header_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UnresolvedReference, match="line break") as caught:
        expand_endpoint(Endpoint("x", **settings), environ=ENVIRON)  # type: ignore[arg-type]
    assert "Evil" not in str(caught.value)
    assert "${BREAK}" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://h:1/p", "wss://h:1/p"),
        ("wss://user:pw@h/p?token=1", "wss://***@h/p?***"),
        ("wss://stream.binance.com/ws/btcusdt@depth@100ms", "wss://stream.binance.com/ws/btcusdt@depth@100ms"),
        ("wss://h?x=1@2", "wss://h?***"),
        ("wss://h/#secret", "wss://h/#***"),
        ("http://u@proxy:3128", "http://***@proxy:3128"),
        ("u:p@h:1", "***@h:1"),
        ("", ""),
        ("none", "none"),
    ],
)
def test_a_url_is_shown_without_user_info_and_query(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@given(st.text(), st.text(alphabet="abcXYZ019-_.!~", min_size=3))
def test_masking_never_raises_and_hides_the_query(start: str, secret: str) -> None:
    mask_url(start)
    assert f"={secret}SECRET" not in mask_url(f"wss://host/path?token={secret}SECRET")
    assert f"{secret}SECRET" not in mask_url(f"wss://user:{secret}SECRET@host/path")


@given(st.text())
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        filled = expand(text, environ={})
    except UnresolvedReference:
        return
    assert filled == text.replace("$${", "${")
