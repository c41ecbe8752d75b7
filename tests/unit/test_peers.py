"""The table of peers in the document, and what a kill may cost."""

from __future__ import annotations

import json

import pytest

from tests.bench.peers.__main__ import put_into, section
from tests.bench.peers.ordeal import Failed, Findings, Judge
from wsadapter import Gap, Message
from wsadapter.contract.items import Item


def test_the_section_is_put_at_the_end_and_replaced_where_it_is() -> None:
    first = section({"a": Findings("1.0", data="18 exact")}, {}, "2026-01-01")
    second = section({"a": Findings("2.0", data="18 exact")}, {"b": "no such package"}, "2026-01-02")
    document = put_into("# Guarantees\n\nText.\n", first)
    assert document.startswith("# Guarantees\n\nText.\n\n## Peers that others wrote\n")
    assert "| a | 1.0 | 18 exact |" in document
    document = put_into(document + "\n## Next\n\nMore.\n", second)
    assert "| a | 2.0 | 18 exact |" in document
    assert "1.0" not in document
    assert "- b: no such package" in document
    assert document.endswith("\n## Next\n\nMore.\n")
    assert document.count("## Peers") == 1


def judged(*items: int | Item) -> Judge:
    judge = Judge()
    for number, item in enumerate(items):
        judge.take(Message("peer", json.dumps({"n": item}).encode(), 1, number, 0) if isinstance(item, int) else item)
    return judge


GAP = Gap("peer", 2, 0, "owner_died", None, None)


def test_messages_go_on_or_begin_anew_behind_a_gap() -> None:
    assert (judged(0, 1, 2).received, judged(0, 1, GAP, 0, 1).gaps, judged(0, 1, GAP, 7).gaps) == (3, 1, 1)


@pytest.mark.parametrize("numbers", [(0, 2), (0, 1, 1), (0, 1, 0), (0, 1, GAP, 0, 2)])
def test_a_message_that_is_lost_in_silence_or_comes_twice_fails(numbers: tuple[int | Item, ...]) -> None:
    with pytest.raises(Failed):
        judged(*numbers)
