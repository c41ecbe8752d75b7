"""What must be before anything is sent."""

from __future__ import annotations

from typing import Any

from wsadapter.contract.dialect.text import Text
from wsadapter.worker.session.readiness import Opening

WELCOME = Text(b'{"type":"welcome"}')


def opened(dialect: dict[str, Any] | None) -> Opening:
    opening = Opening(dialect, within=5.0)
    opening.start(100.0)
    return opening


def test_without_rules_it_is_over_at_once() -> None:
    for dialect in (None, {}, {"connection": {"max_age": "23h"}}):
        assert Opening(dialect, within=5.0).over


def test_the_peers_word_ends_it() -> None:
    opening = opened({"ready": [{"match": {"type": "hello"}}, {"match": {"type": "welcome"}}]})
    assert opening.listens
    assert not opening.is_word(Text(b'{"type":"message"}'))
    assert not opening.ends(104.0)
    assert opening.is_word(WELCOME)
    assert opening.ends(104.0)
    assert opening.over
    assert not opening.ends(105.0)
    assert not opening.overdue(1000.0)


def test_a_word_that_does_not_come_is_missed() -> None:
    opening = opened({"ready": [{"match": {"type": "welcome"}}]})
    assert opening.deadline() == 105.0
    assert not opening.overdue(104.9)
    assert opening.overdue(105.0) == "the dialect's [[ready]] did not come within 5 s"


def test_with_both_the_later_one_counts() -> None:
    opening = opened({"ready": [{"match": {"type": "welcome"}}], "connection": {"settle": 1.0}})
    assert opening.is_word(WELCOME)
    assert opening.deadline() == 101.0
    assert not opening.ends(100.9)
    assert not opening.overdue(1000.0)
    assert opening.ends(101.0)


def test_a_predecessors_opening_goes_on_from_where_it_was() -> None:
    dialect = {"ready": [{"match": {"type": "welcome"}}], "connection": {"settle": 1.0}}
    waits, settles = Opening(dialect, within=5.0), Opening(dialect, within=5.0)
    waits.inherit(100.0, listens=True)
    assert (waits.listens, waits.deadline(), waits.over) == (True, 105.0, False)
    settles.inherit(100.0, listens=False)
    assert (settles.listens, settles.deadline(), settles.over) == (False, 101.0, False)
    assert not settles.ends(100.9)
    assert settles.ends(103.0)


def test_the_peers_word_may_be_a_text_that_is_no_json() -> None:
    opening = opened({"ready": [{"is": "Welcome"}, {"match": {"type": "hello"}}]})
    for other in (b"Welcome!", b'"Welcome"', b"welcome", b'{"type":"x"}'):
        assert not opening.is_word(Text(other))
    assert opening.is_word(Text(b"Welcome"))
    assert opened({"ready": [{"is": "Welcome"}, {"match": {"type": "hello"}}]}).is_word(Text(b'{"type":"hello"}'))
