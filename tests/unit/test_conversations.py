"""What exchanges say, and what must come out of it: the cases in tests/support/conversations, one file a dialect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import conversations
from tests.support.conversations.driver import Conversation, name_of
from tests.support.conversations.script import cases_of, dialects, without_clock
from wsadapter.config.dialect import bundled, load_dialect
from wsadapter.contract.dialect.text import Text
from wsadapter.contract.endpoint import Endpoint
from wsadapter.contract.ipc.record import NO_IDENTITY, SNAPSHOT
from wsadapter.worker.session.identity import make_identity

_README = (Path(conversations.__file__).parent / "README.md").read_text("utf-8")
_ROWS = re.findall(r"^\| (`.*?) \|", _README, re.MULTILINE)
_KEYS = {key for row in _ROWS for key in re.findall(r"`(\w+)`", row)}
"""The keys of a case and of a rule, as README.md lists them."""

_NOT_OWN = {SNAPSHOT: "snapshot", NO_IDENTITY: "none"}


def cases() -> list[Any]:
    found = []
    for dialect in dialects():
        for case in cases_of(dialect):
            used = {*case, *(key for rule in case.get("answers", ()) for key in rule)} - {"dialect"}
            assert used <= _KEYS, f"{dialect}, {case['name']}: README.md of the conversations has no {used - _KEYS}"
            assert case.get("source") or case.get("guess"), f"{dialect}, {case['name']}: where is it from?"
            found.append(pytest.param(case, id=f"{dialect}: {case['name']}"))
    return found


def identities(dialect: str, texts: Sequence[str]) -> list[int]:
    identity = make_identity(load_dialect(dialect), Endpoint("x"))
    assert identity is not None
    return [identity.of(Text(text.encode())) for text in texts]


CASES = cases()


@pytest.mark.parametrize("case", CASES)
def test_what_must_come_out_comes_out(case: dict[str, Any]) -> None:
    out = Conversation(case).run()
    texts = [what for what in case.get("sends", ()) if isinstance(what, str)]
    wanted = list(zip(case.get("delivered", texts), map(name_of, case.get("streams", ())), strict="streams" in case))
    if "streams" in case:
        assert out.delivered == wanted
    else:
        assert [text for text, _ in out.delivered] == case.get("delivered", texts)
    assert out.of("rejected", "stream") == list(map(name_of, case.get("rejected", ())))
    if "errors" in case:
        told = out.of("rejected", "error")
        assert [piece in error for piece, error in zip(case["errors"], told, strict=True)] == [True] * len(told), told
    assert len(out.of("gap", "cause")) == case.get("gaps", 0)
    assert out.of("stalled", "stream") == list(map(name_of, case.get("stalled", ())))
    assert out.of("peer_error", "text") == case.get("notices", [])
    if "reconnects" in case:
        assert out.of("notice", "text") == case["reconnects"]
    if "subscribed" in case:
        assert sorted(out.of("subscribed", "stream")) == sorted(map(name_of, case["subscribed"]))
    if "down" in case:
        assert out.down is not None
        assert (out.down.kind, case["down"][1] in out.down.text) == (case["down"][0], True), out.down
    else:
        assert out.down is None, out.down
    for text in case.get("sent", ()):
        assert text in out.sent
    for text in case.get("never_sent", ()):
        assert not any(text in sent for sent in out.sent), out.sent
    if "identities" in case:
        found = identities(case["dialect"], [text for text, _ in out.delivered])
        own = [one for one in found if one not in _NOT_OWN]
        assert [_NOT_OWN.get(one, "own") for one in found] == case["identities"]
        assert len(own) == len(set(own))
    if "unsubscribe" in case:
        assert list(map(without_clock, out.farewells)) == list(map(without_clock, case["farewells"]))
        logs = out.of("log", "text")
        assert [piece in text for piece, text in zip(case.get("logs", ()), logs, strict=True)] == [True] * len(logs), logs


@pytest.mark.parametrize("name", sorted(bundled()))
def test_of_each_dialect_that_can_there_is_a_case_that_unsubscribes(name: str) -> None:
    subscribe = load_dialect(name)["subscribe"]
    can = any(kind.get("unsubscribe") for kind in (subscribe, *subscribe.get("kind", ())))
    mine = [case.values[0] for case in CASES if case.values[0]["dialect"] == name]
    assert any("unsubscribe" in case for case in mine) or not can
