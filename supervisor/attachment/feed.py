"""`attach`: a consumer in a separate process, which reads the journal of a supervisor from its own position.

    with attach("prices", consumer="strategy-a") as feed:
        for item in feed:                     # Message, Gap, Up ...: what the supervisor's own iterator yields
            ...

The consumer reads files, so the supervisor does nothing for it but one byte per commit. It may die at any moment: the next one
of its name goes on behind its last commit, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from itertools import chain
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

from wsadapter.arguments import path_text
from wsadapter.attachment.commands import AttachedCommands, Link
from wsadapter.attachment.cursor import Cursor
from wsadapter.attachment.supervisor_link import SupervisorLink, folder_of
from wsadapter.contract.errors import SupervisorStopped, UsageError
from wsadapter.contract.items import AnyEvent, Batch, Item
from wsadapter.contract.public import Public
from wsadapter.journal import folder as folders
from wsadapter.journal.journal import Choice, choice
from wsadapter.journal.places import Start
from wsadapter.journal.positions import check_name
from wsadapter.journal.sleeper import Sleeper

Commit = Literal["auto", "manual"]


def attach(
    name_or_path: str | os.PathLike[str],
    consumer: str,
    *,
    start: Start | Literal["position"] = "latest",
    commit: Commit = "auto",
    takeover: bool = False,
    endpoints: Collection[str] = (),
    streams: Collection[str] = (),
    follow: bool = True,
    runtime_dir: str | os.PathLike[str] = "",
    credentials: str | os.PathLike[str] = "",
    ca_file: str | os.PathLike[str] = "",
) -> AttachedFeed:
    """Attach to the journal of the supervisor of that name, to the journal in that folder, or to the stream of a cluster:
    `nats://HOST:PORT,HOST:PORT/CLUSTER`.

    `consumer`: the name of its position; if there is a position, it begins there and `start` is ignored. `start`: "latest" (the
    end), "earliest", a datetime, a Unix time in seconds, or a mapping from endpoint to the number of the last message that was
    processed; "position": only with a position. `commit`: "auto" commits an item when the next one is taken; "manual":
    `commit()` commits. `takeover`: replace the process that is attached under this name. `endpoints`, `streams`: only these; a
    the name of a group includes its shards. `follow`: False ends the iteration at the end of the journal.
    `credentials`, `ca_file`: of the servers, as in [cluster].

    Raises `NotAJournal`, `NewerJournal`, `ConsumerInUse`, `UnknownConsumer` (`start="position"`), `PositionBeyondEnd`,
    `UsageError`, `WrongType`; `NotRunning` if no supervisor of that name runs here; `ControlError` if it has no journal.
    """
    check_name(consumer)
    if commit not in ("auto", "manual"):
        raise UsageError(f'attach: commit: expected "auto" or "manual", got {commit!r}')
    chosen = choice(endpoints, streams)
    if isinstance(name_or_path, str) and name_or_path.startswith(("nats://", "tls://")):
        more = {"credentials": path_text(credentials), "ca_file": path_text(ca_file)}
        return _attach_to_stream(
            name_or_path, consumer, start, chosen, follow, takeover=takeover, auto=commit == "auto", **more
        )
    folder = folder_of(name_or_path, path_text(runtime_dir))
    folders.identify(folder)
    cursor = Cursor(folder, consumer, start, chosen, takeover=takeover, auto=commit == "auto")
    return AttachedFeed(cursor, Sleeper(folder), SupervisorLink(folder), follow=follow)


def _attach_to_stream(
    url: str, consumer: str, start: Start | str, chosen: Choice | None, follow: bool, *, takeover: bool, auto: bool, **more: str
) -> AttachedFeed:
    try:
        from wsadapter.attachment.stream_cursor import SourceSleeper, StreamCursor
        from wsadapter.attachment.stream_source import NoSupervisor, StreamSource, settings_of
    except ImportError as error:
        raise UsageError(f'attach: the stream of a cluster needs nats-py: pip install "wsadapter[nats]" ({error})') from error
    source = StreamSource(settings_of(url, **more), consumer)
    cursor = StreamCursor(source, start, chosen, takeover=takeover, auto=auto)
    return AttachedFeed(cursor, SourceSleeper(source), NoSupervisor(), follow=follow)


class Progress(Protocol):
    """What was read, given and committed: a `Cursor`, or a `StreamCursor`."""

    @property
    def consumer(self) -> str: ...

    @property
    def path(self) -> object: ...

    @property
    def hand(self) -> Iterator[Any]: ...

    @property
    def numbers(self) -> Mapping[str, int]: ...

    @property
    def has_items(self) -> bool: ...

    @property
    def is_at_end(self) -> bool: ...

    def refill(self, *, whole: bool) -> bool: ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


class Waiting(Protocol):
    """How to sleep until something new is there: a `Sleeper`, or a `SourceSleeper`."""

    @property
    def waker(self) -> socket.socket | None: ...

    @property
    def patience(self) -> float: ...

    def connect(self) -> None: ...

    def sleep(self, seconds: float) -> None: ...

    def woken(self) -> None: ...

    def close(self) -> None: ...


class AttachedFeed(AttachedCommands, Public):
    """A consumer's end of a journal. Made by `attach`. Commands may be called from any thread; the rest by one at a time."""

    PUBLIC = frozenset(
        {
            "abatches", "aget", "batches", "close", "commit", "consumer", "get", "insert", "pending", "position", "request",
            "restart", "resubscribe", "send", "status", "subscribe", "unsubscribe",
        }
    )  # fmt: skip

    def __init__(self, cursor: Progress, sleeper: Waiting, link: Link, *, follow: bool) -> None:
        super().__init__(link)
        self._cursor = cursor
        self._sleeper = sleeper
        self._follow = follow
        self._closed = False

    def __repr__(self) -> str:
        return f"<AttachedFeed {self._cursor.consumer!r} of {str(self._cursor.path)!r}{', closed' if self._closed else ''}>"

    # -- life ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Detach: iterating ends. Items that were taken and not committed come again. Safe from any thread; idempotent."""
        self._closed = True
        self._sleeper.close()
        self._cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def consumer(self) -> str:
        """Its name."""
        return self._cursor.consumer

    @property
    def position(self) -> dict[str, int]:
        """By endpoint: number of the last message that was committed with its whole record."""
        return dict(self._cursor.numbers)

    def commit(self) -> None:
        """Commit all items that were taken so far, the current one included; they do not come again. Raises
        `ConsumerReplaced`, `SupervisorStopped` after `close()`."""
        self._check_open()
        self._cursor.commit()

    def _check_open(self) -> None:
        if self._closed:
            raise SupervisorStopped("this consumer was detached; attach it again")

    # -- the stream ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Item]:
        """Messages and events, in order; waits for more. Ends after `close()`, and with `follow=False` at the end. Raises
        `ConsumerReplaced`, `JournalError`."""
        return cast("Iterator[Item]", chain.from_iterable(self._turns(whole=False)))

    def batches(self) -> Iterator[Batch | AnyEvent]:
        """The messages of each read as one `Batch`, and the events between them."""
        return cast("Iterator[Batch | AnyEvent]", chain.from_iterable(self._turns(whole=True)))

    def _turns(self, *, whole: bool) -> Iterator[Iterator[Any]]:
        while self._fill(None, whole=whole):
            yield self._cursor.hand

    def _fill(self, timeout: float | None, *, whole: bool) -> bool:
        """Wait until the cursor has items. False: no more items come. Raises `TimeoutError`."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self._closed:
            if self._cursor.refill(whole=whole):
                return True
            if not self._follow and self._cursor.is_at_end:
                return False
            left = self._sleeper.patience if deadline is None else deadline - monotonic()
            if left <= 0:
                raise TimeoutError(f"no item within {timeout} s")
            self._sleeper.sleep(left)
        return False

    @property
    def pending(self) -> bool:
        """Whether an item is ready, so that the next step would not wait."""
        return self._cursor.has_items

    def get(self, timeout: float | None = None) -> Item:
        """One item. Raises `TimeoutError` after `timeout` seconds, `SupervisorStopped` if nothing more comes."""
        if self._fill(timeout, whole=False):
            for item in self._cursor.hand:
                return cast("Item", item)
        raise SupervisorStopped("this consumer was detached, or is at the end of the journal")

    def __aiter__(self) -> AsyncIterator[Item]:
        """As `__iter__`, for `async for`. Cancelling it loses nothing."""
        return cast("AsyncIterator[Item]", self._aturns(whole=False))

    def abatches(self) -> AsyncIterator[Batch | AnyEvent]:
        """As `batches`, for `async for`."""
        return cast("AsyncIterator[Batch | AnyEvent]", self._aturns(whole=True))

    async def aget(self) -> Item:
        """As `get`, for coroutines."""
        if await self._afill(whole=False):
            for item in self._cursor.hand:
                return cast("Item", item)
        raise SupervisorStopped("this consumer was detached, or is at the end of the journal")

    async def _aturns(self, *, whole: bool) -> AsyncIterator[Any]:
        while await self._afill(whole=whole):
            for item in self._cursor.hand:
                yield item
            await asyncio.sleep(0)  # let other tasks run after each record

    async def _afill(self, *, whole: bool) -> bool:
        while not self._closed:
            if self._cursor.refill(whole=whole):
                return True
            if not self._follow and self._cursor.is_at_end:
                return False
            self._sleeper.connect()
            await _readable(self._sleeper)
        return False


async def _readable(sleeper: Waiting) -> None:
    """Until the supervisor wakes us, or the time for the next look at the journal."""
    loop, waker = asyncio.get_running_loop(), sleeper.waker
    if waker is None:
        await asyncio.sleep(sleeper.patience)
        return
    ready = asyncio.Event()
    loop.add_reader(waker, ready.set)
    try:
        async with asyncio.timeout(sleeper.patience):
            await ready.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(waker)
    sleeper.woken()
