"""Checked by the type checker alone: a `match` over what a feed yields can be complete, and an incomplete one is found."""

from __future__ import annotations

from typing import assert_never

from wsadapter import (
    AnyEvent,
    Batch,
    ClockStep,
    Down,
    Dropped,
    Fatal,
    Gap,
    Item,
    LateAnswer,
    Message,
    Notice,
    Rejected,
    Restored,
    Stalled,
    Started,
    Subscribed,
    Supervisor,
    Up,
)


def complete(item: Item) -> str:
    match item:
        case Message(endpoint=name, data=data):
            return f"{name}: {len(data)} bytes"
        case Gap() | Dropped():
            return "data are missing"
        case Up() | Down(reason=_) | Started() | ClockStep():
            return "connection"
        case Subscribed(stream=stream) | Rejected(stream=stream):
            return stream
        case Restored() | Stalled() | LateAnswer() | Fatal() | Notice():
            return "other"
        case _:
            assert_never(item)


def incomplete(item: Item) -> None:
    match item:
        case Message() | Gap() | Dropped() | Up() | Down() | Started() | ClockStep() | Subscribed() | Rejected() | Restored():
            return
        case Stalled() | LateAnswer() | Notice():
            return
        case _:
            assert_never(item)  # type: ignore[arg-type]  # Fatal has no case


def of_batches(feed: Supervisor) -> None:
    for item in feed.batches():
        match item:
            case Batch():
                print(item.first_number, b"".join(item))
            case _:
                event: AnyEvent = item
                print(event.kind)


async def of_a_coroutine(feed: Supervisor) -> None:
    async for item in feed:
        complete(item)
    async for entry in feed.aio.batches():
        if not isinstance(entry, Batch):
            complete(entry)
