"""What the log says of an endpoint."""

from __future__ import annotations

import pytest

from wsadapter.endpoint.log import EndpointLog


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
