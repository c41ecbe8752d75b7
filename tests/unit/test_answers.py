"""What the text of an error means if the dialect has no rule for that text."""

from __future__ import annotations

import orjson
import pytest

from wsadapter.contract.dialect.paths import MISSING
from wsadapter.contract.dialect.text import Text
from wsadapter.worker.subscription.answers import Rules, Says
from wsadapter.worker.subscription.names import WholeSet, Words

RULES = Rules({"error": [{"match": {"event": "error"}, "text": "msg"}]})


def meaning(error: str) -> Says:
    answer = RULES.match_rule(Text(orjson.dumps({"event": "error", "msg": error})))
    assert answer is not None
    assert answer.error == error
    return answer.says


@pytest.mark.parametrize("error", [
    "Too many requests", "too_many_requests", "TOO_MANY_REQUESTS", "too-many-request", "too.many.request", "TooManyRequests",
    "tooManyRequests: slow down", "request too many", "Requests  too\tmany", "RATE_LIMIT_EXCEEDED", "rateLimit exceeded",
    "RateLimited", "Ratelimit", "rate exceeded", "Exceeded msg rate", "too_frequent", "SYSTEM_BUSY", "try_again_later",
    "Throttled",
])  # fmt: skip
def test_a_rate_or_capacity_limit_is_later_however_its_words_are_joined(error: str) -> None:
    assert meaning(error) is Says.LATER


@pytest.mark.parametrize("error", ["Already subscribed", "ALREADY_SUBSCRIBED", "alreadySubscribed", "duplicate-subscription"])
def test_already_subscribed_is_a_yes_however_its_words_are_joined(error: str) -> None:
    assert meaning(error) is Says.YES


@pytest.mark.parametrize("error", [
    "Unknown symbol", "not_found", "invalid request", "too many symbols in one subscription", "no such channel: fundingRate",
    "too many", "limit must be below 100", "rate is not a channel; limit is", "already.unsubscribed",
])  # fmt: skip
def test_any_other_error_is_a_refusal(error: str) -> None:
    assert meaning(error) is Says.NO


def test_a_whole_set_is_a_table_or_an_array_and_anything_else_is_empty() -> None:
    stream = Words({"channel": "trade", "symbol": ["A", "B"]})
    for whole in ({"trade": ["A", "B"]}, [["trade", "A", "B"]], [["trade", "A"], ["trade", "B"]]):
        assert WholeSet(whole).has(stream)
    for other in (None, MISSING, "trade", {"trade": ["A"]}, [MISSING]):
        assert not WholeSet(other).has(stream)
