"""What must be before anything is sent."""

from __future__ import annotations

from typing import Any

from wsadapter.contract.dialect.text import Text
from wsadapter.worker.session.readiness import Readiness

WELCOME = Text(b'{"type":"welcome"}')


def opened(dialect: dict[str, Any] | None) -> Readiness:
    readiness = Readiness(dialect, within=5.0)
    readiness.start(100.0)
    return readiness


def test_without_rules_it_is_over_at_once() -> None:
    for dialect in (None, {}, {"connection": {"max_age": "23h"}}):
        assert Readiness(dialect, within=5.0).done


def test_the_peers_word_ends_it() -> None:
    readiness = opened({"ready": [{"match": {"type": "hello"}}, {"match": {"type": "welcome"}}]})
    assert readiness.awaits_ready
    assert not readiness.is_ready_message(Text(b'{"type":"message"}'))
    assert not readiness.finish_if_due(104.0)
    assert readiness.is_ready_message(WELCOME)
    assert readiness.finish_if_due(104.0)
    assert readiness.done
    assert not readiness.finish_if_due(105.0)
    assert not readiness.overdue(1000.0)


def test_a_word_that_does_not_come_is_missed() -> None:
    readiness = opened({"ready": [{"match": {"type": "welcome"}}]})
    assert readiness.deadline() == 105.0
    assert not readiness.overdue(104.9)
    assert readiness.overdue(105.0) == "the dialect's [[ready]] did not come within 5 s"


def test_with_both_the_later_one_counts() -> None:
    readiness = opened({"ready": [{"match": {"type": "welcome"}}], "connection": {"settle": 1.0}})
    assert readiness.is_ready_message(WELCOME)
    assert readiness.deadline() == 101.0
    assert not readiness.finish_if_due(100.9)
    assert not readiness.overdue(1000.0)
    assert readiness.finish_if_due(101.0)


def test_a_predecessors_opening_goes_on_from_where_it_was() -> None:
    dialect = {"ready": [{"match": {"type": "welcome"}}], "connection": {"settle": 1.0}}
    waits, settles = Readiness(dialect, within=5.0), Readiness(dialect, within=5.0)
    waits.inherit(100.0, awaits_ready=True)
    assert (waits.awaits_ready, waits.deadline(), waits.done) == (True, 105.0, False)
    settles.inherit(100.0, awaits_ready=False)
    assert (settles.awaits_ready, settles.deadline(), settles.done) == (False, 101.0, False)
    assert not settles.finish_if_due(100.9)
    assert settles.finish_if_due(103.0)


def test_the_peers_word_may_be_a_text_that_is_no_json() -> None:
    readiness = opened({"ready": [{"is": "Welcome"}, {"match": {"type": "hello"}}]})
    for other in (b"Welcome!", b'"Welcome"', b"welcome", b'{"type":"x"}'):
        assert not readiness.is_ready_message(Text(other))
    assert readiness.is_ready_message(Text(b"Welcome"))
    assert opened({"ready": [{"is": "Welcome"}, {"match": {"type": "hello"}}]}).is_ready_message(Text(b'{"type":"hello"}'))
