"""What the Python servers have in common. Runs in the peers' own environment: nothing but the standard library."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import parse_qs, urlsplit

_TICK = 0.005


def words(path: str) -> tuple[str, dict[str, str]]:
    """The path of a request target, and its query."""
    parts = urlsplit(path)
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


def numbers(rate: float, pad: int = 150) -> Iterator[tuple[float, str]]:
    """Messages with the time of the monotonic clock at which each is due."""
    began = time.monotonic()
    filler = "x" * pad
    number = 0
    while True:
        yield began + number / rate, f'{{"n":{number},"pad":"{filler}"}}'
        number += 1


async def count(send: Callable[[str], Awaitable[object]], sleep: Callable[[float], Awaitable[object]], rate: float) -> None:
    """Sends them until the connection is gone (whatever the server raises then)."""
    for due, text in numbers(rate):
        if (wait := due - time.monotonic()) > 0:
            await sleep(max(wait, _TICK))
        await send(text)


def say(*parts: object) -> None:
    """A line for who started the program."""
    print(*parts, flush=True)
