"""A coroutine that waits for the reactor is woken, whenever another thread closes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wsadapter.contract.errors import SupervisorStopped
from wsadapter.loop.asyncio_bridge import AsyncBridge
from wsadapter.loop.reactor import Reactor

PATIENCE = 5.0


def never() -> bool:
    return False


def in_place_of(reactor: Reactor, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the reactor right before a step of the coroutine's wait, as another thread may."""
    target = reactor.waiters if step == "listen" else reactor.dispatcher
    original: Callable[..., object] = getattr(target, step)

    def closing(*arguments: object) -> object:
        monkeypatch.undo()
        reactor.close()
        return original(*arguments)

    monkeypatch.setattr(target, step, closing)


@pytest.mark.parametrize("step", ["fileno", "listen"])
def test_a_reactor_that_is_closed_while_a_coroutine_begins_to_wait_ends_the_wait(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        reactor = Reactor()
        reactor.start()
        bridge = AsyncBridge.of(reactor)
        in_place_of(reactor, step, monkeypatch)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(SupervisorStopped):
                await bridge.run_until(never)

    asyncio.run(main())


def test_a_reactor_that_is_closed_while_a_coroutine_waits_ends_the_wait() -> None:
    async def main() -> None:
        reactor = Reactor()
        reactor.start()
        waiting = asyncio.create_task(AsyncBridge.of(reactor).run_until(never))
        await asyncio.sleep(0)
        await asyncio.to_thread(reactor.close)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(SupervisorStopped):
                await waiting

    asyncio.run(main())
