"""What a server says of the secrets that it was sent is shown masked."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.support.fakes import FakeSupervisor, die, say
from tests.support.records import consume
from wsadapter.config.interpolate import secrets_of
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.items import Down, Up
from wsadapter.contract.masking import Secrets
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.endpoint import EndpointRuntime
from wsadapter.endpoint.link_status import status_of


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "KEY", "QUERY", "PASSWORD"):
        monkeypatch.setenv(f"MY_{name}", f"{name}/7f3a")


def test_whole_values_and_their_encoded_forms_are_masked_and_short_ones_are_not() -> None:
    secrets = Secrets(["tok/en", "tok/en+more", "abc", "wss://joe:passw@h/path?t=query&u=x", "wss://h"])
    assert secrets.mask("tok/en+more tok/en tok%2Fen abc") == "*** *** *** abc"
    assert secrets.mask("wss://h/path passw query x joe") == "wss://h/path *** *** x joe"


def endpoint() -> Endpoint:
    url = "ws://joe:${MY_PASSWORD}@h/ws/${MY_TOKEN}?t=${MY_QUERY}&literal=LITERAL9"
    return Endpoint("a", url=url, headers={"Authorization": "Bearer ${MY_KEY}"})


def test_the_secrets_of_an_endpoint_are_what_stands_for_its_references_and_in_its_urls() -> None:
    said = "TOKEN/7f3a KEY/7f3a QUERY/7f3a PASSWORD/7f3a LITERAL9 joe"
    assert secrets_of(endpoint()).mask(said) == "*** *** *** *** *** joe"


def test_the_host_and_the_port_of_an_address_are_no_secrets_wherever_they_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"FEED_HOST": "stream.example", "FEED_PORT": "19443", "FEED_USER": "mallory"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "host").write_text("backup.example\n")
    urls = [
        "wss://${FEED_USER}@${FEED_HOST}:${FEED_PORT}/ws/${MY_TOKEN}?$${x}=${MY_QUERY}",
        f"wss://${{file:{tmp_path}/host}}/ws",
    ]
    secrets = secrets_of(Endpoint("a", url=urls, proxy="http://joe:${MY_PASSWORD}@${FEED_HOST}:3128"))
    said = "stream.example:19443 backup.example mallory TOKEN/7f3a QUERY/7f3a PASSWORD/7f3a"
    assert secrets.mask(said) == "stream.example:19443 backup.example *** *** *** ***"
    # A host that is also the value of a header stays a secret.
    assert secrets_of(Endpoint("a", url="wss://${FEED_HOST}/", headers={"X": "${FEED_HOST}"})).mask(said).startswith("***:")


def test_what_a_peer_echoes_is_masked_in_down_in_up_and_in_the_status(supervisor: FakeSupervisor) -> None:
    link = EndpointRuntime(supervisor, endpoint(), None).link
    link.start()
    (process,) = supervisor.processes
    fields = {"headers": {"X-Path": "/ws/TOKEN/7f3a"}, "subprotocol": "KEY/7f3a"}
    body = orjson.dumps({"event": "up", "fields": fields})
    link.connection.dialer._secrets = None  # as behind a takeover
    say(process, body)
    die(process, Reason(kind="closed_by_peer", code=4001, text="bad KEY/7f3a", body="TOKEN/7f3a"))
    link.stop()
    found = consume(supervisor.inbox)
    (up,) = [item for item in found if isinstance(item, Up)]
    (down,) = [item for item in found if isinstance(item, Down)]
    assert (up.headers, up.subprotocol) == ({"X-Path": "/ws/***"}, "***")
    assert (down.reason.text, down.reason.body) == ("bad ***", "***")
    assert "7f3a" not in repr(status_of(link))
