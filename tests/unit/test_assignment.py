"""The bodies of ASSIGN, CUSTODY and HANDOFF: what the supervisor writes is what the next owner reads."""

from __future__ import annotations

import json

from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.assignment import Assignment, Custody, Resume


def test_the_next_owner_reads_where_the_previous_owner_stopped() -> None:
    resume = Resume(
        custody=Custody(received=300, sent=200, allowed_at=7.5), position=1000, skip=3, sent=40, rest=5, ref=9,
        up={"url": "ws://a"}, unread=17, allowed_at=8.5, careful=True,
    )  # fmt: skip
    sent = Assignment(endpoint=Endpoint("x", url="ws://a"), epoch=2, url="ws://a", resume=resume, requests=("1", "2"))
    received = Assignment.from_body(json.loads(json.dumps(sent.to_body())))
    assert received.resume == resume
    assert received.requests == ("1", "2")


def test_without_a_connection_to_continue_there_is_nothing_to_resume() -> None:
    sent = Assignment(endpoint=Endpoint("x", url="ws://a"), epoch=1, url="ws://a")
    assert Assignment.from_body(json.loads(json.dumps(sent.to_body()))).resume is None
