"""What the log says of an endpoint."""

from __future__ import annotations

import pytest

from wsadapter.contract.endpoint import Restart
from wsadapter.contract.reasons import Reason
from wsadapter.endpoint.log import EndpointLog
from wsadapter.endpoint.restart_policy import Decision, RestartAction

URL = "wss://***@${FEED_HOST}/ws"


@pytest.mark.parametrize(
    ("url", "resolved", "peer", "expected"),
    [
        (URL, "h.example:9443", "192.0.2.1:9443", f"{URL} (h.example:9443 at 192.0.2.1:9443)"),
        ("wss://h.example/ws", "h.example", "192.0.2.1:443", "wss://h.example/ws (192.0.2.1:443)"),
        (URL, "", "192.0.2.1:9443", f"{URL} (192.0.2.1:9443)"),
        (URL, "", "", URL),
    ],
)
def test_an_address_is_shown_as_configured_and_as_resolved(
    url: str, resolved: str, peer: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wsadapter")
    EndpointLog("a").up(3, url, resolved, peer, resumed=False)
    assert caplog.messages == [f"a/3 up: {expected}"]


def test_each_line_of_an_owner_begins_with_the_endpoint_and_the_epoch_as_separate_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "wsadapter")
    log = EndpointLog("a")
    log.down(3, Reason(kind="stopped"), 1.0, 5)
    log.down(4, Reason(kind="closed_by_peer", code=1006), None, 0)
    log.next(Decision(RestartAction.FATAL, 0.0, 1), Restart(), resumes=False, follows=False, waits=False)
    log.up(5, "ws://h/", "h", "", resumed=True)
    assert [record.args[:2] for record in caplog.records if isinstance(record.args, tuple)] == [("a", 3), ("a", 4), ("a", 5)]
    assert all(str(record.msg).startswith("%s/%d ") for record in caplog.records)
    assert caplog.messages[:2] == [
        "a/3 down: stopped, after 1.0 s, 5 messages",
        "a/4 down: closed by peer, code 1006, never up; fatal: mend the cause, then `restart` it",
    ]


@pytest.mark.parametrize(("count", "expected"), [(1, "1 subscription"), (2, "2 subscriptions")])
def test_restored_subscriptions_are_counted_in_the_singular_and_the_plural(
    count: int, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wsadapter")
    EndpointLog("a").restored(3, count, ())
    EndpointLog("a").restored(3, count, ("x@trade",))
    assert caplog.messages == [f"a/3 restored: {expected}", f"a/3 restored: {expected}, failed: x@trade"]


def test_a_wait_for_a_host_names_the_host_and_both_causes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "wsadapter")
    EndpointLog("a").budget(4, "h.example", 18.54)
    assert caplog.messages == ["a/4 next connect to h.example in 18.5 s (Retry-After or limits.connects)"]
