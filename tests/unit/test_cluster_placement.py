"""Rendezvous hashing: the same order everywhere, shares by weight, and little that moves."""

from __future__ import annotations

from collections import Counter

from wsadapter.cluster.placement import order

ENDPOINTS = [f"endpoint-{number}" for number in range(4000)]


def test_the_order_does_not_depend_on_the_order_of_the_hosts() -> None:
    assert order("a", {"x": 1.0, "y": 1.0, "z": 2.0}) == order("a", {"z": 2.0, "y": 1.0, "x": 1.0})


def test_shares_follow_the_weights() -> None:
    shares = Counter(order(endpoint, {"x": 1.0, "y": 1.0, "z": 2.0})[0] for endpoint in ENDPOINTS)
    assert abs(shares["x"] - 1000) < 120
    assert abs(shares["y"] - 1000) < 120
    assert abs(shares["z"] - 2000) < 150


def test_only_the_endpoints_of_a_host_that_leaves_move() -> None:
    for endpoint in ENDPOINTS[:300]:
        before = order(endpoint, {"x": 1.0, "y": 1.0, "z": 1.0})
        assert order(endpoint, {"x": 1.0, "y": 1.0}) == [host for host in before if host != "z"]
