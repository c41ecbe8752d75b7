"""The test that tells which parsed messages may be answers: it lets through whatever a rule fits, and hardly any data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from tests.support.conversation import DIALECTS
from tests.support.markets import MARKETS
from wsadapter.contract.dialect.paths import PRESENT, matches
from wsadapter.worker.subscription.prefilter import Prefilter, data_keys

TABLES = ("already", "later", "error", "ack")
COMMON = {"mexc_futures", "crypto_com", "bingx", "bingx_swap"}
"""Dialects whose answers have the form of their data."""


def rules(name: str) -> list[Mapping[str, Any]]:
    return [rule["match"] for table in TABLES for rule in DIALECTS[name].get(table, [])]


def screen(*matches: Mapping[str, Any], common: frozenset[str] = frozenset()) -> Prefilter:
    return Prefilter(matches, common)


def fitting(match: Mapping[str, Any], *, dotted: bool) -> Any:
    """A message that a rule fits; `dotted`: paths with dots are keys."""
    message: dict[str, Any] = {"other": 1}
    for path, wanted in match.items():
        word = {"some": "thing"} if wanted == PRESENT else wanted
        if dotted:
            message[path] = word
            continue
        table = message
        *steps, last = path.split(".")
        for step in steps:
            table = table.setdefault(step, {})
        table[last] = word
    assert matches(message, match)
    return message


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_what_a_rule_of_a_bundled_dialect_fits_passes(name: str, dotted: bool) -> None:
    tested = Prefilter(rules(name), data_keys(DIALECTS[name]))
    for match in rules(name):
        assert tested.may_match(fitting(match, dotted=dotted)), match


@pytest.mark.parametrize("name", sorted(set(MARKETS) - COMMON))
def test_data_do_not_pass(name: str) -> None:
    tested = Prefilter(rules(name), data_keys(DIALECTS[name]))
    market = MARKETS[name]
    values = [orjson.loads(message.payload) for message in market.messages() if not message.binary]
    data = [value for value in values if any(stream.is_of(value) for stream in market.streams)]
    assert not any(tested.may_match(value) for value in data)


def test_a_word_that_data_have_at_a_key_is_told_from_others() -> None:
    tested = screen({"type": "error"}, {"type": "ack", "id": "*"}, common=frozenset({"type", "id"}))
    assert tested.may_match({"type": "error"})
    assert not tested.may_match({"type": "message", "id": 1})
    assert not tested.may_match({"type": ["error"], "id": {}})
    assert not tested.may_match({"kind": "error"})


def test_true_is_one_as_where_rules_are_compared() -> None:
    tested = screen({"ok": True}, {"code": 0})
    for value in ({"ok": 1}, {"ok": True}, {"code": 0.0}, {"code": False}):
        assert any(matches(value, match) for match in ({"ok": True}, {"code": 0}))
        assert tested.may_match(value)


def test_arrays_pass_only_where_a_rule_is_for_a_place_in_one() -> None:
    assert not screen({"event": "error"}).may_match(["error"])
    assert screen({"1": "error"}).may_match([0, "error"])
    assert screen({"0.event": "error"}).may_match([{"event": "error"}])


def test_a_rule_for_everything_lets_everything_pass() -> None:
    tested = screen({}, {"event": "error"})
    for value in (None, 1, "text", [], {}, {"event": "data"}):
        assert tested.may_match(value)


def test_what_is_no_json_does_not_pass() -> None:
    assert not screen({"event": "error"}).may_match(None)
