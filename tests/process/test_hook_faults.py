"""User code in an owner that does its worst. Row 10 of the fault table; what it does to the process itself is rows 4 and 27."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.support.feeds import HOOK, SOON, all_of, beside_a_busy_one, collect, events_of, is_event, is_message, messages_of
from wsadapter import Down, Dropped, Item, Message, Restored, Supervisor, Up
from wsadapter.testing import Exchange

PROGRESS = 1.0
ALLOWED = 192 * 1024 * 1024


@contextmanager
def obedient(
    items: list[Item], start_method: str, folder: Path, *, progress: float = PROGRESS
) -> Iterator[tuple[Exchange, Supervisor]]:
    """An endpoint whose hook does what its exchange tells it, beside one that must not be harmed by it."""
    watchdog = {"progress": progress, "memory": ALLOWED}
    with Exchange() as ex:
        endpoint = ex.endpoint("victim", decode=HOOK, restart=SOON, watchdog=watchdog, timeouts={"close": 0.5})
        with beside_a_busy_one(items, endpoint, start_method=start_method, state_dir=folder) as feed:
            items += collect(feed, all_of(is_event(Restored, "victim"), is_message("busy")))
            ex.send("before")
            items += collect(feed, is_message("victim"))
            yield ex, feed


@pytest.mark.parametrize(
    ("command", "kind", "progress"),
    [
        ("!exit 7", "crashed", PROGRESS),
        ("!segfault", "crashed", PROGRESS),
        ("!spin", "hung", PROGRESS),
        ("!spin_in_c", "hung", PROGRESS),
        ("!leak 400", "memory_limit", 20.0),  # it takes a while
    ],
)
def test_row_10_a_hook_that_ruins_its_owner_touches_only_that_and_is_not_shown_the_message_again(
    command: str, kind: str, progress: float, start_method: str, tmp_path: Path
) -> None:
    items: list[Item] = []
    with obedient(items, start_method, tmp_path, progress=progress) as (ex, feed):
        ex.send(command)
        items += collect(feed, is_event(Up, "victim", 2))
        ex.send("behind")
        items += collect(feed, is_message("victim", 2))
        assert ex.accepted == 2
    assert [down.reason.kind for down in events_of(items, "victim", Down)] == [kind, "stopped"]
    assert [message.data for message in messages_of(items, "victim")] == [b"before", b"behind"]


def test_row_10_a_message_that_the_hook_fails_on_is_put_aside_once_and_told(start_method: str, tmp_path: Path) -> None:
    items: list[Item] = []
    with obedient(items, start_method, tmp_path) as (ex, feed):
        ex.send("!raise not this one")
        ex.send("behind")
        items += collect(feed, lambda item: isinstance(item, Message) and item.data == b"behind")
        assert feed.status()["endpoints"]["victim"]["epoch"] == 1
    (dropped,) = events_of(items, "victim", Dropped)
    assert (dropped.cause, dropped.count) == ("decode", 1)
    (kept,) = tmp_path.glob("quarantine/*/victim.jsonl")
    (line,) = kept.read_bytes().splitlines()
    assert base64.b64decode(orjson.loads(line)["data"]) == b"!raise not this one"
    assert [message.data for message in messages_of(items, "victim")] == [b"before", b"behind"]
